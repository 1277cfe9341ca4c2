"""What can be read at every layer of a model, before and after its concept is erased there."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.types import Given, Key
from erasejax._core.views import table_of_scores
from erasejax._linalg import platforms
from erasejax.erasers import LEACE, Eraser
from erasejax.metrics import accuracy, damage, guardedness_test
from erasejax.plot import curve
from erasejax.probes import Logistic, Probe
from erasejax.rows import Dataset, as_dataset, number_groups, split_groups, split_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LayerReadings", "read_layers"]


class _Numbers(NamedTuple):
    """The numbers of one layer, or of all with an axis for them."""

    same_before: Float[Array, " layers"]
    same_after: Float[Array, " layers"]
    fresh_before: Float[Array, " layers"]
    fresh_after: Float[Array, " layers"]
    damage: Float[Array, " layers"]
    p_value: Float[Array, " layers"]


@dataclasses.dataclass(frozen=True)
class LayerReadings:
    """Accuracies of a probe by layer; printed it is a table, and `plot` is the curve.

    Attributes:
      paths: of the layers, in the order given.
      same_before: accuracies where eraser, probe and score have the same rows, all of them.
      same_after: the same after erasing.
      fresh_before: accuracies on rows that the probe has not seen.
      fresh_after: the same after erasing by an eraser that was fitted on a third set of rows.
      damage: the mean of |r(x) - x|^2 as a share of the variance, on all rows.
      p_value: of `guardedness_test` on the rows that the eraser has not seen.
      majority: the accuracy of knowing nothing.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=60, dims=2).sample(jax.random.key(0))
      >>> found = ej.models.read_layers({"embeddings": data.x}, data.z)
      >>> found.paths, float(found.same_after[0]), found.majority
      (('embeddings',), 0.5, 0.5)
    """

    paths: tuple[str, ...]
    same_before: np.ndarray
    same_after: np.ndarray
    fresh_before: np.ndarray
    fresh_after: np.ndarray
    damage: np.ndarray
    p_value: np.ndarray
    majority: float

    def __str__(self) -> str:
        width = max(len("layer"), *map(len, self.paths))
        lines = [
            f"{'layer':<{width}}  same rows       fresh rows      damage  p-value",
            f"{'':<{width}}  before  after   before  after",
        ]
        for path, *row in zip(self.paths, *self._columns(), strict=True):
            lines.append(f"{path:<{width}}  " + "  ".join(f"{value:6.3f}" for value in row))
        return "\n".join([*lines, f"knowing nothing: {self.majority:.3f}"])

    def _repr_html_(self) -> str:
        rows = [
            ((path,), [f"{value:.3f}" for value in row])
            for path, *row in zip(self.paths, *self._columns(), strict=True)
        ]
        when = [f"{rows} rows {when}" for rows in ("same", "fresh") for when in ("before", "after")]
        head = ["layer", *when, "damage", "p-value"]
        return table_of_scores(head, rows, f"knowing nothing: {self.majority:.3f}")

    def plot(self, ax: "Axes | None" = None) -> "Axes":
        """Draws accuracies against layers, before and after, on the same and on fresh rows.

        Args:
          ax: matplotlib axes to draw on; None for new ones.

        Returns:
          The axes; `ax.figure.savefig` writes them.

        Raises:
          ModuleNotFoundError: matplotlib is missing.
        """
        lines = {
            f"{when}, {rows} rows": getattr(self, f"{rows}_{when}")
            for rows in ("fresh", "same")
            for when in ("before", "after")
        }
        ylabel = "accuracy of the probe"
        axes = curve(self.paths, lines, chance=self.majority, ylabel=ylabel, ax=ax)
        axes.set_ylim(0, 1.02)
        return axes

    def _columns(self) -> list[np.ndarray]:
        return [getattr(self, name) for name in _Numbers._fields]


def read_layers(
    layers: Mapping[str, Given],
    z: Given,
    *,
    method: Eraser[Any] | None = None,
    probe: Probe[Any] | None = None,
    groups: Given | None = None,
    key: Key | None = None,
) -> LayerReadings:
    """Erases a concept at every layer, and probes for it before and after.

    Twice: with all rows in every role, which says what erasing does, and with a third of the rows
    for the eraser, one for the probe and one for the score, which says what others will find. All
    layers run at once on an accelerator, and one after another on a CPU, where they share programs.

    Args:
      layers: path to rows, (n, d) floats, of the same n sentences or tokens, as `recorded` has
        them.
      z: (n,) integer or boolean class labels.
      method: the eraser; None for `LEACE()`.
      probe: None for `Logistic()`.
      groups: (n,) which rows belong together (of one name, sentence or document), integers or
        text; no group is in two of the thirds. None where rows are independent.
      key: a typed `jax.random.key` of the split, of the test and of methods that draw; None for
        `jax.random.key(0)`.

    Raises:
      TypeError: z are not class labels, or rows are not floats.
      ValueError: there is no layer, shapes do not match, there are too few rows or groups, or a
        fit failed.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=60, dims=2).sample(jax.random.key(0))
      >>> found = ej.models.read_layers({"layer.0": data.x}, data.z, method=ej.SAL())
      >>> str(found).splitlines()[-1]
      'knowing nothing: 0.500'
    """
    if not layers:
        raise ValueError("layers: expected at least one path and its rows, got none")
    method, probe = method or LEACE(), probe or Logistic()
    key = jax.random.key(0) if key is None else inputs.as_key(key)
    rows = [as_dataset(x, z) for x in layers.values()]
    labels, k = np.asarray(rows[0].z), rows[0].num_classes
    if not rows[0].is_classes:
        raise TypeError("z: read_layers predicts class labels, integers (n,)")
    assert k is not None
    options: dict[str, Any] = {
        "seed": int(jax.random.bits(key)),
        "names": [str(j) for j in range(k)],
    }
    own = None
    if groups is None:
        parts = split_rows(labels, 3, **options)
        unseen = np.concatenate(parts[1:])
    else:
        together = np.asarray(number_groups(groups, len(labels)))
        parts = split_groups(labels, together, 3, **options)
        unseen = np.concatenate(parts[1:])
        own = together[unseen]

    def one(x: jax.Array) -> _Numbers:
        def part(index: np.ndarray) -> Dataset:
            return Dataset(x=x[index], z=jnp.asarray(labels[index]), num_classes=k)

        def read(fit: Dataset, score: Dataset) -> jax.Array:
            return accuracy(probe.fit(fit, key=key, throw=False), score)

        def erased(eraser: Any, data: Dataset) -> Dataset:
            return data.replace(x=eraser(data.x))

        whole, (a, b, c) = part(np.arange(len(labels))), map(part, parts)
        same = method.fit(whole, key=key, throw=False)
        fresh = method.fit(a, key=key, throw=False)
        test = guardedness_test(erased(fresh, part(unseen)), key=key, groups=own)
        after = erased(same, whole)
        return _Numbers(
            read(whole, whole),
            read(after, after),
            read(b, c),
            read(erased(fresh, b), erased(fresh, c)),
            damage(whole.x, after.x),
            test.p_value,
        )

    found = _mapped(one, [data.x for data in rows])
    for path, *numbers in zip(layers, *found, strict=True):
        if np.isnan(numbers).any():
            raise ValueError(
                f"{path}: a fit failed, as on rows that are not finite; fit it alone, and "
                "raise_if_failed says why"
            )
    majority = np.bincount(labels).max() / len(labels)
    return LayerReadings(
        tuple(layers), *(np.asarray(value) for value in found), majority=float(majority)
    )


def _mapped(function: Any, layers: list[jax.Array]) -> _Numbers:
    """Returns the numbers of all layers: at once where the device has no cache to leave."""
    alike = len({(x.shape, x.dtype) for x in layers}) == 1
    if alike and not platforms.is_cpu():
        return jax.jit(jax.vmap(function))(jnp.stack(layers))
    return _Numbers(*map(jnp.stack, zip(*map(function, layers), strict=True)))

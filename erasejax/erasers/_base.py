"""What all erasers share: how `fit` and `solve` check their arguments and compile."""

from collections.abc import Mapping
from typing import Generic, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Tree
from erasejax._core.status import thrown
from erasejax._core.types import FittedEraser, Given, Key
from erasejax._core.unfitted import Unfitted
from erasejax.names import Named
from erasejax.projection import Projection, small_rests
from erasejax.rows import (
    Dataset,
    as_dataset_about,
    columns_of,
    moved,
    remember_columns,
    roomy,
)
from erasejax.statistics import (
    Conditional,
    Moments,
    conditional_moments,
    conditional_rows,
    knowing,
    shared_moments,
)

__all__ = ["ClosedForm", "Eraser"]

F = TypeVar("F", bound=FittedEraser, covariant=True)  # what `fit` returns


class Eraser(Named, Tree, Unfitted, Generic[F]):
    """An eraser before it is fitted: its options, and `fit`. Subclasses write `_fit`.

    `_fit(data, key)` fits it to one `Dataset`. It is compiled once for each shape of the rows and
    each value of the static fields. The numeric fields are leaves of a pytree, so that new numbers
    do not compile again, and one `vmap` sweeps them.

    Example:
      >>> from flax import struct
      >>> @struct.dataclass
      ... class Twice(ej.erasers.Eraser):
      ...     def _fit(self, data, key):
      ...         first = ej.SAL().fit(data)
      ...         return first.then(ej.Ablation(directions=jnp.array([1.0, 0.0])).fit(data))
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> int(Twice().fit(data).rank)
      2
    """

    role = "eraser"

    needs_key = False
    passes = 1  # of a fit over all rows but in blocks, about
    needs_task = False
    # Whether the moments that it reads, as others do, hold the covariance; None: it reads others.
    shared_covariance: bool | None = None
    given: Conditional = "none"  # a field of those that erase within the classes of a task

    @property
    def reads_task(self) -> bool:
        """Whether `fit` needs a task."""
        return self.needs_task or self.given != "none"

    def fit(
        self,
        x: Given | Dataset,
        z: Given | None = None,
        *,
        weights: Given | None = None,
        num_classes: int | None = None,
        key: Key | None = None,
        task: Given | None = None,
        throw: bool = True,
    ) -> F:
        """Fits the eraser to rows.

        Args:
          x: (n, d) floats, or a `Dataset` and no z.
          z: the concept. (n,) integers or booleans: class labels. (n,) or (n, k) floats: real
            concepts. (n, k) integers: k binary labels.
          weights: (n,) row weights >= 0; rows of weight 0 are never read. None for ones.
          num_classes: number of classes of integer labels; required under jit and vmap.
          key: a typed `jax.random.key`, where the eraser draws.
          task: (n,) or (n, t), a second concept, kept by `SPLINCE`, and within whose classes
            erasers with `given` erase; read by no other. Under jit class labels as one-hot columns.
          throw: whether a failed fit raises; under jit and vmap it never does.

        Returns:
          The fitted eraser (`Projection`, but for `OracleLEACE` and `QLEACE`), in x's dtype, at
          least float32.

        Raises:
          FailedLanesError: the fit failed, and `throw` is set.
          TypeError: x is not floating point, z is missing, or an eraser that draws got no key.
          ValueError: shapes do not match, num_classes is missing or makes no sense, or a number of
            the configuration is out of its range.

        Under jit: pure; failures that only values show (NaN, one class) set `status` bits.
        """
        data, origin = as_dataset_about(x, z, weights=weights, num_classes=num_classes, task=task)
        key = inputs.drawing_key(type(self).__name__, key, draws=self.needs_key)
        self._check(data)
        own = inputs.numbers(self, inputs.compute_dtype(data.x))
        rows = roomy(data, passes=self.passes)
        covariance = self.shared_covariance if self.given == "none" else None
        moments = shared_moments(rows, covariance=covariance)
        fitted = moved(_fit(own, rows, key, moments), origin)
        if origin is not None and not getattr(self, "keep_mean", True):
            fitted = fitted.replace(center=jnp.zeros_like(fitted.center))  # pyright: ignore
        fitted = thrown(fitted, throw, x=data.x, z=data.z, task=data.task, weights=data.weights)
        return remember_columns(fitted, columns_of(x))

    @classmethod
    def check_options(cls, given: Mapping[str, object]) -> None:
        """Checks fields that were given by name on the command line, before any is built.

        Args:
          given: values by the names of the fields; subclasses say which contradict each other.

        Raises:
          ValueError: some do.
        """

    def remarks(self, fitted: FittedEraser) -> list[str]:
        """Returns what else is worth a line on the command line about what was fitted."""
        return []

    def _check(self, data: Dataset) -> None:
        """Checks that the eraser is made for this kind of concept; subclasses say which that is.

        Raises:
          TypeError: it is not.
        """

    def _fit(self, data: Dataset, key: jax.Array | None) -> F:
        raise NotImplementedError


class ClosedForm(Eraser[F]):
    """An eraser that needs the moments of the rows only. Subclasses write `_solve`.

    Example:
      >>> from flax import struct
      >>> @struct.dataclass
      ... class Shrunk(ej.erasers.ClosedForm):
      ...     def _solve(self, moments):
      ...         return ej.LEACE(shrinkage=0.5).solve(moments)
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> int(Shrunk().fit(data).rank)
      1
    """

    needs_covariance = True

    def solve(self, moments: Moments, *, tasks: int | None = None) -> F:
        """Returns the eraser of the rows that `moments` has seen.

        Args:
          moments: of any number of rows, streamed, merged or summed over devices.
          tasks: static; where `given` is set, the number m of classes of the task. The moments are
            then of the classes y k + z of task y and concept z, m k in all.

        Returns:
          The fitted eraser, the same as `fit` on the rows, up to rounding. Only `fit` sees whether
          features are so nearly copies of each other that its own rounding shows in what is left,
          `Status.UNRESOLVED`: as a rule closer than a few thousandths of their size in float32.

        Raises:
          ValueError: `given` is set and tasks is not, or does not divide the classes.

        Under jit: pure.
        """
        if self.given != "none":
            moments = conditional_moments(moments, self._classes(moments, tasks), self.given)
        elif tasks is not None:
            raise ValueError("tasks: only where given is 'pooled' or 'each'")
        return _solve(inputs.numbers(self, moments.xz.dtype), moments)

    def concept(self, data: Dataset) -> Dataset:
        """Returns rows with the concept that is erased: within the classes of the task, if asked.

        Args:
          data: rows, with class labels and a task of classes where `given` is set.

        Under jit: pure.
        """
        return data if self.given == "none" else conditional_rows(data, self.given)

    def _check(self, data: Dataset) -> None:
        super()._check(data)
        if self.given == "none":
            return
        inputs.choice("given", self.given, get_args(Conditional))
        name = f"{type(self).__name__}(given={self.given!r})"
        if data.task is None:
            raise TypeError(f"task: missing; {name} erases within its classes, fit(x, z, task=y)")
        if not data.is_classes:
            raise TypeError(f"z: {name} needs class labels, integers (n,)")
        task = inputs.known_values(data.task)
        if task is not None:
            sums = task.sum(axis=1) if task.shape[1] > 1 else np.ones(len(task))
            if not (np.isin(task, (0, 1)).all() and (sums == 1).all()):
                raise ValueError(f"task: {name} needs classes, integers (n,) or one-hot columns")

    def _classes(self, moments: Moments, tasks: int | None) -> int:
        """Returns the number of classes of the concept in moments of those of task and concept.

        Raises:
          ValueError: it cannot be.
        """
        columns = moments.xz.shape[1]
        if tasks is None or tasks < 1 or columns % tasks or columns == tasks or not moments.one_hot:
            raise ValueError(
                f"tasks: with given={self.given!r} the moments are of the classes y k + z of task "
                f"and concept, and tasks how many y there are; got tasks={tasks} and {columns} "
                f"columns of {'classes' if moments.one_hot else 'no classes'}"
            )
        return columns // tasks

    def _fit(self, data: Dataset, key: jax.Array | None) -> F:
        return self._solve(Moments.of(self.concept(data), covariance=self.needs_covariance))

    def _solve(self, moments: Moments) -> F:
        raise NotImplementedError


@program
def _fit(method: Eraser[F], data: Dataset, key: jax.Array | None, moments: Moments | None) -> F:
    with knowing(data, moments):
        fitted = method._fit(data, key)
    if isinstance(fitted, Projection):
        fitted = fitted.replace(status=fitted.status | small_rests(fitted, data))
    return fitted


@program
def _solve(method: ClosedForm[F], moments: Moments) -> F:
    return method._solve(moments)

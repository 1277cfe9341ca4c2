"""What all probes share: how `fit` checks its arguments, and what a fitted probe can do."""

import contextlib
from typing import Generic, Self, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program, thoroughly
from erasejax._core.pytrees import Tree
from erasejax._core.status import Status, check_single, failed, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._core.unfitted import Unfitted
from erasejax._core.views import Shown
from erasejax._linalg.products import product
from erasejax.names import Named
from erasejax.probes._convex.lbfgs import Prepared, Start, Until
from erasejax.projection import Projection
from erasejax.rows import (
    Columned,
    Dataset,
    as_dataset_about,
    columns_of,
    describe_concept,
    features_about,
    move_point,
    moved,
    remember_columns,
    roomy,
    row_by_row,
    weigh_classes,
)
from erasejax.statistics import Moments, knowing, null_model, shared_moments

__all__ = [
    "Classifier",
    "FittedProbe",
    "Likelihood",
    "LinearClassifier",
    "LinearLikelihood",
    "LinearProbe",
    "LinearRegressor",
    "Probe",
]

P = TypeVar("P", bound="FittedProbe", covariant=True)  # what `fit` returns
L = TypeVar("L", bound="LinearProbe")


class Probe(Named, Tree, Unfitted, Generic[P]):
    """A probe before it is fitted: its options, and `fit`. Subclasses write `_fit(data, key)`.

    Example:
      >>> from flax import struct
      >>> @struct.dataclass
      ... class Stiff(ej.probes.Probe):
      ...     def _fit(self, data, key):
      ...         return ej.probes.LDA(l2=9.0).fit(data)
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> Stiff().fit(data).predict(data.x).tolist()
      [0, 0, 0, 1, 1, 1]
    """

    role = "probe"

    needs_key = False
    passes = 1  # of a fit over all rows but in blocks, about
    # Whether the moments that it reads, as others do, hold the covariance; None: it reads others.
    shared_covariance: bool | None = None
    real_concepts = False

    def fit(
        self,
        x: Given | Dataset,
        z: Given | None = None,
        *,
        weights: Given | None = None,
        class_weights: Given | str | None = None,
        num_classes: int | None = None,
        key: Key | None = None,
        throw: bool = True,
    ) -> P:
        """Fits the probe to rows.

        Args:
          x: (n, d) floats, or a `Dataset` and no z.
          z: (n,) integer or boolean class labels; `LeastSquares` also takes real concepts.
          weights: (n,) row weights >= 0; rows of weight 0 are never read. None for ones.
          class_weights: (k,) what the weight of a row of each class is multiplied by, or
            "balanced" for the same total weight in every class. None for ones.
          num_classes: number of classes; required under jit and vmap.
          key: a typed `jax.random.key`, where the probe draws.
          throw: whether a failed fit raises; under jit and vmap it never does.

        Returns:
          A fitted probe with `scores`, `predict`, `status`, and `log_proba` where it has a
          likelihood.

        Raises:
          FailedLanesError: the fit failed, and `throw` is set.
          TypeError: x is not floating point, z is missing or not class labels, or no key.
          ValueError: shapes do not match, num_classes is missing or makes no sense, or a number of
            the configuration is out of its range.

        Under jit: pure; failures that only values show (NaN, one class) set `status` bits.
        """
        data, origin = as_dataset_about(
            x, z, weights=weights, num_classes=num_classes, decided=not self.real_concepts
        )
        key = self._check(data, key)
        if class_weights is not None:
            data = weigh_classes(data, class_weights)
        own = inputs.numbers(self, inputs.compute_dtype(data.x))
        rows = roomy(data, passes=self.passes)
        moments = shared_moments(rows, covariance=self.shared_covariance)
        with thoroughly(self.passes > 1):
            fitted = _fit(own, rows, key, moments)
        fitted = moved(fitted, origin)
        fitted = thrown(fitted, throw, x=data.x, z=data.z, weights=data.weights)
        return remember_columns(fitted, columns_of(x))

    def _check(self, data: Dataset, key: Key | None) -> jax.Array | None:
        """Checks that the probe is made for this kind of concept; returns the key, if it draws.

        Raises:
          TypeError: it is not, or it draws and has no key.
        """
        self._check_concept(data)
        return inputs.drawing_key(type(self).__name__, key, draws=self.needs_key)

    def _check_concept(self, data: Dataset) -> None:
        """Checks that the probe is made for this kind of concept.

        Raises:
          TypeError: it is not.
        """
        if not data.is_classes and not self.real_concepts:
            name, got = type(self).__name__, describe_concept(data.z)
            raise TypeError(f"z: {name} predicts class labels, integers (n,); got {got}")

    def _fit(self, data: Dataset, key: jax.Array | None) -> P:
        raise NotImplementedError

    def _prepare(self, data: Dataset) -> Prepared | None:
        """Returns what fits to the same rows through different projections have in common."""
        return None

    def _fit_through(
        self, prepared: Prepared | None, data: Dataset, through: Projection, key: jax.Array | None
    ) -> P:
        """Returns the probe fitted to rows as an orthogonal projection about the mean leaves them.

        Args:
          prepared: what `_prepare` made of the rows.
          data: the rows themselves.
          through: the projection.
          key: as in `_fit`.
        """
        return self._fit(data.replace(x=through(data.x)), key)

    def _begin(self, prepared: Prepared | None) -> Start | None:
        """Returns where the first of several fits begins, the next of which follow each other."""
        return None

    def _follow_through(
        self,
        prepared: Prepared | None,
        data: Dataset,
        through: Projection,
        start: Start | None,
        until: Until | None,
    ) -> tuple[P, Start | None]:
        """Returns the probe fitted as by `_fit_through`, and where the next fit may begin.

        Args:
          prepared: what `_prepare` made of the rows, perhaps for another penalty.
          data: the rows themselves.
          through: the projection.
          start: where the fit before it ended, through another projection, or `_begin`.
          until: `Until`, where a fit that iterates may end before its optimum, or None.
        """
        return self._fit_through(prepared, data, through, None), start


@program
def _fit(probe: Probe[P], data: Dataset, key: jax.Array | None, moments: Moments | None) -> P:
    with knowing(data, moments):
        return probe._fit(data, key)


class FittedProbe(Shown, Columned):
    """A fitted probe: it has `scores` of rows, `num_classes` and `status`.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> probe.scores(data.x).shape, probe.num_classes, probe.dims, int(probe.status)
      ((6,), 2, 2, 0)
    """

    status: UInt32[Array, ""]
    num_classes: int

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        raise NotImplementedError

    def _facts(self, lane: Self) -> dict[str, object]:
        return facts_of_probe(lane)

    def scores(self, x: Given) -> Float[Array, " n *c"]:
        """Returns the scores of rows.

        Args:
          x: (n, d) floats.

        Returns:
          (n,) for two classes or one concept, (n, c) otherwise; NaN where fitting failed.

        Raises:
          TypeError: x is not floating point.
          ValueError: x has another number of features.
        """
        check_single(self, "probe.scores(x)")
        x, origin = features_about("x", x, of=self)
        if x.shape[1] != self.dims:
            raise ValueError(f"x: this probe was fitted on {self.dims} features, got {x.shape}")
        return row_by_row(_scores, (self, origin), x)

    def _scores(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError


def _scores(shared: tuple[FittedProbe, jax.Array | None], x: jax.Array) -> jax.Array:
    probe, origin = shared
    return moved(probe, origin, back=True)._scores(x)


class Classifier(FittedProbe):
    """A fitted probe that tells classes apart; of two it has one score, positive for class 1.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> probe.predict(data.x).tolist()
      [0, 0, 0, 1, 1, 1]
    """

    def predict(self, x: Given) -> Int[Array, " n"]:
        """Returns the predicted labels of rows (n, d): (n,) int32, ties to the lowest label.

        Where fitting failed every label is -1.
        """
        return row_by_row(decide, self.status, self.scores(x))


class Likelihood(Classifier):
    """A fitted classifier whose scores are log-odds, in nats.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> np.allclose(jnp.exp(probe.log_proba(data.x)).sum(axis=1), 1, atol=1e-5)
      True
    """

    def log_proba(self, x: Given) -> Float[Array, "n k"]:
        """Returns the log-probabilities of the classes for rows (n, d): (n, classes), nats."""
        return row_by_row(log_softmax, None, self.scores(x))


@struct.dataclass
class LinearProbe(FittedProbe):
    """A fitted linear probe: its scores are (x - center) . weight + offset.

    They are computed about the mean of the rows, so that no digits are lost far from zero.

    Attributes:
      weight: (d,), or (d, c) with a column a class or concept.
      offset: () or (c,), the score at the centre.
      center: (d,) mean of the fitting rows.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> np.allclose(probe.scores(data.x), data.x @ probe.weight + probe.bias, atol=1e-4)
      True
    """

    weight: Float[Array, " d *c"]
    offset: Float[Array, "*c"]
    center: Float[Array, " d"]
    status: UInt32[Array, ""]

    @property
    def num_classes(self) -> int:
        """How many classes the probe tells apart."""
        return self.weight.shape[1] if self.weight.ndim == 2 else 2

    @property
    def bias(self) -> Float[Array, "*c"]:
        """() or (c,), the score at the origin: scores = x . weight + bias."""
        return self.offset - product("d,d...->...", self.center, self.weight)

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.weight.shape[0]

    def _moved(self, origin: jax.Array) -> Self:
        center, lag = move_point(self.center, origin)
        offset = self.offset - product("d,d...->...", lag, self.weight)
        return self.replace(center=center, offset=offset)

    def _scores(self, x: jax.Array) -> jax.Array:
        x = x.astype(inputs.compute_dtype(x, self.weight))
        return product("nd,d...->n...", x - self.center, self.weight) + self.offset


@struct.dataclass
class LinearRegressor(LinearProbe):
    """A fitted linear regression: the scores are the predictions.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LeastSquares().fit(data.x, data.x[:, 0])  # a real concept
      >>> np.allclose(probe.predict(data.x), data.x[:, 0], atol=1e-4)
      True
    """

    def _facts(self, lane: Self) -> dict[str, object]:
        concepts = lane.weight.shape[1] if lane.weight.ndim == 2 else 1
        return {"features": lane.dims, "concepts": concepts}

    def predict(self, x: Given) -> Float[Array, " n *c"]:
        """Returns the predicted values, as `scores`."""
        return self.scores(x)


@struct.dataclass
class LinearClassifier(LinearProbe, Classifier):
    """A fitted linear classifier; of two classes it has one score, positive for class 1.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.MeanDifferenceProbe().fit(data)
      >>> probe.weight.shape, probe.predict(data.x).tolist()
      ((2,), [0, 0, 0, 1, 1, 1])
    """


@struct.dataclass
class LinearLikelihood(LinearClassifier, Likelihood):
    """A fitted linear classifier whose scores are log-odds.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> probe = ej.probes.LDA().fit(data)
      >>> isinstance(probe, ej.probes.LinearLikelihood), probe.log_proba(data.x).shape
      (True, (6, 2))
    """


def facts_of_probe(lane: FittedProbe) -> dict[str, object]:
    """Returns what is shown of a fitted probe, from the shapes of one lane."""
    # Those of others may say these from values, which shapes do not have.
    unknown = (AttributeError, NotImplementedError, TypeError)
    facts: dict[str, object] = {}
    with contextlib.suppress(*unknown):
        facts["features"] = lane.dims
    with contextlib.suppress(*unknown):
        facts["classes"] = lane.num_classes
    return facts


def decide(status: jax.Array, scores: jax.Array) -> jax.Array:
    """Returns labels from scores (n,) or (n, c): int32, -1 where `status` has an error."""
    best = (scores > 0) if scores.ndim == 1 else jnp.argmax(scores, axis=1)
    return jnp.where(failed(status), -1, best.astype(jnp.int32))


def log_softmax(_: None, scores: jax.Array) -> jax.Array:
    """Returns log-probabilities (n, classes) from log-odds (n,) or scores (n, c)."""
    if scores.ndim == 1:
        return jnp.stack([jax.nn.log_sigmoid(-scores), jax.nn.log_sigmoid(scores)], axis=1)
    return jax.nn.log_softmax(scores, axis=1)


def linear_classifier(
    kind: type[L],
    weight: jax.Array,
    offset: jax.Array,
    moments: Moments,
    share: jax.Array,
    status: jax.Array,
) -> L:
    """Builds a fitted classifier from one column a class; the null model where no gap is left.

    Args:
      kind: which fitted class to build.
      weight: (d, k), of features as they are.
      offset: (k,) scores at the mean.
      moments: of the fitting rows.
      share: (k,) class frequencies.
      status: () status bits.

    Returns:
      `kind`, NaN where status has an error. Two classes are folded into one score.
    """
    null, unresolved = null_model(moments)
    weight = jnp.where(null, 0, weight)
    offset = jnp.where(null, jnp.log(share), offset)
    overflow = ((share > 0) & ~jnp.isfinite(offset)).any()
    status = status | flag(overflow, Status.NONFINITE)
    if weight.shape[1] == 2:
        weight, offset = weight[:, 1] - weight[:, 0], offset[1] - offset[0]
    return linear_probe(kind, weight, offset, moments, status | unresolved)


def linear_probe(
    kind: type[L],
    weight: jax.Array,
    offset: jax.Array,
    moments: Moments,
    status: jax.Array,
) -> L:
    """Builds a fitted linear probe; NaN, and NONFINITE, where a weight overflows.

    Args:
      kind: which fitted class to build.
      weight: (d,) or (d, c).
      offset: () or (c,) scores at the mean, which is known to more digits than the centre has.
      moments: of the fitting rows.
      status: () status bits.
    """
    lag = (moments.mean_x[0] - moments.mean) + moments.mean_x[1]
    offset = offset - product("d,d...->...", lag, weight)
    status = status | flag(~jnp.isfinite(weight).all(), Status.NONFINITE)
    probe = kind(weight=weight, offset=offset, center=moments.mean, status=status)
    return poison(probe, status)

"""A multilayer perceptron, the probe for what no linear probe sees."""

import functools
import itertools
from typing import Annotated, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import Within, static
from erasejax._core.status import Status, failed, flag, poison
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._base import Likelihood, Probe, log_softmax
from erasejax.rows import Dataset, centered, codes, move_point
from erasejax.statistics import Moments, whitening

__all__ = ["MLP", "MLPLikelihood"]

# Of each layer a dict of its `kernel` (inputs, outputs) and `bias` (outputs,).
_Layers = tuple[dict[str, jax.Array], ...]

_ROUND = 10  # steps at least between two looks at the validation rows
_GAIN = 1e-3  # of the null model's log-loss; patience waits for so much


@struct.dataclass(kw_only=True)
class MLP(Probe["MLPLikelihood"]):
    """A multilayer perceptron: ReLU layers, log-loss, AdamW on minibatches, early stopping.

    A random share of the rows is held out for validation and never trained on. About once an epoch
    their log-loss is taken, and the parameters with the lowest are kept. Training starts from the
    null model (zero output weights, the log-odds of the classes in the output biases), which is one
    of the candidates: where x says nothing of the labels the answer is about the prior. It ends
    when the log-loss has not fallen by a thousandth of the null model's for `patience` rounds.

    Features are standardised inside, so their units do not matter. A row of weight 2 counts twice
    in every loss. Another key gives another split, another start, and somewhat other scores:
    average over keys. Training can magnify rounding: between machines scores may agree to fewer
    digits than those of other probes.

    `fit` needs a key. Class labels only. NOT_CONVERGED is set where `steps` ran out before
    `patience` did, or training diverged; what is returned is the best model so far.

    Attributes:
      width: static; units in each hidden layer.
      depth: static; hidden layers, at least 1.
      learning_rate: () of AdamW, per step.
      weight_decay: () of AdamW: a step takes off learning_rate * weight_decay of each weight;
        biases keep theirs.
      batch: static; rows a step.
      steps: static; bound on the steps, rounded up to whole rounds.
      validation: () share of the rows held out, in (0, 1); at least one row, and one is left.
      patience: static; rounds without gain before training ends. A round is as many steps as pass
        over n rows once, and at least 10.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.MLP(width=2, batch=4, steps=10).fit(data, key=jax.random.key(1))
      >>> probe.log_proba(data.x).shape, len(probe.layers)
      ((6, 2), 2)
    """

    name: ClassVar[str] = "mlp"

    width: int = static(64)
    depth: int = static(1)
    learning_rate: ArrayLike = 3e-3
    weight_decay: ArrayLike = 1e-2
    batch: int = static(64)
    steps: int = static(10_000)
    validation: Annotated[ArrayLike, Within(0, 1, ends=False)] = 0.2
    patience: int = static(8)

    needs_key = True
    passes = 256

    def _fit(self, data: Dataset, key: jax.Array | None) -> "MLPLikelihood":
        for name in ("width", "depth", "batch", "steps", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        assert key is not None
        init_key, split_key, order_key = jax.random.split(key, 3)
        moments = Moments.of(data, covariance=False)
        _, status = whitening(moments)
        share = moments.concept_mean
        rows = _rows(data, moments, split_key, jnp.asarray(self.validation))

        log_share = jnp.log(jnp.maximum(share, jnp.finfo(share.dtype).eps))
        # Two classes have one output, their log-odds.
        prior = log_share[1:] - log_share[:1] if len(share) == 2 else log_share
        sizes = [rows.x.shape[1], *[self.width] * self.depth, len(prior)]
        start = _start(sizes, prior, init_key)
        idle = failed(status) | ~(moments.sd > 0).any()
        last = self._train(start, rows, idle, order_key)
        converged = (last.waited >= self.patience) & jnp.isfinite(last.loss)
        status = status | flag(~converged & ~idle, Status.NOT_CONVERGED)

        layers = last.best
        if len(prior) > 1:  # a class without rows has probability zero, as in `Logistic`
            bias = jnp.where(share > 0, layers[-1]["bias"], -jnp.inf)
            layers = (*layers[:-1], {**layers[-1], "bias": bias})
        probe = MLPLikelihood(
            layers=layers,
            center=moments.mean,
            scale=moments.sd,
            validation_loss=last.best_loss,
            steps=last.steps,
            status=status,
        )
        return poison(probe, status)

    def _train(self, start: _Layers, rows: "_Rows", idle: jax.Array, key: jax.Array) -> "_State":
        """Returns where training ends; at the start where `idle`."""
        import optax  # when it is needed: it takes a while

        # Counts of the rows that are read; shapes may have room for more.
        size = jnp.maximum(jnp.sum(rows.trained, dtype=jnp.int32), 1)
        n = size + jnp.sum(rows.held, dtype=jnp.int32)
        batch = jnp.minimum(self.batch, n)
        every = jnp.maximum((n + batch - 1) // batch, _ROUND)
        places = jnp.arange(min(self.batch, rows.x.shape[0]), dtype=jnp.int32)
        used = places < batch
        solver = optax.adamw(
            jnp.asarray(self.learning_rate),
            weight_decay=self.weight_decay,  # pyright: ignore
            mask=jax.tree.map(lambda leaf: leaf.ndim > 1, start),
        )

        def nats(layers, x, y):
            return -jnp.sum(y * log_softmax(None, _log_odds(layers, x)), axis=1)

        def held_out(layers):
            return jnp.sum(jnp.where(rows.held, rows.weights * nats(layers, rows.x, rows.y), 0))

        def step(i, carry, order):
            layers, optimiser = carry
            chosen = order[(i * batch + places) % size]
            x, y = rows.x[chosen], rows.y[chosen]
            weights = jnp.where(used, rows.weights[chosen], 0) / batch
            gradient = jax.grad(lambda layers: jnp.sum(weights * nats(layers, x, y)))(layers)
            updates, optimiser = solver.update(gradient, optimiser, layers)
            return optax.apply_updates(layers, updates), optimiser

        def running(now: _State):
            return (now.steps < self.steps) & (now.waited < self.patience)

        def one_round(now: _State) -> _State:
            order = _shuffle(jax.random.fold_in(key, now.steps), rows.trained)
            layers, optimiser = jax.lax.fori_loop(
                0, every, functools.partial(step, order=order), (now.layers, now.optimiser)
            )
            loss = held_out(layers)
            better = loss < now.best_loss
            gained = loss < now.mark - _GAIN * null
            return _State(
                layers=layers,  # pyright: ignore
                optimiser=optimiser,
                best=jax.tree.map(lambda new, old: jnp.where(better, new, old), layers, now.best),
                best_loss=jnp.where(better, loss, now.best_loss),
                loss=loss,
                mark=jnp.where(gained, loss, now.mark),
                waited=jnp.where(gained, 0, now.waited + 1),
                steps=now.steps + every,
            )

        null = held_out(start)
        first = _State(
            layers=start,
            optimiser=solver.init(start),
            best=start,
            best_loss=null,
            loss=null,
            mark=null,
            waited=jnp.where(idle, jnp.int32(self.patience), jnp.int32(0)),
            steps=jnp.int32(0),
        )
        return jax.lax.while_loop(running, one_round, first)


@struct.dataclass
class MLPLikelihood(Likelihood):
    """A fitted multilayer perceptron whose scores are log-odds.

    Attributes:
      layers: of each layer a dict of its `kernel` (inputs, outputs) and `bias` (outputs,); the last
        has one output for two classes, else one a class.
      center: (d,) mean of the fitting rows.
      scale: (d,) their standard deviations; 0 where a feature is constant, and then it is not read.
      validation_loss: () nats, the mean over the validation rows. The lowest of many, so somewhat
        below that of fresh rows.
      steps: () int32, optimiser steps taken.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> dataset = ej.datasets.GaussianClasses(separation=9.0, rows=3, dims=2)
      >>> data = dataset.sample(jax.random.key(0))
      >>> probe = ej.probes.MLP(width=2, batch=4, steps=10).fit(data, key=jax.random.key(1))
      >>> [layer["kernel"].shape for layer in probe.layers]
      [(2, 2), (2, 1)]
    """

    layers: _Layers
    center: Float[Array, " d"]
    scale: Float[Array, " d"]
    validation_loss: Float[Array, ""]
    steps: Int[Array, ""]
    status: UInt32[Array, ""]

    @property
    def num_classes(self) -> int:
        """How many classes the probe tells apart."""
        return max(self.layers[-1]["bias"].shape[-1], 2)

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.center.shape[0]

    def _moved(self, origin: jax.Array) -> "MLPLikelihood":
        center, lag = move_point(self.center, origin)
        first, *others = self.layers
        lag = lag * safe_reciprocal(self.scale, self.scale > 0)
        bias = first["bias"] - product("i,ij->j", lag, first["kernel"])
        layers = ({**first, "bias": bias}, *others)
        return self.replace(center=center, layers=layers)

    def _scores(self, x: jax.Array) -> jax.Array:
        x = x.astype(inputs.compute_dtype(x, self.center)) - self.center
        return _log_odds(self.layers, x * safe_reciprocal(self.scale, self.scale > 0))


class _Rows(NamedTuple):
    """Standardised rows and the part each plays; rows of weight 0 play none and are zeros."""

    x: jax.Array  # (n, d)
    y: jax.Array  # (n, k), one-hot labels
    weights: jax.Array  # (n,), mean 1 over the rows trained on, sum 1 over those held out
    held: jax.Array  # (n,) bool
    trained: jax.Array  # (n,) bool


class _State(NamedTuple):
    layers: _Layers
    optimiser: object
    best: _Layers  # those with the lowest loss so far
    best_loss: jax.Array
    loss: jax.Array
    mark: jax.Array  # () the loss that the next gain is counted from
    waited: jax.Array  # () rounds since then
    steps: jax.Array  # () optimiser steps


def _start(sizes: list[int], prior: jax.Array, key: jax.Array) -> _Layers:
    """Returns layers that answer `prior` whatever they read, the hidden ones random."""
    draw = jax.nn.initializers.he_normal()
    hidden = tuple(
        {
            # Even numbers, so that a key goes on to draw what it always drew.
            "kernel": draw(jax.random.fold_in(key, 2 * i), shape, prior.dtype),
            "bias": jnp.zeros(shape[1], prior.dtype),
        }
        for i, shape in enumerate(itertools.pairwise(sizes[:-1]))
    )
    return (*hidden, {"kernel": jnp.zeros(sizes[-2:], prior.dtype), "bias": prior})


def _log_odds(layers: _Layers, x: jax.Array) -> jax.Array:
    """Returns the scores of standardised rows (n, d): (n,) from one output, else (n, outputs)."""
    *hidden, last = layers
    for layer in hidden:
        x = jax.nn.relu(product("ni,ij->nj", x, layer["kernel"]) + layer["bias"])
    outputs = product("ni,ij->nj", x, last["kernel"]) + last["bias"]
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def _rows(data: Dataset, moments: Moments, key: jax.Array, validation: jax.Array) -> _Rows:
    """Returns the rows in standardised features, a share of them held out."""
    dtype = moments.xz.dtype
    x = centered(data, moments.mean).x * safe_reciprocal(moments.sd, moments.sd > 0)
    y, _ = codes(data, dtype)
    weights = data.row_weights
    seen = weights != 0
    weights = weights * safe_reciprocal(moments.total, moments.total > 0)
    held = _split(key, seen, validation)
    trained = seen & ~held
    size = jnp.sum(trained, dtype=dtype)
    sums = [jnp.sum(jnp.where(part, weights, 0)) for part in (trained, held)]
    heavy = weights * jnp.where(
        held,
        safe_reciprocal(sums[1], sums[1] > 0),
        size * safe_reciprocal(sums[0], sums[0] > 0),
    )
    return _Rows(x, y, heavy, held, trained)


def _split(key: jax.Array, seen: jax.Array, share: jax.Array) -> jax.Array:
    """Returns which rows (n,) are held out: a random share of those seen, one row at least."""
    size = jnp.sum(seen, dtype=jnp.int32)
    count = jnp.round(share * size).astype(jnp.int32)
    count = jnp.minimum(jnp.maximum(count, 1), size - 1)
    return jnp.argsort(_shuffle(key, seen)) < count


def _shuffle(key: jax.Array, rows: jax.Array) -> jax.Array:
    """Returns the numbers of the rows (n,) that are marked, in random order; then the others."""
    draws = jax.random.uniform(key, rows.shape, jnp.float32)
    return jnp.argsort(jnp.where(rows, draws, jnp.inf))

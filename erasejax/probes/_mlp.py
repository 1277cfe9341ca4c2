"""A multilayer perceptron, the probe for what no linear probe sees."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx, struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.pytrees import static
from erasejax._core.status import Status, failed, flag, poison
from erasejax._linalg.products import HIGHEST, product, safe_reciprocal
from erasejax.probes._base import Likelihood, Probe, log_softmax
from erasejax.rows import Dataset, centered, codes, move_point
from erasejax.statistics import Moments, whitening

__all__ = ["MLP", "MLPLikelihood"]

_ROUND = 10  # steps at least between two looks at the validation rows
_GAIN = 1e-3  # of the null model's log-loss; patience waits for so much


@struct.dataclass(kw_only=True)
class MLP(Probe):
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
    validation: ArrayLike = 0.2
    patience: int = static(8)

    needs_key = True

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
        network = _network(sizes, prior, init_key)
        idle = failed(status) | ~(moments.sd > 0).any()
        network, last = self._train(network, rows, idle, order_key)
        converged = (last.waited >= self.patience) & jnp.isfinite(last.loss)
        status = status | flag(~converged & ~idle, Status.NOT_CONVERGED)

        layers = tuple(
            {"kernel": layer.kernel[...], "bias": layer.bias[...]}  # pyright: ignore
            for layer in network.layers
            if isinstance(layer, nnx.Linear)
        )
        if len(prior) > 1:  # a class without rows has probability zero, as in `Logistic`
            layers[-1]["bias"] = jnp.where(share > 0, layers[-1]["bias"], -jnp.inf)
        probe = MLPLikelihood(
            layers=layers,
            center=moments.mean,
            scale=moments.sd,
            validation_loss=last.best_loss,
            steps=last.steps,
            status=status,
        )
        return poison(probe, status)

    def _train(
        self, network: nnx.Sequential, rows: "_Rows", idle: jax.Array, key: jax.Array
    ) -> tuple[nnx.Sequential, "_State"]:
        """Returns the network with the lowest validation loss; the given one where `idle`."""
        graph, state = nnx.split(network)
        start, tree = jax.tree.flatten(state)
        n = rows.x.shape[0]
        batch = min(self.batch, n)
        every = max(-(-n // batch), _ROUND)
        solver = optax.adamw(
            jnp.asarray(self.learning_rate),
            weight_decay=self.weight_decay,  # pyright: ignore
            mask=[leaf.ndim > 1 for leaf in start],
        )

        def nats(leaves, x, y):
            outputs = nnx.merge(graph, jax.tree.unflatten(tree, leaves))(x)
            scores = outputs[:, 0] if outputs.shape[1] == 1 else outputs
            return -jnp.sum(y * log_softmax(scores), axis=1)

        def held_out(leaves):
            return jnp.sum(jnp.where(rows.held, rows.weights * nats(leaves, rows.x, rows.y), 0))

        def step(carry, chosen):
            leaves, optimiser = carry
            x, y, weights = rows.x[chosen], rows.y[chosen], rows.weights[chosen]
            gradient = jax.grad(lambda leaves: jnp.mean(weights * nats(leaves, x, y)))(leaves)
            updates, optimiser = solver.update(gradient, optimiser, leaves)
            return (jax.tree.leaves(optax.apply_updates(leaves, updates)), optimiser), None

        def running(now: _State):
            return (now.steps < self.steps) & (now.waited < self.patience)

        def one_round(now: _State) -> _State:
            order = _shuffle(jax.random.fold_in(key, now.steps), rows.trained)
            places = jnp.arange(every * batch, dtype=jnp.int32).reshape(every, batch)
            size = jnp.maximum(jnp.sum(rows.trained, dtype=jnp.int32), 1)
            carry = (now.leaves, now.optimiser)
            (leaves, optimiser), _ = jax.lax.scan(step, carry, order[places % size])
            loss = held_out(leaves)
            better = loss < now.best_loss
            gained = loss < now.mark - _GAIN * null
            return _State(
                leaves=leaves,
                optimiser=optimiser,
                best=jax.tree.map(lambda new, old: jnp.where(better, new, old), leaves, now.best),
                best_loss=jnp.where(better, loss, now.best_loss),
                loss=loss,
                mark=jnp.where(gained, loss, now.mark),
                waited=jnp.where(gained, 0, now.waited + 1),
                steps=now.steps + every,
            )

        null = held_out(start)
        first = _State(
            leaves=start,
            optimiser=solver.init(start),
            best=start,
            best_loss=null,
            loss=null,
            mark=null,
            waited=jnp.where(idle, jnp.int32(self.patience), jnp.int32(0)),
            steps=jnp.int32(0),
        )
        last = jax.lax.while_loop(running, one_round, first)
        return nnx.merge(graph, jax.tree.unflatten(tree, last.best)), last


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

    layers: tuple[dict[str, jax.Array], ...]
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
        x = x * safe_reciprocal(self.scale, self.scale > 0)
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(product("ni,ij->nj", x, layer["kernel"]) + layer["bias"])
        outputs = product("ni,ij->nj", x, last["kernel"]) + last["bias"]
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs


class _Rows(NamedTuple):
    """Standardised rows and the part each plays; rows of weight 0 play none and are zeros."""

    x: jax.Array  # (n, d)
    y: jax.Array  # (n, k), one-hot labels
    weights: jax.Array  # (n,), mean 1 over the rows trained on, sum 1 over those held out
    held: jax.Array  # (n,) bool
    trained: jax.Array  # (n,) bool


class _State(NamedTuple):
    leaves: list[jax.Array]
    optimiser: Any
    best: list[jax.Array]
    best_loss: jax.Array
    loss: jax.Array
    mark: jax.Array  # () the loss that the next gain is counted from
    waited: jax.Array  # () rounds since then
    steps: jax.Array  # () optimiser steps


def _network(sizes: list[int], prior: jax.Array, key: jax.Array) -> nnx.Sequential:
    """Returns a network that answers `prior` whatever it reads, its hidden layers random."""
    dtype = prior.dtype
    initializers = jax.nn.initializers
    keys = nnx.Rngs(key)

    def linear(inputs, outputs, kernel, bias):
        return nnx.Linear(
            inputs,
            outputs,
            dtype=dtype,
            param_dtype=dtype,
            precision=HIGHEST,
            kernel_init=kernel,
            bias_init=bias,
            rngs=keys,
        )

    layers = []
    for taken, given in zip(sizes[:-2], sizes[1:-1], strict=True):
        layers += [linear(taken, given, initializers.he_normal(), initializers.zeros)]
        layers += [jax.nn.relu]
    last = linear(sizes[-2], sizes[-1], initializers.zeros, lambda *_: prior)
    return nnx.Sequential(*layers, last)


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

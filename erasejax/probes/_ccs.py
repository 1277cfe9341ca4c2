"""Contrast-consistent search (CCS), and one search after another."""

import functools
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import static
from erasejax._core.status import poison
from erasejax._core.types import Given, Key
from erasejax._linalg import platforms, products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._contrast import (
    ContrastClassifier,
    ContrastProbe,
    Halves,
    _unlabelled,
    normalized_halves,
)
from erasejax.rows import Pairs, as_pairs, shares

__all__ = ["CCS", "CCSClassifier", "recursive_ccs"]


@struct.dataclass
class CCSClassifier(ContrastClassifier):
    """A fitted `CCS`: p+ = sigmoid(weight . x+ + bias), p- likewise, of normalised halves.

    Scores are sign (p+ - p-) / 2, in [-1/2, 1/2]; `proba` is 1/2 more.

    Attributes:
      weight: (d,) of the start with the lowest loss.
      sign: () 1 or -1, what scores are multiplied by.
      normalization: what is subtracted from either half.
      status: () uint32 bits, see `erasejax.Status`.
      bias: ().
      loss: () on the training pairs; 0.2 is that of the best constant, p = 0.4.
      start_weights: (starts, d), of all starts.
      start_biases: (starts,).
      start_losses: (starts,).
      start_signs: (starts,) 1 or -1, which makes the scores of each start agree with those of the
        one that was kept, on the training pairs.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> probe = ej.probes.CCS(starts=2, epochs=3).fit(pairs, key=jax.random.key(1))
      >>> probe.start_losses.shape, float(probe.loss) == float(probe.start_losses.min())
      ((2,), True)
    """

    bias: Float[Array, ""]
    loss: Float[Array, ""]
    start_weights: Float[Array, "s d"]
    start_biases: Float[Array, " s"]
    start_losses: Float[Array, " s"]
    start_signs: Float[Array, " s"]

    def proba(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Float[Array, " n"]:
        """Returns (p+ + 1 - p-) / 2 for pairs, (n,) in [0, 1]: how far yes is taken for true.

        Args:
          x_pos: as in `scores`.
          x_neg: as in `scores`.
          templates: as in `scores`.
          statistics: static; as in `scores`.
        """
        return 0.5 + self.scores(x_pos, x_neg, templates=templates, statistics=statistics)

    def mean_scores(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Float[Array, " n"]:
        """Returns the mean of the scores of all starts, each with its sign: (n,).

        Which start has the lowest loss is largely chance; their mean is the steadier answer.

        Args:
          x_pos: as in `scores`.
          x_neg: as in `scores`.
          templates: as in `scores`.
          statistics: static; as in `scores`.
        """
        pairs = as_pairs(x_pos, x_neg, templates=templates)
        each = jax.vmap(lambda probe: probe.scores(pairs, statistics=statistics))
        return jnp.mean(each(self.each_start()), axis=0)

    def each_start(self) -> "CCSClassifier":
        """Returns the probes of all starts: every leaf has a leading axis of starts, for `vmap`.

        `jax.vmap(lambda probe: probe.accuracy(pairs))(found.each_start())` is their accuracies.
        """
        count = self.start_losses.shape[0]
        many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), self)
        return many.replace(
            weight=self.start_weights,
            bias=self.start_biases,
            loss=self.start_losses,
            sign=self.sign * self.start_signs,
        )

    def loss_on(
        self,
        x_pos: Given | Pairs,
        x_neg: Given | None = None,
        *,
        weights: Given | None = None,
        templates: Given | None = None,
        statistics: str = "training",
    ) -> Float[Array, ""]:
        """Returns the loss on other pairs, ().

        Above 0.2 the probe does worse there than the constant p = 0.4.

        Args:
          x_pos: as in `scores`.
          x_neg: as in `scores`.
          weights: (n,) row weights, or None.
          templates: as in `scores`.
          statistics: static; as in `scores`.
        """
        pairs = as_pairs(x_pos, x_neg, weights=weights, templates=templates)
        pairs = self.normalization._checked(pairs, statistics)
        return _loss_on(self, pairs.replace(labels=None, distractor=None), statistics)

    def _scores(self, x: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(product("hnd,d->hn", x, self.weight) + self.bias)
        return self.sign * (p[0] - p[1]) / 2


@program(static_argnames="statistics")
def _loss_on(probe: CCSClassifier, pairs: Pairs, statistics: str) -> jax.Array:
    normal = probe.normalization(pairs, statistics=statistics)
    x = jnp.stack([normal.positive, normal.negative])
    outputs = product("hnd,d->hn", x, probe.weight) + probe.bias
    share = shares(pairs, x.dtype)
    return jnp.sum(jnp.where(share != 0, share * _row_loss(outputs), 0))


@struct.dataclass(kw_only=True)
class CCS(ContrastProbe[CCSClassifier]):
    """Contrast-consistent search: a direction along which yes and no exclude each other.

    Minimises mean((p+ - (1 - p-))^2) + mean(min(p+, p-)^2) over a weight and a bias, without
    labels, by AdamW over all pairs at once, from several random unit weights and a bias of 0; the
    lowest final loss is kept. Nothing in it asks for truth: any balanced binary feature of the
    pairs has the same loss, and the most prominent is found (Farquhar et al. 2023).

    The starts are columns of one product: an epoch reads the rows twice, whatever their number.
    Published settings are the defaults; `learning_rate` is per step and not free of units: with
    features much smaller than 1, `scale="common"` helps.

    `fit` needs a key. As published, all epochs are run and nothing tests whether the loss has
    settled, so NOT_CONVERGED is never set: compare `start_losses`.

    Attributes:
      learning_rate: () of AdamW, per epoch.
      weight_decay: () of AdamW: an epoch takes off learning_rate * weight_decay of weight and bias.
      starts: static; random starts.
      epochs: static; steps of AdamW.
      scale: static; how the halves are scaled, see `PairNormalization.of`.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> probe = ej.probes.CCS(starts=2, epochs=3).fit(pairs, key=jax.random.key(1))
      >>> 0.5 <= float(probe.accuracy(pairs)) <= 1
      True

    References:
      Burns et al. 2022, arXiv 2212.03827; Farquhar et al. 2023, arXiv 2312.10029.
    """

    name: ClassVar[str] = "ccs"

    learning_rate: ArrayLike = 1e-2
    weight_decay: ArrayLike = 1e-2
    starts: int = static(10)
    epochs: int = static(1000)
    scale: str = static("none")

    needs_key = True
    passes = 1000

    def _fit(self, halves: Halves, key: jax.Array | None) -> CCSClassifier:
        assert key is not None
        return self._search(halves, key, None)

    def _search(self, halves: Halves, key: jax.Array, basis: jax.Array | None) -> CCSClassifier:
        """Returns the best of several starts, its weights orthogonal to a basis (d, r) if given.

        The published search projects the weights at the start, in every forward pass and after
        every step. The gradient then has no part along the basis, and decay moves each part by
        itself, so projecting the rows once and the weights at the end is the same.

        Args:
          halves: normalised pairs.
          key: for the starts.
          basis: (d, r) orthonormal columns, or zero columns, or None.

        Raises:
          ValueError: starts or epochs is not positive.
        """
        for name in ("starts", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        x, share = halves.x, halves.share
        _, n, d = x.shape
        rows = x.reshape(2 * n, d)
        if basis is not None:
            rows = rows - product("nr,dr->nd", product("nd,dr->nr", rows, basis), basis)
        weights = jax.random.normal(key, (self.starts, d), x.dtype)
        weights = weights / products.column_norms(weights.T)[:, None]
        weights, biases = self._train(rows, share, weights)
        if basis is not None:
            for _ in range(2):
                along = product("md,dr->mr", weights, basis)
                weights = weights - product("mr,dr->md", along, basis)
        outputs = _outputs(rows.T, weights, biases)
        losses = product("n,mn->m", share, _row_loss(outputs))
        best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        p = jax.nn.sigmoid(outputs)
        gaps = p[:, 0] - p[:, 1]
        agreement = product("n,mn,n->m", share, gaps, gaps[best])
        one = jnp.ones((), x.dtype)
        return CCSClassifier(
            weight=weights[best],
            sign=one,
            normalization=halves.normalization,
            status=halves.status,
            bias=biases[best],
            loss=losses[best],
            start_weights=weights,
            start_biases=biases,
            start_losses=losses,
            start_signs=jnp.where(agreement < 0, -one, one),
        )

    def _train(
        self, rows: jax.Array, share: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Returns weights (m, d) and biases (m,) after all epochs, from rows (2n, d)."""
        import optax  # when it is needed: it takes a while

        solver = optax.adamw(
            jnp.asarray(self.learning_rate),
            weight_decay=self.weight_decay,  # pyright: ignore[reportArgumentType]
        )

        def trained(gradient_of, rows, share, weights):
            gradient = gradient_of(rows, share)

            def epoch(_, carry):
                parameters, state = carry
                updates, state = solver.update(gradient(*parameters), state, parameters)
                return optax.apply_updates(parameters, updates), state

            parameters = (weights, jnp.zeros(weights.shape[0], weights.dtype))
            carry = (parameters, solver.init(parameters))
            return jax.lax.fori_loop(0, self.epochs, epoch, carry)[0]

        at_once = functools.partial(trained, _gradient_at_once)
        if not platforms.outgrows_cache(rows.nbytes):
            return at_once(rows, share, weights)
        in_blocks = functools.partial(trained, _gradient_in_blocks)
        return platforms.choose(rows, share, weights, cpu=in_blocks, gpu=at_once, tpu=at_once)


_PAIRS = 256  # in a block of rows that do not stay in the last-level cache


def _gradient_at_once(rows: jax.Array, share: jax.Array) -> Callable:
    """Returns the function of weights (m, d) and biases (m,) whose value is the loss's gradient.

    Starts come first everywhere, and the rows (2n, d) lie both ways round: each product then reads
    its operands as they lie, and what is between them is done on long rows.
    """
    columns = jax.lax.optimization_barrier(rows.T)

    def gradient(weights, biases):
        flat = _slope(_outputs(columns, weights, biases), share).reshape(-1, rows.shape[0])
        return product("mn,nd->md", flat, rows), jnp.sum(flat, axis=1)

    return gradient


def _gradient_in_blocks(rows: jax.Array, share: jax.Array) -> Callable:
    """Returns the same, of rows that are read once an epoch, some pairs at a time."""
    pairs = jax.lax.optimization_barrier(rows.reshape(2, -1, rows.shape[1]).swapaxes(0, 1))

    def gradient(weights, biases):
        def part(
            pairs: jax.Array, share: jax.Array, fresh: jax.Array | None
        ) -> tuple[jax.Array, jax.Array]:
            share = share if fresh is None else jnp.where(fresh, share, 0)
            rows = pairs.reshape(-1, pairs.shape[2])
            outputs = product("md,nd->mn", weights, rows) + biases[:, None]
            slope = _slope(outputs.reshape(len(outputs), -1, 2).swapaxes(1, 2), share)
            flat = slope.swapaxes(1, 2).reshape(len(outputs), -1)
            return product("mn,nd->md", flat, rows), jnp.sum(flat, axis=1)

        return products.sum_over_rows(part, (pairs, share), limit=_PAIRS)

    return gradient


def _slope(outputs: jax.Array, share: jax.Array) -> jax.Array:
    """Returns the derivative of the loss in the log-odds (m, 2, n)."""
    return jax.grad(lambda outputs: jnp.sum(share * _row_loss(outputs)))(outputs)


def _outputs(columns: jax.Array, weights: jax.Array, biases: jax.Array) -> jax.Array:
    """Returns the log-odds (m, 2, n) of stacked halves, transposed, (d, 2n)."""
    flat = product("md,dn->mn", weights, columns) + biases[:, None]
    return flat.reshape(len(flat), 2, -1)


def _row_loss(outputs: jax.Array) -> jax.Array:
    """Returns the loss of each pair from the log-odds of its halves, (..., 2, n) to (..., n)."""
    p = jax.nn.sigmoid(outputs)
    yes, no = p[..., 0, :], p[..., 1, :]
    return (yes + no - 1) ** 2 + jnp.minimum(yes, no) ** 2


def recursive_ccs(
    probe: CCS,
    x_pos: Given | Pairs,
    x_neg: Given | None = None,
    *,
    rounds: int,
    weights: Given | None = None,
    key: Key | None = None,
    templates: Given | None = None,
    num_templates: int | None = None,
) -> CCSClassifier:
    """Searches again and again, each time orthogonal to all the directions found before.

    How many orthogonal directions are about as accurate shows how redundant the truth is, or how
    easy the pairs are: compare with `RandomDirection`. There are no labels to stop by, so all
    rounds are run; for labelled probes see `recursive`.

    Args:
      probe: configuration of the search.
      x_pos: (n, d) floats, or `Pairs`, as in `fit`.
      x_neg: (n, d) floats; left out with `Pairs`.
      rounds: static; how many searches, at most d.
      weights: (n,) row weights, or None.
      key: round i gets `fold_in(key, i)`.
      templates: (n,) integers, or None.
      num_templates: required with templates under jit and vmap.

    Returns:
      `CCSClassifier`, every leaf with a leading axis of rounds:
      `jax.vmap(lambda probe: probe.accuracy(pairs))(found)`. Their `weight` are orthogonal.

    Raises:
      TypeError: as `fit`.
      ValueError: rounds is not in 1 to d, or as `fit`.

    Under jit: pure; one scan over rounds.

    Example:
      >>> pairs = ej.datasets.ContrastPairs(rows=3, dims=2, directions=1).sample(jax.random.key(0))
      >>> search = ej.probes.CCS(starts=2, epochs=3)
      >>> found = ej.probes.recursive_ccs(search, pairs, rounds=2, key=jax.random.key(1))
      >>> first, second = found.weight
      >>> abs(float(first @ second)) < 1e-5  # orthogonal
      True
    """
    pairs = _unlabelled(x_pos, x_neg, weights, templates, num_templates)
    d = pairs.positive.shape[1]
    key = inputs.drawing_key(type(probe).__name__, key)
    if not 1 <= rounds <= d:
        raise ValueError(f"rounds: expected 1 to {d}, the number of features, got {rounds}")
    return _recursive(
        inputs.numbers(probe, inputs.compute_dtype(pairs.positive)), pairs, key, rounds
    )


@program(static_argnames="rounds", thorough=True)
def _recursive(probe: CCS, pairs: Pairs, key: jax.Array | None, rounds: int) -> CCSClassifier:
    assert key is not None
    halves = normalized_halves(pairs, probe.scale)

    def one(basis, i):
        found = probe._search(halves, jax.random.fold_in(key, i), basis)
        length = products.column_norms(found.weight[:, None])
        return basis.at[:, i].set(found.weight * safe_reciprocal(length, length > 0)), found

    start = jnp.zeros((halves.x.shape[2], rounds), halves.x.dtype)
    _, found = jax.lax.scan(one, start, jnp.arange(rounds))
    failed = jax.vmap(poison, in_axes=(0, 0))
    return failed(found, found.status)

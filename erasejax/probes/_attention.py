"""A probe of sequences that learns which of their tokens to read."""

from typing import Annotated, NamedTuple, Self

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, UInt32

from erasejax._core import inputs
from erasejax._core.programs import program
from erasejax._core.pytrees import Inner, Tree, Within, static
from erasejax._core.status import Status, check_single, failed, flag, poison, thrown
from erasejax._core.types import Given, Key
from erasejax._core.views import Shown
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.probes._base import LinearLikelihood, decide, log_softmax
from erasejax.probes._descent import begin_at, descend
from erasejax.probes._tokens import check_tokens, tokens_about
from erasejax.rows import (
    Dataset,
    as_dataset,
    centered,
    codes,
    describe_concept,
    in_room,
    moved,
    roomy,
    row_by_row,
    weigh_classes,
)
from erasejax.statistics import Moments, whitening

__all__ = ["AttentionLikelihood", "AttentionProbe"]

_REST = 1e-5  # share of the loss that may be left to gain


@struct.dataclass(kw_only=True)
class AttentionProbe(Tree):
    """A linear probe of tokens that it learns to attend to, for a label of a whole sequence.

    A head has a query q and pools the tokens x_t of a sequence with weights softmax_t(q . x_t). The
    scores are linear in what the heads pool, so where all queries are zero this is logistic
    regression of the mean. Minimised is the mean log-loss of the sequences in nats plus (l2 / 2)
    times the squares of queries and weights, by L-BFGS over all rows, two products with the tokens
    an iteration. Features are standardised inside over the tokens, each sequence counting alike,
    and the penalty with them: units do not matter.

    The loss is not convex. The key draws the queries that it starts from, at which the log-weights
    of tokens have a standard deviation of about one; another key may end elsewhere. Of one dataset
    and key the result is one.

    Class labels only. NOT_CONVERGED is set where `max_steps` ran out before less than a
    hundred-thousandth of the loss was left to gain. A sequence of positive weight without a token
    fails the fit (NO_TOKENS).

    Attributes:
      heads: static; how many queries.
      l2: () penalty, >= 0.
      max_steps: static; bound on the iterations.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (8, 3, 2))
      >>> z = jnp.arange(8) % 2
      >>> probe = ej.probes.AttentionProbe(l2=0.1).fit(x, z, key=jax.random.key(1))
      >>> probe.scores(x).shape, probe.pooled(x).shape
      ((8,), (8, 2))

    References:
      Kantamneni et al. 2025, arXiv 2502.16681, who pool so; Nocedal 1980, doi
      10.1090/S0025-5718-1980-0572855-7.
    """

    heads: int = static(1)
    l2: Annotated[ArrayLike, Within(0)] = 1e-3
    max_steps: int = static(500)

    def fit(
        self,
        x: Given,
        z: Given,
        *,
        mask: Given | None = None,
        weights: Given | None = None,
        class_weights: Given | str | None = None,
        num_classes: int | None = None,
        key: Key | None = None,
        throw: bool = True,
    ) -> "AttentionLikelihood":
        """Fits the probe to sequences.

        Args:
          x: (n, t, d) floats, t tokens of each of n sequences.
          z: (n,) integer or boolean class labels.
          mask: (n, t) bool, or 0 and 1, what is a token; the rest is padding and never read. None
            where all are tokens.
          weights: (n,) weights of the sequences, as in `Probe.fit`.
          class_weights: (k,) or "balanced", as in `Probe.fit`.
          num_classes: number of classes; required under jit and vmap.
          key: a typed `jax.random.key`; required.
          throw: whether a failed fit raises; under jit and vmap it never does.

        Returns:
          `AttentionLikelihood`.

        Raises:
          FailedLanesError: the fit failed, and `throw` is set.
          TypeError: x is not floating point, z no class labels, the mask neither boolean nor
            integer, or no key.
          ValueError: shapes do not match, heads or max_steps is not positive, or num_classes is
            missing or makes no sense.

        Under jit: pure; what only values show (NaN, one class, a sequence without tokens) sets
        `status` bits.
        """
        for name in ("heads", "max_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        x, mask, origin = tokens_about(x, mask)
        rows = row_by_row(_flat, None, x)
        data = as_dataset(rows, z, weights=weights, num_classes=num_classes, decided=True)
        if not data.is_classes:
            got = describe_concept(data.z)
            raise TypeError(f"z: AttentionProbe predicts class labels, integers (n,); got {got}")
        key = inputs.drawing_key("AttentionProbe", key)
        assert key is not None
        if class_weights is not None:
            data = weigh_classes(data, class_weights)
        data = roomy(data, passes=self.max_steps)
        own = inputs.numbers(self, inputs.compute_dtype(x))
        fitted = _fit(own, data, in_room(mask, len(data.x)), key)
        return thrown(moved(fitted, origin), throw)


@struct.dataclass
class AttentionLikelihood(Shown, Tree):
    """A fitted `AttentionProbe` whose scores are log-odds.

    Metrics score the linear probe of pooled rows:
    `ej.metrics.accuracy(probe.linear, probe.pooled(x, mask), z)`.

    Attributes:
      queries: (h, d); the log-weight of a token x in head i is x . queries[i], up to a constant.
      linear: the probe of pooled rows (n, h d).
      steps: () int32, iterations.
      status: () uint32 bits, see `erasejax.Status`.

    Example:
      >>> x = jax.random.normal(jax.random.key(0), (8, 3, 2))
      >>> z = jnp.arange(8) % 2
      >>> probe = ej.probes.AttentionProbe(l2=0.1).fit(x, z, key=jax.random.key(1))
      >>> rows = probe.pooled(x)
      >>> np.allclose(probe.linear.scores(rows), probe.scores(x), atol=1e-5)
      True
    """

    queries: Float[Array, "h d"]
    linear: Annotated[LinearLikelihood, Inner(letters={"d": "hd"})]
    steps: Int[Array, ""]
    status: UInt32[Array, ""]

    @property
    def num_classes(self) -> int:
        """How many classes the probe tells apart."""
        return self.linear.num_classes

    @property
    def dims(self) -> int:
        """How many features the probe was fitted on, d."""
        return self.queries.shape[-1]

    def _facts(self, lane: Self) -> dict[str, object]:
        return {"features": lane.dims, "classes": lane.num_classes, "heads": lane.queries.shape[0]}

    def scores(self, x: Given, mask: Given | None = None) -> Float[Array, " n *c"]:
        """Returns the scores of sequences.

        Args:
          x: (n, t, d) floats, t of any length.
          mask: as in `AttentionProbe.fit`.

        Returns:
          (n,) for two classes, (n, k) otherwise; NaN where fitting failed, and under jit for a
          sequence without tokens.

        Raises:
          TypeError: x is not floating point, or the mask neither boolean nor integer.
          ValueError: shapes do not match, or a sequence has no token.
        """
        return self._of(_scores, x, mask)

    def predict(self, x: Given, mask: Given | None = None) -> Int[Array, " n"]:
        """Returns the predicted labels of sequences, (n,) int32, ties to the lowest label.

        Arguments as `scores`; -1 where that has NaN.
        """
        return row_by_row(_decided, self.status, self.scores(x, mask))

    def log_proba(self, x: Given, mask: Given | None = None) -> Float[Array, "n k"]:
        """Returns the log-probabilities of the classes, (n, classes), in nats.

        Arguments as `scores`.
        """
        return row_by_row(log_softmax, None, self.scores(x, mask))

    def pooled(self, x: Given, mask: Given | None = None) -> Float[Array, "n f"]:
        """Returns what the heads pool of each sequence, (n, h d), a head after another.

        Arguments as `scores`. These are rows like any: erasers, metrics and other probes take them.
        """
        return self._of(_pooled, x, mask)

    def attention(self, x: Given, mask: Given | None = None) -> Float[Array, "n h t"]:
        """Returns the weights of the tokens, (n, h, t): of sum 1 in each head, 0 for padding.

        Arguments as `scores`.
        """
        return self._of(_weights, x, mask)

    def _of(self, core, x: Given, mask: Given | None) -> jax.Array:
        """Returns a function of this probe and sequences, by sequence.

        Raises:
          ValueError: x has another number of features.
        """
        check_single(self, "probe.scores(x, mask)")
        x, mask, origin = tokens_about(x, mask)
        check_tokens(mask)
        if x.shape[2] != self.dims:
            raise ValueError(f"x: this probe was fitted on {self.dims} features, got {x.shape}")
        return row_by_row(core, (self, origin), (x, mask))

    def _moved(self, origin: jax.Array) -> "AttentionLikelihood":
        # Log-weights change by a constant.
        return self.replace(linear=self.linear._moved(jnp.tile(origin, len(self.queries))))


class _Sequences(NamedTuple):
    """Standardised tokens, and what each sequence counts."""

    x: jax.Array  # (n, t, d); zero where a token does not count
    mask: jax.Array  # (n, t) bool
    y: jax.Array  # (n, k) one-hot labels
    share: jax.Array  # (n,) weights of sum 1


@program(thorough=True)
def _fit(
    probe: AttentionProbe, data: Dataset, mask: jax.Array, key: jax.Array
) -> AttentionLikelihood:
    n, t = mask.shape
    weights, length = data.row_weights, jnp.sum(mask, axis=1)
    mask &= (weights != 0)[:, None]
    each = weights / jnp.maximum(length, 1)
    tokens = Dataset(
        x=data.x.reshape(n * t, -1),
        z=jnp.repeat(data.z, t),
        num_classes=data.num_classes,
        weights=jnp.where(mask, each[:, None], 0).ravel(),
    )
    moments = Moments.of(tokens, covariance=False)
    _, status = whitening(moments)
    status |= flag(((weights != 0) & (length == 0)).any(), Status.NO_TOKENS)
    share, center, sd = moments.concept_mean, moments.mean, moments.sd
    inverse = safe_reciprocal(sd, sd > 0)
    rows = _Sequences(
        x=(centered(tokens, center).x * inverse).reshape(n, t, -1),
        mask=mask,
        y=codes(data, share.dtype)[0],
        share=jnp.where(weights != 0, weights / jnp.sum(weights), 0),
    )
    idle = failed(status) | ~(sd > 0).any()
    directions, bias, converged, steps = _train(probe, rows, share, idle, key)
    status |= flag(~converged & ~idle, Status.NOT_CONVERGED)

    directions, h = directions * inverse, probe.heads
    weight = directions[h:].reshape(h, len(bias), -1).swapaxes(1, 2).reshape(-1, len(bias))
    if len(share) == 2:
        weight, bias = weight[:, 0], bias[0]
    else:  # a class without rows has probability zero, as in `Logistic`
        bias = jnp.where(share > 0, bias, -jnp.inf)
    status |= flag(~jnp.isfinite(directions).all(), Status.NONFINITE)
    fitted = AttentionLikelihood(
        queries=directions[:h],
        linear=LinearLikelihood(
            weight=weight, offset=bias, center=jnp.tile(center, h), status=status
        ),
        steps=steps,
        status=status,
    )
    return poison(fitted, status)


def _train(
    probe: AttentionProbe, rows: _Sequences, share: jax.Array, idle: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Returns where training ends: directions, bias, whether it converged, and iterations.

    The directions (h + h c, d) are the queries, and c weights a head. One product of them with all
    tokens makes the scores, and one the gradient: no pooled row is ever formed.
    """
    n, t, d = rows.x.shape
    h, dtype = probe.heads, rows.x.dtype
    log_share = jnp.log(jnp.maximum(share, jnp.finfo(dtype).eps))
    # Two classes have one output, their log-odds.
    prior = log_share[1:] - log_share[:1] if len(share) == 2 else log_share
    c = len(prior)
    queries = jax.random.normal(key, (h, d), dtype) / d**0.5
    start = jnp.concatenate([queries, jnp.zeros((h * c, d), dtype)])
    tokens = rows.x.reshape(n * t, d)

    def parts(u: jax.Array) -> tuple[jax.Array, jax.Array]:
        change, bias = u[: start.size, 0], u[start.size :, 0]
        return start + change.reshape(start.shape), prior + bias

    def nats(read: jax.Array, bias: jax.Array) -> jax.Array:
        read = read.reshape(n, t, -1).swapaxes(1, 2)
        weights = _softmax(read[:, :h], rows.mask)
        scores = jnp.sum(weights[:, :, None] * read[:, h:].reshape(n, h, c, t), axis=(1, 3)) + bias
        scores = scores[:, 0] if c == 1 else scores
        return -jnp.sum(rows.share[:, None] * rows.y * log_softmax(None, scores))

    def evaluate(u: jax.Array) -> tuple[jax.Array, None, jax.Array]:
        directions, bias = parts(u)
        # Both products read the tokens as they lie: other orders take two to five times as long.
        read = product("rd,md->rm", tokens, directions)
        loss, (pull, slope) = jax.value_and_grad(nats, argnums=(0, 1))(read, bias)
        whole = product("rm,rd->md", pull, tokens) + probe.l2 * directions
        value = loss + probe.l2 / 2 * jnp.sum(directions**2)
        return value, None, jnp.concatenate([whole.ravel(), slope])[:, None]

    nowhere = jnp.zeros((start.size + c, 1), dtype)
    first = begin_at(jnp.asarray(jnp.inf, dtype), None, nowhere, jnp.int32(0))
    last = descend(evaluate, first, jnp.where(idle, 0, probe.max_steps), _REST)
    converged = last.rest <= _REST * (last.value + jnp.finfo(dtype).eps ** 0.5)
    return *parts(last.u), converged, last.count


def _softmax(scores: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns weights (n, h, t) of sum 1 over the tokens; zero for padding."""
    scores = jnp.where(mask[:, None], scores, -jnp.inf)
    top = jax.lax.stop_gradient(jnp.max(scores, axis=2, keepdims=True))
    share = jnp.exp(scores - jnp.where(top == -jnp.inf, 0, top))
    total = jnp.sum(share, axis=2, keepdims=True)
    return share * safe_reciprocal(total, total > 0)


_Shared = tuple[AttentionLikelihood, jax.Array | None]
_Tokens = tuple[jax.Array, jax.Array]


def _attended(probe: AttentionLikelihood, rows: _Tokens) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns weights (n, h, t), what is pooled about the centre (n, h d), and that centre (h d,).

    NaN for sequences without tokens.
    """
    x, mask = rows
    center = probe.linear.center
    x = x.astype(inputs.compute_dtype(x, center)) - center[: probe.dims]
    x = jnp.where(mask[:, :, None], x, 0)
    weights = _softmax(product("ntd,hd->nht", x, probe.queries), mask)
    weights = jnp.where(mask.any(axis=1)[:, None, None], weights, jnp.nan)
    pooled = product("nht,ntd->nhd", weights, x).reshape(len(x), -1)
    return weights, pooled, center


def _scores(shared: _Shared, rows: _Tokens) -> jax.Array:
    probe = moved(shared[0], shared[1], back=True)
    _, pooled, center = _attended(probe, rows)
    return probe.linear.replace(center=jnp.zeros_like(center))._scores(pooled)


def _pooled(shared: _Shared, rows: _Tokens) -> jax.Array:
    _, pooled, _ = _attended(moved(shared[0], shared[1], back=True), rows)
    return pooled + shared[0].linear.center


def _weights(shared: _Shared, rows: _Tokens) -> jax.Array:
    weights, _, _ = _attended(moved(shared[0], shared[1], back=True), rows)
    return weights


def _decided(status: jax.Array, scores: jax.Array) -> jax.Array:
    """Returns labels as `decide` does, -1 where a score is NaN."""
    unknown = jnp.isnan(scores.reshape(len(scores), -1)).any(axis=1)
    return jnp.where(unknown, -1, decide(status, scores))


def _flat(_: None, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1)

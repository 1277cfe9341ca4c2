"""Linear adversarial concept erasure (R-LACE)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.typing import ArrayLike

from erasejax import checks, linalg
from erasejax.canonical import concept_axes
from erasejax.data import Dataset, centered
from erasejax.erasers.base import Eraser
from erasejax.erasers.fantope import published_game
from erasejax.erasers.mean_difference import span_projection
from erasejax.erasers.response import Found, best_response
from erasejax.linalg import product, safe_reciprocal
from erasejax.moments import Moments
from erasejax.probes.base import Probe
from erasejax.probes.linear import LeastSquares
from erasejax.probes.logistic import Logistic
from erasejax.projection import Projection, TracedProjection, oblique

__all__ = ["RLACE"]


@struct.dataclass(kw_only=True)
class RLACE(Eraser):
    r"""The orthogonal projection of a given rank that the best linear probe minds most.

    max over U (d, rank), U^T U = I, of min over theta of the loss of theta on x (I - U U^T):
    log-loss for classes, squared error for real concepts.

    *Rank at least k - 1 (or the number of real concepts)* needs no game. The constant probe is
    always allowed, so the inner minimum is at most its loss, the label entropy H. Let U span the
    differences of the class means. On x (I - U U^T) all class means coincide; the log-loss is
    convex, and its gradient at the constant probe, E[(p - y) x^T], is zero: the constant is optimal
    and the minimum is H. So U reaches the upper bound and is a global solution; at rank 1 with two
    classes it is the only one, since any other leaves a gradient. The same holds of squared error
    with the covariances of x and z. With `closed_form` that is returned.

    *The game* is for less rank. As published it takes turns between stochastic gradient steps on
    theta and on P in the Fantope {0 <= P <= I, tr P = rank}, the convex hull of the projections,
    with an eigendecomposition each (`game="fantope"`, published defaults). With `game="direct"` the
    probe is refitted to its optimum for every U, in a few passes over the rows, and U goes up the
    gradient of that optimum by L-BFGS; by Danskin's theorem it is -w (U^T G)^T, with w the weight
    and G the gradient of the loss in it. A probe with hardly a penalty reads around any U but the
    right ones, and that landscape is flat; so the penalty starts at 1 and falls tenfold to its
    value. At 1 the probe is about the mean difference, and every start leads to its strongest
    directions. With the last penalty the game has local optima, most of all at rank 1 of several
    classes: `restarts` more starts climb with it alone. Of all ends and the first start the one
    with the highest refitted loss is kept.

    The result is a `TracedProjection`: `trace` is the refitted loss of each step, with the penalty
    (nats; a share of the variance of z for real concepts), `steps` how many were made, by the start
    that won, with the last penalty.

    Attributes:
      rank: static; directions to remove.
      closed_form: static; whether to return the solution where it is known.
      game: static; "direct" or "fantope".
      start: static; "mean-difference", the strongest directions of the class means (covariances)
        first, and restarts from their span; or "random", all from the whole space. Drawn from
        `key`; without one from the same key always, which only "mean-difference" allows.
      restarts: static; starts beside the first, of the direct game.
      steps: static; the most steps of the direct game at each penalty, iterations of the fantope;
        None for 100 and 75,000.
      l2: () penalty of the probe, for features of mean variance one.
      keep_mean: static; True projects about the mean of the rows, False about the origin.

    References:
      Ravfogel, Twiton, Goldberg and Cotterell 2022, arXiv 2201.12091.
    """

    rank: int = struct.field(pytree_node=False, default=1)
    closed_form: bool = struct.field(pytree_node=False, default=True)
    game: str = struct.field(pytree_node=False, default="direct")
    start: str = struct.field(pytree_node=False, default="mean-difference")
    restarts: int = struct.field(pytree_node=False, default=8)
    steps: int | None = struct.field(pytree_node=False, default=None)
    l2: ArrayLike = 1e-4
    keep_mean: bool = struct.field(pytree_node=False, default=True)

    @property
    def needs_key(self) -> bool:
        """Whether `fit` needs a key: where something is drawn."""
        return not self.closed_form and (self.start == "random" or self.game == "fantope")

    def _fit(self, data: Dataset, key: jax.Array | None) -> TracedProjection:
        checks.choice("game", self.game, ("direct", "fantope"))
        checks.choice("start", self.start, ("mean-difference", "random"))
        d = data.x.shape[1]
        if not 1 <= self.rank <= d:
            raise ValueError(f"rank: expected 1 to {d}, the number of features, got {self.rank}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: expected a positive number, got {self.steps}")
        moments = Moments.of(data, covariance=False)
        axes, status = concept_axes(moments)
        center = moments.mean if self.keep_mean else jnp.zeros_like(moments.mean)
        if self.closed_form and self.rank >= axes.shape[1]:
            solution = span_projection(moments, keep_mean=self.keep_mean)
            return _traced(solution, _constant_loss(moments)[None], jnp.int32(0))
        make = Logistic if data.is_classes else LeastSquares
        sd = moments.sd
        unit = jnp.mean(sd**2)
        axes = axes * sd[:, None]
        # About the mean once, not in every pass.
        data = centered(data, moments.mean)
        moments = moments.replace(mean_x=jnp.zeros_like(moments.mean_x))  # pyright: ignore
        if self.game == "fantope":
            assert key is not None
            probe = make(l2=self.l2 * unit)
            found = published_game(data, moments, probe, self.rank, key, self.steps or 75_000)
        else:
            penalties = unit * (self.l2 + jnp.array([1, 1e-1, 1e-2, 1e-3, 0], unit.dtype))
            starts = self._starts(axes, key)
            found = _direct_game(make, penalties, data, moments, starts, self.steps or 100)
        eye = jnp.ones_like(center)
        solution = oblique(found.basis, found.basis, scale=eye, center=center, status=status)
        return _traced(solution, found.trace, found.steps)

    def _starts(self, axes: jax.Array, key: jax.Array | None) -> jax.Array:
        """Returns orthonormal bases (1 + restarts, d, rank) to start from."""
        d, columns = axes.shape
        key = jax.random.key(0) if key is None else key
        drawn = jax.random.normal(key, (1 + self.restarts, d, self.rank), axes.dtype)
        if self.start == "mean-difference":
            peak = jnp.max(jnp.abs(axes))
            u = jnp.linalg.svd(axes * safe_reciprocal(peak, peak > 0), full_matrices=False)[0]
            within = product("dm,em,ser->sdr", u, u, drawn)
            # More directions than the concept has: the rest may be any.
            if self.rank < columns:
                drawn = within.at[0].set(u[:, : self.rank])
            else:
                drawn = drawn.at[:, :, :columns].set(u)
        return jnp.linalg.qr(drawn)[0]


def _traced(solution: Projection, trace: jax.Array, steps: jax.Array) -> TracedProjection:
    traced = TracedProjection.of(solution, steps=steps, trace=trace)
    return checks.poison(traced, solution.status)


def _constant_loss(moments: Moments) -> jax.Array:
    """Returns the loss of the best constant probe: the label entropy in nats, or 1."""
    if not moments.one_hot:
        return jnp.ones((), moments.xz.dtype)
    share = moments.concept_mean
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0))


def _direct_game(
    make: Callable[..., Probe],
    penalties: jax.Array,
    data: Dataset,
    moments: Moments,
    starts: jax.Array,
    steps: int,
) -> Found:
    """Returns where L-BFGS over bases ends, against a probe that is refitted at each.

    Args:
      make: of a penalty, the probe.
      penalties: (m,) that the first start meets one after the other; the others meet the last.
      data: the rows, about their mean.
      moments: of these rows.
      starts: (s, d, rank) orthonormal.
      steps: static; the most at each penalty.
    """

    def climb(basis, l2):
        probe = make(l2=l2)
        return _climb(probe, probe._prepare(data), data, moments, basis, steps).basis, None

    near, _ = jax.lax.scan(climb, starts[0], penalties[:-1])
    probe = make(l2=penalties[-1])
    prepared = probe._prepare(data)
    ends = jax.lax.map(
        lambda start: _climb(probe, prepared, data, moments, start, steps), starts.at[0].set(near)
    )
    bases = jnp.concatenate([ends.basis, starts[:1]])
    losses = jax.lax.map(lambda u: best_response(probe, prepared, data, moments, u).loss, bases)
    best = jnp.argmax(losses)
    ran = best % len(starts)
    return Found(bases[best], ends.trace[ran], ends.steps[ran])


_PATIENCE = 8  # steps that gain no more than rounding before a climb ends


def _climb(
    probe: Probe, prepared: Any, data: Dataset, moments: Moments, basis: jax.Array, steps: int
) -> Found:
    """Returns the basis that L-BFGS from another one finds, against one probe."""
    eps = jnp.finfo(basis.dtype).eps
    # A start across all that matters has hardly a slope, and climbs all the same.
    flat = 16 * eps

    def orthonormal(v):
        peak = jnp.max(jnp.abs(v))
        transform, _ = linalg.right_basis(v / peak, 0)
        return product("dm,mr->dr", v / peak, transform), transform / peak

    def respond(v):
        u, transform = orthonormal(v)
        response = best_response(probe, prepared, data, moments, u)
        return -response.loss, product("dr,mr->dm", response.slope, -transform)

    @jax.custom_vjp
    def loss(v):
        return respond(v)[0]

    loss.defvjp(respond, lambda gradient, g: (g * gradient,))

    solver = optax.lbfgs(memory_size=10)
    value_and_grad = optax.value_and_grad_from_state(loss)

    def running(carry):
        *_, waited, size, count = carry
        return (size > flat) & (waited < _PATIENCE) & (count < steps)

    def body(carry):
        v, state, trace, mark, waited, _, count = carry
        value, gradient = value_and_grad(v, state=state)
        updates, state = solver.update(
            gradient, state, v, value=value, grad=gradient, value_fn=loss
        )
        size = jnp.linalg.norm(jnp.asarray(gradient)) * jnp.linalg.norm(v)
        trace = trace.at[count].set(-value)  # pyright: ignore
        v = jnp.where(size > flat, optax.apply_updates(v, updates), v)  # pyright: ignore
        gained = value < mark - 16 * eps * jnp.abs(value)
        mark, waited = jnp.where(gained, value, mark), jnp.where(gained, 0, waited + 1)
        return v, state, trace, mark, waited, size, count + 1

    dtype = basis.dtype
    size = jnp.where(checks.failed(moments.outcome), 0, jnp.inf).astype(dtype)
    trace, worst, zero = jnp.full(steps, jnp.nan, dtype), jnp.full((), jnp.inf, dtype), jnp.int32(0)
    first = (basis, solver.init(basis), trace, worst, zero, size, zero)
    v, _, trace, *_, count = jax.lax.while_loop(running, body, first)
    return Found(orthonormal(v)[0], trace, count)

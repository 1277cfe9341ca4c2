"""Linear adversarial concept erasure (R-LACE)."""

from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import struct
from jax.typing import ArrayLike

from erasejax._core import inputs
from erasejax._core.pytrees import static
from erasejax._core.status import Status, failed, flag, poison
from erasejax._linalg import products
from erasejax._linalg.products import product, safe_reciprocal
from erasejax.erasers._base import Eraser
from erasejax.erasers._fantope import published_game
from erasejax.erasers._mean_difference import span_projection
from erasejax.erasers._response import Found, Ridge, best_response
from erasejax.probes import LeastSquares, Logistic, Prepared, Start, Until
from erasejax.projection import Projection, TracedProjection, oblique
from erasejax.rows import Dataset, centered
from erasejax.statistics import Moments, concept_axes

__all__ = ["RLACE"]

T = TypeVar("T")


@struct.dataclass(kw_only=True)
class RLACE(Eraser[TracedProjection]):
    r"""The orthogonal projection of a given rank that costs the best linear probe most.

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
    classes: the first start and `restarts` more climb with it alone, too. Of all ends the one with
    the highest refitted loss is kept, and climbed on from.

    *Cost.* A climb takes some 10 to 30 refits, and there are `restarts` + 7; a refit takes some 10
    to 50 passes over the rows, each begun where the last one ended. Where the probe is fitted by
    L-BFGS the Hessian is factorised anew in about every one, for n d^2 (k - 1) / 2
    multiplications. Eight classes of 1,500 x 384 are 180 refits: half a minute on two cores, and a
    quarter of that with restarts=0. The fantope costs an eigendecomposition (d, d) a step.

    The result is a `TracedProjection`: `trace` is the refitted loss after each step, with the
    penalty (nats; a share of the variance of z for real concepts), `steps` how many were made, by
    the start that won, with the last penalty. NOT_CONVERGED is set where `steps` were not enough;
    of the fantope, where its own rule never stopped it. It has no such rule for real concepts.

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

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.RLACE(rank=1).fit(data)  # the answer for two classes is known
      >>> np.allclose(eraser(data.x), ej.MeanDifference().fit(data)(data.x), atol=1e-5)
      True

    References:
      Ravfogel, Twiton, Goldberg and Cotterell 2022, arXiv 2201.12091.
    """

    name: ClassVar[str] = "rlace"

    rank: int = static(1)
    closed_form: bool = static(True)
    game: Literal["direct", "fantope"] = static("direct")
    start: Literal["mean-difference", "random"] = static("mean-difference")
    restarts: int = static(8)
    steps: int | None = static(None)
    l2: ArrayLike = 1e-4
    keep_mean: bool = static(True)

    @property
    def needs_key(self) -> bool:
        """Whether `fit` needs a key: where something is drawn."""
        return not self.closed_form and (self.start == "random" or self.game == "fantope")

    def _fit(self, data: Dataset, key: jax.Array | None) -> TracedProjection:
        inputs.choice("game", self.game, ("direct", "fantope"))
        inputs.choice("start", self.start, ("mean-difference", "random"))
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
            loss = _constant_loss(moments)
            return _traced(solution, Found(axes, loss[None], jnp.int32(0), jnp.bool_(True)))
        make = Logistic if data.is_classes else LeastSquares
        sd = moments.sd
        unit = jnp.mean(sd**2)
        axes = axes * sd[:, None]
        # About the mean once, not in every pass.
        data = centered(data, moments.mean)
        moments = moments.replace(mean_x=jnp.zeros_like(moments.mean_x))
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
        return _traced(solution, found)

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


def _traced(solution: Projection, found: Found) -> TracedProjection:
    status = solution.status | flag(~found.converged, Status.NOT_CONVERGED)
    solution = solution.replace(status=status)
    traced = TracedProjection.of(solution, steps=found.steps, trace=found.trace)
    return poison(traced, status)


def _constant_loss(moments: Moments) -> jax.Array:
    """Returns the loss of the best constant probe: the label entropy in nats, or 1."""
    if not moments.one_hot:
        return jnp.ones((), moments.xz.dtype)
    share = moments.concept_mean
    return -jnp.sum(jnp.where(share > 0, share * jnp.log(jnp.where(share > 0, share, 1)), 0))


class _Stage(NamedTuple):
    """A climb of the direct game."""

    basis: jax.Array  # (d, rank) to start from
    fresh: jax.Array  # () bool: from there, not from where the climb before ended
    rough: jax.Array  # () bool: until it shows where it leads
    last: jax.Array  # () bool: from the best end so far
    l2: jax.Array  # () penalty of the probe


class _End(NamedTuple):
    """Where a climb ended.

    Attributes:
      found: what was found.
      loss: () of the probe there.
      start: where the next refit may begin.
    """

    found: Found
    loss: jax.Array
    start: Start | None


def _direct_game(
    make: Callable[..., Ridge],
    penalties: jax.Array,
    data: Dataset,
    moments: Moments,
    starts: jax.Array,
    steps: int,
) -> Found:
    """Returns where L-BFGS over bases ends, against a probe that is refitted at each.

    Climbs from all starts end early, at the root of eps, from where one step that converges
    quadratically leads to eps; from the best of all ends the climb goes on.

    Args:
      make: of a penalty, the probe.
      penalties: (m,) that the first start meets one after the other; then all meet the last.
      data: the rows, about their mean.
      moments: of these rows.
      starts: (s, d, rank) orthonormal.
      steps: static; the most at each penalty.
    """
    dtype = starts.dtype
    eps = float(jnp.finfo(dtype).eps)
    prepared = make(l2=penalties[0])._prepare(data)
    # One loop over all climbs: each copy of a climb would be compiled for itself.
    falling, several = len(penalties), len(starts)
    number = jnp.arange(falling + several + 1)
    stages = _Stage(
        basis=starts[jnp.clip(number - falling, 0, several - 1)],
        fresh=(number == 0) | (number >= falling),
        rough=(number >= falling) & (number < falling + several),
        last=number == falling + several,
        l2=penalties[jnp.minimum(number, falling - 1)],
    )

    def climb(carry, stage):
        before, best = carry
        probe = make(l2=stage.l2)
        basis = jnp.where(stage.fresh, stage.basis, before.found.basis)
        begin = before._replace(found=before.found._replace(basis=basis, trace=blank, steps=none))
        begin = _where(stage.last, best, begin)
        accuracy = jnp.where(stage.rough, *jnp.array([eps**0.5, 16 * eps], dtype))
        end = _climb(probe, prepared, data, moments, begin, accuracy)
        better = stage.last | ((stage.l2 == penalties[-1]) & (end.loss > best.loss))
        return (end, _where(better, end, best)), None

    blank, none = jnp.full(steps, jnp.nan, dtype), jnp.int32(0)
    start = make(l2=penalties[0])._begin(prepared)
    lowest = jnp.full((), -jnp.inf, dtype)
    first = _End(Found(starts[0], blank, none, jnp.bool_(False)), lowest, start)
    (_, best), _ = jax.lax.scan(climb, (first, first), stages)
    return best.found


_PATIENCE = 8  # steps that gain no more than the accuracy before a climb ends
_MEMORY = 10  # steps that tell how the slope changes


class _Pairs(NamedTuple):
    """Steps so far, and how the gradient changed along each; the newest last."""

    steps: jax.Array  # (m, d, rank)
    changes: jax.Array  # (m, d, rank)
    inverse: jax.Array  # (m,) of their inner product; 0 for none

    def after(self, step: jax.Array, change: jax.Array, bends: jax.Array) -> "_Pairs":
        """Returns the pairs with one more; none at all where the loss does not bend along it."""
        product = jnp.sum(step * change)
        grown = _Pairs(
            jnp.concatenate([self.steps[1:], step[None]]),
            jnp.concatenate([self.changes[1:], change[None]]),
            jnp.append(self.inverse[1:], safe_reciprocal(product, bends)),
        )
        return grown._replace(inverse=jnp.where(bends, grown.inverse, 0))

    def step(self, gradient: jax.Array, metric: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Returns minus the quasi-Newton inverse, without pairs `metric`, of a gradient."""

        def back(q, pair):
            length = pair.inverse * jnp.sum(pair.steps * q)
            return q - length * pair.changes, length

        def forth(q, both):
            pair, length = both
            return q + (length - pair.inverse * jnp.sum(pair.changes * q)) * pair.steps, None

        q, lengths = jax.lax.scan(back, gradient, self, reverse=True)
        return -jax.lax.scan(forth, metric(q), (self, lengths))[0]


class _State(NamedTuple):
    v: jax.Array  # (d, rank) whose span is where the climb stands
    loss: jax.Array  # () less the probe's, since this is made small
    gradient: jax.Array  # (d, rank) of it
    start: Start | None  # where refits begin: the last one that was a step up
    step: jax.Array  # (d, rank) to try
    pairs: _Pairs
    trace: jax.Array
    mark: jax.Array  # () the loss that the next gain is counted from
    waited: jax.Array  # () steps since then
    done: jax.Array  # ()
    first: jax.Array  # () bool: no step yet, but the loss where the climb begins
    count: jax.Array  # ()


def _climb(
    probe: Ridge,
    prepared: Prepared | None,
    data: Dataset,
    moments: Moments,
    begin: _End,
    accuracy: jax.Array,
) -> _End:
    """Returns where L-BFGS over bases leads, against one probe.

    Where the Hessian of the loss in the weights were A for each score, and the same everywhere, the
    loss of the refitted probe would be a Rayleigh quotient of U in the metric A^-1, and a step of
    A g / |U^T G|^2 the next power iteration. So that is what L-BFGS begins with, with the A of the
    last fit, whose products are passes over the rows.

    An iteration refits the probe to one basis, from where the fit to the basis before it ended: it
    is taken if the loss rises enough, else the step is cut to a quarter.

    Args:
      probe: the probe.
      prepared: of the rows, for any penalty.
      data: the rows, about their mean.
      moments: of these rows.
      begin: where; its trace goes on.
      accuracy: () share of the loss that counts as nothing: where the next step should gain less,
        the climb ends. The probe is refitted to its power of 3/2, or to rounding.
    """
    basis, trace, count, _ = begin.found
    steps = len(trace)
    dtype = basis.dtype
    eps = jnp.finfo(dtype).eps
    # A start across all that matters has hardly a slope, and climbs all the same.
    flat = 16 * eps

    def orthonormal(v):
        peak = jnp.max(jnp.abs(v))
        transform, _ = products.right_basis(v / peak, 0)
        return product("dm,mr->dr", v / peak, transform), transform / peak

    def running(state: _State):
        return ~state.done & (state.first | (state.count < steps))

    def body(state: _State) -> _State:
        first = state.first
        v = state.v + state.step
        u, transform = orthonormal(v)
        # The probe's loss falls to its optimum: once below what a step needs, the step has failed.
        slope = jnp.sum(state.gradient * state.step)
        least = accuracy * (jnp.abs(state.loss) + eps**0.5)
        needed = jnp.where(first, jnp.inf, state.loss + slope / 8 + least / 2)
        until = Until(accuracy**1.5, -needed)
        response = best_response(probe, prepared, data, moments, u, state.start, until)
        loss, gradient = -response.loss, product("dr,mr->dm", response.slope, -transform)
        taken = loss <= needed
        length, weights = jnp.linalg.norm(v), response.curvature
        strength = jnp.sum(response.along**2) / length**2

        def metric(q):
            scores = product("nd,dr->nr", data.x, q)
            mean = jnp.sum(weights[:, None] * scores, axis=0) / jnp.sum(weights)
            turned = product("nr,nd->rd", weights[:, None] * (scores - mean), data.x).T
            return (turned + probe.l2 * q) * safe_reciprocal(strength, strength > 0)

        change = gradient - state.gradient
        bends = ~first & (jnp.sum(change * state.step) > 0)
        pairs = state.pairs.after(state.step, change, bends)
        step = pairs.step(gradient, metric)
        gain = -jnp.sum(gradient * step) / 2
        least = accuracy * (jnp.abs(loss) + eps**0.5)
        gained = taken & (loss < state.mark - least)
        waited = jnp.where(gained, 0, state.waited + 1)
        near = (bends & (gain <= least)) | (jnp.linalg.norm(gradient) * length <= flat)
        there = _State(
            v=v,
            loss=loss,
            gradient=gradient,
            start=response.end,
            step=step,
            pairs=pairs,
            trace=state.trace,
            mark=jnp.where(gained, loss, state.mark),
            waited=waited,
            done=near,
            first=state.first,
            count=state.count,
        )
        here = state._replace(step=state.step / 4, waited=waited)
        state = _where(taken, there, here)
        return state._replace(
            trace=state.trace.at[jnp.where(first, steps, state.count)].set(-state.loss),
            done=state.done | (waited >= _PATIENCE) | ~jnp.isfinite(loss),
            first=jnp.bool_(False),
            count=state.count + ~first,
        )

    nothing, worst = jnp.zeros_like(basis), jnp.full((), jnp.inf, dtype)
    none = jnp.zeros((_MEMORY, *basis.shape), dtype)
    last = jax.lax.while_loop(
        running,
        body,
        _State(
            v=basis,
            loss=worst,
            gradient=nothing,
            start=begin.start,
            step=nothing,
            pairs=_Pairs(none, none, jnp.zeros(_MEMORY, dtype)),
            trace=trace,
            mark=worst,
            waited=jnp.int32(0),
            done=failed(moments.outcome),
            first=jnp.bool_(True),
            count=count,
        ),
    )
    found = Found(orthonormal(last.v)[0], last.trace, last.count, last.done)
    return _End(found, -last.loss, last.start)


def _where(condition: jax.Array, one: T, other: T) -> T:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)

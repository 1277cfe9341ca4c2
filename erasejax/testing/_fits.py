"""The contract of what has a `fit`: erasers, probes, and probes of contrast pairs."""

import inspect
import os
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core.foreign import wide
from erasejax._core.status import FailedLanesError, Status, raise_if_failed
from erasejax._core.types import DTypeLike, Key
from erasejax.datasets import ContrastPairs
from erasejax.erasers import Eraser
from erasejax.files import load, save
from erasejax.metrics import accuracy
from erasejax.probes import ContrastProbe, Probe
from erasejax.rows import Dataset, Pairs
from erasejax.testing._rules import (
    gap,
    hold,
    in_lanes,
    is_precise,
    is_traced_once,
    lane_of,
    refuses,
    same_bits,
    traced,
)

__all__ = ["check_eraser", "check_probe"]

Config: TypeAlias = Eraser | Probe | ContrastProbe
Rows: TypeAlias = Dataset | Pairs
# What was fitted, what it makes of the rows, and a probe's labels and accuracy.
_Outcome: TypeAlias = tuple[Any, jax.Array, tuple]

_ROWS = 48
_ERRORS = 0xFFFF  # of a status


def check_eraser(
    config: Eraser, *, dims: int = 5, classes: int = 2, tolerance: float = 2e-5
) -> None:
    """Holds an eraser to the contract, on random classes of rows.

    - Nothing depends on values while tracing, and bare labels need `num_classes` under jit.
    - Parameters are float32 for features of 16 and 32 bits, float64 for those of 64; erased rows
      have the dtype and the shape of the rows.
    - Every product is at HIGHEST precision.
    - Numbers of every type, in the fields of the configuration, are one trace.
    - A method that draws asks for a key.
    - jit is eager, and vmap a loop, over rows, keys and the numbers of the configuration.
    - Where rows hold NaN, the status is NONFINITE, erased rows are NaN, `raise_if_failed` names the
      lane, and no bit of any other lane changes; an eager fit raises. A method that reads no rows
      does not fail.
    - One class only is CONSTANT_CONCEPT and a label out of range LABEL_RANGE, unless the method
      reads no labels.
    - What is saved is loaded, bit for bit.

    Args:
      config: a configuration with `fit`, such as `ej.LEACE()`.
      dims: number of features of the rows.
      classes: number of classes of the rows.
      tolerance: how far erased rows may differ between programs, relative and absolute; the rows
        have a standard deviation of about 1.

    Raises:
      AssertionError: a rule is broken.

    Example:
      >>> ej.testing.check_eraser(ej.MeanDifference(), dims=4)
    """
    _check(_Trial(config, [_draw(seed, dims, classes) for seed in range(3)], tolerance))


def check_probe(
    config: Probe | ContrastProbe, *, dims: int = 5, classes: int = 2, tolerance: float = 2e-5
) -> None:
    """Holds a probe to the contract, on random classes of rows, or on pairs if it reads pairs.

    The rules are those of `check_eraser`, of scores where those are of erased rows. And where a
    fit failed, `predict` says -1 and the accuracy is NaN.

    Of contrast pairs the two halves are what labels are elsewhere: CONSTANT_CONCEPT is where they
    do not differ, LABEL_RANGE a template out of range. A probe that draws nothing may have either
    sign.

    Args:
      config: a configuration with `fit`, such as `ej.probes.Logistic()` or `ej.probes.CRC()`.
      dims: number of features of the rows; at least 3 for contrast pairs.
      classes: number of classes of the rows; contrast pairs have none.
      tolerance: how far scores may differ between programs, relative and absolute.

    Raises:
      AssertionError: a rule is broken.

    Example:
      >>> ej.testing.check_probe(ej.probes.MeanDifferenceProbe(), dims=4, classes=3)
      >>> ej.testing.check_probe(ej.probes.CRC(), dims=4, tolerance=2e-4)
    """
    if isinstance(config, ContrastProbe):
        pairs = ContrastPairs(rows=_ROWS // 2, dims=dims, directions=2, templates=2)
        rows = [pairs.sample(jax.random.key(seed)) for seed in range(3)]
    else:
        rows = [_draw(seed, dims, classes) for seed in range(3)]
    _check(_Trial(config, rows, tolerance))


class _Trial(NamedTuple):
    """A configuration on trial.

    Attributes:
      config: the configuration.
      rows: three `Dataset`, or `Pairs`.
      tolerance: how far numbers may differ between programs.
    """

    config: Config
    rows: list[Any]
    tolerance: float


def _draw(seed: int, dims: int, classes: int) -> Dataset:
    """Returns Gaussian classes whose means lie about one standard deviation apart."""
    rng = np.random.default_rng(seed)
    z = np.concatenate([np.arange(classes), rng.integers(0, classes, _ROWS - classes)])
    x = rng.standard_normal((_ROWS, dims)) + rng.standard_normal((classes, dims))[z]
    x = jnp.asarray(x, jnp.float32)
    return Dataset(x, jnp.asarray(z, jnp.int32), num_classes=classes, task=x[:, :1])


def _check(trial: _Trial) -> None:
    """Holds a configuration to every rule, first those for which nothing is compiled."""
    config, rows, key = trial.config, trial.rows[0], jax.random.key(0)
    _has_a_status(trial)
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        _keeps_dtypes(trial, dtype, jnp.float32)
    with wide():
        _keeps_dtypes(trial, jnp.float64, jnp.float64)
    is_precise(config, _outcome, config, rows, key)
    is_traced_once(config, "_fit", lambda config: _fit(config, rows, key))
    _asks_for_what_is_missing(trial)
    _runs_in_lanes(trial)


def _fit(config: Any, rows: Rows, key: Key | None, *, told: bool = True) -> Any:
    """Fits to bare arrays, `told` how many classes or templates there are."""
    if isinstance(rows, Pairs):
        count = rows.num_templates if told else None
        options = {"templates": rows.templates, "num_templates": count}
        return config.fit(rows.positive, rows.negative, **options, key=key)
    options: dict[str, object] = {"num_classes": rows.num_classes if told else None}
    if "task" in inspect.signature(config.fit).parameters:
        options["task"] = rows.task
    return config.fit(rows.x, rows.z, **options, key=key)


def _read(fitted: Any, rows: Rows) -> jax.Array:
    """Returns what a fitted object makes of rows: the rows erased, or their scores."""
    if isinstance(rows, Pairs):
        return fitted.scores(rows)
    if not _erases(fitted):
        return fitted.scores(rows.x)
    return fitted(rows.x, rows.z) if _is_told_labels(fitted) else fitted(rows.x)


def _erases(fitted: object) -> bool:
    return not hasattr(fitted, "scores")


def _is_told_labels(eraser: Callable) -> bool:
    return "z" in inspect.signature(eraser).parameters


def _outcome(config: Config, rows: Rows, key: Key | None) -> _Outcome:
    """Returns what was fitted, what it makes of the rows, and a probe's labels and accuracy."""
    fitted = _fit(config, rows, key)
    judged = ()
    if isinstance(rows, Pairs):
        judged = fitted.predict(rows), fitted.accuracy(rows)
    elif not _erases(fitted):
        judged = fitted.predict(rows.x), accuracy(fitted, rows.x, rows.z)
    return fitted, _read(fitted, rows), judged


def _has_a_status(trial: _Trial) -> None:
    config = trial.config
    fitted, *_ = traced(config, _outcome, config, trial.rows[0], jax.random.key(0))
    got = getattr(fitted, "status", None)
    fact = (getattr(got, "shape", None), getattr(got, "dtype", None)) == ((), jnp.uint32)
    hold(config, "what is fitted has a status", fact, "() uint32", got)


def _keeps_dtypes(trial: _Trial, dtype: DTypeLike, wanted: DTypeLike) -> None:
    """Checks what features of a dtype give: parameters of the dtype `wanted`, rows as they were."""
    config, key = trial.config, jax.random.key(0)
    dtype, wanted = jnp.dtype(dtype), jnp.dtype(wanted)

    def typed(leaf):
        kind = dtype if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype
        return jax.ShapeDtypeStruct(leaf.shape, kind)

    rows = jax.tree.map(typed, trial.rows[0])
    fitted, read, _ = traced(config, _outcome, config, rows, key)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(fitted)}
    found = {kind for kind in dtypes if jnp.issubdtype(kind, jnp.floating)}
    rule = f"parameters for {dtype} features"
    hold(config, rule, found == {wanted}, wanted, ", ".join(map(str, found)) or "none")
    if not _erases(fitted):
        return
    hold(config, "the dtype of erased rows", read.dtype == dtype, dtype, read.dtype)
    if not _is_told_labels(fitted):
        d = rows.x.shape[1]
        others = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((d,), (2, 3, d))]
        for x in others:
            erased = traced(config, lambda rows, key, x: _fit(config, rows, key)(x), rows, key, x)
            fact = (erased.shape, erased.dtype) == (x.shape, dtype)
            hold(config, "erased rows of another shape", fact, x, erased)


def _asks_for_what_is_missing(trial: _Trial) -> None:
    config, rows, key = trial.config, trial.rows[0], jax.random.key(0)
    option = "num_templates" if isinstance(rows, Pairs) else "num_classes"

    def untold():
        return jax.eval_shape(lambda rows: _fit(config, rows, key, told=False), rows)

    rule = f"{option} is required under jit"
    refuses(config, rule, untold, ValueError, f"{option}: required")
    if getattr(config, "needs_key", False):
        rule = "a method that draws asks for a key"
        refuses(config, rule, lambda: _fit(config, rows, None), TypeError, "key: ")


def _runs_in_lanes(trial: _Trial) -> None:
    """Holds one program of four lanes to the rules that take numbers.

    It runs on good rows; on rows with NaN in lane 1 and one class in lane 3; and on rows with
    labels out of range in lane 0, other rows in lane 1 and other labels in lane 3.
    """
    a, b, c = trial.rows
    keys = jax.random.split(jax.random.key(7), 4)
    configs = in_lanes(trial.config, [1, 1, 0.75, 1])
    program = jax.jit(jax.vmap(_outcome))

    def run(*lanes):
        return program(configs, jax.tree.map(lambda *leaves: jnp.stack(leaves), *lanes), keys)

    if isinstance(a, Pairs):
        broken = b.replace(positive=b.positive.at[3, 2].set(jnp.nan))  # pyright: ignore
        constant, relabelled = (a.replace(negative=half) for half in (a.positive, b.negative))  # pyright: ignore
        outside = a.replace(templates=a.templates + 1)  # pyright: ignore
    else:
        broken = b.replace(x=b.x.at[3, 2].set(jnp.nan))
        constant, relabelled = (a.replace(z=z) for z in (jnp.zeros_like(a.z), b.z))
        outside = a.replace(z=a.z + 1)
    good, bad = run(a, b, c, a), run(a, broken, c, constant)
    other = run(outside, c, c, relabelled)
    reads_rows, reads_labels = (
        _differ(lane_of(good[0], lane), lane_of(other[0], lane), trial.tolerance) for lane in (1, 3)
    )
    for lane in range(3):
        own = trial.config if lane == 0 else lane_of(configs, lane)
        _is_a_loop(trial, own, trial.rows[lane], keys[lane], lane_of(good, lane))
    _fails_alone(trial.config, good, bad, reads_rows)
    if reads_rows:
        rule = "an eager fit that fails raises"
        refuses(trial.config, rule, lambda: _fit(trial.config, broken, keys[1]), FailedLanesError)
    for (fitted, read, _), lane, bit in (
        (bad, 3, Status.CONSTANT_CONCEPT),
        (other, 0, Status.LABEL_RANGE),
    ):
        status, blank = Status(int(fitted.status[lane])), bool(jnp.isnan(read[lane]).all())
        rule, expected = "a bad label is said", f"{bit!r} and NaN"
        if not reads_labels:
            rule, expected = "what reads no labels minds none", "neither status nor NaN"
        fact = bool(status & bit) == blank == reads_labels
        hold(trial.config, rule, fact, expected, f"{status!r} and {read[lane]}")
    _is_saved(trial.config, lane_of(good[0], 0))


def _differ(a: object, b: object, tolerance: float) -> bool:
    """Returns whether two fitted objects differ by more than rounding."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return not all(np.allclose(x, y, rtol=tolerance, atol=tolerance) for x, y in pairs)


def _is_a_loop(trial: _Trial, own: Config, rows: Rows, key: jax.Array, lane: _Outcome) -> None:
    """Checks one lane of a program against the eager call, and the program of that call alone."""
    config, tolerance = trial.config, trial.tolerance
    fitted, read, _ = lane
    status = Status(int(fitted.status))
    hold(config, "good rows do not fail", not status & _ERRORS, "no error", repr(status))
    eager = _read(_fit(own, rows, key), rows)

    def apart(found):
        either = isinstance(rows, Pairs) and not config.needs_key
        turned = eager * jnp.sign(jnp.vdot(eager, found)) if either else eager
        return gap(found, turned, tolerance * (1 + jnp.abs(turned)))

    if got := apart(read):
        alone = apart(jax.jit(_outcome)(own, rows, key)[1])
        rule = "jit is eager" if alone else "vmap is a loop"
        hold(config, rule, False, f"the eager values, to {tolerance}", alone or got)


def _fails_alone(config: Config, good: _Outcome, bad: _Outcome, reads_rows: bool) -> None:
    for lane in (0, 2):
        fact = same_bits(lane_of(good, lane), lane_of(bad, lane))
        rule = "a failing lane is alone"
        hold(config, rule, fact, "the bits of other lanes unchanged", f"others in lane {lane}")
    if not reads_rows:
        return
    fitted, read, judged = bad
    status = Status(int(fitted.status[1]))
    hold(config, "NaN is said", status & Status.NONFINITE, repr(Status.NONFINITE), repr(status))
    hold(config, "a failed lane is NaN", jnp.isnan(read[1]).all(), "NaN alone", read[1])
    if judged:
        labels, right = (np.asarray(leaf[:3]) for leaf in judged)
        fact = (labels[1] == -1).all() and (labels[[0, 2]] >= 0).all()
        hold(config, "labels of a failed lane", fact, "-1, and nowhere else", labels)
        fact = np.isnan(right).tolist() == [False, True, False]
        hold(config, "accuracy of a failed lane", fact, "NaN, and nowhere else", right)
    first = jax.tree.map(lambda leaf: leaf[:3], fitted)
    text = "1 of 3 lanes:\n  lane 1:"
    refuses(config, "a failure is named", lambda: raise_if_failed(first), FailedLanesError, text)


def _is_saved(config: Config, fitted: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fitted.safetensors")
        try:
            save(fitted, path)
            back = load(path)
        except (TypeError, ValueError) as error:
            back = error
    hold(config, "what is saved is loaded", same_bits(back, fitted), fitted, repr(back))

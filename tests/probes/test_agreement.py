"""Linear and quadratic probes against scikit-learn's optima: drawn problems and known tables.

Losses are taken in float64 from the float32 parameters. At an optimum the loss of rounded
parameters is higher by the square of the rounding alone. The limit is 1e-6 of the loss, or 4 eps
where the loss itself is so small that float32 cannot tell it from zero beside scores of size one.
"""

import dataclasses
import functools
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import KernelCenterer
from sklearn.svm import LinearSVC

import erasejax as ej
from erasejax.rows import fold_rows
from tests.common import EPS, class_means, draw

L2 = 1e-2


@dataclasses.dataclass
class Pair:
    """A probe of ours, scikit-learn's, and the loss that both minimise, of (scores, weight, z)."""

    probe: Any
    reference: Callable[[int], Any]  # of n
    loss: Callable[..., float]
    scores: Callable[..., np.ndarray]  # of the fitted reference and x


def nats(scores, z):
    if scores.ndim == 1:
        return np.logaddexp(0, np.where(z == 1, -scores, scores)).mean()
    return (np.logaddexp.reduce(scores, axis=1) - scores[np.arange(len(z)), z]).mean()


def signs(scores, z):
    return 2.0 * z - 1 if scores.ndim == 1 else 2 * np.eye(scores.shape[1])[z] - 1


def targets(scores, z):
    return 2.0 * z - 1 if scores.ndim == 1 else np.eye(scores.shape[1])[z]


def total(error):
    return error.mean() if error.ndim == 1 else error.sum(axis=1).mean()


def squares(weight):
    return L2 / 2 * (weight**2).sum()


def hinge(scores, weight, z):
    return total(np.maximum(0, 1 - signs(scores, z) * scores) ** 2) + squares(weight)


def residual(scores, weight, z):
    return total((scores - targets(scores, z)) ** 2) / 2 + squares(weight)


class _Ridge(Ridge):
    def fit(self, x, z):
        return super().fit(x, 2.0 * z - 1 if z.max() == 1 else np.eye(z.max() + 1)[z])


PAIRS = {
    "Logistic": Pair(
        ej.probes.Logistic(l2=L2),
        lambda n: LogisticRegression(C=1 / (L2 * n), tol=1e-10, max_iter=100_000),
        lambda scores, weight, z: nats(scores, z) + squares(weight),
        lambda fitted, x: fitted.decision_function(x),
    ),
    "LinearSVM": Pair(
        ej.probes.LinearSVM(l2=L2),
        # The larger the scaling, the less its penalty on the bias; beyond this it stalls.
        lambda n: LinearSVC(
            C=1 / (L2 * n), dual=False, intercept_scaling=1e4, tol=1e-12, max_iter=100_000
        ),
        hinge,
        lambda fitted, x: fitted.decision_function(x),
    ),
    "LDA": Pair(
        ej.probes.LDA(),
        lambda n: LinearDiscriminantAnalysis(solver="lsqr"),
        lambda scores, weight, z: nats(scores, z),
        lambda fitted, x: fitted.decision_function(x),
    ),
    "LeastSquares": Pair(
        ej.probes.LeastSquares(l2=L2),
        lambda n: _Ridge(alpha=L2 * n),
        residual,
        lambda fitted, x: fitted.predict(x),
    ),
    "QDA": Pair(
        ej.probes.QDA(),
        lambda n: QuadraticDiscriminantAnalysis(tol=1e-12),
        lambda scores, weight, z: nats(scores, z),
        lambda fitted, x: fitted.decision_function(x),
    ),
}


def own_scores(probe, x):
    """The scores in float64, for a linear probe; as they are for others."""
    if not hasattr(probe, "weight"):
        return np.asarray(probe.scores(x), np.float64)
    weight, offset, center = (
        np.asarray(a, np.float64) for a in (probe.weight, probe.offset, probe.center)
    )
    return (x.astype(np.float64) - center) @ weight + offset


def check(name, probe, x, z):
    """Holds one fit against the reference's: the loss, and the labels of rows not at a tie."""
    pair = PAIRS[name]
    wide = x.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        reference = pair.reference(len(x)).fit(wide, z)
    theirs, ours = pair.scores(reference, wide), own_scores(probe, x)
    convex = hasattr(probe, "weight") and name != "LDA"
    weights = (np.asarray(probe.weight, np.float64), reference.coef_) if convex else (None, None)
    found, best = pair.loss(ours, weights[0], z), pair.loss(theirs, weights[1], z)
    limit = 1e-6
    if name in ("LDA", "QDA"):
        # Not the minimum of this loss, so errors of eps times the condition number show in it.
        condition = np.linalg.cond(np.corrcoef((wide - class_means(x, z)[z]).T))
        limit = max(limit, EPS * condition) if condition > 100 else limit
    assert found <= best * (1 + limit) + 4 * EPS, name
    # Nothing is below the minimum; were ours lower by more, the reference would not be at it, and
    # the limit above would hold nothing.
    if convex:
        assert found >= best * (1 - limit), name
    gap = np.abs(ours) if ours.ndim == 1 else np.diff(np.sort(ours, axis=1)[:, -2:])[:, 0]
    # A loss 1e-6 above its minimum allows scores to be sqrt(1e-6) of their size off.
    clear = gap > 1e-3 * np.median(np.abs(ours))
    labels = (theirs > 0).astype(int) if theirs.ndim == 1 else theirs.argmax(axis=1)
    np.testing.assert_array_equal(np.asarray(probe.predict(x))[clear], labels[clear])
    assert clear.mean() > 0.95


def problems(name):
    """50 problems of one shape: plain, overlapping, separable, scaled, and correlated features."""
    for seed in range(50):
        kind = seed % 5
        gap = {1: 0.2, 2: 6.0}.get(kind, 1.0)
        x, z = draw(seed, 240, 6, 3, gap=gap)
        if kind == 3:
            x = x * np.geomspace(0.1, 10, 6, dtype=np.float32)
        if kind == 4:
            x[:, 5] = x[:, 4] + 0.1 * x[:, 5]
        if kind == 4 and name not in ("LDA", "QDA"):  # a penalty decides between copies
            x[:, 3] = x[:, 2]
        yield x, z


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_fifty_problems(name):
    xs, zs = map(np.stack, zip(*problems(name), strict=True))
    fit = jax.jit(jax.vmap(functools.partial(PAIRS[name].probe.fit, num_classes=3)))
    fitted = fit(xs, zs)
    assert not np.asarray(fitted.status).any()
    for i in range(50):
        check(name, jax.tree.map(lambda leaf, i=i: leaf[i], fitted), xs[i], zs[i])


@pytest.mark.quick(1)
@pytest.mark.parametrize("table", ["breast_cancer", "wine", "digits"])
@pytest.mark.parametrize("name", PAIRS)
def test_known_tables(name, table):
    if (name, table) == ("QDA", "digits"):
        pytest.skip("its classes lack dimensions: they have no density")
    x, z = getattr(datasets, f"load_{table}")(return_X_y=True)
    sd = x.std(axis=0)
    x = ((x - x.mean(axis=0)) / np.where(sd > 0, sd, 1)).astype(np.float32)
    if name == "LDA" and table == "digits":
        x = x[:, sd > 0]
    probe = ej.raise_if_failed(PAIRS[name].probe.fit(x, z.astype(np.int32)))
    assert int(probe.status) == 0
    check(name, probe, x, z)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["Logistic", "LinearSVM", "LeastSquares"])
def test_one_row_in_a_thousand(name):
    rng = np.random.default_rng(0)
    z = (np.arange(10_000) % 1000 == 0).astype(np.int32)
    x = (rng.standard_normal((10_000, 4)) + z[:, None]).astype(np.float32)
    check(name, ej.raise_if_failed(PAIRS[name].probe.fit(x, z)), x, z)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Logistic", "LinearSVM"])
@pytest.mark.parametrize("spread", [1.0, 1e3])
def test_more_parameters_than_newton_takes(name, spread):
    """Beyond 128: well conditioned features, and features that need the Hessian."""
    rng = np.random.default_rng(1)
    x, z = draw(2, 500, 140, 2, gap=0.3)
    scale = np.geomspace(1 / spread, 1, 140) ** 0.5
    x = (x * scale @ np.linalg.qr(rng.standard_normal((140, 140)))[0]).astype(np.float32)
    probe = ej.raise_if_failed(PAIRS[name].probe.fit(x, z))
    assert int(probe.status) == 0
    check(name, probe, x, z)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Logistic", "LinearSVM", "LDA", "LeastSquares", "QDA"])
def test_class_weights_are_row_weights(name):
    x, z = draw(3, 240, 6, 3)
    probe = PAIRS[name].probe
    factors = np.array([1.0, 3.0, 0.5], np.float32)
    weights = np.random.default_rng(0).uniform(0.5, 2, 240).astype(np.float32)
    a = probe.fit(x, z, weights=weights, class_weights=factors)
    b = probe.fit(x, z, weights=weights * factors[z])
    np.testing.assert_allclose(a.scores(x), b.scores(x), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="one for each of 3 classes"):
        probe.fit(x, z, class_weights=[1.0, 2.0])
    with pytest.raises(ValueError, match="balanced"):
        probe.fit(x, z, class_weights="even")


@pytest.mark.slow
def test_balanced_classes_are_scikit_learns():
    rng = np.random.default_rng(4)
    z = (rng.random(400) < 0.1).astype(np.int32)
    x = (rng.standard_normal((400, 3)) + z[:, None]).astype(np.float32)
    probe = ej.probes.Logistic(l2=L2).fit(x, z, class_weights="balanced")
    reference = LogisticRegression(C=1 / (L2 * 400), class_weight="balanced", tol=1e-10).fit(x, z)
    np.testing.assert_allclose(probe.weight, reference.coef_[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(probe.bias, reference.intercept_[0], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_random_features_approach_the_kernel():
    x, z = draw(5, 200, 4, 2)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    signs, penalty = 2.0 * z - 1, L2 * 200
    # The reference has no bias: the kernel and the labels less their means.
    kernel = KernelCenterer().fit_transform(rbf_kernel(x, gamma=1 / (2 * 4)))
    exact = KernelRidge(kernel="precomputed", alpha=penalty).fit(kernel, signs - signs.mean())
    expected = exact.predict(kernel) + signs.mean()
    errors = []
    for features in (64, 4096):
        probe = ej.probes.KernelRidge(l2=L2, features=features)
        keys = jax.random.split(jax.random.key(0), 4)
        fitted = [ej.raise_if_failed(probe.fit(x, z, key=key)) for key in keys]
        errors.append(np.mean([np.std(one.scores(x) - expected) for one in fitted]))
    # Sixty-four times the features, an eighth of the error.
    assert errors[1] < errors[0] / 6
    # An error E in the kernel moves the scores by M E a to first order, M = l2 n (K + l2 n)^-1 and
    # a the dual weights. Were the D features Gaussian, its mean square would be
    # (tr(M K M) a K a + |M K a|^2) / (n D). Cosines have other fourth moments: here it is half as
    # much again, and three times leaves room for the draw.
    shrink = penalty * np.linalg.inv(kernel + penalty * np.eye(200))
    dual = exact.dual_coef_
    square = np.trace(shrink @ kernel @ shrink) * (dual @ kernel @ dual)
    square += np.sum((shrink @ kernel @ dual) ** 2)
    assert errors[1] < (3 * square / (200 * 4096)) ** 0.5


@pytest.mark.slow
def test_a_kernel_reads_what_no_linear_probe_does(tmp_path):
    xor = ej.datasets.XorClasses(gap=2.0, rows=500)
    data, fresh = xor.sample(jax.random.key(6)), xor.sample(jax.random.key(6), part=1)
    eraser = ej.LEACE().fit(data)
    probe = ej.probes.KernelRidge().fit(eraser(data.x), data.z, key=jax.random.key(0))
    assert ej.metrics.accuracy(probe, eraser(fresh.x), fresh.z) > 0.9
    x = data.x
    ej.save(probe, tmp_path / "probe.safetensors")
    again = ej.load(tmp_path / "probe.safetensors")
    np.testing.assert_array_equal(again.scores(x), probe.scores(x))
    real = ej.probes.KernelRidge(l2=1e-6).fit(x, jnp.sin(x[:, 0]), key=jax.random.key(0))
    assert ej.metrics.r2(real, x, jnp.sin(x[:, 0])) > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Logistic", "LinearSVM", "LeastSquares"])
def test_selection_is_a_loop_over_folds(kind):
    x, z = draw(7, 120, 6, 3, gap=0.5)
    z = z if kind != "LeastSquares" else x[:, 0] + np.float32(0.5) * z
    values = np.array([1e-4, 1e-2, 1.0, 100.0], np.float32)
    probe = getattr(ej.probes, kind)()
    weights = (np.arange(120) % 7 > 0).astype(np.float32)
    broken = np.where(weights[:, None] > 0, x, np.nan).astype(np.float32)
    found = ej.probes.select_l2(
        probe, broken, z, l2=values, folds=4, weights=weights, key=jax.random.key(1)
    )
    ej.raise_if_failed(found)
    assert found.losses.shape == (4, 4)
    assert np.isfinite(found.losses).all()
    assert found.l2 == values[np.asarray(found.losses).mean(axis=1).argmin()]
    own = probe.replace(l2=found.l2).fit(broken, z, weights=weights)
    np.testing.assert_allclose(found.probe.weight, own.weight, rtol=1e-4, atol=1e-5)
    # Far too large a penalty cannot win here.
    assert found.l2 < 100


@pytest.mark.slow
def test_folds_hold_every_row_once_and_the_classes_evenly():
    x, z = draw(8, 97, 3, 3)
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=3)
    own = np.asarray(fold_rows(data, None, jax.random.key(2), 5))
    table = np.array([[(own[z == j] == fold).sum() for fold in range(5)] for j in range(3)])
    assert table.sum() == 97
    assert (np.ptp(table, axis=1) <= 1).all()
    with pytest.raises(ValueError, match="folds"):
        ej.probes.select_l2(ej.probes.LDA(), x, z, l2=[0.1], folds=1, key=jax.random.key(0))
    with pytest.raises(TypeError, match="has no l2"):
        ej.probes.select_l2(ej.probes.MLP(), x, z, l2=[0.1], key=jax.random.key(0))

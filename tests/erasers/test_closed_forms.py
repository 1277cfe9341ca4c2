"""LEACE, SAL, SPLINCE and OracleLEACE: the identities of their papers, on any data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import erasejax as ej
from tests import common
from tests.common import EPS, draw, seeds

# Concepts of 2048 x 128 rows, by what z is: (kind, columns or classes).
CONCEPTS = [
    ("real", 1),
    ("classes", 2),
    ("classes", 3),
    ("labels", 3),
    ("real", 5),
    ("classes", 10),
    ("labels", 20),
]
LABEL_FREE = {"SAL": ej.SAL(), "LEACE": ej.LEACE(), "LEACE, oas": ej.LEACE(shrinkage_rule="oas")}


def concept(kind, k, n=2048, d=128, seed=0, dtype=np.float32):
    """Correlated features, a concept in them, and its codes in float64."""
    rng = np.random.default_rng(seed)
    if kind == "classes":
        z = np.concatenate([np.arange(k), rng.integers(0, k, n - k)])
        codes = np.eye(k)[z]
    elif kind == "labels":
        z = rng.integers(0, 2, (n, k))
        codes = z.astype(float)
    else:
        z = rng.standard_normal((n, k)).astype(dtype)
        codes = z.astype(float)
    x = rng.standard_normal((n, d)) + codes @ rng.standard_normal((k, d)) + 3
    x = (x @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)) / np.sqrt(d))).astype(dtype)
    return x, z, codes


def covariance(y, codes):
    """Correlation-like covariance of rows with codes: (d, k), in sd of the codes."""
    y = np.asarray(y, np.float64)
    centred = codes - codes.mean(axis=0)
    return (y - y.mean(axis=0)).T @ centred / len(y) / centred.std(axis=0)


def loss(x, y, metric=None):
    moved = np.asarray(x, np.float64) - np.asarray(y, np.float64)
    return np.einsum("nd,de,ne->", moved, np.eye(x.shape[1]) if metric is None else metric, moved)


@pytest.mark.quick(1)
@pytest.mark.parametrize(("kind", "k"), CONCEPTS)
@pytest.mark.parametrize("double", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_identities(kind, k, double):
    dtype = np.float64 if double else np.float32
    eps = np.finfo(dtype).eps
    context = common.enable_x64() if double else jax.default_device(None)
    with context:
        x, z, codes = concept(kind, k, dtype=dtype)
        sd = x.std(axis=0, dtype=np.float64)
        rank = np.linalg.matrix_rank(codes - codes.mean(axis=0))
        for name, method in {**LABEL_FREE, "OracleLEACE": ej.OracleLEACE()}.items():
            eraser = ej.raise_if_failed(method.fit(x, z))
            y = np.asarray(eraser(x, z) if eraser.needs_z else eraser(x))
            assert y.dtype == dtype
            assert int(eraser.rank) == rank, name
            left = np.abs(covariance(y, codes)) / sd[:, None]
            assert left.max() < 84 * eps, name  # 1e-5 in float32
            wide = np.longdouble
            moved = np.abs(y.mean(axis=0, dtype=wide) - x.mean(axis=0, dtype=wide))
            assert (moved <= 8 * eps * np.abs(x).max(axis=0)).all(), name
            if not eraser.needs_z:
                twice = np.abs(np.asarray(eraser(y)) - y) / sd
                reach = np.linalg.norm(np.asarray(eraser.kernel)) * np.linalg.norm(eraser.test)
                assert twice.max() <= 32 * eps * reach * np.sqrt(x.shape[1]), name


@pytest.mark.quick(2)
@pytest.mark.parametrize(("kind", "k"), CONCEPTS)
def test_leace_is_the_published_formula(kind, k):
    x, z, codes = concept(kind, k)
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    sigma, cross = centred.T @ centred / len(x), centred.T @ (codes - codes.mean(0)) / len(x)
    values, vectors = np.linalg.eigh(sigma)
    whiten, colour = (vectors * values**power @ vectors.T for power in (-0.5, 0.5))
    u, s, _ = np.linalg.svd(whiten @ cross, full_matrices=False)
    u = u[:, s > 1e-10 * s[0]]
    expected = wide - centred @ (whiten @ u @ u.T @ colour)
    y = np.asarray(ej.LEACE().fit(x, z)(x), np.float64)
    condition = values[-1] / values[0]
    assert condition < 1e4
    sd = wide.std(axis=0)
    assert (np.abs(y - expected) / sd).max() < 1e-5 * np.sqrt(condition)
    assert loss(x, y) == pytest.approx(loss(x, expected), rel=1e-5)


@pytest.mark.slow
@given(seeds)
def test_leace_is_the_least_damage_in_every_norm(seed):
    with common.enable_x64():
        x, z, codes = concept("classes", 3, n=300, d=12, seed=seed, dtype=np.float64)
        rng = np.random.default_rng(seed)
        root = rng.standard_normal((12, 12))
        eraser, oracle = ej.LEACE().fit(x, z), ej.OracleLEACE().fit(x, z)
        y, mean = np.asarray(eraser(x)), x.mean(axis=0)
        p = np.asarray(eraser.matrix())
        axes = np.asarray(eraser.kernel)
        for metric in (np.eye(12), root @ root.T):
            least = loss(x, y, metric)
            assert least >= loss(x, np.asarray(oracle(x, z)), metric)
            for size in (1e-3, 0.1, 1.0):
                # Any other affine map that destroys the kernel stays guarded, and does worse.
                change = size * rng.standard_normal((12, 12))
                change -= change @ axes @ np.linalg.pinv(axes)
                other = (x - mean) @ (p + change).T + mean
                assert np.abs(covariance(other, codes)).max() < 1e-9
                assert loss(x, other, metric) >= least * (1 - 1e-12)


@pytest.mark.slow
@given(seeds, st.sampled_from([(300, 12), (30, 12)]))
def test_leace_is_equivariant_to_invertible_maps(seed, shape):
    n, d = shape
    with common.enable_x64():
        x, z, _ = concept("classes", 3, n=n, d=d, seed=seed, dtype=np.float64)
        change = np.random.default_rng(seed).standard_normal((d, d)) + 2 * np.eye(d)
        condition = np.linalg.cond(change)
        mapped = np.asarray(ej.LEACE().fit(x @ change, z)(x @ change))
        direct = np.asarray(ej.LEACE().fit(x, z)(x)) @ change
        tolerance = 1e-11 * condition**2 * np.abs(direct).max()
        np.testing.assert_allclose(mapped, direct, atol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [ej.LEACE(), ej.LEACE(shrinkage=0.2), ej.SAL(), ej.LEACE(shrinkage_rule="oas"), ej.SPLINCE()],
)
@pytest.mark.parametrize("in_order_of_label", [True, False])
def test_solve_is_fit_however_the_rows_come(method, in_order_of_label):
    x, z, _ = concept("classes", 4, n=600, d=20)
    if in_order_of_label:
        order = np.argsort(z, kind="stable")
        x, z = x[order], z[order]
    task = (x[:, :2] @ np.array([[1.0, 0.5], [0, 1]])).astype(np.float32)
    given = {"task": task} if isinstance(method, ej.SPLINCE) else {}
    fitted = method.fit(x, z, **given)
    for pieces in (1, 3, 7):
        m = ej.Moments.init(20, 4, task=2 if given else 0)
        for part in np.array_split(np.arange(600), pieces):
            m = m.update(x[part], z[part], **({"task": task[part]} if given else {}))
        solved = method.solve(m)
        assert int(solved.rank) == int(fitted.rank) == 3
        np.testing.assert_allclose(solved(x), fitted(x), atol=2e-4)
        assert common.gap_in_sd(x, solved(x), z) < 1


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 5])
def test_fewer_rows_than_features_agree_with_moments_on_the_fitting_rows(k):
    x, z = draw(0, 60, 200, k)
    fitted = ej.LEACE().fit(x, z)
    solved = ej.LEACE().solve(ej.Moments.init(200, k).update(x, z))
    np.testing.assert_allclose(fitted(x), solved(x), atol=1e-3)
    weights = (np.arange(60) % 4 != 0).astype(np.float32)
    weighted = ej.LEACE().fit(np.where(weights[:, None] > 0, x, np.nan), z, weights=weights)
    kept = weights > 0
    alone = ej.LEACE().fit(x[kept], z[kept], num_classes=k)
    np.testing.assert_allclose(weighted(x[kept]), alone(x[kept]), atol=1e-3)
    assert common.gap_in_sd(x[kept], weighted(x[kept]), z[kept]) < 1


@pytest.mark.slow
def test_oas_is_scikit_learns():
    from sklearn.covariance import OAS

    from erasejax.rows._dataset import as_dataset
    from erasejax.statistics import _concept as canonical

    for n, d in ((40, 10), (400, 10), (30, 60)):
        x, z = draw(0, n, d, 2)
        moments = ej.Moments.of(as_dataset(x, z))
        standard = (x - x.mean(0)) / x.std(0)
        unit = standard.T @ standard / n
        ours = canonical.shrink("oas", 0.0, jnp.asarray((unit**2).sum()), moments)
        assert float(ours) == pytest.approx(OAS().fit(standard).shrinkage_, rel=0.05)


@pytest.mark.slow
def test_schaefer_strimmer_is_the_estimate_for_correlations():
    from erasejax.rows._dataset import as_dataset
    from erasejax.statistics import _concept as canonical

    for n, d, mixing in ((64, 4, 0.3), (400, 10, 0.3), (30, 60, 0.1)):
        x, z = draw(3, n, d, 2)
        x = x @ (np.eye(d) + mixing * np.random.default_rng(3).standard_normal((d, d)))
        r = np.corrcoef(x.T)[~np.eye(d, dtype=bool)]
        expected = min(((1 - r**2) ** 2).sum() / n / (r**2).sum(), 1)
        moments = ej.Moments.of(as_dataset(x.astype(np.float32), z))
        own = canonical.shrink("schaefer-strimmer", 0.0, jnp.asarray((r**2).sum() + d), moments)
        # Variances are those of the mean square: the spread of the squares makes the difference.
        spread = np.var(r**2) / np.mean((1 - r**2) ** 2)
        assert expected * (1 - spread) * 0.999 < float(own) <= expected * 1.001
    x, z = draw(4, 40, 60, 2)  # by the rows' Gram matrix, and by the covariance
    method = ej.LEACE(shrinkage_rule="schaefer-strimmer")
    fitted, solved = method.fit(x, z), method.solve(ej.Moments.of(as_dataset(x, z)))
    np.testing.assert_allclose(fitted.matrix(), solved.matrix(), atol=1e-4)
    assert common.gap_in_sd(x, fitted(x), z) < 1


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [2, 16])
def test_the_estimate_for_correlations_errs_less_than_that_for_covariances(ratio):
    from erasejax.rows._dataset import as_dataset
    from erasejax.statistics import _concept as canonical

    d, rng = 4, np.random.default_rng(0)
    errors = {"none": [], "schaefer-strimmer": [], "oas": []}
    for _ in range(100):
        mixing = rng.standard_normal((d, d))
        x = (rng.standard_normal((d * ratio, d)) @ mixing).astype(np.float32)
        moments = ej.Moments.of(as_dataset(x, np.arange(len(x)) % 2))
        own, covariance = np.corrcoef(x.T), mixing.T @ mixing
        sd = np.sqrt(np.diag(covariance))
        for rule, found in errors.items():
            weight = float(canonical.shrink(rule, 0.0, jnp.asarray((own**2).sum()), moments))
            shrunk = (1 - weight) * own + weight * np.eye(d)
            found.append(((shrunk - covariance / np.outer(sd, sd)) ** 2).sum())
    none, correlations, covariances = (np.mean(found) for found in errors.values())
    assert correlations < none
    assert correlations < covariances


def two_concepts(seed, angle, n=800, d=10, dtype=np.float32):
    """A label and a real task whose whitened directions meet at an angle."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 2, n)
    x = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3 * rng.standard_normal((d, d)))
    x[:, 0] += 2 * z
    x[:, 1] += z
    noise = x[:, 2] - x[:, 2].mean()
    y = np.cos(angle) * (z - z.mean()) / z.std() + np.sin(angle) * noise / noise.std()
    return x.astype(dtype), z, y.astype(dtype)


@pytest.mark.slow
@given(seeds, st.sampled_from([0.3, 1.0, 1.5]))
def test_splince_keeps_the_task_and_erases_the_label(seed, angle):
    x, z, y = two_concepts(seed, angle)
    eraser = ej.raise_if_failed(ej.SPLINCE().fit(x, z, task=y))
    assert int(eraser.status) == 0
    after = np.asarray(eraser(x), np.float64)
    assert common.gap_in_sd(x, after, z) < 1
    sd = x.std(axis=0, dtype=np.float64)
    target = y.astype(np.float64)[:, None]
    before = covariance(x, target) / sd[:, None]
    np.testing.assert_allclose(covariance(after, target) / sd[:, None], before, atol=1e-5)
    least = loss(x, ej.LEACE().fit(x, z)(x))
    assert loss(x, after) >= least * (1 - 1e-5)


@pytest.mark.slow
def test_splince_of_an_orthogonal_task_is_leace():
    x, z, y = two_concepts(0, 1.0)
    # Take out of the task what LEACE's test sees, so that nothing is in the way.
    test = np.asarray(ej.LEACE().fit(x, z).test, np.float64)[:, 0]
    score = (x - x.mean(0)) @ test
    y = y - score * (score @ y) / (score @ score)
    splince, leace = ej.SPLINCE().fit(x, z, task=y.astype("f4")), ej.LEACE().fit(x, z)
    np.testing.assert_allclose(splince.matrix(), leace.matrix(), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["the label", "the label in other units", "a class of it"])
def test_where_task_and_label_are_one_erasure_wins(task):
    x, z = draw(0, 400, 8, 3)
    y = {
        "the label": z,
        "the label in other units": 1e3 * np.eye(3)[z] + 5,
        "a class of it": (z == 1),
    }[task]
    y = y.astype(np.float32) if y.dtype == np.float64 else y
    eraser = ej.raise_if_failed(ej.SPLINCE().fit(x, z, task=y))
    assert int(eraser.status) == ej.Status.TASK_GIVEN_UP
    assert int(eraser.rank) == 2
    assert common.gap_in_sd(x, eraser(x), z) < 1
    np.testing.assert_allclose(eraser(x), ej.LEACE().fit(x, z)(x), atol=1e-2)


@pytest.mark.slow
def test_splince_takes_classes_and_datasets():
    x, z, y = two_concepts(1, 1.2)
    labels = (y > 0).astype(int) + (y > 1)
    by_label = ej.SPLINCE().fit(x, z, task=labels)
    one_hot = np.eye(3, dtype=np.float32)[labels]
    np.testing.assert_allclose(by_label(x), ej.SPLINCE().fit(x, z, task=one_hot)(x), atol=1e-4)
    data = ej.Dataset(x=jnp.asarray(x), z=jnp.asarray(z), num_classes=2, task=jnp.asarray(y))
    np.testing.assert_array_equal(ej.SPLINCE().fit(data)(x), ej.SPLINCE().fit(x, z, task=y)(x))
    with pytest.raises(TypeError, match="task: missing"):
        ej.SPLINCE().fit(x, z)
    with pytest.raises(ValueError, match="one entry a row"):
        ej.SPLINCE().fit(x, z, task=y[:-1])
    with pytest.raises(ValueError, match="these moments hold none"):
        ej.SPLINCE().solve(ej.Moments.init(10, 2).update(x, z))


def test_oracle_moves_every_class_onto_the_mean():
    x, z = draw(0, 300, 6, 4)
    oracle = ej.OracleLEACE().fit(x, z)
    expected = x.astype(np.float64) - common.class_means(x, z)[z] + x.mean(0, dtype=np.float64)
    np.testing.assert_allclose(oracle(x, z), expected, atol=16 * EPS * np.abs(x).max())
    assert np.isnan(oracle(x[:1], np.array([7]))).all()
    with pytest.raises(ValueError, match="6 features"):
        oracle(x[:, :5], z)


def test_oracle_says_where_the_concept_explains_a_feature_whole():
    """Of that nothing is left but rounding, in steps that follow the label."""
    x, z, _ = concept("classes", 3, n=200, d=4)
    assert int(ej.OracleLEACE().fit(x, z).status) == 0
    x[:, 1] = 0.65 * (z > 0)
    status = int(ej.OracleLEACE().fit(x, z, num_classes=3).status)
    assert status == ej.Status.UNRESOLVED


class TestComposition:
    @pytest.mark.slow
    def test_then_applies_one_after_the_other(self):
        x, z = draw(0, 300, 8, 3)
        other = np.random.default_rng(1).integers(0, 2, 300)
        first = ej.LEACE().fit(x, z)
        second = ej.LEACE(keep_mean=False).fit(first(x), other)
        both = first.then(second)
        np.testing.assert_allclose(both(x), second(first(x)), atol=1e-4)
        assert int(both.rank) == 3
        p, bias = both.affine()
        np.testing.assert_allclose(x @ np.asarray(p).T + bias, both(x), atol=1e-4)
        assert common.gap_in_sd(x, both(x), other) < 1

    @pytest.mark.slow
    def test_two_concepts_by_one_projection(self):
        rng = np.random.default_rng(2)
        z = rng.integers(0, 2, (500, 2))
        x = (rng.standard_normal((500, 8)) + z @ rng.standard_normal((2, 8))).astype(np.float32)
        eraser = ej.LEACE().fit(x, z)
        np.testing.assert_allclose(eraser(eraser(x)), eraser(x), atol=1e-5)
        for column in z.T:
            assert common.gap_in_sd(x, eraser(x), column) < 1

    @pytest.mark.slow
    def test_restrict_keeps_the_strongest_directions(self):
        rng = np.random.default_rng(3)
        z = np.arange(900) % 3
        means = np.array([[0, 0], [5, 0], [5, 0.5]])
        x = rng.standard_normal((900, 6))
        x[:, :2] += means[z]
        eraser = ej.LEACE().fit(x.astype("f4"), z)
        one = eraser.restrict(1)
        assert int(one.rank) == 1
        y = one(x.astype("f4"))
        np.testing.assert_allclose(one(y), y, atol=1e-5)
        assert np.ptp(common.class_means(y, z)[:2], axis=0).max() < 0.3
        assert int(eraser.restrict(0).rank) == 0
        np.testing.assert_array_equal(eraser.restrict(2).matrix(), eraser.matrix())
        with pytest.raises(ValueError, match="0 to 2"):
            eraser.restrict(3)


class TestLinearR2:
    @pytest.mark.slow
    @given(seeds, st.sampled_from([2, 4]))
    def test_is_least_squares(self, seed, k):
        x, z, codes = concept("classes", k, n=200, d=8, seed=seed)
        centred, target = x - x.mean(0, dtype=np.float64), codes - codes.mean(0)
        q = np.linalg.qr(centred)[0]
        u = np.linalg.svd(target, full_matrices=False)[0][:, : k - 1]
        expected = np.linalg.svd(q.T @ u, compute_uv=False)
        found = ej.metrics.canonical_correlations(x, z)
        np.testing.assert_allclose(found, expected, atol=2e-3)
        assert float(ej.metrics.linear_r2(x, z)) == pytest.approx((expected**2).mean(), abs=1e-3)

    @pytest.mark.slow
    def test_of_two_classes_is_the_r2_of_the_probe(self):
        x, z = draw(1, 200, 6, 2)
        probe = ej.probes.LeastSquares().fit(x, z)
        r2 = float(ej.metrics.linear_r2(x, z))
        assert r2 == pytest.approx(float(ej.metrics.r2(probe, x, z)), abs=1e-5)

    @pytest.mark.quick(1)
    @pytest.mark.parametrize(("kind", "k"), CONCEPTS)
    def test_is_exactly_zero_after_erasing(self, kind, k):
        x, z, _ = concept(kind, k)
        assert float(ej.metrics.linear_r2(x, z)) > 0.3
        for method in LABEL_FREE.values():
            erased = method.fit(x, z)(x)
            assert float(ej.metrics.linear_r2(erased, z)) == 0
            assert (np.asarray(ej.metrics.canonical_correlations(erased, z)) == 0).all()

    @pytest.mark.slow
    def test_is_one_with_fewer_rows_than_features(self):
        x, z = draw(2, 30, 100, 3)
        assert float(ej.metrics.linear_r2(x, z)) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_agrees_with_the_reference_library():
    torch = pytest.importorskip("torch")
    reference = pytest.importorskip("concept_erasure")
    x, z, codes = concept("classes", 3)
    fitter = reference.LeaceFitter.fit(
        torch.tensor(x), torch.tensor(codes, dtype=torch.float32), shrinkage=False
    )
    expected = fitter.eraser(torch.tensor(x)).numpy()
    y = np.asarray(ej.LEACE().fit(x, z)(x))
    assert loss(x, y) == pytest.approx(loss(x, expected), rel=1e-5)
    np.testing.assert_allclose(y, expected, atol=1e-3)

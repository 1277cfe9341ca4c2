"""QLEACE, ALF-QLEACE and QDA: identities, optimality, what is left."""

import jax
import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

import erasejax as ej
from erasejax.transport import barycenter, ot_map
from tests import common
from tests.quadratic import SHAPES, classes, moments, root

SEEDS = range(3)


def left(y, z):
    """What differs between classes: covariances relative to their mean, and their mean's condition.

    In units of the features' pooled standard deviations.
    """
    share, _, covariances = moments(y, z)
    mean = np.einsum("k,kij->ij", share, covariances)
    unit = np.sqrt(np.outer(np.diag(mean), np.diag(mean)))
    mean, covariances = mean / unit, covariances / unit
    gaps = [np.linalg.norm(c - mean) for c in covariances]
    return max(gaps) / np.linalg.norm(mean), np.linalg.cond(mean)


def entropy(z):
    share = np.bincount(z) / len(z)
    return -(share * np.log(share)).sum()


# QLEACE


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("shape", "double"), [(SHAPES[0], False), (SHAPES[1], False), (SHAPES[1], True)]
)
def test_means_and_covariances_of_the_classes_coincide(shape, double):
    dtype = np.float64 if double else np.float32
    eps = float(np.finfo(dtype).eps)
    with common.enable_x64() if double else jax.default_device(None):
        for seed in SEEDS:
            x, z = classes(seed, *shape, dtype=dtype)
            assert left(x, z)[0] > 0.3
            eraser = ej.raise_if_failed(ej.QLEACE().fit(x, z))
            y = np.asarray(eraser(x, z))
            assert y.dtype == dtype
            assert int(eraser.status) == 0
            assert int(eraser.rank) == len(shape[2]) - 1
            error, condition = left(y, z)
            assert condition < 100
            assert error < 64 * eps  # 8e-6 and 1e-14
            means = moments(y, z)[1]
            assert np.ptp(means, axis=0).max() < 64 * eps * np.abs(x).max()
            probe = ej.raise_if_failed(ej.probes.QDA().fit(y, z))
            np.testing.assert_array_equal(probe.whiten, 0)
            loss = float(ej.metrics.log_loss(probe, y, z))
            assert loss == pytest.approx(entropy(z), rel=16 * eps)
            before = float(ej.metrics.log_loss(ej.probes.QDA().fit(x, z), x, z))
            assert before < entropy(z) - 0.1


def test_the_mean_stays_with_a_tenth_positives():
    # Centred on the unweighted mean of the class means, E[x] moves by 0.4 of their gap.
    x, z = classes(0, *SHAPES[0])
    x[z == 1] += 7
    y = np.asarray(ej.QLEACE().fit(x, z)(x, z), np.float64)
    wide = x.astype(np.float64)
    means = moments(x, z)[1]
    assert np.linalg.norm(means.mean(axis=0) - wide.mean(axis=0)) > 2
    moved = np.abs(y.mean(axis=0) - wide.mean(axis=0))
    assert moved.max() <= 4 * common.EPS * np.abs(x).max()


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_no_other_equalising_map_moves_x_less(shape):
    with common.enable_x64():
        x, z = classes(3, *shape, dtype=np.float64)
        share, means, covariances = moments(x, z)
        eraser = ej.QLEACE().fit(x, z)
        mu = x.mean(axis=0)

        def cost(maps):
            y = mu + np.einsum("nij,nj->ni", maps[z], x - means[z])
            assert left(y, z)[0] < 1e-8
            return ((y - x) ** 2).sum(axis=1).mean()

        best = cost(np.asarray(eraser.maps))
        target = np.asarray(barycenter(covariances, share))
        exact = np.stack([np.asarray(ot_map(s, target)) for s in covariances])
        np.testing.assert_allclose(eraser.maps, exact, atol=1e-6)
        assert best <= cost(exact) * (1 + 1e-9)
        pooled = np.einsum("k,kij->ij", share, covariances)
        lower = np.linalg.cholesky(covariances)
        rng = np.random.default_rng(0)
        turned = np.linalg.qr(np.eye(shape[1]) + 0.1 * rng.standard_normal((shape[1],) * 2))[0]
        for other in (target, pooled, covariances[0], 0.9 * target, target + 0.05 * np.diag(mu)):
            to = np.linalg.cholesky(other)
            whitening = np.stack([to @ np.linalg.inv(c) for c in lower])
            assert cost(whitening) > best
            zca = np.stack([root(other) @ np.linalg.inv(root(s)) for s in covariances])
            assert cost(zca) > best
            assert cost(np.stack([to @ turned @ np.linalg.inv(c) for c in lower])) > best
            if other is not target:
                moved = np.stack([np.asarray(ot_map(s, other)) for s in covariances])
                assert cost(moved) > best
    # float32 comes as near to the least damage.
    single = ej.QLEACE().fit(x.astype("f4"), z)
    y = np.asarray(single(x.astype("f4"), z), np.float64)
    assert ((y - x) ** 2).sum(axis=1).mean() < best * (1 + 1e-4)


@pytest.mark.slow
def test_features_of_any_scale():
    n, d, frequencies = SHAPES[1]
    for seed in SEEDS:
        x, z = classes(seed, n, d, frequencies)
        scale = 10.0 ** np.random.default_rng(seed).permutation(np.linspace(-6, 6, d))
        far = (x * scale).astype("f4")
        y = np.asarray(ej.raise_if_failed(ej.QLEACE().fit(far, z))(far, z))
        error, condition = left(y, z)
        assert condition < 1e4
        assert error < 64 * common.EPS
        assert common.gap_in_sd(far, y, z) <= 1
        # One common factor changes nothing.
        near = np.asarray(ej.QLEACE().fit(x, z)(x, z))
        for factor in (2.0**-40, 2.0**40):
            again = ej.QLEACE().fit((factor * x).astype("f4"), z)
            np.testing.assert_allclose(again(factor * x, z) / factor, near, atol=1e-5)


def test_a_class_with_too_few_rows_warns_and_spoils_nothing():
    d = SHAPES[1][1]
    x, z = classes(4, *SHAPES[1])
    few = np.flatnonzero(z == 2)[d:]  # leaves d rows: d - 1 dimensions
    weights = np.ones(len(z), "f4")
    weights[few] = 0
    eraser = ej.raise_if_failed(ej.QLEACE().fit(x, z, weights=weights))
    assert int(eraser.status) == ej.Status.UNEQUAL_RANK
    kept = weights > 0
    y = np.asarray(eraser(x, z))
    pair = kept & (z < 2)
    assert left(y[pair], z[pair])[0] < 64 * common.EPS  # the others coincide
    assert left(y[kept], z[kept])[0] > 1e-2
    means = moments(y[kept], z[kept])[1]
    assert np.ptp(means, axis=0).max() < 64 * common.EPS * np.abs(x).max()
    # Rows never seen are not thrown about along the dimension that was missing.
    assert np.linalg.norm(np.asarray(eraser.maps), ord=2, axis=(1, 2)).max() < 30
    # A class that is missing altogether is left as it is.
    absent = ej.QLEACE().fit(x, z, weights=(z < 2).astype("f4"))
    assert int(absent.status) == 0
    own = x[z == 2]
    np.testing.assert_allclose(
        absent(own, np.full(len(own), 2)), own, atol=4 * common.EPS * np.abs(x).max()
    )


def test_constant_and_duplicate_features_stay_so():
    n, d, frequencies = SHAPES[1]
    x, z = classes(5, n, d, frequencies)
    x[:, 1], x[:, 2], x[:, 3] = x[:, 0], 7, z
    eraser = ej.QLEACE().fit(x, z)
    assert int(eraser.status) == 0
    y = np.asarray(eraser(x, z))
    rest = np.r_[0, 4:d]
    assert left(y[:, rest], z)[0] < 256 * common.EPS
    np.testing.assert_allclose(y[:, 1], y[:, 0], atol=1e-4)
    assert np.ptp(y[:, 2]) == 0
    assert np.ptp(y[:, 3]) < 1e-6
    probe = ej.probes.QDA().fit(y, z)
    assert float(ej.metrics.log_loss(probe, y, z)) == pytest.approx(entropy(z), rel=1e-5)


# QDA


@pytest.mark.parametrize("shape", SHAPES)
def test_qda_is_scikit_learns_with_maximum_likelihood(shape):
    for seed in SEEDS:
        x, z = classes(seed, *shape)
        x = x * 10.0 ** np.linspace(-3, 3, x.shape[1]).astype("f4")
        probe = ej.raise_if_failed(ej.probes.QDA().fit(x, z))
        wide = x.astype(np.float64) / x.std(axis=0, dtype=np.float64)
        reference = QuadraticDiscriminantAnalysis().fit(wide, z)
        sizes = np.bincount(z)
        # Its variances divide by the rows from 1.8 on, before by the rows less one.
        traces = [np.trace(c) for c in moments(wide, z)[2]]
        scalings = zip(reference.scalings_, traces, strict=True)
        reference.scalings_ = [s * trace / s.sum() for s, trace in scalings]
        expected = reference.predict_log_proba(wide)
        # The ridge of 64 eps of the pooled covariance, where a class varies least next to it.
        share, _, covariances = moments(wide, z)
        pooled = np.linalg.inv(np.linalg.cholesky(np.einsum("k,kij->ij", share, covariances)))
        least = np.linalg.eigvalsh(pooled @ covariances @ pooled.T).min()
        tolerance = 128 * common.EPS / least
        assert tolerance < 0.005
        size = np.abs(expected).max()
        np.testing.assert_allclose(probe.log_proba(x), expected, rtol=0, atol=tolerance * size)
        agree = np.mean(np.asarray(probe.predict(x)) == reference.predict(wide))
        assert agree >= 1 - 2 / len(z)
        assert probe.scores(x).shape == ((len(z),) if len(sizes) == 2 else (len(z), len(sizes)))


@pytest.mark.slow
def test_the_penalty_of_qda_is_that_of_lda():
    # Classes of one covariance, exactly: the two probes are one.
    n, d, frequencies = SHAPES[1]
    x, z = classes(6, n, d, frequencies)
    x = (
        np.asarray(ej.QLEACE().fit(x, z)(x, z))
        + np.random.default_rng(0).standard_normal((3, d))[z]
    )
    x = x.astype("f4")
    for l2 in (0.0, 0.5):
        pair = [kind(l2=l2).fit(x, z) for kind in (ej.probes.QDA, ej.probes.LDA)]
        a, b = (np.asarray(probe.log_proba(x)) for probe in pair)
        np.testing.assert_allclose(a, b, atol=2e-3)


@pytest.mark.slow
def test_qda_is_finite_where_a_class_has_fewer_rows_than_features():
    x, z = common.draw(0, 40, 60, 2)
    probe = ej.raise_if_failed(ej.probes.QDA().fit(x, z))
    assert np.isfinite(probe.log_proba(x)).all()
    gentle = ej.probes.QDA(l2=1.0).fit(x, z)
    assert float(ej.metrics.accuracy(gentle, x, z)) > 0.9
    absent = ej.probes.QDA().fit(*classes(0, *SHAPES[0]), num_classes=3)
    assert set(np.asarray(absent.predict(classes(0, *SHAPES[0])[0]))) == {0, 1}


# ALF-QLEACE


def norms(y, z):
    """The largest |eigenvalue| of class covariances less their mean."""
    share, _, covariances = moments(y, z)
    gaps = covariances - np.einsum("k,kij->ij", share, covariances)
    return np.abs(np.linalg.eigvalsh(gaps)).max()


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_alf_qleace_removes_its_share(shape):
    n, d, frequencies = shape
    k = len(frequencies)
    x, z = classes(7, *shape)
    start = norms(ej.LEACE().fit(x, z)(x), z)
    gains = []
    for target in (0.0, 0.5, 0.9, 1.0):
        eraser = ej.raise_if_failed(ej.ALFQLEACE(target=target).fit(x, z))
        y = np.asarray(eraser(x))
        steps, trace = int(eraser.steps), np.asarray(eraser.trace)
        assert isinstance(eraser, ej.TracedProjection)
        assert int(eraser.status) == 0
        assert int(eraser.rank) == k - 1 + steps
        assert trace.shape == (d + 1,)
        np.testing.assert_array_equal(np.isnan(trace), np.arange(d + 1) > steps)
        assert trace[0] == pytest.approx(start, rel=1e-4)
        assert trace[steps] == pytest.approx(norms(y, z), abs=1e-4 * start)
        assert norms(y, z) <= (1 - target) * start + 1e-5 * start
        if steps:
            assert trace[steps - 1] > (1 - target) * start * (1 - 1e-4)
        # One projection: idempotent, T^T K = I, classes as LEACE leaves them.
        reach = np.linalg.norm(eraser.kernel) * np.linalg.norm(eraser.test)
        tolerance = 32 * common.EPS * reach
        size = np.abs(x).max()
        np.testing.assert_allclose(eraser(y), y, atol=tolerance * size)
        found = np.linalg.matrix_rank(np.asarray(eraser.kernel, np.float64), tol=1e-4)
        assert found == int(eraser.rank)
        identity = np.asarray(eraser.test, np.float64).T @ np.asarray(eraser.kernel)
        used = np.abs(np.asarray(eraser.kernel)).max(axis=0) > 0
        np.testing.assert_allclose(identity, np.diag(used.astype(float)), atol=tolerance)
        assert common.gap_in_sd(x, y, z) <= 1
        assert float(ej.metrics.linear_r2(y, z)) == 0
        moved = y.mean(axis=0, dtype=np.float64) - x.mean(axis=0, dtype=np.float64)
        assert np.abs(moved).max() < 8 * common.EPS * size
        loss = float(ej.metrics.log_loss(ej.probes.QDA().fit(y, z), y, z))
        gains.append(entropy(z) - loss)
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 0.1
    assert abs(gains[-1]) < 1e-3
    assert int(ej.ALFQLEACE(target=0.0).fit(x, z).steps) == 0


@pytest.mark.slow
def test_alf_qleace_says_when_directions_run_out():
    x, z = classes(7, *SHAPES[0])
    short = ej.ALFQLEACE(target=1.0, max_rank=2).fit(x, z)
    assert int(short.status) == ej.Status.NOT_CONVERGED
    assert int(short.steps) == 2
    assert short.trace.shape == (3,)
    plain = short.restrict(2)
    assert type(plain) is ej.Projection
    np.testing.assert_allclose(plain(plain(x)), plain(x), atol=1e-4)
    assert type(short.then(short)) is ej.Projection


@pytest.mark.slow
def test_alf_qleace_leaves_covariances_that_coincide():
    x, z = classes(8, *SHAPES[1])
    shift = np.random.default_rng(0).standard_normal((3, SHAPES[1][1]))[z]
    y = (np.asarray(ej.QLEACE().fit(x, z)(x, z)) + shift).astype("f4")
    eraser = ej.ALFQLEACE(target=1.0).fit(y, z)
    assert int(eraser.steps) == 0
    assert int(eraser.rank) == 2


def test_fitted_objects_come_back_from_files(tmp_path):
    x, z = classes(0, *SHAPES[0])
    for fitted in (
        ej.QLEACE().fit(x, z),
        ej.ALFQLEACE().fit(x, z),
        ej.probes.QDA().fit(x, z),
        ej.ClassMoments.init(5, 2).update(x, z),
    ):
        ej.save(fitted, tmp_path / "e.safetensors")
        again = ej.load(tmp_path / "e.safetensors")
        assert type(again) is type(fitted)
        jax.tree.map(np.testing.assert_array_equal, again, fitted)


@pytest.mark.slow
def test_the_command_line_fits_and_applies_them(tmp_path, monkeypatch, capsys):
    from erasejax.cli import _main as cli
    from erasejax.cli._question import question

    monkeypatch.chdir(tmp_path)
    x, z = classes(0, *SHAPES[0])
    np.save("x.npy", x)
    np.save("z.npy", z)

    def run(*argv):
        code = cli.main(argv)
        return code, "".join(capsys.readouterr())

    assert run("fit", "x.npy", "z.npy", "--method", "qleace", "--out", "q.safetensors")[0] == 0
    assert run("apply", "q.safetensors", "x.npy", "--labels", "z.npy", "--out", "y.npy")[0] == 0
    np.testing.assert_allclose(np.load("y.npy"), ej.QLEACE().fit(x, z)(x, z), atol=1e-5)
    assert "5, dtype float32" in run("info", "q.safetensors")[1]
    argv = ["fit", "x.npy", "z.npy", "--method", "alf-qleace", "--out", "a.safetensors"]
    assert run(*argv, "--target", "0.5", "--max-rank", "2")[0] == 0
    expected = ej.ALFQLEACE(target=0.5, max_rank=2).fit(x, z)
    # The command counts moments block by block, so sums are rounded in another order.
    rounding = 16 * np.finfo(np.float32).eps * np.abs(expected.kernel).max()
    np.testing.assert_allclose(ej.load("a.safetensors").kernel, expected.kernel, atol=rounding)
    assert run("apply", "a.safetensors", "x.npy", "--out", "b.npy")[0] == 0
    np.testing.assert_allclose(np.load("b.npy"), expected(x), atol=1e-5)
    code, text = run(*argv, "--force", "--target", "2")
    assert code == 2
    assert "from 0 to 1" in text
    code, text = run(*argv, "--force", "--max-rank", "9")
    assert code == 2
    assert "max_rank: expected 0 to 5" in text
    _, asked, files = question("x.npy", "z.npy", eraser="q.safetensors", probes="qda")
    (fresh,) = asked.ask(files)["x.npy"]
    before, after = (line.scores for line in fresh.lines)
    assert before["log-loss (nats)"] < entropy(z) - 0.1
    assert after["log-loss (nats)"] > before["log-loss (nats)"] + 0.1
    assert after["|weight|"] is None

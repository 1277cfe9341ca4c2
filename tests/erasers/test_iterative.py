"""INLP, recursive probes and R-LACE: what they remove, and how good the game's end is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import erasejax as ej
from bench.speed.problems import mixed_functions, redundant
from erasejax.cli import _main as cli
from erasejax.erasers._fantope import fantope
from tests.common import EPS, draw, enable_x64

KEY = jax.random.key(0)


def accuracy(eraser, fitted, scored, probe=None):
    """Accuracy on `scored` of a probe fitted to `fitted`, both erased."""
    x, z = fitted
    found = (probe or ej.probes.Logistic()).fit(eraser(jnp.asarray(x)), z, key=KEY)
    x, z = scored
    return float(ej.metrics.accuracy(found, eraser(jnp.asarray(x)), z))


def refitted_loss(eraser, x, z, l2=1e-4):
    """Log-loss in nats of a logistic probe of little penalty, on its fitting rows."""
    probe = ej.probes.Logistic(l2=l2 * float(np.var(x, axis=0).mean())).fit(eraser(x), z)
    return float(ej.metrics.log_loss(probe, eraser(x), z))


@pytest.mark.slow
def test_inlp_takes_many_rounds_on_redundant_data_where_one_direction_is_enough():
    fitted, scored = redundant(8000, seed=1), redundant(8000, seed=2)
    inlp = ej.INLP(rounds=20).fit(*fitted)
    at = [accuracy(inlp.restrict(rank), fitted, scored) for rank in (1, 4, 8, 20)]
    # On GloVe's gender the paper has 0.89, 0.68, 0.60 and 0.55.
    assert at[0] > 0.8
    assert at[1] > 0.62
    assert (np.diff(at) < 0).all()
    noise = 4 * (0.25 / 8000) ** 0.5  # of the accuracy on the scored rows, 4 deviations
    for method in (ej.MeanDifference(), ej.RLACE(), ej.LEACE()):
        assert abs(accuracy(method.fit(*fitted), fitted, scored) - 0.5) < noise
        assert at[1] > 0.5 + 4 * noise
    mlp = ej.probes.MLP()
    for eraser in (inlp, ej.RLACE().fit(*fitted)):
        assert accuracy(eraser, fitted, scored, probe=mlp) > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(  # Newton's method, and the search with shared factors
    ("classes", "d"),
    [
        (3, 8),
        (2, 8),
        (2, 140),
        (3, 140),
    ],
)
def test_recursive_probes_are_fits_to_what_is_left(classes, d):
    x, z = draw(0, 300, d, classes)
    weights = np.where(np.arange(300) % 7 == 0, 0, 1 + np.arange(300) % 3).astype(np.float32)
    probe = ej.probes.Logistic(l2=1e-2)
    found = ej.probes.recursive(probe, x, z, rounds=4, stop_at=0.0, weights=weights)
    width = classes - 1
    basis = np.asarray(found.basis, np.float64)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4 * width), atol=64 * EPS)
    assert int(found.steps) == 4
    mean = np.average(x, axis=0, weights=weights)
    for i in range(4):
        before = basis[:, : i * width]
        left = (x - (x - mean) @ before @ before.T).astype(np.float32)
        alone = probe.fit(left, z, weights=weights)
        one = jax.tree.map(lambda leaf, i=i: leaf[i], found.probes)
        losses = [  # added up in float64: a sum of 300 in float32 rounds by more than the searches
            np.average(-np.asarray(fit.log_proba(rows), np.float64)[range(300), z], weights=weights)
            + 0.5e-2 * float((np.asarray(fit.weight, np.float64) ** 2).sum())
            for fit, rows in ((one, x), (alone, left))
        ]
        # A search ends where what is left to gain is below eps, or a run has gained less than 16
        # eps. The penalty bounds how far apart weights are that are within eps of the optimum:
        # classes that are nearly separable hardly do.
        np.testing.assert_allclose(*losses, rtol=16 * EPS)
        apart = 2 * (2 * EPS * (max(losses) + EPS**0.5) / 1e-2) ** 0.5
        atol = apart * np.linalg.norm(x - mean, axis=1).max()
        np.testing.assert_allclose(one.scores(x), alone.scores(left), atol=atol)
        np.testing.assert_allclose(
            found.trace[i], ej.metrics.accuracy(alone, left, z, weights=weights), atol=0.01
        )
    inlp = ej.INLP(rounds=4, probe=probe, stop_at=0.0).fit(x, z, weights=weights)
    np.testing.assert_allclose(inlp.trace, found.trace)
    np.testing.assert_allclose(inlp.matrix(), np.eye(d) - basis @ basis.T, atol=64 * EPS)


@pytest.mark.slow
def test_inlp_stops_where_nothing_is_left():
    x, z = draw(1, 300, 8, 3)
    eraser = ej.INLP(rounds=6, probe=ej.probes.MeanDifferenceProbe()).fit(x, z)
    assert int(eraser.steps) == 1  # the span of the class means is all that this probe reads
    assert int(eraser.rank) == 2
    assert np.isnan(eraser.trace[2:]).all()
    share = np.bincount(z) / len(z)
    np.testing.assert_allclose(eraser.trace[1], share.max(), rtol=1e-6)
    erased = ej.MeanDifference().fit(x, z)(x)
    nothing = ej.INLP(rounds=3).fit(erased, z)
    assert int(nothing.status) & ej.Status.RANK_ZERO
    np.testing.assert_array_equal(nothing(erased), erased)


@pytest.mark.slow
def test_inlp_says_that_its_rounds_ran_out():
    x, z = draw(1, 300, 8, 3)
    nearest = ej.INLP(rounds=1, probe=ej.probes.MeanDifferenceProbe()).fit(x, z)
    assert int(nearest.steps) == 1  # all of its rounds, and all there is to find
    assert int(nearest.status) == 0
    whole = ej.INLP(rounds=4, probe=ej.probes.LDA(), stop_at=0.0).fit(x, z)  # two a round
    assert int(whole.rank) == 8
    assert int(whole.status) == 0
    method = ej.INLP(rounds=2, probe=ej.probes.LDA())
    lanes = jnp.stack([jnp.asarray(x), ej.MeanDifference().fit(x, z)(jnp.asarray(x))])
    found = jax.vmap(lambda x: method.fit(x, z, num_classes=3))(lanes)
    np.testing.assert_array_equal(found.steps, [2, 0])
    np.testing.assert_array_equal(found.status, [ej.Status.NOT_CONVERGED, ej.Status.RANK_ZERO])
    assert found.trace[0, -1] > np.bincount(z).max() / len(z)
    again = ej.probes.recursive(ej.probes.LDA(), x, z, rounds=2)
    assert int(again.status) == ej.Status.NOT_CONVERGED
    real = (x[:, 0] + x[:, 1] ** 2).astype(np.float32)
    least_squares = ej.INLP(rounds=1, probe=ej.probes.LeastSquares())
    assert int(least_squares.fit(x, real).status) == ej.Status.NOT_CONVERGED


@pytest.mark.slow
def test_inlp_of_a_real_concept_follows_r2():
    x, z = draw(2, 300, 8, 2)
    z = (x[:, 0] + 0.5 * x[:, 1]).astype(np.float32)
    eraser = ej.INLP(rounds=4, probe=ej.probes.LeastSquares()).fit(x, z)
    assert float(eraser.trace[0]) > 1 - 64 * EPS
    assert (np.diff(eraser.trace[: int(eraser.steps)]) < 0).all()
    with pytest.raises(TypeError, match="class labels"):
        ej.INLP().fit(x, z)
    with pytest.raises(TypeError, match="linear"):
        ej.probes.recursive(ej.probes.MLP(), x, z > 0, rounds=2, key=KEY)
    with pytest.raises(ValueError, match="rounds"):
        ej.INLP(rounds=0).fit(x, z > 0)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "classes"), [(140, 2), (70, 4)])
def test_logistic_with_many_parameters_is_scikit_learns(d, classes):
    x, z = draw(3, 600, d, classes)
    x = x * np.geomspace(1e-2, 1e2, d).astype(np.float32)
    weights = (1 + np.arange(600) % 3).astype(np.float32)
    l2 = 1e-2
    probe = ej.probes.Logistic(l2=l2).fit(x, z, weights=weights)
    assert int(probe.status) == 0
    reference = LogisticRegression(C=1 / (l2 * weights.sum()), tol=1e-12, max_iter=100_000).fit(
        x.astype(np.float64), z, sample_weight=weights
    )

    def loss(scores, weight):
        scores = np.stack([0 * scores, scores], axis=1) if scores.ndim == 1 else scores
        nats = np.log(np.exp(scores - scores.max(1, keepdims=True)).sum(1)) + scores.max(1)
        nats -= scores[np.arange(len(z)), z]
        return np.average(nats, weights=weights) + l2 / 2 * np.sum(weight**2)

    best = loss(reference.decision_function(x), reference.coef_)
    own = loss(np.asarray(probe.scores(x), np.float64), np.asarray(probe.weight, np.float64))
    assert own < best * (1 + 1e-6)


@pytest.mark.slow
def test_logistic_with_one_row_in_a_thousand():
    x, z = draw(4, 4000, 140, 2)
    z = np.zeros(4000, int)
    z[:4] = 1
    probe = ej.probes.Logistic(l2=1e-3).fit(x, z)
    assert int(probe.status) == 0
    reference = LogisticRegression(C=1 / 4, tol=1e-12, max_iter=10_000).fit(x.astype(np.float64), z)
    scores = reference.decision_function(x)
    np.testing.assert_allclose(probe.scores(x), scores, atol=2e-3 * np.abs(scores).max())


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_fantope_is_the_nearest_point_of_it(rank):
    rng = np.random.default_rng(rank)
    matrix = rng.standard_normal((6, 6)).astype(np.float32)
    matrix = (matrix + matrix.T) / 2
    p = np.asarray(fantope(jnp.asarray(matrix), rank), np.float64)
    values, vectors = np.linalg.eigh(matrix.astype(np.float64))
    # The shift t of clip(l - t, 0, 1) by a fine search, without bisection.
    shifts = np.linspace(values[0] - 1, values[-1], 2_000_001)
    sums = np.clip(values[None] - shifts[:, None], 0, 1).sum(axis=1)
    t = shifts[np.abs(sums - rank).argmin()]
    expected = vectors @ np.diag(np.clip(values - t, 0, 1)) @ vectors.T
    np.testing.assert_allclose(p, expected, atol=2e-5)
    np.testing.assert_allclose(np.trace(p), rank, rtol=1e-5)
    u = np.linalg.qr(rng.standard_normal((6, rank)))[0].astype(np.float32)
    np.testing.assert_allclose(fantope(jnp.asarray(u @ u.T), rank), u @ u.T, atol=32 * EPS)


@pytest.mark.slow
def test_rlace_solves_its_own_demonstration():
    x, z = mixed_functions()
    x, z = jnp.asarray(x[:9000]), z[:9000]
    identity = ej.Identity().fit(x, z)
    assert accuracy(identity, (x, z), (x, z)) > 0.95
    closed = ej.RLACE().fit(x, z)
    probe = ej.probes.Logistic(l2=1e-6)
    assert accuracy(closed, (x, z), (x, z), probe) <= 0.501 + abs(float(z.mean()) - 0.5)
    random = ej.RLACE(closed_form=False, start="random", restarts=0).fit(x, z, key=KEY)
    assert accuracy(random, (x, z), (x, z), probe) <= 0.55
    share = np.bincount(z) / len(z)
    entropy = -(share * np.log(share)).sum()
    np.testing.assert_allclose(closed.trace[0], entropy, rtol=16 * EPS)
    np.testing.assert_allclose(refitted_loss(closed, x, z), entropy, rtol=16 * EPS)
    assert refitted_loss(random, x, z) > entropy - 1e-4
    # At rank 1 the optimum is one direction.
    cosine = np.abs(np.asarray(closed.kernel).T @ np.asarray(random.kernel))
    assert cosine.item() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
def test_rlace_beats_the_published_loop_and_the_class_means(rank):
    x, z = draw(5, 600, 12, 4)
    x = jnp.asarray(x)
    means = np.stack([np.asarray(x)[z == j].mean(axis=0) for j in range(4)])
    u = np.linalg.svd(means - np.asarray(x).mean(axis=0))[2][:rank].T
    span = ej.Ablation(directions=jnp.asarray(u)).fit(x, z)
    own = ej.RLACE(rank=rank).fit(x, z)
    assert int(own.rank) == rank
    loop = ej.RLACE(rank=rank, game="fantope", closed_form=False, steps=20_000).fit(x, z, key=KEY)
    losses = [refitted_loss(eraser, x, z) for eraser in (own, span, loop)]
    # To the accuracy of the optimum: its gradient is at most root eps.
    assert losses[0] >= max(losses[1:]) - 4 * EPS**0.5
    assert losses[0] > refitted_loss(ej.Identity().fit(x, z), x, z)
    several = jax.vmap(lambda x: ej.RLACE(rank=rank).fit(x, z, num_classes=4))(
        jnp.stack([x, 2 * x])
    )
    for i in range(2):
        eraser = jax.tree.map(lambda leaf, i=i: leaf[i], several)
        np.testing.assert_allclose(refitted_loss(eraser, x, z), losses[0], atol=1e-3)


@pytest.mark.slow
def test_rlace_is_closed_form_for_real_concepts_of_full_rank_and_a_game_below():
    x, _ = draw(6, 400, 10, 2)
    z = x[:, :3] + np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    closed = ej.RLACE(rank=3).fit(x, z)
    assert float(ej.metrics.linear_r2(closed(x), z)) == 0
    own, start = (ej.RLACE(rank=1, steps=s).fit(x, z) for s in (100, 1))
    left = [float(ej.metrics.linear_r2(eraser(x), z)) for eraser in (own, start)]
    assert left[0] <= left[1] + 1e-6
    assert left[0] < float(ej.metrics.linear_r2(x, z)) - 0.05


@pytest.mark.slow
@pytest.mark.parametrize("game", ["direct", "fantope"])
def test_rlace_says_that_its_steps_ran_out(game):
    x, z = draw(8, 80, 6, 3)
    short = ej.RLACE(game=game, closed_form=False, steps=1, restarts=1).fit(x, z, key=KEY)
    assert int(short.status) == ej.Status.NOT_CONVERGED
    assert int(short.steps) == 1
    if game == "direct":
        enough = ej.RLACE(restarts=1).fit(x, z)
        assert int(enough.status) == 0
        assert 1 < int(enough.steps) < 100
        assert (np.diff(enough.trace[: int(enough.steps)]) > -4 * EPS).all()


@pytest.mark.slow
def test_a_program_of_the_game_does_not_grow_with_the_classes():
    def equations(classes):
        x, z = jnp.zeros((60, 70)), jnp.arange(60) % classes  # more than 128 parameters
        method = ej.RLACE(rank=1, closed_form=False)
        traced = jax.make_jaxpr(lambda x: method.fit(x, z, num_classes=classes))(x)
        return str(traced).count(" = ")

    assert equations(8) < 1.05 * equations(4)


@pytest.mark.slow
def test_rlace_of_many_features_and_classes():
    x, z = draw(0, 500, 64, 6)  # separable: almost every direction leaves almost no loss
    own = ej.RLACE(restarts=2).fit(x, z)
    assert int(own.status) == 0
    assert int(own.steps) < 60
    found = refitted_loss(own, x, z)
    axes = np.linalg.svd(np.stack([x[z == j].mean(axis=0) for j in range(6)]) - x.mean(axis=0))[2]
    for direction in axes[:5]:
        eraser = ej.Ablation(directions=jnp.asarray(direction)).fit(x, z)
        assert found > refitted_loss(eraser, x, z)


def test_rlace_says_what_it_cannot_do():
    x, z = draw(7, 60, 5, 2)
    for options, message in (
        ({"rank": 6}, "rank"),
        ({"rank": 0}, "rank"),
        ({"game": "chess"}, "game"),
        ({"start": "zero"}, "start"),
        ({"closed_form": False, "steps": 0}, "steps"),
    ):
        with pytest.raises(ValueError, match=message):
            ej.RLACE(**options).fit(x, z)
    with pytest.raises(TypeError, match="key"):
        ej.RLACE(closed_form=False, start="random").fit(x, z)


@pytest.mark.slow
def test_float64_games_stay_float64():
    with enable_x64():
        x, z = draw(8, 80, 6, 3, dtype=np.float64)
        eraser = ej.RLACE(rank=1, steps=5).fit(x, z)
        assert eraser.kernel.dtype == jnp.float64


@pytest.mark.slow
def test_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    x, z = draw(9, 80, 5, 2)
    np.save("x.npy", x)
    np.save("z.npy", z)

    def fit(*options):
        code = cli.main(["fit", "x.npy", "z.npy", "--out", "e.safetensors", "--force", *options])
        return code, "".join(capsys.readouterr())

    code, text = fit("--method", "inlp", "--rounds", "2", "--probe", "lda")
    assert code == 0
    assert "the steps or rounds ran out before it converged" in text
    assert "the probe of the last of 2 rounds read 0." in text
    expected = ej.INLP(rounds=2, probe=ej.probes.LDA()).fit(x, z)
    loaded = ej.load("e.safetensors")
    assert isinstance(loaded, ej.TracedProjection)
    np.testing.assert_array_equal(loaded.trace, expected.trace)
    np.testing.assert_allclose(loaded(x), expected(x), atol=1e-5)
    code, text = fit("--method", "rlace", "--rank", "1")
    assert code == 0
    assert "0 after" in text
    code, text = fit("--method", "inlp", "--probe", "ldb")
    assert code == 2
    assert "did you mean lda" in text
    code, text = fit("--method", "inlp", "--probe", "mlp")
    assert code == 2
    assert "linear" in text
    assert fit("--method", "leace", "--rounds", "2")[0] == 2

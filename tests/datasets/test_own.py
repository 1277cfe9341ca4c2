"""Rows of yours: what a split is, and that it is the same however it is computed."""

import dataclasses
import pickle
import warnings

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import example, given, settings

from erasejax.datasets import FileRows, Rows

KEY = jax.random.key(7)
N = 60


def table(seed=0, classes=3, n=N):
    random = np.random.default_rng(seed)
    z = random.permutation(np.arange(n) % classes)
    return random.normal(size=(n, 4)).astype(np.float32), z


def read(rows, key=KEY):
    """The three parts, without what they are filled up with."""
    found = []
    for part in range(3):
        data = rows.sample(key, part=part)
        seen = np.asarray(data.row_weights) > 0
        found.append((np.asarray(data.x)[seen], np.asarray(data.z)[seen]))
    return found


# What a split is.


@pytest.mark.parametrize("n", [60, 61, 62, 71])
def test_parts_are_disjoint_stratified_and_all_there_is(n):
    x, z = table(n=n)
    rows = Rows(x, z)
    parts = rows.parts(KEY)
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    for j in range(3):
        counts = [int((z[part] == j).sum()) for part in parts]
        assert max(counts) - min(counts) <= 1
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    assert [len(part) for part in rows.parts(jax.random.key(8))] == sizes
    for part, (features, labels) in zip(parts, read(rows), strict=True):
        np.testing.assert_array_equal(features, x[part])
        np.testing.assert_array_equal(labels, z[part])
    full = rows.sample(KEY).weights is None
    assert full == (len({*sizes}) == 1)


def test_every_row_is_in_every_part_equally_often():
    x, z = table()
    rows = Rows(x, z)
    splits = [rows.parts(jax.random.key(seed)) for seed in range(300)]
    for part in range(3):
        times = np.bincount(np.concatenate([split[part] for split in splits]), minlength=N)
        # Of 300 with a chance of a third, deviation 8.2; the largest of 60 is below 5 of them.
        assert np.abs(times - 100).max() < 41


def test_shares():
    x, z = table()
    sizes = [len(part) for part in Rows(x, z, shares=(3, 1, 1)).parts(KEY)]
    assert sizes == [36, 12, 12]
    for wrong in ((1, 1), (1, 1, 0), (1.0, 1, 1)):
        with pytest.raises(ValueError, match="shares: expected 3 whole numbers"):
            Rows(x, z, shares=wrong)


def test_the_features_decide_nothing():
    x, z = table()
    layers = np.stack([x, -x, x**2])
    alone = Rows(x, z).parts(KEY)
    for layer in range(3):
        rows = Rows(layers, z, layer=layer)
        for one, other in zip(rows.parts(KEY), alone, strict=True):
            np.testing.assert_array_equal(one, other)
        assert rows.draws == Rows(x, z).draws
        np.testing.assert_array_equal(read(rows)[1][0], layers[layer][alone[1]])
    assert Rows(x, z, shares=(2, 1, 1)).draws != Rows(x, z).draws
    assert Rows(x, np.roll(z, 1)).draws != Rows(x, z).draws


def test_missing_labels_take_no_part():
    x, z = table()
    z[[3, 14, 15, 50]] = -1
    rows = Rows(x, z)
    assert not {3, 14, 15, 50} & {*np.concatenate(rows.parts(KEY)).tolist()}
    assert rows.about.startswith("56 rows of 60 (the others have no label)")
    real = np.random.default_rng(0).normal(size=N)
    real[7] = np.nan
    parts = Rows(x, real).parts(KEY)
    assert sorted(np.concatenate(parts).tolist()) == [i for i in range(N) if i != 7]
    task = np.random.default_rng(1).normal(size=N)
    task[8] = np.nan
    both = Rows(x, real, task=task)
    assert len(np.concatenate(both.parts(KEY))) == N - 2
    assert np.isfinite(both.sample(KEY).task).all()


def test_weights_travel_with_their_rows():
    x, z = table(n=61)
    weights = np.arange(61.0)
    rows = Rows(x, z, weights=weights)
    parts = rows.parts(KEY)
    assert 0 not in np.concatenate(parts)  # a row of weight 0 takes no part
    for i, part in enumerate(parts):
        found = np.asarray(rows.sample(KEY, part=i).weights)
        np.testing.assert_array_equal(found[found > 0], weights[part])
    for wrong in (weights - 1, weights[:5], weights * np.nan):
        with pytest.raises(ValueError, match="weights: expected"):
            Rows(x, z, weights=wrong)


@pytest.mark.slow
def test_tasks_and_columns_of_concepts():
    x, z = table()
    two = Rows(x, z % 2, task=z == 1)
    data = two.sample(KEY, part=2)
    np.testing.assert_array_equal(data.task[:, 0], (z == 1)[two.parts(KEY)[2]])
    assert Rows(x, z % 2, task=z).sample(KEY).task.shape == (20, 3)
    labels = np.stack([z % 2, z == 1], axis=1).astype(int)
    assert Rows(x, labels).sample(KEY).z.shape == (20, 2)
    assert Rows(x, labels).sample(KEY).num_classes is None


# Groups.

SIZES = st.lists(st.integers(1, 9), min_size=3, max_size=12)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**31 - 1), shares=st.sampled_from([(1, 1, 1), (3, 2, 1)]))
@example(sizes=[40, 1, 1], seed=0, shares=(1, 1, 1))
@example(sizes=[1, 1, 50, 1], seed=1, shares=(3, 2, 1))
@example(sizes=[1] * 40, seed=2, shares=(1, 1, 1))
def test_no_group_is_in_two_parts(sizes, seed, shares):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    n = len(groups)
    random = np.random.default_rng(seed)
    order = random.permutation(n)
    groups, real = groups[order], random.normal(size=n)
    x = np.arange(2.0 * n).reshape(n, 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "groups: the largest")
        rows = Rows(x, real, groups=groups, shares=shares)
    parts = rows.parts(jax.random.key(seed))
    assert sorted(np.concatenate(parts).tolist()) == list(range(n))
    held = [{*groups[part].tolist()} for part in parts]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]
    for share, part in zip(shares, parts, strict=True):
        fair, largest = share / sum(shares), max(sizes)
        assert len(part) <= np.ceil(fair * n + (1 - fair) * largest)
    for i, part in enumerate(parts):
        data = rows.sample(jax.random.key(seed), part=i)
        assert data.x.shape[0] == rows.split.size
        seen = np.asarray(data.weights) > 0
        np.testing.assert_array_equal(np.asarray(data.x)[seen], x[part])


def test_groups_of_one_size_make_equal_parts_with_every_class():
    x, z = table(n=120)
    groups = np.arange(120) // 4
    for seed in range(20):
        parts = Rows(x, z, groups=groups).parts(jax.random.key(seed))
        assert max(map(len, parts)) - min(map(len, parts)) <= 8
        assert all({*z[part].tolist()} == {0, 1, 2} for part in parts)


def test_one_huge_group_is_said():
    x, z = table()
    groups = np.where(np.arange(N) < 40, 0, np.arange(N))
    with pytest.warns(UserWarning, match="the largest has 40 of 60 rows, more than the 20"):
        rows = Rows(x, z, groups=groups)
    for seed in range(10):
        assert sorted(map(len, rows.parts(jax.random.key(seed))))[-1] >= 40
    assert "up to 47 rows, equal ones 20 : 20 : 20" in rows.about


def test_more_parts_than_groups_is_an_error():
    x, z = table()
    with pytest.raises(ValueError, match="groups: expected at least 3, one for each part, got 2"):
        Rows(x, z, groups=np.arange(N) % 2)
    groups = np.where(z == 2, np.arange(N) % 2, 2 + np.arange(N) % 7)
    with pytest.raises(ValueError, match="class 2 has 2 groups, too few for each part"):
        Rows(x, z, groups=groups)
    with pytest.raises(ValueError, match="class 2 has 2 rows, too few"):
        Rows(x[:8], [0, 0, 0, 1, 1, 1, 2, 2])
    with pytest.raises(ValueError, match="class 1 has 0 rows"):
        Rows(x, np.zeros(N, int))
    with pytest.raises(ValueError, match="no row has a label"):
        Rows(x, np.full(N, -1))


# Bootstrap.


@pytest.mark.parametrize("grouped", [False, True])
def test_bootstrap(grouped):
    x, z = table()
    groups = np.arange(N) // 3 if grouped else None
    rows = Rows(x, z, groups=groups, bootstrap=True)
    drawn, again, left = rows.parts(KEY)
    assert len(drawn) == N
    np.testing.assert_array_equal(drawn, again)
    assert {*drawn.tolist()} | {*left.tolist()} == set(range(N))
    assert not {*drawn.tolist()} & {*left.tolist()}
    times = np.bincount(drawn, minlength=N)
    if grouped:
        assert (times.reshape(-1, 3) == times[::3, None]).all()
    else:
        np.testing.assert_array_equal(np.bincount(z[drawn]), np.bincount(z))
    data = rows.sample(KEY)
    np.testing.assert_allclose(
        np.einsum("n,nd->d", data.weights, data.x), x[drawn].sum(0), rtol=1e-4, atol=1e-4
    )
    share = np.mean([len(rows.parts(jax.random.key(s))[2]) / N for s in range(200)])
    assert abs(share - np.exp(-1)) < 0.02  # each row is left out with a chance of (1 - 1/n)^n
    with pytest.raises(ValueError, match="a bootstrap has none"):
        Rows(x, z, bootstrap=True, shares=(2, 1, 1))


# However it is computed.


@pytest.mark.parametrize(
    "options",
    [{}, {"groups": np.arange(N) // 3}, {"bootstrap": True}, {"weights": np.arange(N) % 4}],
    ids=["plain", "groups", "bootstrap", "weights"],
)
def test_jit_and_vmap_are_the_same_to_the_last_bit(options):
    x, z = table()
    rows = Rows(x, z, **options)
    keys = jax.random.split(KEY, 5)
    batch = jax.jit(
        lambda rows, keys: jax.vmap(
            lambda key: jax.vmap(lambda part: rows.sample(key, part=part))(np.arange(3))
        )(keys)
    )(rows, keys)
    for i in range(5):
        for part in range(3):
            alone = rows.sample(keys[i], part=part)
            for one, other in zip(
                jax.tree.leaves(jax.tree.map(lambda leaf: leaf[i, part], batch)),  # noqa: B023
                jax.tree.leaves(alone),
                strict=True,
            ):
                np.testing.assert_array_equal(one, other)


def test_rows_are_an_argument_and_no_constant():
    x, z = np.random.default_rng(0).normal(size=(3000, 50)).astype(np.float32), np.arange(3000) % 2
    text = jax.jit(lambda rows, key: rows.sample(key)).lower(Rows(x, z), KEY).as_text()
    assert len(text) < x.nbytes / 4
    text = jax.jit(lambda key: Rows(x, z).sample(key)).lower(KEY).as_text()
    assert len(text) > x.nbytes / 4


def test_what_is_wrong_is_said():
    x, z = table()
    for wrong, message in (
        ({"z": z[:5]}, r"z: expected \(60,\)"),
        ({"z": z - 2}, "or -1 where one is missing; got -2"),
        ({"x": x[None]}, "layer: expected 0 to 0.*got None"),
        ({"x": x[0]}, "and a layer"),
        ({"x": x[None], "layer": 1}, "layer: expected 0 to 0"),
        ({"layer": 1}, "and a layer"),
        ({"z": np.where(z == 0, np.inf, 0.5)}, "finite numbers"),
        ({"groups": z[:4]}, r"groups: expected shape \(60,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            Rows(**{"x": x, "z": z} | wrong)
    with pytest.raises(ValueError, match="part: expected 0 to 2, got 3"):
        Rows(x, z).sample(KEY, part=3)
    with pytest.warns(UserWarning, match="whole numbers is taken for quantities"):
        Rows(x, z.astype(float))


# Content.


def test_the_content_is_what_counts():
    x, z = table()
    rows = Rows(x, z)
    assert Rows(x.astype(np.float64), z.astype(np.int8)).content == rows.content
    assert Rows(np.stack([x, x]), z, layer=1, title="sex").content == rows.content
    other = x.copy()
    other[-1, -1] += 1e-3
    differ = [Rows(other, z), Rows(x, np.roll(z, 1)), Rows(x, z, weights=np.arange(N) + 1.0)]
    differ += [Rows(x, z, groups=np.arange(N)), Rows(x, z, task=z), Rows(x[:, ::-1], z)]
    assert len({rows.content, *(each.content for each in differ)}) == 7
    copy = pickle.loads(pickle.dumps(rows))
    assert copy.content == rows.content
    np.testing.assert_array_equal(copy.parts(KEY)[0], rows.parts(KEY)[0])


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, z = table()
    np.savez("acts.npz", layer0=x, layer6=-x, both=np.stack([x, -x]))
    lines = ["sex,age,name,weight"]
    for i in range(N):
        sex = "" if i == 5 else "abc"[z[i]]
        lines.append(f"{sex},{'' if i == 9 else i + 0.5},n{i // 2},{i + 1}")
    (tmp_path / "y.csv").write_text("\n".join(lines) + "\n")
    return x, z


def test_files_are_the_same_rows(files):
    x, z = files
    found = FileRows(
        file="acts.npz:layer0", labels="y.csv:sex", groups="y.csv:name", weights="y.csv:weight"
    )
    z = np.where(np.arange(N) == 5, -1, z)
    rows = Rows(x, z, groups=np.arange(N) // 2, weights=np.arange(1.0, N + 1))
    assert found.draws == rows.draws
    for one, other in zip(read(found), read(rows), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_array_equal(one[1], other[1])
    age = FileRows(file="acts.npz:layer0", labels="y.csv:age")  # the row serves the other concept
    assert 5 in np.concatenate(age.parts(KEY))
    assert 9 not in np.concatenate(age.parts(KEY))
    third = FileRows(file="acts.npz:both", labels="y.csv:sex", layer=1)
    sixth = FileRows(file="acts.npz:layer6", labels="y.csv:sex")
    assert third.content == sixth.content
    with pytest.raises(ValueError, match=r"\(layers, rows, features\)"):
        FileRows(file="acts.npz:layer0", labels="y.csv:sex", layer=0)


def test_minus_one_in_a_file_is_not_guessed(files):
    np.savez("y.npz", z=np.arange(N) % 3 - 1, signs=np.arange(N) % 2 * 2 - 1)
    with pytest.raises(ValueError, match="-1 among the labels"):
        FileRows(file="acts.npz:layer0", labels="y.npz:z")
    assert FileRows(file="acts.npz:layer0", labels="y.npz:signs").outline.num_classes == 2


def test_a_pickle_of_files_is_their_names_and_hash(files):
    found = FileRows(file="acts.npz:layer0", labels="y.csv:sex")
    text = pickle.dumps(found)
    assert len(text) < 600
    copy = pickle.loads(text)
    assert copy == found
    np.testing.assert_array_equal(copy.parts(KEY)[1], found.parts(KEY)[1])
    np.savez("acts.npz", layer0=files[0] + 1)
    with pytest.raises(ValueError, match="is not what it was when the sweep was planned"):
        pickle.loads(text).sample(KEY)
    assert dataclasses.replace(found, content=None).content != found.content

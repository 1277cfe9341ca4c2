"""What was fitted to a data frame is right for frames of the same columns, or says so."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import erasejax as ej
from tests.command import ok

NAMES = ("acid", "ash", "hue")
X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32) + np.float32([0, 9, -9])
Z = np.arange(40) % 2
FRAME = pd.DataFrame(X, columns=NAMES)
TURNED = FRAME[list(NAMES[::-1])]
KEY = jax.random.key(0)
ORDER = "in their order; got 3, and column 0 is hue in place of acid"

ERASERS = [
    ej.LEACE(),
    ej.OracleLEACE(),
    ej.QLEACE(),
    ej.KernelLEACE(features=4),
    ej.INLP(rounds=1, probe=ej.probes.LeastSquares()),
]
PROBES = [ej.probes.LDA(), ej.probes.QDA(), ej.probes.KernelRidge(features=4)]


def named(config):
    return type(config).__name__


def erase(eraser, x):
    return eraser(x, Z) if eraser.needs_z else eraser(x)


@pytest.mark.quick(3)
@pytest.mark.parametrize("config", ERASERS, ids=named)
def test_an_eraser_refuses_other_columns(config):
    eraser = config.fit(FRAME, Z, key=KEY)
    assert eraser.columns == NAMES
    right = erase(eraser, X)
    np.testing.assert_array_equal(erase(eraser, FRAME), right)
    np.testing.assert_array_equal(erase(eraser, TURNED[list(eraser.columns)]), right)
    with pytest.raises(ValueError, match=ORDER):
        erase(eraser, TURNED)


@pytest.mark.quick(2)
@pytest.mark.parametrize("config", PROBES, ids=named)
def test_a_probe_refuses_other_columns(config):
    probe = config.fit(FRAME, Z, key=KEY)
    assert probe.columns == NAMES
    right = ej.metrics.accuracy(probe, X, Z)
    assert ej.metrics.accuracy(probe, FRAME, Z) == right
    for read in (probe.scores, probe.predict, lambda x: ej.metrics.accuracy(probe, x, Z)):
        with pytest.raises(ValueError, match=ORDER):
            read(TURNED)


def test_the_message_says_which_columns_are_missing_or_too_many():
    eraser = ej.LEACE().fit(FRAME, Z)
    with pytest.raises(ValueError, match=r"the 3 columns that Projection .* there is no ash, hue"):
        eraser(FRAME[["acid"]])
    with pytest.raises(ValueError, match="got 4, and column 3 is id in place of none"):
        eraser(FRAME.assign(id=1.0))
    with pytest.raises(ValueError, match="got 4, and column 0 is id in place of acid"):
        eraser(pd.concat([FRAME[["acid"]].set_axis(["id"], axis=1), FRAME], axis=1))


def test_tables_of_arrow_and_frames_with_some_names_have_names():
    table = pa.table({name: X[:, i] for i, name in enumerate(NAMES)})
    eraser = ej.LEACE().fit(table, Z)
    np.testing.assert_array_equal(eraser(table), eraser(X))
    for turned in (table.select(list(NAMES[::-1])), TURNED):
        with pytest.raises(ValueError, match=ORDER):
            eraser(turned)
    mixed = pd.DataFrame(X, columns=["acid", 1, 2])
    with pytest.raises(ValueError, match="column 1 is 2 in place of 1"):
        ej.LEACE().fit(mixed, Z)(mixed[["acid", 2, 1]])


def test_what_has_no_names_is_read_by_place():
    numbered = pd.DataFrame(X)
    for eraser in (ej.LEACE().fit(X, Z), ej.LEACE().fit(numbered, Z)):
        assert eraser.columns is None
        np.testing.assert_array_equal(eraser(TURNED), eraser(X[:, ::-1]))
    eraser = ej.LEACE().fit(FRAME, Z)
    for rows in (X, jnp.asarray(X), numbered):
        np.testing.assert_array_equal(eraser(rows), eraser(FRAME))


@pytest.mark.slow
def test_names_of_a_dataset_and_of_a_chosen_probe():
    data = ej.Dataset(x=FRAME, z=Z, num_classes=2)
    assert ej.LEACE().fit(data).columns == NAMES
    probe = ej.probes.LDA().fit(data)
    with pytest.raises(ValueError, match=ORDER):
        ej.metrics.accuracy(probe, data.replace(x=TURNED))
    chosen = ej.probes.select_l2(ej.probes.LDA(), FRAME, Z, l2=[1.0], folds=2, key=KEY)
    assert chosen.probe.columns == NAMES


def test_what_is_made_of_an_eraser_keeps_its_names():
    eraser = ej.LEACE().fit(FRAME, Z)
    for made in (
        eraser.with_strength(0.5),
        eraser.towards(X[0]),
        eraser.restrict(1),
        eraser.then(ej.SAL().fit(eraser(X), Z)),
        ej.SAL().fit(X, Z).then(eraser),
        pickle.loads(pickle.dumps(eraser)),
    ):
        assert made.columns == NAMES
    with pytest.raises(ValueError, match="same in another order"):
        eraser.then(ej.SAL().fit(TURNED, Z))


def test_names_are_no_part_of_the_pytree():
    named, plain = ej.LEACE().fit(FRAME, Z), ej.LEACE().fit(X, Z)
    assert jax.tree.structure(named) == jax.tree.structure(plain)
    assert jax.tree.map(jnp.asarray, named).columns is None
    np.testing.assert_array_equal(jax.jit(lambda e, x: e(x))(named, X), named(X))


def test_pairs_have_names_in_both_halves():
    halves = FRAME, FRAME + np.float32(1) + 0.1 * FRAME**2
    probe = ej.probes.CRC().fit(*halves)
    assert probe.oriented(*halves, Z).columns == NAMES
    with pytest.raises(ValueError, match="x_neg: expected the columns of x_pos"):
        ej.probes.CRC().fit(halves[0], TURNED)
    turned = [half[list(NAMES[::-1])] for half in halves]
    for read in (
        lambda: probe.scores(*turned),
        lambda: probe.accuracy(*turned, Z),
        lambda: probe.oriented(*turned, Z),
    ):
        with pytest.raises(ValueError, match=ORDER):
            read()


def test_a_file_keeps_names_alone_and_in_a_dict(tmp_path):
    fitted = {"eraser": ej.LEACE().fit(FRAME, Z), "probe": ej.probes.LDA().fit(FRAME, Z)}
    ej.save(fitted, tmp_path / "both.safetensors")
    for found in ej.load(tmp_path / "both.safetensors").values():
        assert found.columns == NAMES
    ej.save(fitted["eraser"], tmp_path / "one.safetensors", notes={"concept": "truth"})
    with pytest.raises(ValueError, match=ORDER):
        ej.load(tmp_path / "one.safetensors")(TURNED)


def test_python_and_the_command_line_read_the_names_of_each_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    FRAME.assign(z=Z).to_csv("rows.csv", index=False)
    TURNED.to_csv("turned.csv", index=False)
    ok(capsys, "fit", "rows.csv", "rows.csv:z", "--out", "by-command.safetensors")
    eraser = ej.load("by-command.safetensors")
    assert eraser.columns == NAMES
    with pytest.raises(ValueError, match=ORDER):
        eraser(TURNED)
    ej.save(eraser, "by-python.safetensors")
    ok(capsys, "apply", "by-python.safetensors", "turned.csv", "--out", "erased.csv")
    erased = pd.read_csv("erased.csv")
    assert tuple(erased.columns) == NAMES
    np.testing.assert_allclose(erased, eraser(FRAME), atol=1e-5)


def test_a_file_whose_names_are_none_is_refused(tmp_path):
    path = tmp_path / "eraser.safetensors"
    ej.save(ej.LEACE().fit(FRAME, Z), path)
    content = path.read_bytes()
    path.write_bytes(content.replace(rb", \"hue\"]", rb", 33333  ]"))
    with pytest.raises(ValueError, match="its columns are no names"):
        ej.load(path)

"""Sweeps over rows of yours: splits, layers and concepts as axes, files that change, the page."""

import pickle
import re
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn import linear_model

import erasejax as ej
from erasejax.datasets import FileRows, Rows
from erasejax.pages import report
from erasejax.plot import along_layers
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import plan
from erasejax.sweep._traced import Traced
from tests.sweeps import assert_same, finish, run_in_a_process

N = 90
SPEC = {
    "eraser": ["identity", "leace"],
    "probe": ["logistic", "lda"],
    "metrics": ["accuracy", "auroc", "damage", "rank", "majority_rate"],
    "seeds": 20,
}
LAYERS = ["acts.npz:layer0", "acts.npz:layer6"]


@pytest.fixture
def table(tmp_path, monkeypatch):
    """Two layers, and two concepts, one with gaps, of 90 rows in 30 groups."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    sex, age = random.integers(0, 2, N), random.integers(0, 3, N)
    x = random.normal(size=(2, N, 5)).astype(np.float32)
    x[1, :, 0] += 2 * sex
    x[0, :, 1] += age
    np.savez("acts.npz", layer0=x[0], layer6=x[1], both=x)
    lines = [f"{sex[i]},{'' if i < 4 else 'abc'[age[i]]},g{i // 3}" for i in range(N)]
    (tmp_path / "y.csv").write_text("\n".join(["sex,age,group", *lines]) + "\n")
    return x, sex, np.where(np.arange(N) < 4, -1, age)


def in_files(**options):
    dataset = {"name": "file-rows", "file": LAYERS[1], "labels": "y.csv:sex"}
    return {**SPEC, "dataset": dataset | options}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"groups": True}, {"bootstrap": True}], ids=str)
def test_a_table_is_the_same_from_rows_and_from_files(table, tmp_path, options):
    x, sex, _ = table
    file = {**options, "groups": "y.csv:group"} if "groups" in options else options
    rows = {**options, "groups": np.arange(N) // 3} if "groups" in options else options
    one = ej.sweep.run(in_files(**file), out="files", chunk=8)
    other = ej.sweep.run({**SPEC, "dataset": Rows(x[1], sex, **rows)}, out="rows", chunk=20)
    left, right = one.to_pandas(), other.to_pandas()
    assert [*left.columns] == [*right.columns]
    assert (left.status & 0xFFFF == 0).all()
    for each in (left, right):
        each["dataset"] = "rows"
    one.to_pandas, other.to_pandas = (lambda: left), (lambda: right)
    assert_same(one, other)


def test_every_number_is_that_of_a_loop_over_the_parts(table):
    x, sex, _ = table
    weights = np.linspace(1, 3, N)
    dataset = Rows(x[1], sex, weights=weights)
    frame = ej.sweep.run({**SPEC, "dataset": dataset}, out="out").to_pandas()
    (config,) = ej.sweep.grid({**SPEC, "dataset": dataset}).parts[0].datasets
    rows = frame[(frame.eraser == "leace") & (frame.probe == "lda")].set_index("seed")
    for seed in range(5):
        key = ej.sweep.lane_key(np.uint32(seed), config.words)
        fit, read, score = dataset.parts(key)
        eraser = ej.LEACE().fit(x[1][fit], sex[fit], weights=weights[fit])
        probe = ej.probes.LDA().fit(eraser(x[1][read]), sex[read], weights=weights[read])
        right = ej.metrics.accuracy(probe, eraser(x[1][score]), sex[score], weights=weights[score])
        np.testing.assert_allclose(rows.accuracy_fresh[seed], right, atol=1e-5)


@pytest.mark.slow
def test_layers_and_concepts_are_axes_and_layers_are_paired(table):
    spec = in_files(file=LAYERS, labels=["y.csv:sex", "y.csv:age"])
    frame = ej.sweep.run(spec, out="out").to_pandas()
    assert {*frame["dataset.file"]} == {*LAYERS}
    assert "dataset.content" not in frame  # nothing needs it to be told apart
    # Who is scored is the same in every layer: the most frequent class says so, trial by trial.
    of = frame[frame.eraser == "identity"].groupby(["dataset.labels", "seed"], observed=True)
    assert (of.majority_rate.nunique() == 1).all()
    before = frame[(frame.eraser == "identity") & (frame["dataset.labels"] == "y.csv:sex")]
    means = before.groupby("dataset.file", observed=True).accuracy_fresh.mean()
    assert means[LAYERS[1]] > means[LAYERS[0]] + 0.1
    both = {"name": "file-rows", "file": "acts.npz:both", "layer": [0, 1], "labels": "y.csv:sex"}
    layered = ej.sweep.run({**SPEC, "dataset": both}, out="layered").to_pandas()
    one = layered[(layered["dataset.layer"] == 1) & (layered.eraser == "leace")]
    other = frame[
        (frame["dataset.file"] == LAYERS[1])
        & (frame["dataset.labels"] == "y.csv:sex")
        & (frame.eraser == "leace")
    ]
    np.testing.assert_array_equal(one.damage_fresh, other.damage_fresh)


def test_a_pattern_is_an_axis_of_layers(table):
    named, matched = (ej.sweep.grid(in_files(file=file)) for file in (LAYERS, "acts.npz:layer*"))
    assert matched.parts == named.parts
    with pytest.raises(ValueError, match=r"no array matches 'head\*'; it holds both, layer0"):
        ej.sweep.grid(in_files(file="acts.npz:head*"))


def test_layers_share_one_program_that_takes_the_rows_as_an_argument(table):
    x, sex, _ = table
    rows = [Rows(x, sex, layer=layer) for layer in range(2)]
    (program,) = plan(ej.sweep.grid({**SPEC, "dataset": rows}), None, numerics()).programs
    traced = Traced(program, jax.local_devices())
    chunks = [inputs for _, inputs in traced.chunks()]
    assert len(traced._draws) == 1
    assert len(chunks) == traced.chunk_count == 2
    for layer, (*_, (held,)) in enumerate(chunks):
        np.testing.assert_array_equal(held, x[layer])
    short = Traced(program, jax.local_devices(), 4)
    held = [inputs[-1][0] for _, inputs in short.chunks()]
    assert len(held) == 10
    assert len({id(rows) for rows in held}) == 2  # put there once, not once a chunk


def test_rows_in_a_table_of_a_spec(table):
    x, sex, _ = table
    spec = {**SPEC, "dataset": {"name": "rows", "x": [x], "z": [sex], "layer": [0, 1]}}
    configs = ej.sweep.grid(spec).parts[0].datasets
    assert [config.fields["layer"] for config in configs] == [0, 1]
    assert (configs[0].words == configs[1].words).all()
    assert configs[0].digest != configs[1].digest


@pytest.mark.slow
def test_permuted_labels_move_among_the_rows_that_count(table):
    x, sex, _ = table
    dataset = Rows(x[1][:89], sex[:89], groups=np.arange(89) // 3)
    columns = ej.sweep._columns.Columns(("accuracy",), ("fresh",))
    drawn = ej.sweep._trial.drawn(
        jax.random.key(0), dataset, columns=columns, permuted=np.array(True)
    )
    plain = ej.sweep._trial.drawn(jax.random.key(0), dataset, columns=columns)
    assert (np.asarray(drawn.z) != np.asarray(plain.z)).any()
    for part in range(3):
        seen = np.asarray(drawn.weights[part]) > 0
        assert not seen.all()
        np.testing.assert_array_equal(
            np.bincount(drawn.z[part][seen]), np.bincount(plain.z[part][seen])
        )


@pytest.mark.slow
def test_a_changed_file_gives_new_blocks_and_a_word(table):
    x, _, _ = table
    first = ej.sweep.run(in_files(), out="out")
    np.savez("acts.npz", layer6=x[1] + 1)
    with pytest.warns(UserWarning, match="acts.npz:layer6 with y.csv:sex: not the content"):
        second = ej.sweep.run(in_files(), out="out")
    assert second.trials[0] == 2 * first.trials[0]
    assert "dataset.content" in second.to_pandas()
    words = ej.sweep.estimate(in_files(), out="out", measure=False).rows
    assert words == "90 rows in parts of 30"  # this content has blocks by now


def test_items_travel_as_names_and_hashes(table):
    x, sex, _ = table
    for dataset, most in ((in_files()["dataset"], 6000), (Rows(x[1], sex), 20000)):
        (program,) = plan(ej.sweep.grid({**SPEC, "dataset": dataset}), None, numerics()).programs
        text = pickle.dumps(program)
        assert len(text) < most
        copy = pickle.loads(text)
        assert copy.items[0].dataset.digest == program.items[0].dataset.digest
        one, other = (Traced(each, jax.local_devices()) for each in (program, copy))
        for left, right in zip(one.chunks(), other.chunks(), strict=True):
            np.testing.assert_array_equal(left[1][-1][0], right[1][-1][0])


@pytest.mark.slow
def test_devices_and_chunks_change_nothing(table):
    spec = in_files(groups="y.csv:group", file=LAYERS)
    base = ej.sweep.run(spec, out="base")
    assert_same(ej.sweep.run(spec, out="seven", chunk=7), base)
    finish(run_in_a_process(spec, "devices", 2))
    assert_same(ej.sweep.open("devices"), base)


@pytest.mark.slow
def test_a_spec_in_toml_and_its_page(table, tmp_path):
    (tmp_path / "spec.toml").write_text(
        'seeds = 8\neraser = ["identity", "leace"]\nmetrics = "accuracy"\n'
        '[dataset]\nname = "file-rows"\nlabels = ["y.csv:sex", "y.csv:age"]\n'
        f"file = {LAYERS}\n".replace("'", '"')
    )
    sweep = ej.sweep.run("spec.toml", out="out")
    frame = along_layers(sweep.to_pandas())
    assert {*frame["layer"]} == {0.0, 6.0}
    assert {*frame["eraser"]} == {"before (identity)", "leace"}
    page = report(sweep, "page.html").read_text()
    assert "Mean over the seeds against layer." in page


def test_files_that_are_no_layers_stay_words(table):
    for files in (["a.npy", "b.npy"], ["a1_2.npy", "a2_3.npy"], ["layer1.npy", "mlp.npy"]):
        import pandas as pd

        frame = pd.DataFrame({"dataset.file": files, "eraser": ["leace", "identity"]})
        assert along_layers(frame) is frame


def test_words_about_specs(table):
    for change, message in (
        ({"labels": 3}, "labels: expected the name of a file"),
        ({"layer": 0.5}, "dataset.layer: expected a whole number"),
        ({"bootstrap": "yes"}, "dataset.bootstrap: expected true or false"),
        ({"groups": "y.csv:sex"}, "groups: expected at least 3"),
        ({"lables": "y.csv:sex"}, "did you mean labels"),
    ):
        with pytest.raises(ValueError, match=message):
            ej.sweep.grid(in_files(**change))
    with pytest.raises(FileNotFoundError, match=r"none.npz"):
        ej.sweep.grid(in_files(file="none.npz:x"))
    assert FileRows(file=LAYERS[0], labels="y.csv:age").about.startswith("86 rows of 90")


@pytest.mark.slow
def test_the_example_of_the_page_agrees_with_scikit_learn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "own-rows.md").read_text()
    script, spec = (re.search(rf"```{of}\n(.*?)```", page, re.DOTALL)[1] for of in ("bash", "toml"))
    exec(re.search(r'python -c "\n(.*?)"', script, re.DOTALL)[1], {})
    asked = tomllib.loads(spec)
    (product,) = ej.sweep.grid(asked).parts
    assert (len(product.erasers), len(product.probes), product.seeds) == (8, 4, (0, 256))
    asked |= {"eraser": ["identity", "leace"], "probe": {"name": "logistic", "l2": 0.01}}
    frame = ej.sweep.run(asked | {"seeds": 8}, out="out").to_pandas()
    cells = np.genfromtxt("cells.csv", delimiter=",", skip_header=1)
    x, z = cells[:, :-1], cells[:, -1].astype(int)
    (config,) = product.datasets
    for seed in range(8):
        parts = config.value.parts(ej.sweep.lane_key(np.uint32(seed), config.words))
        centred = x[parts[0]] - x[parts[0]].mean(axis=0)
        of = z[parts[0]]
        delta = centred[of == 1].mean(axis=0) - centred[of == 0].mean(axis=0)
        solved = np.linalg.solve(centred.T @ centred, delta)
        erase = np.eye(x.shape[1]) - np.outer(solved, delta) / (delta @ solved)
        for eraser, matrix in (("identity", np.eye(x.shape[1])), ("leace", erase)):
            probe = linear_model.LogisticRegression(
                C=1 / (0.01 * len(parts[1])), solver="newton-cholesky", tol=1e-10
            ).fit(x[parts[1]] @ matrix, z[parts[1]])
            right = probe.score(x[parts[2]] @ matrix, z[parts[2]])
            found = frame[(frame.eraser == eraser) & (frame.seed == seed)].accuracy_fresh.item()
            assert abs(found - right) * len(parts[2]) < 1.5  # a row may lie on the boundary

"""The demo: what its figures promise, and what it does to folders."""

import numpy as np
import pytest

import erasejax as ej
from erasejax._core.extras import require
from erasejax.pages import _demo as demo
from erasejax.pages._demo import terminal
from erasejax.pages._demo.runs import ERASERS
from erasejax.sweep._trial import lane_key

pytestmark = pytest.mark.slow

MEAN_DIFFERENCE = ERASERS.index("mean difference")
SCORES = ("accuracy", "balanced_accuracy", "auroc")


@pytest.fixture(scope="module")
def results():
    return demo.run(datasets=6, zero_one_datasets=6)  # the program of the page, too


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "page"
    assert demo.run_demo(out=out, datasets=6, seed=1) == out / "index.html"
    return out


def test_shapes_and_status(results):
    assert results.convex["accuracy"].shape == (6, 2, 4, 2, 4)
    assert results.zero_one["accuracy"].shape == (6, 2, 4, 3)
    for scores in results:
        assert not scores["status"].astype(np.uint32).__and__(0xFFFF).any()
        for name in SCORES:
            assert ((scores[name] >= 0) & (scores[name] <= 1)).all(), name
        assert (scores["majority_rate"] == 0.5).all()
        assert (scores["rank"][:, :, 0] == 0).all()
        assert (scores["rank"][:, :, 1:] == 1).all()
        assert (scores["damage"][:, :, 0] == 0).all()
        assert (scores["damage"][:, :, 1:] > 0).all()


def test_convex_probes_are_blind_on_the_fitting_rows(results):
    erased = {name: value[:, :, MEAN_DIFFERENCE, 0] for name, value in results.convex.items()}
    for name in SCORES:
        assert (erased[name] == 0.5).all(), name
    np.testing.assert_allclose(erased["log_loss"][..., [1, 3]], np.log(2), rtol=1e-5)
    assert np.isnan(erased["log_loss"][..., [0, 2]]).all()
    np.testing.assert_allclose(erased["r2"][..., 0], 0, atol=1e-6)
    assert np.isnan(erased["r2"][..., 1:]).all()


def test_other_erasers_leave_the_label_readable(results):
    accuracy = results.convex["accuracy"].mean(axis=0)
    assert (accuracy[:, 0] > 0.9).all()
    assert (accuracy[:, 2] > 0.7).all()
    assert (accuracy[:, 3] > 0.85).all()


def test_zero_one_beats_its_null(results):
    found = results.zero_one["accuracy"][:, :, MEAN_DIFFERENCE].mean(axis=0)
    assert (found[:, 0] > 0.58).all()
    assert (found[:, 2] < 0.6).all()
    assert (found[:, 2] > 0.53).all()


def test_null_permutes_the_labels_before_the_eraser_is_fitted(results):
    damage = results.zero_one["damage"]
    # An eraser fitted to permuted labels removes another direction; the others never see labels.
    assert (damage[:, :, MEAN_DIFFERENCE, 0] != damage[:, :, MEAN_DIFFERENCE, 2]).all()
    for other in (0, 2, 3):
        # The mean, and so the centre, is right to rounding in any order of the labels.
        np.testing.assert_allclose(damage[:, :, other, 0], damage[:, :, other, 2], rtol=1e-6)


def test_it_is_a_sweep(results):
    asked = demo.spec(datasets=6, seed=0, zero_one_datasets=3)
    first, second, third = ej.sweep.grid(asked).parts
    assert (first.seeds, second.seeds, third.seeds) == ((0, 6), (0, 3), (0, 3))
    raw = first.datasets[0]
    key = lane_key(np.uint32(2), raw.words)
    probe = next(config.value for config in first.probes if config.name == "logistic")
    alone = ej.sweep.trial(
        key, raw.value, ej.MeanDifference(), probe, metrics=("accuracy", "damage")
    )
    for k, protocol in enumerate(("fitting", "fresh")):
        for name in ("accuracy", "damage"):
            found = results.convex[name][2, 0, MEAN_DIFFERENCE, k, 3]
            np.testing.assert_allclose(found, alone[f"{name}_{protocol}"], rtol=1e-5)


def test_another_seed_is_another_experiment():
    a, b = (ej.sweep.grid(demo.spec(datasets=9, seed=seed)).parts[0].seeds for seed in (0, 1))
    assert a[1] <= b[0]
    with pytest.raises(ValueError, match="seed: expected 0 to 4095"):
        demo.spec(datasets=9, seed=4096)


def test_files(folder):
    names = {path.name for path in folder.iterdir()}
    pictures = {"accuracy.png", "before_after_3d.png", "boundaries.png"}
    assert names == {"index.html", "results.parquet"} | pictures
    assert not [path for path in folder.parent.iterdir() if path.name != folder.name]
    for name in pictures:
        assert (folder / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    page = (folder / "index.html").read_text(encoding="utf-8")
    for name in pictures | {"results.parquet"}:
        assert f'"{name}"' in page
    assert "erasejax demo --datasets 6 --seed 1" in page
    assert "http" not in page
    assert "<script" not in page


def test_parquet(folder):
    pq = pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(folder / "results.parquet")
    assert len(table) == 6 * 2 * 4 * (2 * 4 + 3)
    for field in table.schema:
        assert field.metadata[b"doc"], field.name
    assert pq.ParquetFile(folder / "results.parquet").metadata.row_group(0).column(
        0
    ).compression == ("ZSTD")
    rows = table.to_pylist()
    combined = ("dataset", "data", "eraser", "probe", "protocol", "labels")
    assert len({tuple(row[name] for name in combined) for row in rows}) == len(rows)
    assert {row["labels"] for row in rows if row["probe"] != "ZeroOne"} == {"true"}
    for row in rows:
        assert (row["log_loss"] is None) == (row["probe"] not in {"LDA", "Logistic"})
        assert (row["r2"] is None) == (row["probe"] != "LeastSquares")
        assert row["rank"] == (row["eraser"] != "before")
        exact = row["eraser"] == "mean difference" and row["protocol"] == "fitting rows"
        if exact and row["probe"] != "ZeroOne":
            assert row["accuracy"] == 0.5


def test_table_fits_100_columns(results, capsys):
    terminal.show(demo.summary(results))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert not any("…" in line for line in lines)
    assert any("Logistic" in line and "0.5000 ± 0.000" in line for line in lines)


def test_full_folder_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "run", lambda **_: pytest.fail("computed"))
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="not empty"):
        demo.run_demo(out=out, datasets=2)
    with pytest.raises(FileExistsError, match="not a folder"):
        demo.run_demo(out=out / "mine.txt", datasets=2, force=True)
    with pytest.raises(ValueError, match="datasets"):
        demo.run_demo(out=tmp_path / "new", datasets=0)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_force_replaces_its_own_files_only(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    (out / "index.html").write_text("old")
    with demo._folder(out, force=True) as folder:
        (folder / "index.html").write_text("new")
        assert (out / "index.html").read_text() == "old"
    assert (out / "mine.txt").read_text() == "mine"
    assert (out / "index.html").read_text() == "new"

    def fail():
        with demo._folder(out, force=True) as folder:
            (folder / "index.html").write_text("half")
            raise RuntimeError("failed")

    with pytest.raises(RuntimeError, match="failed"):
        fail()
    assert (out / "index.html").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("columns", ["80", "40"])
def test_a_narrow_table_has_whole_numbers(columns, results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    terminal.show(demo.summary(results))
    out = capsys.readouterr().out
    assert "…" not in out
    assert "0.5000 ± 0.000" in out
    assert columns == "40" or max(map(len, out.splitlines())) <= 80


def test_missing_extra_is_named():
    with pytest.raises(ModuleNotFoundError, match=r"erasejax\[plot\]"):
        require("no_such_module_anywhere", "plot")

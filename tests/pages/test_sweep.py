"""The commands sweep and report, the page, and the specs of the documentation."""

import base64
import io
import re
from pathlib import Path

import pytest

import erasejax as ej
from erasejax.cli._main import main
from erasejax.pages._pictures import pictures
from erasejax.pages._sweep import report

DOCS = Path(__file__).parents[2] / "docs" / "sweeps"
SPEC = """
seeds = 12
probe = "least-squares"
metrics = ["accuracy", "rank"]
[dataset]
name = "gaussian-classes"
dims = 2
rows = 6
separation = [0.5, 2.0]
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    path = tmp_path_factory.mktemp("spec") / "spec.toml"
    path.write_text(SPEC)
    return path


@pytest.fixture(scope="module")
def folder(spec):
    assert main(["sweep", str(spec), "--out", str(spec.parent / "out")]) == 0
    return spec.parent / "out"


@pytest.mark.slow
def test_the_command_runs_and_says_what_there_is(folder, spec, capsys):
    assert main(["sweep", str(spec), "--out", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "4 blocks, 0 missing" in captured.out
    assert "4 of 4 blocks are stored" in captured.err
    assert len(ej.sweep.open(folder).to_pandas()) == 2 * 2 * 12


@pytest.mark.slow
def test_a_dry_run_writes_nothing(spec, tmp_path, capsys):
    out = tmp_path / "none"
    assert main(["sweep", str(spec), "--out", str(out), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for line in (
        r"cells +4",
        r"blocks +4, of which 0",
        r"programs +1",
        r"trials +48",
        "disk",
        "time",
    ):
        assert re.search(line, said), line
    assert not out.exists()


@pytest.mark.slow
def test_one_shard_is_a_part(spec, tmp_path, capsys):
    assert main(["sweep", str(spec), "--out", str(tmp_path), "--shard", "1/2"]) == 0
    said = capsys.readouterr()
    assert "2 blocks, 2 missing, 24 of 48 trials" in said.out
    assert "part 2 of 2 of the sweep, as shard 1/2 asks" in said.err
    assert main(["sweep", str(spec), "--out", str(tmp_path), "--shard", "0/2", "--dry-run"]) == 0
    assert re.search(r"share +part 1 of 2", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "none.toml", "--out", "x"], "no such file"),
        (["sweep", "SPEC", "--out", "SPEC"], "is a file"),
        (["sweep", "SPEC", "--out", "x", "--shard", "2/2"], "i from 0 to n - 1"),
        (["sweep", "SPEC", "--out", "x", "--chunk", "0"], "chunk: expected at least 1"),
        (["report", "x"], "holds no sweep"),
    ],
)
def test_bad_calls_are_one_line(spec, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main([str(spec) if word == "SPEC" else word for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_page_needs_nothing_else(folder, capsys):
    assert main(["report", str(folder)]) == 0
    path = folder / "report.html"
    assert str(path) in capsys.readouterr().out
    page = path.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert "<script" not in page
    for word in ("gaussian-classes", "separation", "mean-difference", "accuracy_fresh", "jax"):
        assert word in page
    assert main(["report", str(folder)]) == 2
    assert "--force" in capsys.readouterr().err
    assert main(["report", str(folder), "--force"]) == 0


def test_pictures_come_with_their_numbers(folder):
    pd = pytest.importorskip("pandas")
    page = report(folder, folder / "other.html").read_text(encoding="utf-8")
    tables = {
        name: pd.read_csv(io.StringIO(base64.b64decode(text).decode()))
        for name, text in re.findall(
            r'download="(\S+)\.csv" href="data:text/csv;base64,([^"]+)"', page
        )
    }
    assert {"accuracy_fitting", "accuracy_fresh", "rank", "summary"} <= tables.keys()
    frame = ej.sweep.open(folder).to_pandas()
    drawn = tables["accuracy_fresh"].set_index(["eraser", "dataset.separation"])["mean"]
    expected = frame.groupby(["eraser", "dataset.separation"], observed=True).accuracy_fresh.mean()
    for cell, value in expected.items():
        assert drawn[cell] == pytest.approx(value, rel=1e-6)


def test_the_axes_choose_the_pictures(folder):
    frame = ej.sweep.open(folder).to_pandas()
    columns = ej.sweep.open(folder).columns
    kinds = {
        "Mean over the seeds against dataset.separation": frame,
        "How often": frame[frame["dataset.separation"] == 2],
        "against probe.l2 and": frame.assign(**{"probe.l2": frame.seed % 3}),
    }
    for words, rows in kinds.items():
        found = {picture.title: picture for picture in pictures(rows, columns)}
        assert words in found["accuracy_fresh"].caption
        assert len(found["accuracy_fresh"].data)


def test_a_configuration_without_the_axis_is_a_level_line(folder):
    sweep = ej.sweep.open(folder)
    frame = sweep.to_pandas()
    frame = frame[frame["dataset.separation"] == 2]
    values = (frame.seed % 3.0).where(frame.eraser != "identity")
    drawn = pictures(frame.assign(**{"eraser.strength": values}), sweep.columns)
    picture = {each.title: each for each in drawn}["accuracy_fresh"]
    means = frame.groupby("eraser", observed=True).accuracy_fresh.mean()
    level, curve, chance = (line.get_ydata() for line in picture.figure.axes[0].lines)
    assert list(level) == pytest.approx([means["identity"]] * 2)
    assert len(curve) == 3
    assert list(chance) == [0.5, 0.5]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["one-direction", "convex", "cost"])
def test_the_documented_sweeps_run(name, tmp_path):
    asked = ej.sweep.read_spec(DOCS / f"{name}.toml")
    ej.sweep.grid(asked)
    asked["seeds"] = 8
    if name == "one-direction":
        asked["dataset"]["rows"] = [16, 64]
        asked["dataset"]["redundancy"] = [0.0, 1.0]
        asked["eraser"] = ["identity", "mean-difference"]
        asked["probe"] = "logistic"
    elif name == "cost":  # all of its erasers: below
        asked["eraser"] = ["leace", "oracle-leace"]
        asked["dataset"]["correlation"] = [0.0, 0.6]
    else:
        asked["dataset"]["ratio"] = [9]
        asked["part"][0]["probe"] = ["logistic"]
        asked["part"][1]["probe"] = ["zero-one"]
    found = ej.sweep.run(asked, out=tmp_path)
    summary = found.summary().reset_index().set_index(["eraser", "probe"], drop=False)
    assert summary["trials", "failed"].sum() == 0
    if name == "one-direction":
        exact = summary[summary.eraser == "mean-difference"]
        assert (exact["linear_r2_fitting", "mean"] < 1e-6).all()
        assert (exact["accuracy_fitting", "mean"] == 0.5).all()
        alone = exact[exact["dataset.redundancy"] == 0].set_index("dataset.rows")
        gap = alone["accuracy_fresh", "mean"].groupby(level=0).mean()
        assert gap[16] > gap[64] > 0.5
    elif name == "cost":
        damage = summary["damage_fresh", "mean"]
        assert (damage.loc["oracle-leace"].to_numpy() < damage.loc["leace"].to_numpy()).all()
    else:
        true = summary[summary["labels"] == "true"]
        assert (true[true.probe == "logistic"]["accuracy_fitting", "mean"] == 0.5).all()
        assert (true[true.probe == "zero-one"]["accuracy_fitting", "mean"] >= 0.9).all()
    report(found, tmp_path / "page.html")


@pytest.mark.slow
def test_the_documented_sweep_of_costs_runs(tmp_path):
    asked = ej.sweep.read_spec(DOCS / "cost.toml")
    asked["seeds"] = 32
    found = ej.sweep.run(asked, out=tmp_path).summary().reset_index()
    assert found["trials", "failed"].sum() == 0
    means = found.set_index(["eraser", "dataset.correlation"])
    for eraser in ("mean-difference", "leace", "splince", "rlace"):
        assert (means.loc[eraser]["accuracy_fresh", "mean"] < 0.6).all()
    least = means["damage_fresh", "mean"]
    assert (least.loc["oracle-leace"] < least.loc["leace"]).all()
    assert (least.loc["leace"] < least.loc["mean-difference"] + 1e-6).all()
    assert (least.loc["splince"] >= least.loc["leace"]).all()

"""The command `probe` with a task, over several splits, of several files."""

import re

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax.cli._question import question
from erasejax.files import find_layers
from erasejax.readout._found import over_splits
from erasejax.rows import split_rows
from tests.command import bad, files, ok

ROWS, DIMS = 240, 5
TASK = ["--task", "task.npy", "--probes", "lda"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Two concepts that agree in most rows, and three layers."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    z = np.where(rng.random(ROWS) < 0.8, y, 1 - y)
    layers = {}
    for layer in (10, 2, 0):
        x = rng.normal(size=(ROWS, DIMS)).astype(np.float32)
        x[:, 0] += 2 * y
        x[:, 1] += (0.5 + 0.3 * layer) * z
        layers[f"layer{layer}"] = x
    np.savez("acts.npz", **layers)
    np.save("x.npy", layers["layer10"])
    np.save("z.npy", np.array(["f", "m"])[z])
    np.save("task.npy", np.array(["nurse", "surgeon"])[y])
    np.save("three.npy", np.arange(ROWS) % 3)
    return tmp_path


def asked(*rows, **options):
    _, what, features = question(*rows, **options)
    return what, what.ask(features)


@pytest.mark.slow
def test_the_numbers_of_a_task_are_those_of_the_library(here):
    method = {"method": "leace", "given": "pooled", "task": "task.npy", "probes": "lda"}
    what, found = asked("x.npy", "z.npy", **method)
    same, fresh = found["x.npy"]
    assert (same.within, fresh.within) == (True, True)
    x = np.load("x.npy")
    z, y = what.concept.values, what.task.values
    a, b, c = split_rows(z, 3, seed=0, names=what.classes, within=y)
    eraser = ej.LEACE(given="pooled").fit(x[a], z[a], task=y[a])
    for when, features in {"before": x, "after": np.asarray(eraser(x))}.items():
        probe = ej.probes.LDA().fit(features[b], y[b])
        predicted = np.asarray(probe.predict(features[c]))
        (line,) = (one for one in fresh.task_lines if one.when == when)
        groups = {"groups": z[c]}
        expected = {
            "TPR gap": ej.metrics.tpr_gap(predicted, y[c], **groups),
            "equalised odds difference": ej.metrics.equalized_odds_difference(
                predicted, y[c], **groups
            ),
            "demographic parity difference": ej.metrics.demographic_parity_difference(
                predicted, **groups
            ),
            "worst-group accuracy": ej.metrics.worst_group_accuracy(predicted, y[c], **groups),
        }
        assert line.fairness == pytest.approx({k: float(v) for k, v in expected.items()}, abs=1e-6)
        assert line.scores["accuracy"] == pytest.approx(np.mean(predicted == y[c]), abs=1e-6)
        for j in range(2):
            for g in range(2):
                own = (y[c] == j) & (z[c] == g)
                counts = np.bincount(predicted[own], minlength=2)
                np.testing.assert_array_equal(line.counts[j, g], counts)
    assert all(line.fairness == {} for line in fresh.lines)
    left = same.leaks[0]
    assert left.r2 < 1e-6  # within the task; of all rows it is left
    assert float(ej.metrics.linear_r2(ej.LEACE(given="pooled").fit(x, z, task=y)(x), z)) > 0.01


@pytest.mark.slow
def test_splince_keeps_the_task_that_is_given(here, capsys):
    out = ok(capsys, "probe", "x.npy", "z.npy", "--method", "splince", *TASK)
    assert "dimensions removed 1" in out
    assert "say --task FILE" in bad(capsys, "probe", "x.npy", "z.npy", "--method", "splince")


def test_parts_have_the_shares_of_the_task_too(here):
    z, y = (np.unique(np.load(f), return_inverse=True)[1] for f in ("z.npy", "task.npy"))
    parts = split_rows(z, 3, seed=1, names=("f", "m"), within=y)
    assert sorted(np.concatenate(parts)) == list(range(ROWS))
    joint = np.array([np.bincount(2 * z[part] + y[part], minlength=4) for part in parts])
    assert (np.ptp(joint, axis=0) <= 1).all()
    plain = split_rows(z, 3, seed=1, names=("f", "m"))
    again = split_rows(z, 3, seed=1, names=("f", "m"), within=np.zeros_like(y))
    assert all(np.array_equal(a, b) for a, b in zip(plain, again, strict=True))


@pytest.mark.slow
def test_splits_are_averaged_with_the_interval_for_other_rows(here, capsys):
    options = {"probes": "lda", "task": "task.npy"}
    _, found = asked("x.npy", "z.npy", seed=3, seeds=4, **options)
    mean = found["x.npy"][-1]
    single = [asked("x.npy", "z.npy", seed=seed, **options)[1]["x.npy"][-1] for seed in range(3, 7)]
    for attribute in ("lines", "task_lines"):
        for i, line in enumerate(getattr(mean, attribute)):
            own = [getattr(one, attribute)[i] for one in single]
            values = np.array([one.scores["accuracy"] for one in own])
            assert line.scores["accuracy"] == pytest.approx(values.mean())
            # Student's t with 3 degrees of freedom; a third of the rows is scored.
            half = 3.182446 * np.sqrt((1 / 4 + 80 / 160) * values.var(ddof=1))
            assert line.halves["accuracy"] == pytest.approx(half, rel=1e-4)
            middle = line.scores["accuracy"]
            assert line.interval == pytest.approx((middle - half, middle + half), rel=1e-4)
            np.testing.assert_array_equal(line.counts, sum(one.counts for one in own))
            for name, value in line.fairness.items():
                assert value == pytest.approx(np.mean([one.fairness[name] for one in own]))
    assert len(mean.leaks) == 4
    out = ok(capsys, "probe", "x.npy", "z.npy", *TASK, "--seed", 3, "--seeds", 4)
    assert "Fresh rows, means over 4 splits: eraser on 80 rows A" in out
    after = mean.lines[1]
    assert f"{after.scores['accuracy']:.3f} ± {after.halves['accuracy']:.3f}" in out
    p = min(2 * np.median([leak.test.p_value for leak in mean.leaks]), 1)
    assert f"p-value of Cov = 0 {p:.4f}, twice the median over 4 splits" in out
    assert over_splits(single[:1], scored=1, fitted=2) is single[0]


@pytest.mark.slow
def test_an_eraser_of_a_file_is_asked_over_splits(here, capsys):
    fit = ["fit", "x.npy", "z.npy", "--task", "task.npy", "--given", "each"]
    ok(capsys, *fit, "--method", "leace", "--out", "e.safetensors")
    argv = ["probe", "x.npy", "z.npy", *TASK, "--eraser", "e.safetensors"]
    out = ok(capsys, *argv, "--seeds", 2)
    assert (
        "means over 2 splits: eraser fitted elsewhere (e.safetensors), probe on 120 rows B" in out
    )
    assert "within the classes of the task, linear read-out of erased rows" in out
    assert "leave out --method, --given" in bad(capsys, *argv, "--given", "each")


def test_several_files_are_layers(here, capsys):
    assert find_layers(["acts.npz:layer*"]) == tuple(f"acts.npz:layer{i}" for i in (0, 2, 10))
    out = ok(capsys, "probe", "acts.npz:layer*", "z.npy", "--probes", "lda")
    assert "One set of rows" not in out
    lines = [line for line in out.splitlines() if "layer" in line and "before" in line]
    scores = [float(line.split("│")[4]) for line in lines]
    assert [line.split("│")[1].strip() for line in lines] == [f"layer{i}" for i in (0, 2, 10)]
    one = ok(capsys, "probe", "acts.npz:layer2", "z.npy", "--probes", "lda")
    fresh = one[one.index("Fresh rows") :]
    assert f"{scores[1]:.4f}" in next(line for line in fresh.splitlines() if "before" in line)
    assert scores[0] < scores[2]
    named = ["acts.npz:layer0", "acts.npz:layer2", "acts.npz:layer10"]
    assert ok(capsys, "probe", *named, "z.npy", "--probes", "lda") == out
    np.save("layer1.npy", np.load("x.npy"))
    np.save("layer12.npy", np.load("x.npy"))
    assert find_layers(["layer*.npy"]) == ("layer1.npy", "layer12.npy")


@pytest.mark.parametrize("more", [[], ["--seeds", 2]])
def test_tables_of_layers_fit_a_terminal(more, here, capsys, monkeypatch):
    probes = ["--task", "task.npy", "--probes", "mean-difference"]
    argv = ["probe", "acts.npz:layer*", "z.npy", *probes, *more]
    number = r"-?\d\.\d{3,4}|-?\d\.\d{3}[- ±]+-?\d\.\d{3}"
    shown = []
    for columns in (None, "140", "80"):
        monkeypatch.delenv("COLUMNS", raising=False)
        if columns is not None:
            monkeypatch.setenv("COLUMNS", columns)
        drawn = [line for line in ok(capsys, *argv).splitlines() if "│" in line]
        assert max(map(len, drawn)) <= int(columns or 1000)
        cells = [cell.strip() for line in drawn for cell in line.split("│")]
        assert {f"layer{i}" for i in (0, 2, 10)} <= set(cells)
        shown.append([cell for cell in cells if re.fullmatch(number, cell)])
    assert shown[0] == shown[1] == shown[2]
    assert len(shown[0]) == 3 * 2 * (4 + 2 * (3 if more else 4))  # of one split an interval, too


@pytest.mark.slow
def test_a_task_stays_among_whole_groups(here, capsys):
    np.save("names.npy", np.arange(ROWS) // 4)
    out = ok(capsys, "probe", "x.npy", "z.npy", *TASK, "--groups", "names.npy")
    assert "240 rows in 60 groups, 2 classes" in out
    assert "the task has 2 classes, nurse (120), surgeon (120)" in out
    assert len(re.findall(r"\d+ rows [ABC] in \d+ groups", out)) == 3


@pytest.mark.slow
def test_one_split_says_that_differences_have_no_interval(here, capsys):
    said = "one split has no interval here; --seeds 20 gives one"
    argv = ["z.npy", *TASK, "--out"]
    for rows, drawn in (("x.npy", "Of how answers differ one"), ("acts.npz:layer*", "probe. One")):
        out = ok(capsys, "probe", rows, *argv, f"{len(rows)}.html")
        assert out.count(said) == 1
        assert out.rindex(said) > out.index("How their answers differ")
        page = (here / f"{len(rows)}.html").read_text()
        assert drawn + said[3:] in page
        assert f">{said}<" in page
    assert said not in ok(capsys, "probe", "x.npy", "z.npy", "--probes", "lda")
    assert said not in ok(capsys, "probe", "x.npy", *argv, "many.html", "--seeds", 2)
    assert said not in (here / "many.html").read_text().lower()


@pytest.mark.slow
def test_the_page_is_written_whole_or_not_at_all(here, capsys, monkeypatch):
    argv = ["probe", "x.npy", "z.npy", *TASK]
    plain = ok(capsys, *argv)
    assert ok(capsys, *argv, "--out", "page.html") == plain + "page.html\n"
    assert "page.html: exists; --force replaces it" in bad(capsys, *argv, "--out", "page.html")
    monkeypatch.setattr("erasejax.pages._probe._page", lambda *_: 1 / 0)
    before = files()
    with pytest.raises(ZeroDivisionError):
        ok(capsys, *argv, "--out", "page.html", "--force")
    assert files() == before


def test_bad_input_to_probe_of_a_task(here, capsys):
    np.save("real.npy", np.load("x.npy")[:, 0])
    np.save("short.npy", np.load("task.npy")[:-1])
    rare = np.load("three.npy") * 0
    rare[:2] = 1
    np.save("rare.npy", rare)
    np.savez("few.npz", a=np.load("x.npy"), b=np.load("x.npy")[:-1])
    for argv, message in [
        ("x.npy z.npy --given pooled", "--given needs --task FILE"),
        ("x.npy z.npy --task task.npy --given both", "--given: expected one of none, pooled, each"),
        ("x.npy z.npy --task task.npy --given each --method inlp", "--given is no option of inlp"),
        ("x.npy z.npy --task real.npy", "real.npy: expected class labels"),
        ("x.npy z.npy --task short.npy", "short.npy: holds 239 task entries, but x.npy has 240"),
        ("x.npy z.npy --task none.npy", "none.npy: no such file"),
        ("x.npy z.npy --task rare.npy", "no row of the task's class '1'"),
        ("x.npy z.npy --task three.npy --probes zero-one", "separates 2 classes, got 3"),
        ("x.npy z.npy --seeds 0", "--seeds: expected a whole number of splits from 1 on, got 0"),
        ("x.npy z.npy --out page.txt", "page.txt: expected the extension .html"),
        ("x.npy z.npy --out no/page.html", "no"),
        ("x.npy", "expected features and their labels, X LABELS"),
        ("acts.npz:head* z.npy", "no array matches 'head*'; it holds layer0, layer10, layer2"),
        ("none*.npy z.npy", "none*.npy: no file matches"),
        ("x.npy x.npy z.npy", "x.npy: is named twice"),
        ("few.npz:a few.npz:b z.npy", "z.npy: holds 240 labels, but few.npz:b has 239 rows"),
    ]:
        page = [] if "--out" in argv else ["--out", "page.html"]
        assert message in bad(capsys, "probe", *argv.split(), *page)


@pytest.mark.slow
def test_programs_are_shared_by_splits(here, capsys):
    ok(capsys, "probe", "x.npy", "z.npy", *TASK, "--seeds", 2)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    try:
        ok(capsys, "probe", "x.npy", "z.npy", *TASK, "--seed", 5, "--seeds", 3)
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []

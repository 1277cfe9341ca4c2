"""`fit --given` over many files: erasing within the classes of a task."""

import re

import numpy as np
import pytest

import erasejax as ej
from erasejax.files import _streaming as streaming
from erasejax.files import load_counted
from tests.command import D, N, close, ok
from tests.many import LEACE, fails, names, run

WITHIN = ("fit", "acts-*.npy", "y-*.npy", *LEACE, "--task", "t-*.npy", "--given")


def within(given):
    """The eraser of all rows in memory."""
    z, y = (np.unique(np.load(f), return_inverse=True)[1] for f in ("labels.npy", "tasks.npy"))
    return ej.LEACE(given=given).fit(np.load("all.npy"), z, task=y)


@pytest.mark.slow
@pytest.mark.parametrize("given", ["pooled", "each"])
def test_erasing_within_a_task_streams(parts, capsys, monkeypatch, given):
    expected = within(given)
    one = ("fit", "all.npy", "labels.npy", *LEACE, "--task", "tasks.npy", "--given", given)
    plain = ok(capsys, *one, "--out", "one.safetensors").splitlines()
    close(ej.load("one.safetensors").matrix(), expected.matrix())
    monkeypatch.setattr(streaming, "BLOCK_VALUES", 7 * D)
    assert ok(capsys, *one, "--out", "e.safetensors", "--force").splitlines()[1] == plain[1]
    close(ej.load("e.safetensors").matrix(), expected.matrix())
    # Of the files, sorted by their labels, none has all classes.
    out, _ = run(capsys, *WITHIN, given, "--out", "many.safetensors")
    assert out.splitlines()[1] == plain[1]
    close(ej.load("many.safetensors").matrix(), expected.matrix())
    streamed = ej.stream_moments("acts-*.npy", "y-*.npy", task="t-*.npy", within_task=True)
    close(ej.LEACE(given=given).solve(streamed, tasks=2).matrix(), expected.matrix())


@pytest.mark.slow
def test_what_rounding_leaves_within_a_task_is_certified(parts, capsys):
    for name in names("acts"):
        np.save(name, np.load(name).astype(np.float16))
    np.save("all.npy", np.load("all.npy").astype(np.float16))
    one = ("fit", "all.npy", "labels.npy", *LEACE, "--task", "tasks.npy", "--given", "each")
    said = {
        "one.safetensors": ok(capsys, *one, "--out", "one.safetensors"),
        "many.safetensors": run(capsys, *WITHIN, "each", "--out", "many.safetensors")[0],
    }
    z, y = (np.unique(np.load(f), return_inverse=True)[1] for f in ("labels.npy", "tasks.npy"))
    method = ej.LEACE(given="each")
    task = np.asarray(y[:, None] == np.arange(2), np.float32)
    rows = method.concept(ej.Dataset(np.load("all.npy"), z.astype(np.int32), 3, task))
    for name, text in said.items():
        found = ej.metrics.certify_rows(ej.load(name), rows, dtype=np.dtype("float16"))
        (left,) = re.findall(r"rounding to float16 leaves R\^2 ([\d.e-]+),", text)
        # Rounding is about 1e-6 of the variance, and float32's eps is a tenth of that.
        assert float(left) == pytest.approx(float(found.after), rel=0.25)
        assert float(left) > 20 * float(found.unrounded)
        (before,) = re.findall(r"linear_r2 ([\d.]+) before", text)
        assert float(before) == pytest.approx(float(found.before), rel=1e-3)


@pytest.mark.slow
def test_moments_within_a_task_are_kept_added_to_and_merged(parts, capsys):
    # The labels of a file are some of all; new ones come with later files and commands.
    for last in ("1", "[0-2]", "*"):
        own = (f"acts-{last}.npy", f"y-{last}.npy", "--task", f"t-{last}.npy", "--given", "each")
        run(capsys, "fit", *own, *LEACE, "--moments", "m.safetensors")
    counted = load_counted("m.safetensors")
    assert (counted.rows, counted.within_task, counted.tasks) == (N, True, 2)
    assert counted.moments.xz.shape == (D, 2 * 3)
    assert "within      the classes of a task, 2: a, b" in ok(capsys, "info", "m.safetensors")
    solve = ("fit", "--moments", "m.safetensors", *LEACE, "--out", "e.safetensors", "--force")
    for given in ("pooled", "each"):
        run(capsys, *solve, "--given", given)
        close(ej.load("e.safetensors").matrix(), within(given).matrix())
    np.save("more.npy", np.load("acts-2.npy") + 1)
    more = ("fit", "more.npy", "y-2.npy", "--task", "t-2.npy", "--given", "each", *LEACE)
    run(capsys, *more, "--moments", "more.safetensors")
    assert len(load_counted("more.safetensors").class_names) < 3
    ok(capsys, "merge", "more.safetensors", "m.safetensors", "--out", "both.safetensors")
    for name, extra in (("all", "more"), ("labels", "y-2"), ("tasks", "t-2")):
        np.save(f"{name}.npy", np.concatenate([np.load(f"{name}.npy"), np.load(f"{extra}.npy")]))
    run(capsys, "fit", "--moments", "both.safetensors", *solve[3:], "--given", "each")
    close(ej.load("e.safetensors").matrix(), within("each").matrix())


def test_what_cannot_be_erased_within_a_task_is_refused(parts, capsys):
    np.save("reals.npy", np.load("all.npy")[:, 0])
    run(capsys, *WITHIN, "each", "--moments", "within.safetensors")
    run(capsys, "fit", "acts-*.npy", "y-*.npy", *LEACE, "--moments", "plain.safetensors")
    task = ("--task", "t-*.npy")
    for argv, message in [
        (
            ("acts-*.npy", "labels.npy", "--task", "reals.npy", "--given", "each"),
            "takes class labels of both",
        ),
        (("acts-*.npy", "reals.npy", *task, "--given", "each"), "takes class labels of both"),
        (("--moments", "plain.safetensors", "--given", "each"), "counts classes within no task"),
        (("--moments", "within.safetensors"), "counts classes within a task"),
        (
            ("acts-*.npy", "y-*.npy", "--moments", "plain.safetensors", *task, "--given", "each"),
            "counts classes within no task",
        ),
    ]:
        assert message in fails(capsys, "fit", *argv, *LEACE, "--out", "e.safetensors")
    with pytest.raises(ValueError, match="task: missing"):
        ej.stream_moments("all.npy", "labels.npy", within_task=True)
    with pytest.raises(ValueError, match="counts classes within a task|another task"):
        ej.stream_moments("acts-*.npy", "y-*.npy", task="t-*.npy", moments="within.safetensors")

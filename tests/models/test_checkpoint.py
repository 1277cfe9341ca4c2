"""Checkpoints edited in files: the right numbers, and old or new whatever happens."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

import erasejax as ej
from tests.common import draw

D, H = 6, 9
SHARDS = {
    "model-00001-of-00003.safetensors": {"a.weight": (D, H), "a.bias": (D,), "n.weight": (D,)},
    "model-00002-of-00003.safetensors": {"b.weight": (D, H), "c.weight": (H, D)},
    "model-00003-of-00003.safetensors": {"b.bias": (D,), "d.weight": (D, H)},
}
INDEX = "model.safetensors.index.json"
ERASER = ej.LEACE().fit(*draw(0, 200, D, 3))
EDITS = {"a": ERASER, "b": ERASER.with_strength(0.5)}


def numbers(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {
        file: {name: rng.standard_normal(shape).astype(dtype) for name, shape in parts.items()}
        for file, parts in SHARDS.items()
    }


def make(folder, dtype=np.float32):
    folder.mkdir()
    for file, parts in numbers(dtype).items():
        safetensors.numpy.save_file(parts, folder / file, {"format": "pt", "kept": "yes"})
    names = {name: file for file, parts in SHARDS.items() for name in parts}
    index = {"metadata": {"total_size": 1}, "weight_map": names}
    (folder / INDEX).write_text(json.dumps(index))
    (folder / "config.json").write_text("{}")
    return folder


def read(folder):
    """What somebody who loads the checkpoint gets, by the index alone."""
    names = json.loads((folder / INDEX).read_text())["weight_map"]
    files = {file: safetensors.numpy.load_file(folder / file) for file in set(names.values())}
    return {name: files[file][name] for name, file in names.items()}


def expected(dtype=np.float32, edits=EDITS):
    found = {name: value for parts in numbers(dtype).values() for name, value in parts.items()}
    for layer, eraser in edits.items():
        parts = ej.models.fold(eraser, found[f"{layer}.weight"], found.get(f"{layer}.bias"))
        found |= {f"{layer}.weight": parts[0], f"{layer}.bias": parts[1]}
    return found


def same(found, other):
    return found.keys() == other.keys() and all(
        found[name].dtype == other[name].dtype and (found[name] == other[name]).all()
        for name in found
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16, np.float64])
def test_shards_are_edited_in_place(tmp_path, dtype):
    folder = make(tmp_path / "c", dtype)
    before = (folder / "config.json").stat()
    ej.models.fold_checkpoint(folder, EDITS)
    found = read(folder)
    assert same(found, expected(dtype))
    files = {p.name for p in folder.iterdir()}
    used = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    assert files == used | {INDEX, "config.json"}
    assert (folder / "config.json").stat() == before
    for file in used:
        with safetensors.safe_open(folder / file, "np") as opened:
            assert opened.metadata() == {"format": "pt", "kept": "yes"}
    # And once more, over what was edited.
    ej.models.fold_checkpoint(folder, {"d": ERASER}, constant=False)
    assert len(list(folder.iterdir())) == len(files)
    own = ej.models.fold(ERASER, found["d.weight"], constant=False)[0]
    assert same(read(folder), found | {"d.weight": own})


def test_only_shards_that_change_are_written(tmp_path):
    folder = make(tmp_path / "c")
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}
    ej.models.fold_checkpoint(folder, {"a": ERASER})
    after = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}
    for file in ("model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"):
        assert after[file] == before[file]
    assert "model-00001-of-00003.safetensors" not in after


def test_layers_that_read_and_other_layouts(tmp_path):
    for i, (layer, options) in enumerate(
        {"c": {"side": "reads"}, "d": {"side": "writes"}, "c ": {"layout": "in,out"}}.items()
    ):
        layer = layer.strip()
        folder = make(tmp_path / str(i))
        ej.models.fold_checkpoint(folder, {layer: ERASER}, constant=False, **options)
        whole = expected(edits={})
        own = ej.models.fold(ERASER, whole[f"{layer}.weight"], constant=False, **options)[0]
        assert same(read(folder), whole | {f"{layer}.weight": own})


def test_a_bias_of_a_layer_that_reads(tmp_path):
    weight, bias = (np.random.default_rng(0).standard_normal(s) for s in ((H, D), (H,)))
    (tmp_path / "c").mkdir()
    path = tmp_path / "c" / "model.safetensors"
    safetensors.numpy.save_file({"e.weight": weight, "e.bias": bias}, path)
    ej.models.fold_checkpoint(path.parent, {"e": ERASER}, side="reads")
    own = dict(
        zip(("e.weight", "e.bias"), ej.models.fold(ERASER, weight, bias, side="reads"), strict=True)
    )
    assert same(safetensors.numpy.load_file(path), own)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_new_folder_is_a_whole_checkpoint(tmp_path):
    folder = make(tmp_path / "c")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.txt").write_text("a")
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    ej.models.fold_checkpoint(folder, EDITS, out=tmp_path / "new")
    assert same(read(tmp_path / "new"), expected())
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    assert {p.name for p in (tmp_path / "new").iterdir()} == {p.name for p in folder.iterdir()}
    assert (tmp_path / "new" / "tokenizer" / "vocab.txt").read_text() == "a"
    with pytest.raises(FileExistsError, match="name a new folder"):
        ej.models.fold_checkpoint(folder, EDITS, out=tmp_path / "new")
    assert {p.name for p in tmp_path.iterdir()} == {"c", "new"}


def test_what_is_wrong_is_said_and_nothing_changes(tmp_path):
    folder = make(tmp_path / "c")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    for edits, message in (
        ({"a": ERASER, "bb": ERASER}, "has no bb.weight; did you mean 'b'"),
        ({"a": ERASER, "c": ERASER}, "writes 9 features .* fitted on 6"),
        ({"a": ERASER, "d": ERASER}, "has no d.bias that could hold it"),
        ({"n": ERASER}, "expected 2 axes"),
        ({}, "at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            ej.models.fold_checkpoint(folder, edits)
    with pytest.raises(TypeError, match="expected a Projection"):
        ej.models.fold_checkpoint(folder, {"a": 1})
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    with pytest.raises(FileNotFoundError, match="index.json or model.safetensors"):
        ej.models.fold_checkpoint(tmp_path, EDITS)
    whole = make(tmp_path / "i", np.int8)
    with pytest.raises(TypeError, match="floats of 16 bits or more, got int8"):
        ej.models.fold_checkpoint(whole, EDITS)
    (folder / "model-00003-of-00003.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="damaged"):
        ej.models.fold_checkpoint(folder, {"a": ERASER})


def test_a_cache_of_links_is_left_alone(tmp_path):
    folder = make(tmp_path / "blobs")
    (tmp_path / "c").mkdir()
    for path in folder.iterdir():
        (tmp_path / "c" / path.name).symlink_to(path)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(ValueError, match="a link, as in a cache"):
        ej.models.fold_checkpoint(tmp_path / "c", EDITS)
    ej.models.fold_checkpoint(tmp_path / "c", EDITS, out=tmp_path / "new")
    assert same(read(tmp_path / "new"), expected())
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


class Killed(BaseException):
    """The process is gone: whatever it would still have done to files does not happen."""


@contextlib.contextmanager
def killed_at(monkeypatch, step):
    """Lets so many changes of files happen, and none after."""
    left = [step]

    def counted(function):
        def call(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*args, **kwargs)

        return call

    held, opened, closed = set(), os.open, os.close

    def track(*args, **kwargs):
        held.add(found := opened(*args, **kwargs))
        return found

    def untrack(file):
        held.discard(file)
        closed(file)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", track)
        patched.setattr(os, "close", untrack)
        for module, names in (
            (os, ("replace", "link", "rename", "fsync", "unlink")),
            (shutil, ("copyfile", "rmtree")),
            (Path, ("unlink", "write_text", "write_bytes", "mkdir")),
        ):
            for name in names:
                patched.setattr(module, name, counted(getattr(module, name)))
        yield left
    for file in held:  # the system takes locks from a process that is gone
        closed(file)


STEPS = 40


def test_all_steps_are_tried(tmp_path, monkeypatch):
    folder = make(tmp_path / "c")
    with killed_at(monkeypatch, STEPS) as left:
        ej.models.fold_checkpoint(folder, EDITS)
    assert 0 < left[0] < STEPS - 10


@pytest.mark.parametrize("step", range(STEPS))
def test_a_kill_leaves_the_old_or_the_new(tmp_path, step, monkeypatch):
    folder = make(tmp_path / "c")
    old, new = expected(edits={}), expected()
    killed = False
    with killed_at(monkeypatch, step):
        try:
            ej.models.fold_checkpoint(folder, EDITS)
        except Killed:
            killed = True
    found = read(folder)
    assert same(found, new) or (killed and same(found, old))
    # The next call works, and removes what was left behind.
    ej.models.fold_checkpoint(folder, {"a": ERASER.with_strength(0)})
    assert same(read(folder), found)
    used = set(json.loads((folder / INDEX).read_text())["weight_map"].values())
    assert {p.name for p in folder.iterdir()} == used | {INDEX, "config.json"}


@pytest.mark.parametrize("step", range(8))
def test_a_kill_while_one_file_is_edited(tmp_path, step, monkeypatch):
    path = tmp_path / "model.safetensors"
    content = {"a.weight": numbers()["model-00001-of-00003.safetensors"]["a.weight"]}
    safetensors.numpy.save_file(content, path)
    with killed_at(monkeypatch, step), contextlib.suppress(Killed):
        ej.models.fold_checkpoint(tmp_path, {"a": ERASER}, constant=False)
    own = {"a.weight": ej.models.fold(ERASER, content["a.weight"], constant=False)[0]}
    found = safetensors.numpy.load_file(path)
    assert same(found, content) or same(found, own)


@pytest.mark.parametrize("step", range(16))
def test_a_kill_leaves_no_new_folder_or_a_whole_one(tmp_path, step, monkeypatch):
    folder = make(tmp_path / "c")
    with killed_at(monkeypatch, step), contextlib.suppress(Killed):
        ej.models.fold_checkpoint(folder, EDITS, out=tmp_path / "new")
    assert same(read(folder), expected(edits={}))
    if (tmp_path / "new").exists():
        assert same(read(tmp_path / "new"), expected())


def test_an_error_leaves_nothing_behind(tmp_path, monkeypatch):
    folder = make(tmp_path / "c")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    real, calls = os.link, []

    def full(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(MemoryError):
        ej.models.fold_checkpoint(folder, EDITS)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_transformers_reads_what_was_edited(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from tests.models.test_fold import logits

    torch.manual_seed(0)
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=12, vocab_size=20, n_positions=16)
    model = transformers.GPT2LMHeadModel(config).eval()
    model.save_pretrained(tmp_path / "c", max_shard_size="6KB")
    assert (tmp_path / "c" / INDEX).exists()
    eraser = ej.LEACE().fit(*draw(0, 200, 12, 3))
    ej.models.fold_checkpoint(
        tmp_path / "c", {"transformer.h.0.mlp.c_proj": eraser}, layout="in,out"
    )
    ej.models.fold_into(model, {"transformer.h.0.mlp.c_proj": eraser})
    found = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "c").eval()
    np.testing.assert_allclose(logits(torch, found), logits(torch, model), atol=1e-6)

"""Sweeps survive: kills, growth, damaged files, full disks, several processes."""

import contextlib
import errno
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import time
import warnings

import pytest

import erasejax as ej
from erasejax.files._replacing import remove_orphans, replacing
from erasejax.pages._sweep import report
from erasejax.sweep import DamagedBlockError
from erasejax.sweep._blocks import name_of, numerics
from erasejax.sweep._grid import grid
from erasejax.sweep._store import Store
from tests.sweeps import TINY, assert_same, finish, run_in_a_process

# Many small blocks, so that a kill finds some of them written.
MANY = {
    **TINY,
    "dataset": {"name": "gaussian-classes", "dims": 2, "rows": 4, "separation": [*range(1, 25)]},
    "seeds": 30,
}
CHUNK = 30  # of one size, so that what is left of a sweep runs through a program that is compiled


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ej.sweep.run(MANY, out=tmp_path_factory.mktemp("whole"), chunk=CHUNK)


def files(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("blocks/[!.]*")}


def temporary(folder):
    return [*folder.rglob(".*")]


def test_one_file_a_block_and_one_manifest(whole):
    assert len(files(whole.path)) == 24 * 2
    assert len([*whole.path.glob("manifest-*.json")]) == 1
    assert not temporary(whole.path)
    assert len(whole.missing()) == 0


@pytest.mark.slow
def test_what_is_done_is_not_done_again(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole.path, folder)
    before = files(folder)
    for block in random.Random(0).sample(sorted(before), 5):
        (folder / "blocks" / block).unlink()
    assert len(ej.sweep.open(folder).missing()) == 5
    ej.sweep.run(MANY, out=folder, chunk=CHUNK)
    after = files(folder)
    assert after.keys() == before.keys()
    assert sum(after[name] != before[name] for name in before) == 5
    assert_same(ej.sweep.open(folder), whole)


@pytest.mark.slow
def test_a_grown_grid_runs_its_new_cells_only(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole.path, folder)
    before = files(folder)
    grown = {**MANY, "probe": ["least-squares", "lda"]}
    grown["dataset"] = {**MANY["dataset"], "separation": [*range(1, 27)]}
    found = ej.sweep.run(grown, out=folder)
    after = files(folder)
    assert all(after[name] == before[name] for name in before)
    assert len(after) == 26 * 2 * 2
    assert len(found.to_pandas()) == 26 * 2 * 2 * 30
    assert len([*folder.glob("manifest-*.json")]) == 2


def test_a_table_with_gaps_says_so(whole, tmp_path, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = whole.summary()
    assert (summary["trials", "planned"] == 30).all()
    assert repr(whole).endswith("48 blocks, 0 missing, 1,440 of 1,440 trials)")
    # A task of a job array that runs a sweep of its own, in a folder of its own.
    for name, value in (("ID", 1), ("MIN", 0), ("MAX", 3), ("COUNT", 4), ("STEP", 1)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    with pytest.warns(UserWarning, match=r"part 2 of 4 .*task 1 of a SLURM job array.*shard 0/1"):
        part = ej.sweep.run(MANY, out=tmp_path, chunk=CHUNK)
    assert repr(part).endswith("12 blocks, 36 missing, 360 of 1,440 trials)")
    for table in (part.summary, part.to_arrow, part.to_pandas, part.to_xarray):
        with pytest.warns(UserWarning, match=r"360 of 1,440 trials .*36 of 48 cells lack seeds"):
            table()
    assert len(ej.sweep.run(MANY, out=tmp_path, shard="0/1", chunk=CHUNK).missing()) == 0


def test_a_cell_of_fewer_seeds_than_asked_for_is_marked(tmp_path):
    dataset = [{"name": "discrete-features", "rows": rows} for rows in (5, 6)]
    ej.sweep.run({**TINY, "dataset": dataset[:1]}, out=tmp_path)
    asked = grid({**TINY, "dataset": dataset, "seeds": 1032, "eraser": ["identity"]})
    store = Store(tmp_path)
    store.write_manifest(asked, numerics())  # killed before its first block
    found = ej.sweep.open(tmp_path)
    with pytest.warns(UserWarning, match=r"16 of 2,072 trials .*2 of 3 cells lack seeds"):
        summary = found.summary().reset_index()
    trials = summary.set_index("eraser")["trials"]
    assert trials.loc["identity"].to_dict() == {"count": 8, "failed": 0, "planned": 1032}
    assert trials.loc["mean-difference"].to_dict() == {"count": 8, "failed": 0, "planned": 8}
    with pytest.warns(UserWarning, match="lack seeds"):
        page = report(found, tmp_path / "page.html").read_text()
    assert "16 trials of 2,072 that were asked for in 2 cells" in page
    assert "<td>8 <span>of 1,032</span></td>" in page
    assert "<td>8</td>" in page


def test_what_a_longer_range_of_seeds_replaces_is_not_missing(tmp_path):
    found = ej.sweep.run(TINY, out=tmp_path, chunk=8)
    block = sorted((tmp_path / "blocks").iterdir())[0]
    block.unlink()
    assert len(ej.sweep.open(tmp_path).missing()) == 1
    found = ej.sweep.run({**TINY, "seeds": 9}, out=tmp_path, chunk=8)
    assert len(found.missing()) == 0
    assert len(found.to_pandas()) == 9 * 2


@pytest.mark.slow
def test_words_that_only_some_configurations_have(tmp_path):
    erasers = ["identity", {"name": "leace", "shrinkage_rule": ["none", "oas"]}]
    found = ej.sweep.run({**TINY, "eraser": erasers}, out=tmp_path)
    rules = found.to_pandas()["eraser.shrinkage_rule"]
    assert set(rules[rules.notna()]) == {"none", "oas"}
    assert rules.isna().sum() == 8
    assert len(found.summary()) == 3
    assert found.to_xarray().sizes["seed"] == 8


def killed(spec, folder, after, **options):
    """Runs a sweep in a process and kills it that many seconds after its first block."""
    process = run_in_a_process(spec, folder, **options)
    limit = time.monotonic() + 200
    while process.poll() is None and not files(folder) and time.monotonic() < limit:
        time.sleep(0.002)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_a_killed_sweep_goes_on(whole, tmp_path):
    killed(MANY, tmp_path, 0.01, chunk=CHUNK)
    stored = files(tmp_path)
    assert 0 < len(stored) <= 48
    found = ej.sweep.run(MANY, out=tmp_path, chunk=CHUNK)
    after = files(tmp_path)
    assert all(after[name] == stored[name] for name in stored)
    assert not temporary(tmp_path)
    assert_same(found, whole)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_kills(tmp_path):
    spec = {**MANY, "seeds": 3000, "dataset": {**MANY["dataset"], "dims": 8, "rows": 40}}
    whole = ej.sweep.run(spec, out=tmp_path / "whole")
    folder, generator = tmp_path / "killed", random.Random(0)
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    kills, written, rewritten = 0, {}, 0
    for _ in range(100):
        process = run_in_a_process(spec, folder, chunk=64, environment=environment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=generator.uniform(0.5, 9.0))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate(timeout=60)
        now = files(folder)
        rewritten += sum(now[name] != written[name] for name in written)
        written = now
        if len(now) == len(files(whole.path)):  # start again, so that there is something to kill
            ej.sweep.run(spec, out=folder)
            assert_same(ej.sweep.open(folder), whole)
            assert not temporary(folder)
            shutil.rmtree(folder)
            written = {}
    found = ej.sweep.run(spec, out=folder)
    assert kills >= 60
    assert rewritten == 0
    assert not temporary(folder)
    assert_same(found, whole)


@pytest.mark.slow
def test_two_processes_share_and_one_is_killed(whole, tmp_path):
    first = run_in_a_process(MANY, tmp_path, shard="0/2", chunk=CHUNK)
    killed(MANY, tmp_path, 0.01, shard="1/2", chunk=CHUNK)
    finish(run_in_a_process(MANY, tmp_path, shard="1/2", chunk=CHUNK))
    finish(first)
    assert not temporary(tmp_path)
    assert_same(ej.sweep.open(tmp_path), whole)


@pytest.mark.quick(1)
@pytest.mark.parametrize("damage", ["truncated", "empty", "another", "flipped"])
def test_a_damaged_file_is_named_and_never_averaged_in(whole, tmp_path, damage):
    folder = tmp_path / "copy"
    shutil.copytree(whole.path, folder)
    one, other = sorted((folder / "blocks").iterdir())[:2]
    content = one.read_bytes()
    if damage == "flipped":  # in the data, not the footer
        at = len(content) // 4
        one.write_bytes(content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :])
    elif damage == "another":
        shutil.copy(other, one)
    else:
        one.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(DamagedBlockError, match=one.name):
        ej.sweep.open(folder).to_pandas()
    if damage == "flipped":  # the footer is whole: found when the numbers are read
        one.unlink()
        found = ej.sweep.run(MANY, out=folder, chunk=CHUNK)
    else:
        with pytest.warns(UserWarning, match=f"{one.name}.*computed again"):
            found = ej.sweep.run(MANY, out=folder, chunk=CHUNK)
    assert_same(found, whole)


def test_foreign_files_are_named_and_left_alone(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole.path, folder)
    (folder / "blocks" / "notes.txt").write_text("mine")
    with pytest.warns(UserWarning, match=r"notes\.txt"):
        found = ej.sweep.open(folder)
    assert_same(found, whole)
    assert (folder / "blocks" / "notes.txt").read_text() == "mine"


def test_a_damaged_manifest_is_named(whole, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole.path, folder)
    manifest = next(folder.glob("manifest-*.json"))
    read = json.loads(manifest.read_text())
    read["grid"][0]["seeds"] = [0, 5]
    manifest.write_text(json.dumps(read))
    with pytest.raises(ValueError, match=manifest.name):
        ej.sweep.open(folder)
    with pytest.raises(FileNotFoundError, match="holds no sweep"):
        ej.sweep.open(tmp_path)


def test_a_full_disk_stops_with_a_clear_message_and_goes_on(whole, tmp_path, monkeypatch):
    write, written = pathlib.Path.write_bytes, []

    def full(path, content):
        if path.suffix != ".parquet":  # a manifest
            return write(path, content)
        if len(written) == 10:
            write(path, content[:100])
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write(path, content)

    monkeypatch.setattr(pathlib.Path, "write_bytes", full)
    with pytest.raises(OSError, match="no space left; what is stored stays") as error:
        ej.sweep.run(MANY, out=tmp_path, chunk=CHUNK)
    assert error.value.errno == errno.ENOSPC
    assert len(files(tmp_path)) == 10
    assert not temporary(tmp_path)
    monkeypatch.undo()
    assert_same(ej.sweep.run(MANY, out=tmp_path, chunk=CHUNK), whole)


def test_orphans_go_and_files_being_written_stay(tmp_path):
    with replacing(tmp_path / "a.txt") as held:
        orphan = tmp_path / held.name.replace(held.stem[-8:], "0" * 8)
        orphan.write_text("half")
        others = tmp_path / ".erasejax-elsewhere-0.txt"
        others.write_text("perhaps being written")
        remove_orphans(tmp_path)
        assert held.exists()
        assert not orphan.exists()
        assert others.exists()
        os.utime(others, (time.time() - 100_000,) * 2)
        remove_orphans(tmp_path)
        assert not others.exists()
        held.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.slow
def test_numbers_that_were_asked_for_at_different_times_are_one_table(tmp_path):
    ej.sweep.run({**TINY, "seeds": 1030, "metrics": "accuracy"}, out=tmp_path, chunk=8)
    ej.sweep.run({**TINY, "metrics": ["accuracy", "damage"]}, out=tmp_path, chunk=8)
    found = ej.sweep.run({**TINY, "seeds": 1030, "metrics": "accuracy"}, out=tmp_path, chunk=8)
    frame = found.to_pandas()
    assert len(found.missing()) == 0
    assert len(frame) == 1030 * 2
    assert not frame.duplicated(["eraser", "seed"]).any()
    assert frame.accuracy_fresh.notna().all()
    assert (frame.damage_fresh.notna() == (frame.seed < 8)).all()
    alone = ej.sweep.run(
        {**TINY, "metrics": ["accuracy", "damage"]}, out=tmp_path / "alone", chunk=8
    )
    few = frame[frame.seed < 8].reset_index(drop=True)
    for name in ("accuracy_fresh", "damage_fresh"):
        assert (few[name] == alone.to_pandas()[name]).all()


def test_a_number_that_nobody_has_yet_is_null(tmp_path):
    ej.sweep.run(TINY, out=tmp_path)
    found = ej.sweep.run({**TINY, "metrics": "damage", "eraser": "identity"}, out=tmp_path)
    for piece in found._pieces:
        for block in piece.stored:
            if "damage_fresh" in block.columns.names:
                (tmp_path / "blocks" / name_of(block, piece.numerics)).unlink()
    frame = ej.sweep.open(tmp_path).to_pandas()
    assert frame.damage_fresh.isna().all()
    assert frame.accuracy_fresh.notna().all()
    assert len(ej.sweep.open(tmp_path).missing()) == 1


@pytest.mark.slow
def test_precisions_side_by_side_are_told(tmp_path):
    ej.sweep.run(TINY, out=tmp_path)
    grown = {**TINY, "eraser": "leace"}
    finish(run_in_a_process(grown, tmp_path, environment={"JAX_ENABLE_X64": "1"}))
    with pytest.warns(UserWarning, match="several versions or precisions"):
        frame = ej.sweep.open(tmp_path).to_pandas()
    assert len(frame) == 8 * 3
    assert frame.accuracy_fresh.notna().all()

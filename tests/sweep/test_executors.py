"""Sweeps by the workers of an executor: the same tables, whatever happens to the workers."""

import contextlib
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import jax
import numpy as np
import pandas as pd
import pytest

import erasejax as ej
from erasejax._core import program_cache
from erasejax.sweep import _executors, _tasks
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import plan
from erasejax.sweep._store import Store
from erasejax.sweep._traced import Traced
from tests.command import bad
from tests.common import enable_x64
from tests.sweeps import SPEC, TINY, finish, run_in_a_process, sorted_frame

CHUNK = 40  # lanes of a block: no block's place in a chunk depends on the task
MANY = {**TINY, "dataset": {"name": "gaussian-classes", "dims": 2, "rows": 4}, "seeds": 30}
MANY["dataset"]["separation"] = [*range(1, 13)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return ej.sweep.run(SPEC, out=tmp_path_factory.mktemp("alone"), chunk=CHUNK)


def spawning(workers=2):
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


def assert_identical(found, expected):
    assert len(found.missing()) == 0
    one, other = sorted_frame(found), sorted_frame(expected)
    pd.testing.assert_frame_equal(one, other, check_exact=True)


def blocks(folder):
    """The inodes of the blocks: a block that is written again has another."""
    found = {}
    for path in folder.glob("blocks/[!.]*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.stat().st_ino
    return found


# The same tables.


@contextlib.contextmanager
def dask_workers(workers=2, **settings):
    dask = pytest.importorskip("dask", reason="Dask is not installed")
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=60,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def submitit_executor(kind, folder):
    submitit = pytest.importorskip("submitit", reason="submitit is not installed")
    executor = getattr(submitit, kind)(folder)
    if kind == "LocalExecutor":
        executor.update_parameters(timeout_min=4)
    yield executor


class OnlyResult:
    """A job that has nothing but a result, as an adapter of an engine may give."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def result(self):
        function, arguments = self._call
        return function(*arguments)


class Adapter:
    submit = OnlyResult


ENGINES = {
    "a process pool": lambda folder: spawning(),
    "Dask": lambda folder: dask_workers(),
    "submitit's local executor": lambda folder: submitit_executor("LocalExecutor", folder),
    "submitit's debug executor": lambda folder: submitit_executor("DebugExecutor", folder),
    "an adapter": lambda folder: contextlib.nullcontext(Adapter()),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("engine", ENGINES)
def test_tables_are_those_of_one_process(alone, tmp_path, engine, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ENGINES[engine](tmp_path / "logs") as executor:
        found = ej.sweep.run(SPEC, out="out", chunk=CHUNK, executor=executor, tasks=3)
        assert_identical(found, alone)
        before = blocks(tmp_path / "out")
        ej.sweep.run(SPEC, out="out", chunk=CHUNK, executor=executor)
    assert blocks(tmp_path / "out") == before  # all is stored


@pytest.mark.slow
def test_tables_are_those_of_shards(alone, tmp_path):
    for process in [run_in_a_process(SPEC, tmp_path, shard=f"{i}/2", chunk=CHUNK) for i in (0, 1)]:
        finish(process)
    assert_identical(ej.sweep.open(tmp_path), alone)


@pytest.mark.slow
def test_progress_counts_what_comes_back(tmp_path, capsys):
    ej.sweep.run(MANY, out=tmp_path, chunk=30, executor=Adapter(), tasks=4, progress=True)
    said = capsys.readouterr().err
    assert "sweep: 4 tasks submitted\n" in said
    assert "sweep: 4 tasks came back: 720 trials in 24 blocks" in said


# Who may be an executor.


def test_a_pool_that_forks_is_refused(tmp_path):
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        with pytest.raises(ValueError, match="threads do not survive a fork; .*spawn"):
            ej.sweep.run(TINY, out=tmp_path / "out", executor=pool)
    assert not (tmp_path / "out").exists()


def test_threads_are_refused(tmp_path):
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="share its devices"):
        ej.sweep.run(TINY, out=tmp_path, executor=pool)


def test_what_cannot_submit_is_refused(tmp_path):
    with pytest.raises(TypeError, match=r"submit\(function, ...\).*got str"):
        ej.sweep.run(TINY, out=tmp_path, executor="processes:4")  # pyright: ignore
    with pytest.raises(ValueError, match="tasks: expected at least 1, got 0"):
        ej.sweep.run(TINY, out=tmp_path, executor=Adapter(), tasks=0)


def test_what_cannot_run_is_said_before_anything_is_submitted(tmp_path):
    executor = Failing(KeyboardInterrupt())
    with pytest.raises(TypeError, match="CCS reads contrast pairs"):
        ej.sweep.run({**TINY, "probe": "ccs"}, out=tmp_path, executor=executor)
    assert not executor.futures


# Tasks.


def traced(spec, chunk=None):
    programs = plan(ej.sweep.grid(spec), None, numerics()).programs
    return [Traced(program, jax.local_devices(), chunk) for program in programs]


class Workers(Adapter):
    num_workers = 3


@pytest.mark.parametrize(("tasks", "count"), [(None, 1), (1, 1), (5, 4), (12, 12), (99, 12)])
def test_a_task_is_a_share_of_the_items(tasks, count):
    (one,) = traced(MANY, 30)
    found = _executors._cut([one], Workers(), tasks)
    assert len(found) == count
    assert sorted(i for _, items in found for i in items) == [*range(12)]
    assert max(len(items) for _, items in found) <= -(-12 // count)


def test_no_task_is_less_than_a_chunk():
    (one,) = traced(MANY, 120)
    assert [len(items) for _, items in _executors._cut([one], Workers(), 99)] == [4, 4, 4]


def test_there_are_four_tasks_a_worker(monkeypatch):
    monkeypatch.setattr(Traced, "is_short", lambda self: False)
    (one,) = traced(MANY, 30)
    assert len(_executors._cut([one], Workers(), None)) == 12
    monkeypatch.setattr(Workers, "num_workers", 1)
    assert len(_executors._cut([one], Workers(), None)) == 4


def test_programs_have_tasks_by_their_work_and_begin_in_turns():
    little = {**MANY["dataset"], "rows": 40}
    long, short = traced({"part": [{**MANY, "dataset": little}, {**MANY, "seeds": 1}]}, 30)
    found = _executors._cut([long, short], Workers(), 6)
    assert [i for i, _ in found] == [0, 1, 0, 0, 0, 0, 0]


def tasks_of(spec, folder, chunk=30):
    """The tasks of a sweep, one an item."""
    Store(folder, create=True)
    (one,) = traced(spec, chunk)
    now = numerics()
    return [
        _tasks.Task(str(folder), one.program, frozenset([i]), str(folder), now, chunk, None, None)
        for i in range(len(one.program.items))
    ]


@pytest.mark.slow
def test_a_worker_compiles_a_program_once_and_forgets_the_oldest(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(_tasks, "_kept", type(_tasks._kept)())
    monkeypatch.setattr(_tasks, "Traced", lambda *given: made.append(0) or Traced(*given))
    tasks = tasks_of(MANY, tmp_path)
    for task in tasks[:3]:
        done = _tasks.compute(task)
        assert (done.trials, done.blocks) == (60, 2)
    assert len(made) == 1
    for i in range(_tasks._KEPT):
        _tasks.compute(tasks[3 + i]._replace(name=str(i)))
    assert [*_tasks._kept] == [str(i) for i in range(_tasks._KEPT)]


def test_a_task_that_is_given_to_another_worker_computes_what_is_missing(tmp_path):
    task = tasks_of(MANY, tmp_path)[0]._replace(items=frozenset(range(3)))
    assert _tasks.compute(task)[:2] == (180, 6)
    assert _tasks.compute(task) == _tasks.Done()
    before = blocks(tmp_path)
    (tmp_path / "blocks" / min(before)).unlink()
    damaged = tmp_path / "blocks" / max(before)
    damaged.write_bytes(b"not a block")
    with pytest.warns(UserWarning, match="damaged"):
        assert _tasks.compute(task)[:2] in {(120, 4), (60, 2)}
    assert blocks(tmp_path).keys() == before.keys()
    assert damaged.read_bytes() != b"not a block"


def test_a_part_of_the_items_gives_the_numbers_of_all(tmp_path):
    spec = {**MANY, "labels": ["true", "permuted"]}
    (one,) = traced(spec, 30)
    whole = [*one.chunks()]  # a chunk an item
    some = [*one.chunks({3, 17})]
    assert len(some) == 2
    for found, expected in zip(some, (whole[3], whole[17]), strict=True):
        assert found[0] == expected[0]
        jax.tree.map(np.testing.assert_array_equal, found[1], expected[1])
    assert not [*one.chunks(set())]
    (one,) = traced(spec, 100)
    (first, _), (second, inputs) = one.chunks({0, 3, 4, 17})
    assert [(piece.start, piece.stop) for piece in first] == [
        (0, 30),
        (30, 60),
        (60, 90),
        (90, 100),
    ]
    assert [(piece.start, piece.stop) for piece in second] == [(0, 20)]
    assert second[0].item is one.program.items[17]
    assert [*inputs[1][:20]] == [*range(10, 30)]
    assert inputs[3].all()  # the labels of the last item are permuted


def test_workers_keep_programs_where_this_process_does():
    names = ("jax_compilation_cache_dir", "jax_enable_compilation_cache")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        for path, expected in (
            ("given", "given"),
            (f"given/{program_cache._processor()}", "given"),
        ):
            jax.config.update("jax_compilation_cache_dir", path)
            assert program_cache.programs_folder() == expected
        jax.config.update("jax_enable_compilation_cache", False)
        assert program_cache.programs_folder() is None
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


# What goes wrong.


class Elsewhere:
    """Computes in a thread of its own, which has the settings of a new process."""

    def submit(self, function, *arguments):
        future = Future()

        def run():
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)

        threading.Thread(target=run).start()
        return future


@pytest.mark.slow
def test_a_worker_that_would_draw_other_numbers_is_an_error(tmp_path, monkeypatch):
    with enable_x64():
        with pytest.raises(ValueError, match=r"x64 is False in a worker.*JAX_ENABLE_X64=1"):
            ej.sweep.run(TINY, out=tmp_path, executor=Elsewhere())
    with jax.default_prng_impl("rbg"):
        with pytest.raises(ValueError, match=r"prng is .*JAX_DEFAULT_PRNG_IMPL=rbg"):
            ej.sweep.run(TINY, out=tmp_path, executor=Elsewhere())
    here = numerics()
    monkeypatch.setattr(_tasks, "numerics", lambda: {**here, "version": "0.0.1"})
    task = tasks_of(MANY, tmp_path)[0]
    with pytest.raises(ValueError, match="version is 0.0.1 in a worker.*same erasejax"):
        _tasks.compute(task)
    assert not blocks(tmp_path)


def test_a_worker_that_does_not_see_the_folder_is_an_error(tmp_path):
    task = tasks_of(MANY, tmp_path)[0]
    with pytest.raises(FileNotFoundError, match="does not see the folder"):
        _tasks.compute(task._replace(store=str(tmp_path / "elsewhere")))


class Failing:
    """Computes tasks when asked for their results, and raises in the third."""

    def __init__(self, error):
        self.error, self.futures = error, []

    def submit(self, function, *arguments):
        self.futures.append(OnlyResult(function, *arguments))
        future = self.futures[-1]
        future.cancelled = False
        future.cancel = lambda: setattr(future, "cancelled", True)
        if len(self.futures) == 3:
            future.result = self.fail
        return future

    def fail(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (ZeroDivisionError("in a worker"), ZeroDivisionError, "in a worker"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (BrokenProcessPool("terminated"), ChildProcessError, "terminated; .* goes on from there"),
    ],
)
def test_an_error_cancels_what_waits_and_leaves_what_is_stored(tmp_path, error, raised, message):
    executor = Failing(error)
    with pytest.raises(raised, match=message):
        ej.sweep.run(MANY, out=tmp_path, chunk=30, executor=executor, tasks=6)
    assert [future.cancelled for future in executor.futures] == [False] * 2 + [True] * 4
    before = blocks(tmp_path)
    assert len(before) == 2 * 4
    found = ej.sweep.run(MANY, out=tmp_path, chunk=30, executor=Adapter(), tasks=6)
    assert len(found.missing()) == 0
    assert before.items() <= blocks(tmp_path).items()


@pytest.mark.slow
def test_a_pool_that_lost_a_process_says_so(tmp_path):
    with spawning(1) as pool:
        (pid,) = {pool.submit(os.getpid).result()}
        threading.Timer(0.5, os.kill, (pid, signal.SIGKILL)).start()
        with pytest.raises(ChildProcessError, match="goes on from there"):
            ej.sweep.run({**MANY, "seeds": 20_000}, out=tmp_path, executor=pool, tasks=4)


# The command line.


def test_executors_of_the_command_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.py").write_text(f"spec = {TINY!r}")
    for wrong in ("processes", "processes:0", "dask:", "slurm:4"):
        line = bad(capsys, "sweep", "spec.py", "--out", "out", "--executor", wrong)
        assert "expected processes:N or dask:ADDRESS" in line


LONG = {
    "dataset": {"name": "gaussian-classes", "dims": 8, "rows": 100},
    "eraser": ["identity", "mean-difference"],
    "probe": "logistic",
    "seeds": 1024 * 40,
    "metrics": ["accuracy", "rank"],
}


def command(folder, *options):
    arguments = ["sweep", "spec.py", "--out", "out", "--executor", "processes:2", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "erasejax", *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_blocks(folder, count, seconds=120):
    limit = time.monotonic() + seconds
    while len(blocks(folder)) < count and time.monotonic() < limit:
        time.sleep(0.02)
    assert len(blocks(folder)) >= count


def alive(group):
    """The processes of a group that run."""
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, own = path.read_text().rpartition(")")[2].split()[:3]
            found += [path.parent.name] if int(own) == group and state != "Z" else []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the terminal", "kill -INT", "kill -KILL"])
def test_an_interrupted_command_leaves_no_process_and_goes_on(tmp_path, how):
    (tmp_path / "spec.py").write_text(f"spec = {LONG!r}")
    process = command(tmp_path)
    try:
        wait_for_blocks(tmp_path / "out", 4)
        if how == "the terminal":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGKILL if how == "kill -KILL" else signal.SIGINT)
        _, said = process.communicate(timeout=60)
        limit = time.monotonic() + 30
        while alive(process.pid) and time.monotonic() < limit:
            time.sleep(0.1)
        assert not alive(process.pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if how != "kill -KILL":
        assert process.returncode == 130
        assert said.rstrip().endswith("interrupted; no file is half written")
        assert "Traceback" not in said
    before = blocks(tmp_path / "out")
    assert 4 <= len(before) < 80
    process = command(tmp_path)
    assert process.communicate(timeout=240)[0]
    assert process.returncode == 0
    assert len(blocks(tmp_path / "out")) == 80
    assert before.items() <= blocks(tmp_path / "out").items()
    assert not [*tmp_path.glob("out/blocks/.*")]


# Lost workers.


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_dask_workers_killed_at_random(tmp_path):
    spec = {**LONG, "dataset": {**LONG["dataset"], "separation": [0.5, 1.0]}}
    out, seen, kills = tmp_path / "out", {}, []
    over = threading.Event()

    def kill(cluster):
        """Kills a worker now and then, and notes every block when it is first seen."""
        draw = random.Random(0)
        following, stored = None, 0
        while not over.wait(0.01):
            for name, inode in blocks(out).items():
                seen.setdefault(name, inode)
            now = time.monotonic()
            if following is None and len(seen) > stored:  # somebody computes
                following = now + draw.uniform(0, 0.5)
            if following is None or now < following or len(kills) == 10:
                continue
            pid = draw.choice([*cluster.workers.values()]).pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)
            following, stored = None, len(seen)

    with dask_workers(**{"distributed.scheduler.allowed-failures": 100}) as client:
        killer = threading.Thread(target=kill, args=(client.cluster,))
        killer.start()
        try:
            found = ej.sweep.run(spec, out=out, executor=client, tasks=8)
        finally:
            over.set()
            killer.join()
    assert len(kills) == 10
    assert len(found.missing()) == 0
    assert found.trials == (2 * 2 * LONG["seeds"],) * 2
    # Two threads write: of two items one of the two blocks may be there, and the other not.
    after = blocks(out)
    again = sum(after[name] != inode for name, inode in seen.items())
    assert again <= 2 * len(kills)
    assert_identical(found, ej.sweep.run(spec, out=tmp_path / "alone"))

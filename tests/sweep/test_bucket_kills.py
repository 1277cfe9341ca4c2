"""Sweeps in a bucket whose writers are killed."""

import random
import signal
import threading
import time
import uuid

import pytest

import erasejax as ej
from erasejax.sweep._blocks import name_of, numerics
from erasejax.sweep._store import Store
from tests.buckets import CHUNK, MANY, made_up, stored
from tests.sweeps import assert_same, run_in_a_process


class Watch(threading.Thread):
    """Lists and reads, all the time, what there is of a sweep, and keeps what is not whole."""

    def __init__(self, spec, url):
        super().__init__()
        self.asked = {name_of(block, numerics()): block for block, _ in made_up(spec)}
        self.url, self.ended = url, threading.Event()
        self.seen, self.broken = set(), []

    def run(self):
        try:
            store = Store(self.url, create=True)
            while not self.ended.wait(0.05):
                for name in store.names() - self.seen:
                    store.read(self.asked[name], numerics())
                    self.seen.add(name)
        except Exception as error:  # whatever it is, it has seen what nobody may see
            self.broken.append(error)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.join()


def kill(spec, url, store, seconds, **options):
    """Runs a sweep in a process and kills it that many seconds after its next block."""
    before, limit = len(store.names()), time.monotonic() + 200
    process = run_in_a_process(spec, url, **options)
    while process.poll() is None and len(store.names()) == before and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(seconds)
    killed = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return killed


def test_a_killed_sweep_goes_on(s3, tmp_path):
    whole = ej.sweep.run(MANY, out=tmp_path, chunk=CHUNK)
    url = f"s3://bucket/{uuid.uuid4().hex}"
    store = Store(url, create=True)
    with Watch(MANY, url) as watch:
        for seconds in (0.0, 0.05):
            kill(MANY, url, store, seconds, chunk=CHUNK)
        before = stored(url)
        found = ej.sweep.run(MANY, out=url, chunk=CHUNK)
        time.sleep(0.2)
    after = stored(url)
    assert {name: after[name] for name in before} == before
    assert not watch.broken
    assert len(watch.seen) == len(watch.asked) == 48
    assert_same(found, whole)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_kills(s3, tmp_path):
    spec = {**MANY, "seeds": 5000, "eraser": ["identity", "mean-difference", "leace"]}
    whole = ej.sweep.run(spec, out=tmp_path / "whole", chunk=64)
    generator, kills = random.Random(0), 0
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    while kills < 100:  # in as many sweeps as it takes: one that is whole cannot be killed
        url = f"s3://bucket/{uuid.uuid4().hex}"
        store = Store(url, create=True)
        with Watch(spec, url) as watch:
            while kills < 100 and len(store.names()) < len(watch.asked):
                seconds = generator.uniform(0, 0.1)
                kills += kill(spec, url, store, seconds, chunk=64, environment=environment)
            found = ej.sweep.run(spec, out=url, chunk=64)
        assert not watch.broken
        assert watch.seen
        assert_same(found, whole)
    assert max(s3.created().values()) == 1

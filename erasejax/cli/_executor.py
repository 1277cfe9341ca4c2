"""The workers that `--executor` names."""

import contextlib
import importlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

__all__ = ["executor_of"]


@contextlib.contextmanager
def executor_of(text: str | None) -> Generator[Any, None, None]:
    """Yields an executor, and ends it.

    Args:
      text: processes:N or dask:ADDRESS; None for none.

    Raises:
      ValueError: it is neither.
      OSError: the scheduler cannot be reached.
      ModuleNotFoundError: Dask is not installed.
    """
    kind, _, which = (text or "").partition(":")
    if text is None:
        yield None
    elif kind == "processes" and which.isdecimal() and int(which):
        with _processes(int(which)) as pool:
            yield pool
    elif kind == "dask" and which:
        with _dask(which) as client:
            yield client
    else:
        raise ValueError(
            f"--executor: expected processes:N or dask:ADDRESS, such as processes:4 or "
            f"dask:tcp://host:8786; got {text}"
        )


@contextlib.contextmanager
def _processes(count: int) -> Generator[ProcessPoolExecutor, None, None]:
    """Yields a pool of processes, which are ended at once where something is raised.

    Raises:
      BaseException: that.
    """
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_prepare_worker)
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()  # what it is writing is whole or not there
        raise
    finally:
        pool.shutdown()


def _prepare_worker() -> None:
    """Prepares a process of a pool."""
    from erasejax.cli._main import prepare_jax

    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends without a word; the command says it
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    prepare_jax()


def _leave_with_parent() -> None:
    """Ends this process when the command is gone, which may have been killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _dask(address: str) -> Any:
    """Returns a client of a Dask scheduler.

    Raises:
      ModuleNotFoundError: Dask is not installed.
    """
    try:
        distributed = importlib.import_module("dask.distributed")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--executor dask needs Dask; pip install distributed", name=error.name
        ) from None
    return distributed.Client(address)

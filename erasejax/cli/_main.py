"""Runs a command and prints what it returns, or one line that says what was wrong.

Each command is a function in a file of its own; tyro reads its signature and docstring.
"""

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

from erasejax._core.text import lines_of, plain, prepare_streams

if TYPE_CHECKING:
    from tyro.extras import SubcommandApp

__all__ = ["main"]


def _app() -> "SubcommandApp":
    """Returns the commands as a tyro application."""
    import tyro

    from erasejax.cli._apply import apply
    from erasejax.cli._arguments import command, names
    from erasejax.cli._demo import demo
    from erasejax.cli._fit import fit
    from erasejax.cli._info import info
    from erasejax.cli._merge import merge
    from erasejax.cli._probe import probe
    from erasejax.cli._sweep import report, sweep
    from erasejax.probes import Probe

    app = tyro.extras.SubcommandApp()
    known = {"erasers": names("eraser"), "probes": names("probe", Probe)}
    for function in (fit, merge, apply, probe, info, demo, sweep, report):
        app.command(command(function, known))
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
      argv: the arguments, without the program's name; None for those of the process.

    Returns:
      0, or 2 after one line on stderr that says what was wrong with the input.

    Raises:
      SystemExit: help was asked for (0), or the arguments could not be parsed (2).
      RuntimeError: a fault of erasejax or jax.
    """
    whole_process = argv is None
    argv = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    try:
        if argv == ["--version"]:
            from erasejax.files import package_version

            print(f"erasejax {package_version()}")
            return 0
        with _terminable(), _plain_warnings():
            command = _parsed(argv)
            if whole_process:
                prepare_jax()
            said = command()
            if said:
                print(lines_of(said))
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe has left
        _forget_output()
        return 1
    except (ValueError, TypeError, OSError, MemoryError, ModuleNotFoundError) as error:
        print(f"erasejax: error: {_message(error)}", file=sys.stderr)
        try:
            sys.stdout.flush()
        except OSError:  # a full disk: what is left would be tried again at the end
            _forget_output()
        return 2
    except RuntimeError as error:  # of jax, for want of a class of its own
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        print(f"erasejax: error: {_message(MemoryError(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("erasejax: interrupted; no file is half written", file=sys.stderr)
        return 130
    return 0


def _parsed(argv: list[str]) -> Callable[[], object]:
    """Returns the command that the arguments ask for.

    What is wrong with them is said with the arguments themselves, which may be names of files.

    Raises:
      SystemExit: help was asked for (0), or they could not be parsed (2).
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return _app().cli(prog="erasejax", args=argv)
    finally:
        for line in said.getvalue().splitlines():
            print(plain(line), file=sys.stderr)


def prepare_jax() -> None:
    """Keeps compiled programs for the next command, and the compiler's own messages off stderr.

    Some versions of jax say of every program they load that it was made elsewhere. What is wrong
    comes as an exception. Whoever has set TF_CPP_MIN_LOG_LEVEL or JAX_LOGGING_LEVEL sees what they
    asked for.
    """
    import jax

    from erasejax._core.program_cache import cache_programs

    config: Any = jax.config
    # jax sets the variable to 1 when it is imported, as `erasejax` is before its command line.
    if config.jax_logging_level == "NOTSET" and os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "1":
        config.update("jax_logging_level", "CRITICAL")
        for name in ("jax", "jaxlib"):  # what Python says stays
            logging.getLogger(name).setLevel(logging.NOTSET)
    cache_programs()


def _forget_output() -> None:
    """Sends what is still to be printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _message(error: Exception) -> str:
    """Returns one line that says what was wrong, safe to print."""
    if isinstance(error, ModuleNotFoundError) and error.name in {"tyro", "tqdm", "rich"}:
        return f"the command line needs {error.name}; pip install 'erasejax[cli]'"
    if isinstance(error, FileExistsError):
        text = str(error).replace("overwrite=True replaces it", "--force replaces it")
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, MemoryError):
        text = f"not enough memory ({error})"
    else:
        text = str(error)
    return plain(" ".join(text.split()))


@contextlib.contextmanager
def _terminable() -> Generator[None, None, None]:
    """Lets SIGTERM remove temporary files before it ends the process.

    An exception raised in the handler would not do: where it strikes inside a destructor or a
    callback it is dropped, and the process runs on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        from erasejax.files import discard

        discard()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _plain_warnings() -> Generator[None, None, None]:
    """Shows warnings as one line."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(
            f"erasejax: warning: {plain(' '.join(str(message).split()))}", file=sys.stderr
        )
        yield


if __name__ == "__main__":
    sys.exit(main())

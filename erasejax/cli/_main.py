"""The command line: `erasejax`, or `python -m erasejax`.

Each command is a function; tyro reads its signature and docstring. The work is done elsewhere and
imported when it is asked for.
"""

import contextlib
import functools
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Annotated, Any

from erasejax._core.text import plain, prepare_streams

__all__ = ["main"]


def _app() -> Any:
    """Returns the commands as a tyro application."""
    import tyro
    from tyro.conf import Positional, arg

    app = tyro.extras.SubcommandApp()

    def command(function: Callable[..., None]) -> None:
        """Adds a command; what tyro calls only says what to do, once it has parsed everything."""

        @functools.wraps(function)
        def later(*args: Any, **kwargs: Any) -> Callable[[], None]:
            return functools.partial(function, *args, **kwargs)

        app.command(later)

    File = Positional[Annotated[str, arg(metavar="FILE")]]
    X = Positional[Annotated[str, arg(metavar="X")]]
    Labels = Positional[Annotated[str, arg(metavar="LABELS")]]

    @command
    def fit(
        x: X,
        labels: Labels,
        /,
        *,
        out: Path,
        method: str = "mean-difference",
        task: Annotated[str | None, arg(metavar="FILE")] = None,
        concept: Annotated[str, arg(metavar="auto|classes|real")] = "auto",
        keep_mean: bool = True,
        shrinkage: float | None = None,
        shrinkage_rule: Annotated[
            str | None, arg(metavar="fixed|none|schaefer-strimmer|oas")
        ] = None,
        rank: int | None = None,
        rounds: int | None = None,
        probe: Annotated[str | None, arg(metavar="PROBE")] = None,
        directions: str | None = None,
        target: float | None = None,
        max_rank: int | None = None,
        certificate: bool = True,
        dtype: Annotated[str | None, arg(metavar="DTYPE")] = None,
        seed: int = 0,
        drop: Annotated[str | None, arg(metavar="COLUMNS")] = None,
        encoding: Annotated[str | None, arg(metavar="NAME")] = None,
        force: bool = False,
    ) -> None:
        """Fit an eraser to features and labels, and save it.

        The rows are streamed, so files may be larger than memory (all but .csv).
        Files are .npy, .npz, .csv, .parquet or .safetensors; name a part of one as x.npz:key or
        table.csv:column, and several columns as table.csv:a,b or 'table.csv:f*'. Integers, booleans
        and text are class labels. Of the rows fitted on it prints the damage, a share of their
        variance, and the certificate linear_r2, the share of the concept that least squares reads,
        before and after. After is of the rows as they will be written: rounding to float16 or
        bfloat16 may bring the concept back, and a line says so.

        Args:
          x: features, (rows, features). Of a table all columns but the labels', the task's and an
            index of pandas; or one column of lists of numbers.
          labels: one label a row.
          out: where to save the eraser, a .safetensors file.
          method: mean-difference, sal, leace, splince, oracle-leace, qleace, alf-qleace, inlp,
            rlace, ablation, random-directions, identity.
          task: what splince keeps; classes as labels, or floats, one or several columns.
          concept: what labels that are numbers mean.
          keep_mean: project about the mean of the rows, not about the origin.
          shrinkage: of the correlations of the features, 0 to 1, for leace and splince.
          shrinkage_rule: fixed takes --shrinkage; schaefer-strimmer and oas estimate it from the
            rows.
          rank: how many directions, for random-directions and rlace.
          rounds: the most rounds of inlp.
          probe: the linear probe of inlp: logistic, lda, least-squares, mean-difference, zero-one.
          directions: array (d,) or (d, r), for ablation.
          target: share of the difference of the class covariances to remove, for alf-qleace.
          max_rank: at most so many directions beyond leace's, for alf-qleace.
          certificate: compute the damage and linear_r2, which takes the covariance of the features.
          dtype: certify rows written as float64, float32, float16 or bfloat16; that of x if left
            out.
          seed: for methods that draw.
          drop: columns of a table that are no features; names and patterns, commas between.
          encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
          force: replace the output if it exists.
        """
        from erasejax.cli import _commands as commands

        _check_seed(seed)
        _say(
            commands.fit(
                x,
                labels,
                out=out,
                method=method,
                task=task,
                concept=concept,
                keep_mean=None if keep_mean else False,
                shrinkage=shrinkage,
                shrinkage_rule=shrinkage_rule,
                rank=rank,
                rounds=rounds,
                probe=probe,
                directions=directions,
                target=target,
                max_rank=max_rank,
                certificate=certificate,
                dtype=dtype,
                seed=seed,
                drop=drop,
                encoding=encoding,
                force=force,
            )
        )

    @command
    def apply(
        eraser: Positional[Annotated[str, arg(metavar="ERASER")]],
        x: X,
        /,
        *,
        out: Path,
        labels: Annotated[str | None, arg(metavar="FILE")] = None,
        dtype: Annotated[str | None, arg(metavar="DTYPE")] = None,
        drop: Annotated[str | None, arg(metavar="COLUMNS")] = None,
        encoding: Annotated[str | None, arg(metavar="NAME")] = None,
        force: bool = False,
    ) -> None:
        """Erase a concept from a file of features.

        Rows are streamed. float64 features are computed about their mean in float32, and written in
        float32, unless JAX_ENABLE_X64=1 is set; with --dtype float64 the mean keeps its digits.
        Integers become float32.

        Args:
          eraser: file saved by fit.
          x: features. Of a table the columns that the eraser was fitted on.
          out: where to write; .npy, .npz, .csv, .parquet or .safetensors.
          labels: labels of these rows, for oracle-leace and qleace, which read them.
          dtype: of the output, float64, float32, float16 or bfloat16; that of x if left out.
          drop: columns of a table that are no features; names and patterns, commas between.
          encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
          force: replace the output if it exists.
        """
        from erasejax.cli import _commands as commands

        _say(
            commands.apply(
                eraser,
                x,
                out=out,
                labels=labels,
                dtype=dtype,
                drop=drop,
                encoding=encoding,
                force=force,
            )
        )

    @command
    def probe(
        x: X,
        labels: Labels,
        /,
        *,
        method: str | None = None,
        eraser: str | None = None,
        probes: str = "logistic,lda,mean-difference",
        groups: Annotated[str | None, arg(metavar="FILE")] = None,
        keep_mean: bool = True,
        seed: int = 0,
        drop: Annotated[str | None, arg(metavar="COLUMNS")] = None,
        encoding: Annotated[str | None, arg(metavar="NAME")] = None,
        weights: bool = False,
    ) -> None:
        """Show what probes read before and after erasing.

        Two protocols. One set of rows: eraser, probe and score see the same rows. Fresh rows: the
        eraser is fitted on a third of the rows, the probe on another, and the last is scored.
        Beside the accuracy stands its 95% bootstrap interval for other rows to score. Below the
        scores it says what linear probes could read of the erased rows; on rows that the eraser
        has not seen, with a test and the smallest leak that the test would find.

        Rows of one name, sentence or template are not independent: intervals are too short and the
        test finds leaks that are none. Say with --groups which rows belong together.

        Args:
          x: features, (rows, features).
          labels: one class label a row.
          method: how to erase; mean-difference if nothing is said.
          eraser: file of an eraser fitted elsewhere, instead of a method.
          probes: logistic, lda, qda, least-squares, mean-difference, mlp, zero-one; commas between.
          groups: which rows belong together, one id a row, integers or text; no group is split.
          keep_mean: project about the mean of the rows, not about the origin.
          seed: of the split, and of methods and probes that draw.
          drop: columns of a table that are no features; names and patterns, commas between.
          encoding: of text in the files, such as cp1252; UTF-8 if nothing is said.
          weights: also show how long the weight vectors of linear probes are, per sd of x.
        """
        from rich.console import Console

        from erasejax.cli._probe import probe as scores
        from erasejax.cli._probe import render

        _check_seed(seed)
        summary, protocols = scores(
            x,
            labels,
            method=method,
            eraser=eraser,
            probes=probes,
            groups=groups,
            keep_mean=None if keep_mean else False,
            seed=seed,
            drop=drop,
            encoding=encoding,
        )
        console = Console()
        if not console.is_terminal:
            console.width = 110
        _say(summary)
        for title, table, caption in render(protocols, weights=weights):
            _say(f"\n{title}")
            console.print(table)
            _say(caption)

    @command
    def info(
        file: File,
        /,
        *,
        drop: Annotated[str | None, arg(metavar="COLUMNS")] = None,
        encoding: Annotated[str | None, arg(metavar="NAME")] = None,
    ) -> None:
        """Say what a file holds: a saved eraser or probe, or data.

        Args:
          file: what to look at; name a part of it as x.npz:key.
          drop: columns of a table to pass over; names and patterns, commas between.
          encoding: of text in the file, such as cp1252; UTF-8 if nothing is said.
        """
        from erasejax.cli import _commands as commands

        lines = commands.info(file, drop=drop, encoding=encoding)
        width = max(len(name) for name, _ in lines)
        for name, text in lines:
            _say(plain(f"{name:<{width}}  {text}"))

    @command
    def demo(
        *,
        out: Path = Path("erasejax-demo"),
        datasets: int = 4096,
        seed: int = 0,
        force: bool = False,
    ) -> None:
        """Run the demonstration on thousands of synthetic datasets, and write its report.

        Args:
          out: folder for the report.
          datasets: how many datasets to draw.
          seed: of all draws.
          force: replace what is there.
        """
        from erasejax.pages import run_demo

        _check_seed(seed)
        run_demo(out=out, datasets=datasets, seed=seed, force=force)

    @command
    def sweep(
        spec: Positional[Annotated[Path, arg(metavar="SPEC")]],
        /,
        *,
        out: Path,
        dry_run: bool = False,
        shard: Annotated[str | None, arg(metavar="I/N")] = None,
        chunk: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Run thousands of synthetic trials: datasets x erasers x probes x seeds.

        The spec is a TOML file (or Python that sets `spec`). Results go to a folder of immutable
        files, so the run may be killed at any moment and the same command goes on from there; where
        the spec has grown, only what is new is run. Several processes may share the folder.

        Args:
          spec: what to run.
          out: folder of the results.
          dry_run: say how many cells, programs, trials and bytes it would be, compile and time one
            chunk of each program, and write nothing.
          shard: do the part I of N, I from 0; by itself in a SLURM job array or a jax.distributed
            job, where 0/1 does all of it.
          chunk: datasets at once.
          memory: megabytes for the rows of a chunk on each device.
        """
        from erasejax.cli import _commands as commands

        _cache_programs()
        if dry_run:
            lines = commands.describe(spec, out=out, shard=shard, chunk=chunk, memory=memory)
            for name, text in lines:
                _say(f"{name:<9} {text}")
            return
        _say(commands.sweep(spec, out=out, shard=shard, chunk=chunk, memory=memory))

    @command
    def report(
        folder: Positional[Annotated[Path, arg(metavar="FOLDER")]],
        /,
        *,
        out: Path | None = None,
        force: bool = False,
    ) -> None:
        """Write the page of a sweep: one HTML file with a table and pictures.

        Args:
          folder: of the sweep.
          out: the page; report.html in the folder if it is left out.
          force: replace what is there.
        """
        from erasejax.pages import report as write

        _say(write(folder, out or folder / "report.html", overwrite=force))

    return app


def _cache_programs() -> None:
    """Keeps compiled programs for the next start, in the user's cache folder.

    Where JAX_COMPILATION_CACHE_DIR is set, that one is used. Versions of jax before 0.11 say of
    every program they load that the machine differs, so there it is left to the user.
    """
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is None and jax.__version_info__ >= (0, 11):
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        config.update("jax_compilation_cache_dir", str(Path(base) / "erasejax" / "programs"))
        config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


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
    argv = list(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    try:
        if argv == ["--version"]:
            from erasejax.files import package_version

            print(f"erasejax {package_version()}")
            return 0
        with _terminable(), _plain_warnings():
            _parsed(argv)()
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


def _parsed(argv: list[str]) -> Callable[[], None]:
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


def _forget_output() -> None:
    """Sends what is still to be printed nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _check_seed(seed: int) -> None:
    """Checks a seed.

    Raises:
      ValueError: it is negative, or too large.
    """
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed: expected a whole number from 0 to {2**31 - 1}, got {seed}")


def _say(text: Any) -> None:
    """Prints lines that may hold names from files."""
    for line in str(text).split("\n"):
        print(plain(line))


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

    def end(*_: Any) -> None:
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

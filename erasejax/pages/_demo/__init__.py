"""The experiment behind this library: erase a label from thousands of datasets, then look for it.

A dataset has 200 rows, two classes and three columns, two of which tell the label. Four erasers are
fitted to it, five probes look for the label afterwards, and every score is taken by two protocols:

- fitting rows: eraser, probe and score on the same rows;
- fresh rows: the eraser is fitted on one set of rows, the probe on a second, the score is of a
  third.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from erasejax._core.extras import require
from erasejax.pages._demo import example, figures, page, terminal
from erasejax.pages._demo.runs import Results, run, spec
from erasejax.pages._demo.summary import summary
from erasejax.pages._demo.table import to_table

__all__ = ["run_demo"]

_EXTRAS = {"rich": "cli", "tqdm": "cli", "pyarrow": "sweep", "matplotlib": "plot"}


def run_demo(
    *,
    out: str | Path = "erasejax-demo",
    datasets: int = 4096,
    seed: int = 0,
    force: bool = False,
) -> Path:
    """Runs the experiment, prints its table and writes a folder with data, pictures and a page.

    The folder holds index.html, results.parquet and the pictures. They are made in a temporary
    folder beside it and put in place at the end; other files in it are never touched.

    Args:
      out: the folder.
      datasets: how many datasets; `ZeroOne` sees the first 256.
      seed: of all draws, 0 to 4,095.
      force: whether to overwrite the demo's files in a folder that is not empty.

    Returns:
      The path of the page.

    Raises:
      FileExistsError: `out` has something in it and `force` is False, or it is a file.
      ModuleNotFoundError: an extra is not installed.
      ValueError: datasets or seed make no sense.
    """
    spec(datasets=datasets, seed=seed)
    for module, extra in _EXTRAS.items():
        require(module, extra)
    started = time.perf_counter()
    with _folder(Path(out), force) as folder:
        with ThreadPoolExecutor(1) as beside:
            first = beside.submit(example.first_example, seed)
            results = run(datasets=datasets, seed=seed, progress=True)
        _check(results)
        rows = summary(results)
        require("pyarrow.parquet", "sweep").write_table(
            to_table(results), folder / "results.parquet", compression="zstd"
        )
        figures.pictures(first.result(), results, folder)
        seconds = time.perf_counter() - started
        text = page.page(rows, datasets=datasets, seed=seed, seconds=seconds)
        (folder / "index.html").write_text(text, encoding="utf-8")
    terminal.show(rows)
    page_path = Path(out) / "index.html"
    print(f"{time.perf_counter() - started:.0f} s. The page: {page_path}")
    return page_path


def _check(results: Results) -> None:
    """Raises if a trial failed.

    Raises:
      ValueError: an eraser or a probe has an error bit.
    """
    for scores in results:
        bad = int(np.sum((scores["status"] & 0xFFFF) != 0))
        if bad:
            raise ValueError(f"{bad} of {scores['status'].size} trials failed")


@contextlib.contextmanager
def _folder(out: Path, force: bool) -> Generator[Path]:
    """Gives a temporary folder beside `out`, and puts its files into `out` if all went well.

    Raises:
      FileExistsError: `out` has something in it and `force` is False, or it is a file.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"{out} is a file, not a folder; choose another place")
    if out.is_dir() and not force and any(out.iterdir()):
        raise FileExistsError(
            f"{out} is not empty; choose another folder, or overwrite with force=True (--force)"
        )
    place = out.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        yield folder
        place.mkdir(exist_ok=True)
        for name in sorted(os.listdir(folder), key=lambda name: name.endswith(".html")):
            os.replace(folder / name, place / name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""What the commands share: checks before any work, and saved erasers."""

import contextlib
import os
import typing
from typing import Any, TypedDict

import jax
import numpy as np

from erasejax import files
from erasejax._core.annotations import is_a
from erasejax._core.status import raise_if_failed
from erasejax._core.types import Json
from erasejax.erasers import FittedEraser
from erasejax.files import Features, check_target, output_format, parse

__all__ = [
    "Notes",
    "check_dims",
    "check_notes",
    "check_output",
    "load_eraser",
    "share_among_cores",
]


class Notes(TypedDict, total=False):
    """What `fit` keeps beside an eraser. Names of files are without their folders.

    Attributes:
      method: its name.
      options: of the method, as they were given.
      seed: where the method draws.
      features: the file.
      labels: the file.
      task: the file, where there is one.
      rows: how many there were.
      dims: how many features.
      columns: names of the features, of a table.
      class_names: in the order of their numbers; None for a real concept.
      class_counts: rows of each.
      certificate: `damage`, `before` and `after` on these rows, where computed.
    """

    method: str
    options: dict[str, str | float | bool]
    seed: int | None
    features: str
    labels: str
    task: str | None
    rows: int
    dims: int
    columns: list[str] | None
    class_names: list[str] | None
    class_counts: list[int] | None
    certificate: dict[str, float | str | None] | None


def check_output(
    out: str | os.PathLike[str],
    force: bool,
    *inputs: str | None,
    kinds: tuple[str, ...] | None = None,
) -> None:
    """Checks that a file can be written before any work is done.

    Raises:
      ValueError: it has the wrong extension, or is one of the inputs.
      FileExistsError: it exists and force is False.
      OSError: it cannot be written.
    """
    kind = output_format(out).name
    if kinds and kind not in kinds:
        raise ValueError(f"{out}: expected the extension {' or '.join(kinds)}, got {kind!r}")
    for spec in inputs:
        if spec is not None and os.path.exists(out) and os.path.samefile(parse(spec).path, out):
            raise ValueError(f"{out}: is an input too; give the output another name")
    check_target(out, overwrite=force)


def load_eraser(path: str) -> tuple[FittedEraser, dict[str, Json]]:
    """Returns a saved eraser and its notes.

    Raises:
      ValueError: the file holds something else, a batch, or an eraser that failed.
    """
    header = files.read_header(path)
    eraser = files.load(path)
    if not isinstance(eraser, FittedEraser):
        raise ValueError(f"{path}: expected an eraser, got {header.name}")
    raise_if_failed(eraser)
    if np.ndim(eraser.status):
        shape = np.shape(eraser.status)
        raise ValueError(f"{path}: expected one eraser, the file holds a batch of shape {shape}")
    return eraser, check_notes(path, header.notes)


def check_notes(path: str, notes: dict[str, Json]) -> dict[str, Json]:
    """Returns the notes of a saved object if they are as `fit` writes them.

    Raises:
      ValueError: they are not.
    """
    kinds = typing.get_type_hints(Notes)
    for name in kinds.keys() & notes.keys():
        if not is_a(notes[name], kinds[name]):
            raise ValueError(f"{path}: damaged, its note {name!r} is not what erasejax fit writes")
    if len(notes.get("class_names") or ()) != len(notes.get("class_counts") or ()):
        raise ValueError(f"{path}: damaged, its classes and their counts differ in number")
    return notes


def check_dims(eraser: FittedEraser, path: str, features: Features) -> None:
    """Checks that an eraser was fitted on as many features.

    Raises:
      ValueError: it was not.
    """
    if features.shape[1] != eraser.dims:
        raise ValueError(
            f"{features.source}: {path} was fitted on {eraser.dims} features, got "
            f"{features.shape[1]} in {features.shape}"
        )


def share_among_cores() -> None:
    """Makes every core of the CPU a device of its own, so that a sweep shares its lanes out.

    One device runs sorts and short loops on one core. Nothing changes where the number of devices
    is set already, or where jax has begun to compute.
    """
    config: Any = jax.config
    flag = "xla_force_host_platform_device_count"
    if config.jax_num_cpu_devices == -1 and flag not in os.environ.get("XLA_FLAGS", ""):
        allowed = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
        with contextlib.suppress(RuntimeError):
            config.update("jax_num_cpu_devices", len(allowed(0)))

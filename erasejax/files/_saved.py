"""Saving and loading fitted erasers, probes, moments and arrays.

The format is safetensors. Every array of the object is one tensor, named by its path with dots
(``kernel``, ``probe.weight``). The JSON metadata hold the class name, the format version, the
package version, the static fields, and notes on how the object came to be. Nothing is pickled.
"""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

import jax
import numpy as np
import safetensors.numpy

from erasejax._core.foreign import own
from erasejax._core.pytrees import tree_classes
from erasejax._core.text import show
from erasejax._core.types import Json
from erasejax._core.warn import warn
from erasejax.files._replacing import replacing
from erasejax.files._safetensors import Entry, read_json, read_tensors, write_header
from erasejax.files._sources import check_file
from erasejax.files._trees import decode, encode
from erasejax.names import load_entry_points

__all__ = [
    "Header",
    "load",
    "package_version",
    "read_header",
    "save",
]

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Header:
    """What a file says about itself, without its numbers.

    Attributes:
      name: class name of the object, or "array", "dict", "list", "tuple".
      version: version of erasejax that wrote it.
      format_version: version of the file format.
      tree: how the tensors make up the object, with the static fields.
      notes: what `save` was given as notes.
    """

    name: str
    version: str
    format_version: int
    tree: Json
    notes: dict[str, Json]


def save(
    obj: object,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
    notes: Mapping[str, Json] | None = None,
) -> None:
    """Saves what this package makes or is given, or dicts, lists and tuples of it.

    Fitted erasers and probes, moments, datasets, results, configurations and arrays; and the
    dataclasses of modules of others whose classes are registered, see `register`.

    Arrays keep their dtype and shape, so a batch from `vmap` is saved as one object. The write is
    atomic, see `replacing`. The same object gives the same bytes.

    Args:
      obj: what to save. Arrays may be JAX or numpy.
      path: file to write; the usual extension is .safetensors.
      overwrite: False refuses to replace a file.
      notes: JSON values to keep beside the object, such as class names and how it was fitted.

    Raises:
      TypeError: `obj` holds something that has no place in the format, or notes are not JSON.
      ValueError: two arrays would have the same name.
      FileExistsError: the file exists and overwrite is False.
      OSError: the file cannot be written.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> ej.save(ej.LEACE().fit(data), "eraser.safetensors", notes={"concept": "truth"})
      >>> int(ej.load("eraser.safetensors").rank)
      1
    """
    tensors: dict[str, np.ndarray] = {}
    tree = encode(obj, "", tensors)
    known = {"columns": tree["columns"]} if "columns" in tree else {}  # where commands look
    header = {
        "format": "erasejax",
        "format_version": str(FORMAT_VERSION),
        "version": package_version(),
        "class": tree.get("class", tree["kind"]),
        "tree": json.dumps(tree),
        "notes": json.dumps(known | dict(notes or {})),
    }
    content = safetensors.numpy.save(tensors, metadata=header)
    # The library writes the metadata in arbitrary order; the same object should be the same bytes.
    size = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + size])
    entries = {"__metadata__": header} | {k: entries[k] for k in entries if k != "__metadata__"}
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        write_header(file, entries)
        file.write(memoryview(content)[8 + size :])


def load(path: str | os.PathLike[str]) -> Any:
    """Loads what `save` wrote.

    Arrays come back as JAX arrays. Where jax's x64 mode is off JAX has no 64-bit types: such arrays
    come back in 32 bits, as `jnp.asarray` gives them, and a warning says so. Set `jax_enable_x64`
    before loading to keep them.

    Args:
      path: a file written by `save`.

    Returns:
      An object of the class that was saved.

    Raises:
      ValueError: the file is damaged, was not written by erasejax, holds a class that this version
        does not know, or has a newer format.
      FileNotFoundError: there is no such file.

    Warns:
      UserWarning: 64-bit arrays came back in 32 bits.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> ej.save({"rows": data.x}, "rows.safetensors")
      >>> ej.load("rows.safetensors")["rows"].shape
      (6, 2)
    """
    header, entries = _open(path)
    narrowed: list[str] = []

    def tensor(name: str) -> jax.Array:
        if name not in entries:
            raise ValueError(f"{path}: damaged, the array {name!r} is missing")
        piece = entries[name].tensor
        if piece is None:
            raise ValueError(f"{path}: {show(name)}: {entries[name].problem}")
        if jax.dtypes.canonicalize_dtype(piece.dtype) != piece.dtype:
            narrowed.append(name)
        mapped = piece.map()
        if piece.dtype.kind == "b":
            mapped = mapped.view(np.uint8) != 0  # any byte but 0 is true
        return own(mapped)  # a copy: the array must not change with the file

    try:
        obj = decode(path, header.tree, tensor, _class_finder())
    except RecursionError:
        raise ValueError(f"{path}: damaged, its metadata are nested too deeply") from None
    if narrowed:
        warn(
            f"{path}: {', '.join(map(show, narrowed))} hold 64-bit numbers and come back in 32 "
            "bits; set jax_enable_x64 before loading to keep them"
        )
    return obj


def _class_finder() -> Callable[[str], type | None]:
    """Returns a function from names to the dataclasses that files may hold.

    Those of packages that are installed are looked for where a file holds one of others.
    """
    found = tree_classes()

    def find(name: str) -> type | None:
        if name not in found and "." in name:
            load_entry_points()
            found.update(tree_classes())
        return found.get(name)

    return functools.cache(find)


def read_header(path: str | os.PathLike[str]) -> Header:
    """Reads what a file of `save` says about itself: class, versions, static fields, notes.

    Args:
      path: a file written by `save`.

    Returns:
      `Header`.

    Raises:
      ValueError: as `load`.
      FileNotFoundError: there is no such file.
    """
    return _open(path)[0]


def package_version() -> str:
    """Returns the version of erasejax, "unknown" where it is not installed."""
    try:
        return metadata.version("erasejax")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


def _open(path: str | os.PathLike[str]) -> tuple[Header, dict[str, Entry]]:
    """Reads the header of a file, and where its arrays lie.

    Raises:
      ValueError: it is no safetensors file or damaged, not one of ours, or newer than this version.
      FileNotFoundError: there is no such file.
    """
    check_file(path)
    try:
        text, entries = read_tensors(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({error})") from None
    if text.get("format") != "erasejax":
        raise ValueError(
            f"{path}: a safetensors file, but not written by erasejax.save; its arrays are "
            f"{', '.join(map(show, sorted(entries)[:8])) or 'none'}"
        )
    version = show(text.get("version", "unknown"))
    try:
        format_version = int(text["format_version"])
        name, tree, notes = text["class"], read_json(text["tree"]), read_json(text["notes"])
        if not isinstance(notes, dict):
            raise ValueError("the notes are no JSON object")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its metadata cannot be read ({error!r})") from None
    if format_version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: has format {format_version}, written by erasejax {version}; this version "
            f"reads up to format {FORMAT_VERSION}, a newer erasejax reads it"
        )
    return Header(name, version, format_version, tree, notes), entries

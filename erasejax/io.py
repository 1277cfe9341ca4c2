"""Saving and loading fitted erasers, probes, moments and arrays.

The format is safetensors. Every array of the object is one tensor, named by its path with dots
(``kernel``, ``probe.weight``). The JSON metadata hold the class name, the format version, the
package version, the static fields, and notes on how the object came to be. Nothing is pickled.
"""

import contextlib
import dataclasses
import json
import os
import warnings
from collections.abc import Generator, Mapping
from importlib import metadata
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jax.core import Tracer

from erasejax.class_moments import ClassMoments
from erasejax.erasers.oracle_leace import OracleProjection
from erasejax.erasers.quadratic import ClassTransport
from erasejax.foreign import own
from erasejax.moments import Moments
from erasejax.pairs import PairNormalization, Pairs
from erasejax.probes.base import LinearClassifier, LinearLikelihood, LinearRegressor
from erasejax.probes.ccs import CCSClassifier
from erasejax.probes.contrast import ContrastClassifier
from erasejax.probes.kernel import FourierProbe
from erasejax.probes.mlp import MLPLikelihood
from erasejax.probes.quadratic import QuadraticClassifier
from erasejax.projection import Projection, TracedProjection
from erasejax.replacing import replacing

__all__ = [
    "Header",
    "load",
    "package_version",
    "read_header",
    "replacing",
    "save",
]

FORMAT_VERSION = 1

# What a file may hold. A new fitted class is one more entry; names are never reused.
_CLASSES = {
    cls.__name__: cls
    for cls in (
        Projection,
        TracedProjection,
        OracleProjection,
        Moments,
        LinearClassifier,
        LinearLikelihood,
        LinearRegressor,
        MLPLikelihood,
        ClassMoments,
        ClassTransport,
        QuadraticClassifier,
        FourierProbe,
        Pairs,
        PairNormalization,
        ContrastClassifier,
        CCSClassifier,
    )
}


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
    tree: Any
    notes: dict[str, Any]


def save(
    obj: Any,
    path: str | os.PathLike[str],
    *,
    overwrite: bool = True,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Saves a fitted eraser or probe, moments, arrays, or dicts, lists and tuples of them.

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
    """
    tensors: dict[str, np.ndarray] = {}
    tree = _encode(obj, "", tensors)
    header = {
        "format": "erasejax",
        "format_version": str(FORMAT_VERSION),
        "version": package_version(),
        "class": tree.get("class", tree["kind"]),
        "tree": json.dumps(tree),
        "notes": json.dumps(dict(notes or {})),
    }
    content = safetensors.numpy.save(tensors, metadata=header)
    # The library writes the metadata in arbitrary order; the same object should be the same bytes.
    size = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + size])
    entries = {"__metadata__": header} | {k: entries[k] for k in entries if k != "__metadata__"}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path, overwrite=overwrite) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
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
    """
    with _opened(path) as file:
        header = _header(path, file)
        names = set(file.keys())
        narrowed: list[str] = []

        def tensor(name: str) -> jax.Array:
            if name not in names:
                raise ValueError(f"{path}: damaged, the array {name!r} is missing")
            value = file.get_tensor(name)
            if jax.dtypes.canonicalize_dtype(value.dtype) != value.dtype:
                narrowed.append(name)
            # A copy: the array must not change with the file.
            return own(value)

        obj = _decode(path, header.tree, "", tensor)
    if narrowed:
        warnings.warn(
            f"{path}: {', '.join(narrowed)} hold 64-bit numbers and come back in 32 bits; set "
            "jax_enable_x64 before loading to keep them",
            stacklevel=2,
        )
    return obj


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
    with _opened(path) as file:
        return _header(path, file)


def package_version() -> str:
    """Returns the version of erasejax, "unknown" where it is not installed."""
    try:
        return metadata.version("erasejax")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "unknown"


@contextlib.contextmanager
def _opened(path: str | os.PathLike[str]) -> Generator[Any, None, None]:
    """Opens a safetensors file.

    Raises:
      ValueError: it is none, or damaged.
      FileNotFoundError: there is no such file.
      IsADirectoryError: it is a folder.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if os.path.isdir(path):
        raise IsADirectoryError(f"{path}: is a folder, expected a .safetensors file")
    try:
        opened = safetensors.safe_open(path, framework="numpy")
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({error})") from None
    with opened as file:
        yield file


def _header(path: Any, file: Any) -> Header:
    """Returns the header of an opened file.

    Raises:
      ValueError: not one of ours, or newer than this version.
    """
    text = file.metadata() or {}
    if text.get("format") != "erasejax":
        raise ValueError(
            f"{path}: a safetensors file, but not written by erasejax.save; its arrays are "
            f"{', '.join(sorted(file.keys())[:8]) or 'none'}"
        )
    version = text.get("version", "unknown")
    try:
        format_version = int(text["format_version"])
        name, tree, notes = text["class"], json.loads(text["tree"]), json.loads(text["notes"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: damaged, its metadata cannot be read ({error!r})") from None
    if format_version > FORMAT_VERSION:
        raise ValueError(
            f"{path}: has format {format_version}, written by erasejax {version}; this version "
            f"reads up to format {FORMAT_VERSION}, a newer erasejax reads it"
        )
    return Header(name, version, format_version, tree, notes)


def _encode(obj: Any, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Any]:
    """Describes `obj` as JSON and puts its arrays into `tensors`.

    Raises:
      TypeError: it cannot be described.
      ValueError: two arrays have one name.
    """

    def inner(key: Any, value: Any) -> dict[str, Any]:
        return _encode(value, f"{name}.{key}" if name else str(key), tensors)

    if obj is None or isinstance(obj, bool | int | float | str):
        return {"kind": "value", "value": obj}
    if isinstance(obj, jax.Array | np.ndarray | np.generic):
        if isinstance(obj, Tracer):
            raise TypeError(f"save: {name or 'the array'} is traced; save outside of jit and vmap")
        if isinstance(obj, jax.Array) and jnp.issubdtype(obj.dtype, jax.dtypes.prng_key):
            raise TypeError(f"save: {name or 'the array'} is a random key; save its key_data")
        array = np.asarray(obj)
        if array.dtype.kind in "OUSMm" or array.dtype.names is not None:
            raise TypeError(f"save: {name or 'the array'} has dtype {array.dtype}, not numbers")
        name = name or "array"
        if name in tensors:
            raise ValueError(f"save: two arrays would both be named {name!r}")
        native = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        tensors[name] = native
        return {"kind": "array", "tensor": name}
    if type(obj) is dict:
        if not all(isinstance(key, str) for key in obj):
            raise TypeError("save: the keys of a dict must be strings")
        return {"kind": "dict", "items": {key: inner(key, value) for key, value in obj.items()}}
    if type(obj) in {list, tuple}:
        items = [inner(i, value) for i, value in enumerate(obj)]
        return {"kind": type(obj).__name__, "items": items}
    cls = type(obj).__name__
    if _CLASSES.get(cls) is type(obj):
        fields = {f.name: inner(f.name, getattr(obj, f.name)) for f in dataclasses.fields(obj)}
        return {"kind": "object", "class": cls, "fields": fields}
    raise TypeError(
        f"{name or 'obj'}: cannot save a {cls}; expected arrays, dicts, lists and tuples of them, "
        f"or one of {', '.join(_CLASSES)}"
    )


def _decode(path: Any, tree: Any, name: str, tensor: Any) -> Any:
    """Rebuilds an object from its description.

    Raises:
      ValueError: the description makes no sense here.
    """
    try:
        match tree["kind"]:
            case "value":
                return tree["value"]
            case "array":
                return tensor(tree["tensor"])
            case "dict":
                return {k: _decode(path, t, k, tensor) for k, t in tree["items"].items()}
            case "list":
                return [_decode(path, t, name, tensor) for t in tree["items"]]
            case "tuple":
                return tuple(_decode(path, t, name, tensor) for t in tree["items"])
            case "object":
                return _construct(path, tree["class"], tree["fields"], tensor)
            case kind:
                raise ValueError(f"{path}: damaged, {kind!r} is no kind of object")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, its metadata cannot be read ({error!r})") from None


def _construct(path: Any, name: str, fields: dict[str, Any], tensor: Any) -> Any:
    """Builds an object of a registered class.

    Raises:
      ValueError: the class or its fields are not known here.
    """
    cls = _CLASSES.get(name)
    if cls is None:
        raise ValueError(
            f"{path}: holds a {name}, which this version of erasejax does not know; it knows "
            f"{', '.join(_CLASSES)}"
        )
    known = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    optional = {
        f.name
        for f in known.values()
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    wrong = (fields.keys() - known.keys()) | (known.keys() - optional - fields.keys())
    if wrong:
        raise ValueError(
            f"{path}: its {name} does not fit this version of erasejax, which differs in the "
            f"fields {', '.join(sorted(wrong))}"
        )
    return cls(**{key: _decode(path, value, key, tensor) for key, value in fields.items()})

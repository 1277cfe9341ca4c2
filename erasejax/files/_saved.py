"""Saving and loading fitted erasers, probes, moments and arrays.

The format is safetensors. Every array of the object is one tensor, named by its path with dots
(``kernel``, ``probe.weight``). The JSON metadata hold the class name, the format version, the
package version, the static fields, and notes on how the object came to be. Nothing is pickled.
"""

import dataclasses
import json
import os
import typing
import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from jax.core import Tracer

from erasejax._core.annotations import is_a
from erasejax._core.foreign import own
from erasejax._core.text import show
from erasejax.erasers import ClassTransport, OracleProjection
from erasejax.files._replacing import replacing
from erasejax.files._sources import check_file
from erasejax.files._tensors import DTYPES, Entry, read_json, read_tensors
from erasejax.probes import (
    CCSClassifier,
    ContrastClassifier,
    FourierProbe,
    LinearClassifier,
    LinearLikelihood,
    LinearRegressor,
    MLPLikelihood,
    QuadraticClassifier,
)
from erasejax.projection import Projection, TracedProjection
from erasejax.rows import PairNormalization, Pairs
from erasejax.statistics import ClassMoments, Moments

__all__ = [
    "Header",
    "load",
    "package_version",
    "read_header",
    "replacing",
    "save",
]

FORMAT_VERSION = 1

# What a file may hold, and the axes of the arrays of each class, without those of a batch. A letter
# is one size throughout an object; what is not named is a single number. A new fitted class is one
# more entry; names are never reused.
_LINEAR = {"weight": ("d", "d c"), "offset": ("", "c"), "center": ("d",)}
_PROJECTION = {"kernel": ("d r",), "test": ("d r",), "center": ("d",), "flat": ("d",)}
_CONTRAST = {"weight": ("d",)}
_AXES: dict[Any, dict[str, tuple[str, ...]]] = {
    Projection: _PROJECTION,
    TracedProjection: _PROJECTION | {"trace": ("m",)},
    OracleProjection: {"slopes": ("k d",), "mean_z": ("k",)},
    Moments: {
        "count": ("2",),
        "mean_x": ("2 d",),
        "mean_z": ("2 k",),
        "xx": ("d d", "d"),
        "xz": ("d k",),
        "zz": ("k k",),
        "scale": ("d",),
        "grain": ("d",),
    },
    LinearClassifier: _LINEAR,
    LinearLikelihood: _LINEAR,
    LinearRegressor: _LINEAR,
    MLPLikelihood: {"center": ("d",), "scale": ("d",)},
    ClassMoments: {},
    ClassTransport: {
        "maps": ("k d d",),
        "class_means": ("k d",),
        "center": ("d",),
        "rest": ("k d",),
    },
    QuadraticClassifier: {
        "whiten": ("k d d",),
        "means": ("k d",),
        "offset": ("k",),
        "rest": ("k d",),
    },
    FourierProbe: {"frequencies": ("d f",), "phases": ("f",), "center": ("d",)},
    Pairs: {
        "positive": ("n d",),
        "negative": ("n d",),
        "labels": ("n",),
        "templates": ("n",),
        "distractor": ("n",),
        "weights": ("n",),
    },
    PairNormalization: {"mean": ("2 t d",), "scale": ("2 t d",)},
    ContrastClassifier: _CONTRAST,
    CCSClassifier: _CONTRAST
    | {
        "start_weights": ("s d",),
        "start_biases": ("s",),
        "start_losses": ("s",),
        "start_signs": ("s",),
    },
}
_CLASSES = {cls.__name__: cls for cls in _AXES}
# Objects within objects: what their letters are outside, and the axes that all their arrays have.
_INNER: dict[Any, dict[str, tuple[dict[str, str], str]]] = {
    ClassMoments: {"classes": ({}, "k")},
    FourierProbe: {"linear": ({"d": "f"}, "")},
    ContrastClassifier: {"normalization": ({}, "")},
    CCSClassifier: {"normalization": ({}, "")},
}
# What arrays hold that do not hold floats, by the names of their fields.
_KINDS: dict[str, Any] = {"status": jnp.uint32, "flat": jnp.bool_}
_KINDS |= dict.fromkeys(("rank", "steps", "labels", "templates", "distractor"), jnp.integer)


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

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> ej.save(ej.LEACE().fit(data), "eraser.safetensors", notes={"concept": "truth"})
      >>> int(ej.load("eraser.safetensors").rank)
      1
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
        obj = _decode(path, header.tree, tensor)
    except RecursionError:
        raise ValueError(f"{path}: damaged, its metadata are nested too deeply") from None
    if narrowed:
        warnings.warn(
            f"{path}: {', '.join(map(show, narrowed))} hold 64-bit numbers and come back in 32 "
            "bits; set jax_enable_x64 before loading to keep them",
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
        if array.dtype.newbyteorder("<") not in DTYPES.values():
            raise TypeError(
                f"save: {name or 'the array'} has dtype {array.dtype}, which the format does not "
                "have; cast it first"
            )
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


def _decode(path: Any, tree: Any, tensor: Any) -> Any:
    """Rebuilds an object from its description.

    Raises:
      ValueError: the description makes no sense here.
    """
    try:
        match tree["kind"]:
            case "value":
                value = tree["value"]
                if value is not None and not isinstance(value, bool | int | float | str):
                    raise ValueError(f"{path}: damaged, {type(value).__name__} is no kind of value")
                return value
            case "array":
                return tensor(tree["tensor"])
            case "dict":
                return {k: _decode(path, t, tensor) for k, t in tree["items"].items()}
            case "list":
                return [_decode(path, t, tensor) for t in tree["items"]]
            case "tuple":
                return tuple(_decode(path, t, tensor) for t in tree["items"])
            case "object":
                return _construct(path, tree["class"], tree["fields"], tensor)
            case kind:
                raise ValueError(f"{path}: damaged, {kind!r} is no kind of object")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, its metadata cannot be read ({error!r})") from None


def _construct(path: Any, name: str, fields: dict[str, Any], tensor: Any) -> Any:
    """Builds an object of a registered class.

    Raises:
      ValueError: the class or its fields are not known here, or do not fit each other.
    """
    cls = _CLASSES.get(name)
    if cls is None:
        raise ValueError(
            f"{path}: holds a {show(name)}, which this version of erasejax does not know; it knows "
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
            f"fields {', '.join(map(show, sorted(wrong)))}"
        )
    obj = cls(**{key: _decode(path, value, tensor) for key, value in fields.items()})
    if problem := _misfit(obj):
        raise ValueError(f"{path}: damaged, its {name} {problem}")
    return obj


def _misfit(obj: Any) -> str:
    """Returns what is wrong with the fields of an object of a registered class, or "".

    An array has the axes of a batch, which all arrays of the object share, and then those that
    `_AXES` says; axes of one letter have one size.
    """
    kinds = typing.get_type_hints(type(obj))
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        if not is_a(value, kinds[field.name]):
            return f"has a {type(value).__name__} as {field.name}"
    batch: tuple[int, ...] | None = None
    forms = set()
    sizes: dict[str, int] = {}
    for name, array, options in _axes(obj):
        if not jnp.issubdtype(array.dtype, _KINDS.get(name.rpartition(".")[2], jnp.floating)):
            return f"has numbers of dtype {array.dtype} as {name}"
        # Of two forms of an array the one that fits the batch; the first array has one form.
        split = [axes.split() for axes in options]
        if batch is None:
            batch = array.shape[: max(array.ndim - len(split[0]), 0)]
        form = next(
            (i for i, axes in enumerate(split) if len(batch + (*axes,)) == array.ndim), None
        )
        if len(split) > 1:
            forms.add(form)
        fits = form is not None and len(forms) < 2 and array.shape[: len(batch)] == batch
        for axis, size in zip(split[form or 0], array.shape[len(batch) :], strict=False):
            fits &= size == (int(axis) if axis.isdigit() else sizes.setdefault(axis, size))
        if not fits:
            return f"has an array of shape {array.shape} as {name}, which does not fit the others"
    return ""


def _axes(obj: Any) -> list[tuple[str, jax.Array, tuple[str, ...]]]:
    """Returns the arrays of an object: name, array, and the axes it may have; one form first."""
    found = []
    for field in dataclasses.fields(obj):
        name, value = field.name, getattr(obj, field.name)
        if isinstance(value, jax.Array):
            found.append((name, value, _AXES[type(obj)].get(name, ("",))))
        elif isinstance(value, tuple):  # layers, each from the units of one to those of the next
            for i, layer in enumerate(value):
                before = "d" if i == 0 else f"h{i}"
                for part, axes in (("kernel", f"{before} h{i + 1}"), ("bias", f"h{i + 1}")):
                    found.append((f"{name}.{i}.{part}", layer.get(part, jnp.zeros(0)), (axes,)))
        elif type(value) in _AXES:
            letters, more = _INNER[type(obj)][name]
            for inner, array, options in _axes(value):
                outside = tuple(
                    " ".join([*more.split(), *(letters.get(axis, axis) for axis in axes.split())])
                    for axes in options
                )
                found.append((f"{name}.{inner}", array, outside))
    return sorted(found, key=lambda item: len(item[2]))

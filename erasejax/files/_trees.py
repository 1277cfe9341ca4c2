"""How objects become JSON with names of arrays, and how they are built again and held to it.

A dataclass is known by its name (`erasejax._core.pytrees`); the axes and dtypes that its arrays
must have are those of its annotations, such as `Float[Array, "d r"]`.
"""

import dataclasses
import functools
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import AbstractArray, Float

from erasejax._core.annotations import is_a
from erasejax._core.pytrees import Inner, tree_classes, tree_name
from erasejax._core.text import show
from erasejax._core.types import Json
from erasejax.files._safetensors import DTYPES
from erasejax.rows import Columned, remember_columns

__all__ = ["decode", "encode"]

Path: TypeAlias = str | os.PathLike[str]


def encode(obj: Any, name: str, tensors: dict[str, np.ndarray]) -> dict[str, Json]:
    """Describes `obj` as JSON and puts its arrays into `tensors`.

    Raises:
      TypeError: it cannot be described.
      ValueError: two arrays have one name.
    """

    def inner(key: object, value: object) -> dict[str, Json]:
        return encode(value, f"{name}.{key}" if name else str(key), tensors)

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
    cls = tree_name(type(obj))
    if tree_classes().get(cls) is type(obj):
        fields = {f.name: inner(f.name, getattr(obj, f.name)) for f in dataclasses.fields(obj)}
        described = {"kind": "object", "class": cls, "fields": fields}
        columns = obj.columns if isinstance(obj, Columned) else None
        return described if columns is None else described | {"columns": list(columns)}
    raise TypeError(
        f"{name or 'obj'}: cannot save a {cls}; expected arrays, dicts, lists and tuples of them, "
        "or a dataclass of this package or of a module whose eraser, probe or dataset is registered"
    )


def decode(
    path: str | os.PathLike[str],
    tree: Json,
    tensor: Callable[[str], jax.Array],
    known: Callable[[str], type | None],
) -> object:
    """Rebuilds an object from its description.

    Args:
      path: of the file, for messages.
      tree: the description.
      tensor: returns an array of the file.
      known: returns the dataclass of a name that files may hold, None where there is none.

    Raises:
      ValueError: the description makes no sense here.
    """

    def inner(part: Json) -> object:
        return decode(path, part, tensor, known)

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
                return {key: inner(part) for key, part in tree["items"].items()}
            case "list":
                return [inner(part) for part in tree["items"]]
            case "tuple":
                return tuple(inner(part) for part in tree["items"])
            case "object":
                cls = _find(path, tree["class"], tree["fields"], known)
                obj = cls(**{key: inner(part) for key, part in tree["fields"].items()})
                if problem := _misfit(obj):
                    raise ValueError(f"{path}: damaged, its {tree['class']} {problem}")
                columns = tree.get("columns")
                if not is_a(columns, list[str] | None):
                    raise ValueError(f"{path}: damaged, its columns are no names")
                return remember_columns(obj, columns)
            case kind:
                raise ValueError(f"{path}: damaged, {kind!r} is no kind of object")
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: damaged, its metadata cannot be read ({error!r})") from None


def _find(
    path: str | os.PathLike[str],
    name: str,
    given: Mapping[str, Json],
    known: Callable[[str], type | None],
) -> type:
    """Returns a class whose fields are those of a description.

    Raises:
      ValueError: it is not known here, or has other fields.
    """
    cls = known(name)
    if cls is None:
        hint = "" if "." not in name else "; import the package it is of, and register its classes"
        raise ValueError(
            f"{path}: holds a {show(name)}, which this version of erasejax does not know{hint}"
        )
    fields = {f.name: f for f in dataclasses.fields(cls)}
    optional = {
        f.name
        for f in fields.values()
        if f.default is not dataclasses.MISSING or f.default_factory is not dataclasses.MISSING
    }
    wrong = (given.keys() - fields.keys()) | (fields.keys() - optional - given.keys())
    if wrong:
        raise ValueError(
            f"{path}: its {name} does not fit this version of erasejax, which differs in the "
            f"fields {', '.join(map(show, sorted(wrong)))}"
        )
    return cls


class _Leaf(NamedTuple):
    """An array of an object.

    Attributes:
      name: its path.
      array: itself.
      forms: what axes it may have, such as "d r"; with "*c" any number of them.
      dtypes: what dtypes it may have.
    """

    name: str
    array: jax.Array
    forms: tuple[str, ...]
    dtypes: frozenset[str]


def _misfit(obj: Any) -> str:
    """Returns what is wrong with the fields of an object, or "".

    An array has the axes of a batch, which all arrays of the object share, and then those that its
    annotation says; axes of one name have one size.
    """
    kinds = _hints(type(obj))
    for field in dataclasses.fields(obj):
        value = getattr(obj, field.name)
        if not is_a(value, kinds[field.name]):
            return f"has a {type(value).__name__} as {field.name}"
    batch: tuple[int, ...] | None = None
    sizes: dict[str, tuple[int, ...]] = {}
    # Those of one fixed form come first, and say what the batch is.
    for leaf in sorted(_leaves(obj), key=lambda leaf: len(leaf.forms) + ("*" in leaf.forms[0])):
        if leaf.array.dtype.name not in leaf.dtypes:
            return f"has numbers of dtype {leaf.array.dtype} as {leaf.name}"
        shape = leaf.array.shape
        if batch is None:
            batch = shape[: max(len(shape) - len(leaf.forms[0].split()), 0)]
        own = shape[len(batch) :] if shape[: len(batch)] == batch else None
        bound = (None if own is None else _bound(form, own, sizes) for form in leaf.forms)
        found = next((each for each in bound if each is not None), None)
        if found is None:
            return f"has an array of shape {shape} as {leaf.name}, which does not fit the others"
        sizes |= found
    return ""


def _bound(
    form: str, shape: tuple[int, ...], sizes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]] | None:
    """Returns the sizes that a shape gives the axes of a form, None where it does not fit them."""
    names = form.split()
    spare = len(shape) - sum(not name.startswith("*") for name in names)
    found: dict[str, tuple[int, ...]] = {}
    start = 0
    for name in names:
        stop = start + (spare if name.startswith("*") else 1)
        part = shape[start:stop]
        fixed = (int(name),) if name.isdigit() else {**sizes, **found}.get(name, part)
        if stop < start or stop > len(shape) or fixed != part:
            return None
        found[name], start = part, stop
    return found if start == len(shape) else None


def _leaves(obj: Any) -> Iterator[_Leaf]:
    """Yields the arrays of an object whose axes are known."""
    kinds = _hints(type(obj))
    for field in dataclasses.fields(obj):
        value, kind = getattr(obj, field.name), kinds[field.name]
        if isinstance(value, jax.Array):
            types = [one for one in (kind, *typing.get_args(kind)) if _is_typed(one)]
            if types:
                forms = tuple(dict.fromkeys(" ".join(one.dim_str.split()) for one in types))
                dtypes = frozenset(name for one in types for name in one.dtypes)
                yield _Leaf(field.name, value, forms, dtypes)
        elif isinstance(value, tuple) and value and isinstance(value[0], dict):
            yield from _layers(field.name, value)
        elif dataclasses.is_dataclass(value):
            notes = typing.get_args(kind) if typing.get_origin(kind) is Annotated else ()
            how = next((note for note in notes if isinstance(note, Inner)), Inner())
            for leaf in _leaves(value):
                forms = tuple(
                    " ".join([*how.axes.split(), *(_renamed(a, how) for a in form.split())])
                    for form in leaf.forms
                )
                yield leaf._replace(name=f"{field.name}.{leaf.name}", forms=forms)


def _renamed(axis: str, how: Inner) -> str:
    return how.letters.get(axis, axis)


def _layers(name: str, layers: tuple[dict[str, jax.Array], ...]) -> Iterator[_Leaf]:
    """Yields the arrays of layers, each from the units of one to those of the next."""
    for i, layer in enumerate(layers):
        before = "d" if i == 0 else f"h{i}"
        for part, form in (("kernel", f"{before} h{i + 1}"), ("bias", f"h{i + 1}")):
            array = layer.get(part, jnp.zeros(0))
            yield _Leaf(f"{name}.{i}.{part}", array, (form,), _FLOATS)


_FLOATS = frozenset(Float.dtypes)  # pyright: ignore[reportAttributeAccessIssue]


@functools.cache
def _hints(cls: type) -> dict[str, object]:
    return typing.get_type_hints(cls, include_extras=True)


def _is_typed(kind: object) -> TypeGuard[type[AbstractArray]]:
    return isinstance(kind, type) and issubclass(kind, AbstractArray)

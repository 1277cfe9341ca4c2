"""Arguments that commands share, and the options that follow from the fields of erasers."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import docstring_parser
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray
from tyro.conf import Positional, arg

from erasejax._core.pytrees import Within
from erasejax.erasers import Eraser
from erasejax.files import Source, open_features, parse, read_array
from erasejax.names import Named, known, look_up
from erasejax.probes import Probe

__all__ = [
    "Columns",
    "Dtype",
    "Encoding",
    "File",
    "Files",
    "Labels",
    "OptionalFile",
    "Rows",
    "Several",
    "X",
    "check_seed",
    "command",
    "configure",
    "files_among",
    "names",
    "needs_files",
]

T = TypeVar("T")

File = Positional[Annotated[str, arg(metavar="FILE")]]
X = Positional[Annotated[str, arg(metavar="X")]]
Labels = Positional[Annotated[str, arg(metavar="LABELS")]]
Rows = Positional[Annotated[tuple[str, ...], arg(metavar="X... LABELS")]]
Files = Positional[Annotated[tuple[str, ...], arg(metavar="FILE...")]]
Several = Annotated[tuple[str, ...], arg(metavar="FILE...")]
OptionalFile = Annotated[str | None, arg(metavar="FILE")]
Dtype = Annotated[str | None, arg(metavar="DTYPE")]
Columns = Annotated[str | None, arg(metavar="COLUMNS")]
Encoding = Annotated[str | None, arg(metavar="NAME")]


class _Option(NamedTuple):
    """A field of erasers as an option.

    Attributes:
      kind: "number", "whole", "flag", "word", "probe", "eraser" or "file".
      default: of a flag.
      words: what a word may be, where that is known.
      range: of a number, or None.
      help: what the field is.
    """

    kind: str
    default: bool | None
    words: tuple[str, ...]
    range: Within | None
    help: str


def names(role: str, base: type = object) -> str:
    """Returns the names of a role for a help text."""
    return ", ".join(sorted(name for name, cls in known(role).items() if issubclass(cls, base)))


def check_seed(seed: int) -> None:
    """Checks a seed.

    Raises:
      ValueError: it is negative, or too large.
    """
    if not 0 <= seed < 2**31:
        raise ValueError(f"--seed: expected a whole number from 0 to {2**31 - 1}, got {seed}")


def command(function: Callable[..., T], words: Mapping[str, str]) -> Callable[..., Callable[[], T]]:
    """Returns what tyro calls for a command: it only says what to do, once all has been parsed.

    Where the function takes `options`, a mapping, the fields of all erasers are options of the
    command, and it gets those that were given.

    Args:
      function: the command; what it returns is printed.
      words: what stands in its docstring in braces, and what for.
    """
    hints = typing.get_type_hints(function, include_extras=True)
    options = _options() if "options" in hints else {}
    parameters = []
    for parameter in inspect.signature(function).parameters.values():
        several = options if parameter.name == "options" else {parameter.name: None}
        for name, option in several.items():
            if option is not None:
                hints[name] = _argument(option)
                parameter = parameter.replace(default=option.default)
            parameters.append(parameter.replace(name=name, annotation=hints[name]))

    def later(*args: object, **kwargs: object) -> Callable[[], T]:
        own = {name: kwargs.pop(name) for name in options}
        given = {name: v for name, v in own.items() if v != options[name].default}
        more = {"options": given} if "options" in hints else {}
        return functools.partial(function, *args, **kwargs, **more)

    # tyro would look through `functools.wraps` to the function itself.
    later.__name__ = function.__name__
    later.__doc__ = function.__doc__
    for word, text in words.items():
        later.__doc__ = (later.__doc__ or "").replace(f"{{{word}}}", text)
    later.__annotations__ = {p.name: p.annotation for p in parameters}
    signature: Any = later
    signature.__signature__ = inspect.Signature(parameters)
    return later


def configure(name: str, given: Mapping[str, Any], encoding: str | None = None) -> Eraser:
    """Builds an eraser from its name and the options that were given.

    Args:
      name: of the eraser.
      given: options by the names of the fields: numbers, words, names of probes, of erasers and of
        files.
      encoding: of text in the files, None for UTF-8.

    Raises:
      ValueError: there is no such eraser, it has no such option, or the options do not fit.
    """
    eraser = look_up("eraser", name)
    fields = _fields(eraser)
    if unknown := [key for key in given if key not in fields]:
        its = ", ".join(map(_flag, fields)) or "no options"
        raise ValueError(f"{_flag(unknown[0])} is no option of {name}, which has {its}")
    for key, option in fields.items():
        value = given.get(key)
        if option.kind == "file" and value is None:
            raise ValueError(f"{name} needs {_flag(key)} FILE: {option.help}")
        if option.words and value is not None and value not in option.words:
            raise ValueError(
                f"{_flag(key)}: expected one of {', '.join(option.words)}, got {value!r}"
            )
        if option.range and value is not None and value not in option.range:
            raise ValueError(f"{_flag(key)}: expected a number {option.range}, got {value:g}")
    eraser.check_options(given)
    build = {
        "probe": lambda value: look_up("probe", value, Probe)(),
        "eraser": lambda value: configure(value, {}, encoding),
        "file": _array(encoding),
    }
    values = {
        key: build.get(fields[key].kind, lambda value: value)(value) for key, value in given.items()
    }
    return eraser(**values)


def files_among(given: Mapping[str, object]) -> list[str]:
    """Returns the options that were given which are names of files."""
    return [
        str(given[name]) for name, o in _options().items() if o.kind == "file" and name in given
    ]


def needs_files(eraser: type[Eraser]) -> bool:
    """Returns whether an eraser cannot be built without a file: of a task, or of directions."""
    return eraser.needs_task or any(o.kind == "file" for o in _fields(eraser).values())


def _flag(field: str) -> str:
    return "--" + field.replace("_", "-")


def _options() -> dict[str, _Option]:
    """Returns the fields of all erasers as options; each says which erasers have it."""
    found: dict[str, _Option] = {}
    having: dict[str, list[str]] = {}
    for name, eraser in sorted(known("eraser").items()):
        for field, option in _fields(eraser).items():
            having.setdefault(field, []).append(name)
            if field not in found or found[field].help.startswith("as in "):
                found[field] = option
    return {
        field: option._replace(
            help=f"{option.help.rstrip('.')} ({', '.join(sorted(having[field]))})."
        )
        for field, option in sorted(found.items())
    }


def _fields(eraser: type) -> dict[str, _Option]:
    """Returns the fields of an eraser that can be given as options."""
    hints = typing.get_type_hints(eraser, include_extras=True)
    documented = {
        part.arg_name: " ".join((part.description or "").split())
        for cls in reversed(eraser.__mro__)
        for part in docstring_parser.parse(inspect.getdoc(cls) or "").params
    }
    found = {}
    for field in dataclasses.fields(eraser):
        option = _option(hints[field.name], field.default, documented.get(field.name, ""))
        if field.init and option is not None:
            found[field.name] = option
    return found


def _option(hint: object, default: object, text: str) -> _Option | None:
    """Returns a field as an option, None for one that no option can be."""
    notes = typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ()
    limits = next((note for note in notes if isinstance(note, Within)), None)
    for start in ("static; ", "() in [0, 1], ", "() "):
        text = text.removeprefix(start)
    kinds = _alternatives(hint)
    words = tuple(word for one in kinds for word in _literals(one))
    if any(isinstance(one, type) and issubclass(one, AbstractArray) for one in kinds):
        return _Option("file", None, (), None, text)
    for one in kinds:
        if isinstance(one, type) and issubclass(one, Named):
            return _Option(one.role, None, (), None, text)
    if jax.Array in kinds or kinds == [float]:
        return _Option("number", None, (), limits, text)
    if kinds == [bool]:
        return _Option("flag", bool(default), (), None, text)
    if kinds == [int]:
        return _Option("whole", None, (), limits, text)
    return _Option("word", None, words, None, text) if words or kinds == [str] else None


def _alternatives(hint: object) -> list[object]:
    """Returns the types of a union, without None."""
    if typing.get_origin(hint) is Annotated:
        return _alternatives(typing.get_args(hint)[0])
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        parts = [one for part in typing.get_args(hint) for one in _alternatives(part)]
        return [one for one in parts if one is not type(None)]
    return [hint]


def _literals(hint: object) -> tuple[str, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _argument(option: _Option) -> object:
    """Returns what tyro reads of an option."""
    kind = {"number": float | None, "whole": int | None, "flag": bool}.get(option.kind, str | None)
    metavar = {
        "number": "NUMBER",
        "whole": "N",
        "probe": "PROBE",
        "eraser": "ERASER",
        "file": "FILE",
        "word": "|".join(option.words) or "WORD",
    }
    if option.kind in metavar:
        return Annotated[kind, arg(metavar=metavar[option.kind], help=option.help)]
    return Annotated[kind, arg(help=option.help)]


def _array(encoding: str | None) -> Callable[[str], jax.Array]:
    """Returns a function that reads an array of directions from a file."""
    return lambda spec: read_directions(parse(spec, encoding))


def read_directions(source: Source) -> jax.Array:
    """Reads directions, (d,) or (d, r).

    Raises:
      ValueError: they are no finite numbers.
    """
    if source.format.is_table:
        array = open_features(source).array()
    else:
        array = read_array(source)
    is_number = array.dtype.kind in "iu" or jnp.issubdtype(array.dtype, jnp.floating)
    if array.ndim not in (1, 2) or not is_number:
        raise ValueError(
            f"{source}: expected directions, numbers (d,) or (d, r), got {array.dtype} "
            f"{array.shape}"
        )
    array = np.asarray(array, np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{source}: the directions hold NaN or infinity")
    return jnp.asarray(array)

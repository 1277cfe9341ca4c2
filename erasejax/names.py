"""What users call things: the names of erasers, probes, datasets, metrics and file formats.

A class with a `name` of its own is known by it to specs, the command line and saved files. Classes
of this package are found, since they are imported; those of others are registered, by `register` or
by an entry point of the group `erasejax` that names the class.
"""

import functools
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any, ClassVar, TypeVar

from erasejax._core.pytrees import register_module
from erasejax._core.text import nearest
from erasejax._core.warn import warn

__all__ = ["Named", "fill_room", "known", "load_entry_points", "look_up", "name_of", "register"]


_PACKAGE = __name__.partition(".")[0]
_registered: dict[tuple[str, str], type] = {}


class Named:
    """What has a name. A base class of a kind of things says their `role`.

    Attributes:
      role: "eraser", "probe", "dataset", "metric" or "format".
      name: what specs, files and the command line call it.
    """

    role: ClassVar[str]
    name: ClassVar[str]


C = TypeVar("C", bound=type[Named])


def register(cls: C) -> C:
    """Makes a class of yours known by its name; a decorator, too.

    From then on specs and the command line take the name, with the fields of the class as options,
    and files may hold it and the other flax dataclasses of its module, such as what it fits. An
    installed package can have it done by an entry point of the group `erasejax`.

    Args:
      cls: a subclass of `erasers.Eraser`, `probes.Probe`, `probes.ContrastProbe`,
        `datasets.Generator`, `metrics.Metric` or `files.Format` with a `name` of its own. A class
        of the same module and name, as of a cell that is run again, is replaced.

    Returns:
      The class.

    Raises:
      TypeError: it is no such class.
      ValueError: it has no name of its own, or another class has it.

    Example:
      >>> @ej.register
      ... class Nothing(ej.Identity):
      ...     name = "nothing"
      >>> ej.sweep.grid({"dataset": "xor-classes", "eraser": "nothing"}).parts[0].erasers[0].name
      'nothing'
    """
    if not isinstance(cls, type) or not issubclass(cls, Named) or not hasattr(cls, "role"):
        raise TypeError(
            "register: expected a class of an eraser, probe, dataset, metric or file format, got "
            f"{cls!r}"
        )
    name = vars(cls).get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"register: {cls.__qualname__} has no name of its own; set name = '...'")
    other = known(cls.role, entry_points=False).get(name)
    if other is not None and _place(other) != _place(cls):
        raise ValueError(
            f"register: the {cls.role} {name!r} is {'.'.join(_place(other))}; choose another name"
        )
    _registered[cls.role, name] = cls
    register_module(cls.__module__)
    return cls


def known(role: str, *, entry_points: bool = True) -> Mapping[str, Any]:
    """Returns the classes of a role by their names, in the order in which they were made.

    Args:
      role: see `Named`.
      entry_points: whether those of installed packages are loaded first.
    """
    if entry_points:
        load_entry_points()
    found = {
        cls.name: cls
        for cls in _descendants(Named)
        if "name" in vars(cls) and cls.role == role and _place(cls)[0].startswith(f"{_PACKAGE}.")
    }
    found |= {name: cls for (own, name), cls in _registered.items() if own == role}
    return found


def look_up(role: str, name: str, base: type = object) -> Any:
    """Returns the class that a name stands for.

    Args:
      role: see `Named`.
      name: the name.
      base: of what it must be a subclass, where not all of the role will do.

    Raises:
      ValueError: there is none; the message suggests the nearest name.
    """
    table = {key: cls for key, cls in known(role).items() if issubclass(cls, base)}
    if name in table:
        return table[name]
    near = nearest(name.lower().replace("_", "-"), table)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ValueError(f"unknown {role} {name!r}; {hint}there are {', '.join(sorted(table))}")


def name_of(value: object) -> str:
    """Returns what specs call a configuration: its name, or where its class is, if it has none."""
    cls = type(value)
    if issubclass(cls, Named) and known(cls.role).get(getattr(cls, "name", "")) is cls:
        return cls.name
    return ".".join(_place(cls))


def fill_room(room: str) -> None:
    """Imports every file of a folder, and gives what has a name there and is not given yet.

    So that a new eraser, probe, dataset or metric is one new file.

    Args:
      room: name of a package, such as "erasejax.erasers", from its `__init__`.
    """
    package = sys.modules[room]
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{room}.{found.name}")
        for name, value in vars(module).items():
            own = isinstance(value, type) and value.__module__ == module.__name__
            if own and "name" in vars(value) and not hasattr(package, name):
                setattr(package, name, value)
                vars(package)["__all__"] = sorted([*package.__all__, name])


@functools.cache
def load_entry_points() -> None:
    """Registers what installed packages name in the group `erasejax`; what fails is a warning."""
    for point in metadata.entry_points(group=_PACKAGE):
        try:
            register(point.load())
        except Exception as error:  # a package of others must not stop this one
            warn(f"the entry point {point.name} = {point.value} cannot be used: {error}")


def _descendants(cls: type[Named]) -> Iterator[type[Named]]:
    for below in cls.__subclasses__():
        yield below
        yield from _descendants(below)


def _place(cls: type) -> tuple[str, str]:
    return cls.__module__, cls.__qualname__

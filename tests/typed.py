"""What public functions and methods return, held against their annotations: in tests only."""

import functools
import inspect
import typing

from beartype.door import die_if_unbearable
from jaxtyping import AbstractArray, jaxtyped

import erasejax as ej
from erasejax._core.pytrees import Tree
from erasejax.names import Named

ROOMS = (ej, ej.datasets, ej.erasers, ej.metrics, ej.probes, ej.projection, ej.rows, ej.statistics)
ROOMS += (ej.transport,)


def is_array(hint):
    return isinstance(hint, type) and issubclass(hint, AbstractArray)


@functools.cache
def checked(function):
    """Returns a function whose result must be what it says, of axes that agree with its arrays.

    Other arguments are not held to anything: tests give wrong ones, and expect the package's word.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError:  # a type of a package that is imported when it is used
        return function
    result = hints.pop("return", None)
    arrays = {name: hint for name, hint in hints.items() if is_array(hint)}
    if result is None or isinstance(result, typing.TypeVar) or result is typing.Self:
        return function
    bind = inspect.signature(function).bind

    @functools.wraps(function)
    def call(*args, **kwargs):
        found = function(*args, **kwargs)
        with jaxtyped("context"):
            given = bind(*args, **kwargs).arguments if arrays else {}
            for name in arrays.keys() & given.keys():
                die_if_unbearable(given[name], arrays[name])
            die_if_unbearable(found, result)
        return found

    return call


def check_class(cls):
    """Has every public method and property of a class checked."""
    for name, member in list(vars(cls).items()):
        if name.startswith("_") and name != "__call__":
            continue
        if inspect.isfunction(member):
            setattr(cls, name, checked(member))
        elif isinstance(member, classmethod):
            setattr(cls, name, classmethod(checked(member.__func__)))
        elif isinstance(member, property) and member.fget is not None:
            setattr(cls, name, property(checked(member.fget), doc=member.__doc__))


def check_package():
    """Has what the rooms give checked from now on."""
    things = {(room, name): getattr(room, name) for room in ROOMS for name in room.__all__}
    for cls in {thing for thing in things.values() if inspect.isclass(thing)}:
        if issubclass(cls, Named | Tree) and cls is not ej.rows.Dataset:
            check_class(cls)
    for (room, name), thing in things.items():
        if inspect.isfunction(thing) and not hasattr(thing, "_cache_size"):
            setattr(room, name, checked(thing))

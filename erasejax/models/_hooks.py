"""Functions of what modules return, in force for the time of a context.

They run in the order in which their contexts were opened, and before hooks of anybody else that
were there: what a model records of itself is what goes on.

Modules of flax nnx have no hooks. There the module gets a class of its own for the time, a subclass
whose `__call__` goes on to the functions. A class is part of what `nnx.jit` keeps programs by: one
that was traced before the context is not taken for one inside, nor afterwards.
"""

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any, Protocol, TypeAlias

from erasejax.models._paths import find_modules, is_torch_model

__all__ = ["hooked", "replaced"]

Function: TypeAlias = Callable[[Any], Any]  # of an output; returns what goes on in its place


class _Hook(Protocol):
    """All functions that are in force at one module."""

    functions: list[Function]

    def add(self, function: Function) -> None:
        """Has another function in force, after all others."""
        ...

    def remove(self, function: Function) -> None:
        """Has one no longer; without any the module is as it was."""
        ...


_active: dict[int, _Hook] = {}  # by the id of the module, which they hold


@contextlib.contextmanager
def hooked(model: Any, functions: Mapping[str, Function]) -> Generator[None, None, None]:
    """Has functions of what modules return in force, by path; whatever happens they are removed.

    Args:
      model: a torch module or a flax nnx Module.
      functions: by path.

    Raises:
      TypeError: the model is neither.
      ValueError: there is no such path.
    """
    modules = find_modules(model, functions)
    make = _TorchHook if is_torch_model(model) else _NnxHook
    with contextlib.ExitStack() as stack:
        for path, module in modules.items():
            hook = _active.setdefault(id(module), make(module))
            stack.callback(_remove, module, hook, functions[path])
            hook.add(functions[path])
        yield


@contextlib.contextmanager
def replaced(model: Any, outputs: Mapping[str, Any]) -> Generator[None, None, None]:
    """Has modules return what is given, by path, and compute nothing.

    Args:
      model: as for `hooked`.
      outputs: by path.
    """
    torch = is_torch_model(model)
    with contextlib.ExitStack() as stack:
        for path, module in find_modules(model, outputs).items():

            def give(*args: Any, output: Any = outputs[path], **kwargs: Any) -> Any:
                return output

            if torch:
                there = vars(module).get("forward")  # what somebody else has put there
                stack.callback(_put_forward, module, there)
                _put_forward(module, give)
            else:
                stack.callback(object.__setattr__, module, "__class__", type(module))
                object.__setattr__(module, "__class__", _subclass(type(module), [], give))
        yield


def _put_forward(module: Any, forward: Callable[..., Any] | None) -> None:
    """Gives a torch module a forward of its own, or none."""
    if forward is None:
        vars(module).pop("forward", None)
    else:
        vars(module)["forward"] = forward


def _remove(module: Any, hook: _Hook, function: Function) -> None:
    hook.remove(function)
    if not hook.functions:
        del _active[id(module)]


class _TorchHook:
    """One forward hook of a torch module for all functions."""

    def __init__(self, module: Any):
        self.module, self.functions, self.handle = module, [], None

    def add(self, function: Function) -> None:
        self.functions.append(function)
        if self.handle is None:
            self.handle = self.module.register_forward_hook(self._run, prepend=True)

    def remove(self, function: Function) -> None:
        self.functions.remove(function)
        if self.handle is not None and not self.functions:
            self.handle.remove()

    def _run(self, module: Any, arguments: Any, output: Any) -> Any:
        for function in tuple(self.functions):
            output = function(output)
        return output


class _NnxHook:
    """A class of its own for a flax nnx module."""

    def __init__(self, module: Any):
        self.module, self.functions, self.original = module, [], type(module)
        self.made: list[list[Function]] = []

    def add(self, function: Function) -> None:
        self.functions.append(function)
        self._renew()

    def remove(self, function: Function) -> None:
        self.functions.remove(function)
        for functions in self.made:  # copies made inside the context keep the class
            if function in functions:
                functions.remove(function)
        self._renew()

    def _renew(self) -> None:
        """Gives the module a new class, so that programs traced with others are not reused."""
        cls = self.original
        if self.functions:
            self.made.append(list(self.functions))
            cls = _subclass(self.original, self.made[-1])
        object.__setattr__(self.module, "__class__", cls)


def _subclass(
    original: type, functions: list[Function], forward: Callable[..., Any] | None = None
) -> type:
    """Returns a class that calls functions on what the original returns, or another function."""
    forward = forward or original.__call__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        for function in tuple(functions):
            output = function(output)
        return output

    named = ("__module__", "__qualname__", "__doc__")
    members = {name: getattr(original, name) for name in named} | {"__call__": call}
    return type(original)(original.__name__, (original,), members)

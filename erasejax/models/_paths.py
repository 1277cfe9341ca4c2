"""The modules of a model by path, such as "encoder.layer.3": torch's names, and the same of nnx."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from erasejax._core.text import nearest

__all__ = ["find_modules", "is_called", "is_torch_model"]


def find_modules(model: Any, paths: Iterable[str]) -> dict[str, Any]:
    """Returns the modules of a model at the paths.

    Args:
      model: a torch module, by its methods, or a flax nnx Module.
      paths: attributes, and places in lists and dicts, joined by dots; "" for the model itself.

    Raises:
      TypeError: the model is neither, or a path is no text.
      ValueError: there is no such path, or what is there is never called, as a list of layers.
    """
    modules, found = _modules(model), {}
    for path in paths:
        if not isinstance(path, str):
            raise TypeError(f"paths: expected text such as 'encoder.layer.3', got {path!r}")
        if path not in modules:
            raise ValueError(
                f"{path}: {type(model).__name__} has no such module{_near(path, modules)}"
            )
        if not is_called(modules[path]):
            inner = [name for name in modules if name.startswith(f"{path}.")]
            hint = f"; name what is in it, such as {inner[0]!r}" if inner else ""
            raise ValueError(
                f"{path}: a {type(modules[path]).__name__} is never called, it only holds "
                f"modules{hint}"
            )
        found[path] = modules[path]
    return found


def is_torch_model(model: Any) -> bool:
    """Returns whether a model is a module of torch, by its methods."""
    return hasattr(model, "named_modules") and hasattr(model, "register_forward_hook")


def _modules(model: Any) -> dict[str, Any]:
    """Returns all modules of a model by path; one that has several paths by each.

    Raises:
      TypeError: it is of neither library.
    """
    if is_torch_model(model):
        return dict(model.named_modules(remove_duplicate=False))
    from flax import nnx

    if not isinstance(model, nnx.Module):
        raise TypeError(
            f"model: expected a torch module or a flax nnx Module, got {type(model).__name__}"
        )
    found: dict[str, Any] = {}

    def walk(path: str, value: Any, above: tuple[int, ...]) -> None:
        if id(value) in above:  # a module that holds one that holds it
            return
        if isinstance(value, nnx.Module):
            found[path] = value
        for name, child in _children(value, nnx.Module):
            walk(f"{path}.{name}" if path else name, child, (*above, id(value)))

    walk("", model, ())
    return found


def _children(value: Any, kind: type) -> list[tuple[str, Any]]:
    """Returns what may hold modules in a module, a list or a dict, by name."""
    if isinstance(value, Mapping):
        pairs = [(str(name), value[name]) for name in value]
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        pairs = [(str(place), child) for place, child in enumerate(value)]
    elif isinstance(value, kind):
        pairs = list(vars(value).items())
    else:
        pairs = []
    return [(name, child) for name, child in pairs if isinstance(child, kind | Mapping | Sequence)]


def is_called(module: Any) -> bool:
    """Returns whether a module does anything itself."""
    forward = getattr(type(module), "forward", None)
    return callable(module) and getattr(forward, "__name__", "") != "_forward_unimplemented"


def _near(path: str, modules: Mapping[str, Any]) -> str:
    """Returns what may have been meant, for the end of a message."""
    names = [name for name in modules if name]
    deeper = [name for name in names if name.endswith(f".{path}")]
    close = deeper or nearest(path, names, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(map(repr, close[:2]))}?"
    return f"; it has {', '.join(map(repr, names[:4]))}{' ...' if len(names) > 4 else ''}"

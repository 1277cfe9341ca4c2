"""The hidden state in what a module returns, and another one in its place.

Modules return a tensor, a tuple or list whose first entry is the hidden state, or a dataclass (as
transformers makes them) or mapping with the hidden state among its fields.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from erasejax.models._tensors import is_float_tensor

__all__ = ["hidden_state"]


def hidden_state(output: Any, width: int | None = None) -> tuple[Any, Callable[[Any], Any]]:
    """Returns the hidden state of an output, and a function that puts another in its place.

    Args:
      output: what a module returned.
      width: how many features the hidden state has; None for any. Of the fields of a dataclass or a
        mapping it is the first tensor of so many; of a tuple or a list what comes first.

    Returns:
      The tensor; and of another tensor the output with that. The output itself is not changed.

    Raises:
      TypeError: there is no tensor of floats where one should be.
      ValueError: it has another number of features.
    """
    if is_float_tensor(output):
        if output.ndim and width in (None, output.shape[-1]):
            return output, lambda new: new
        raise ValueError(
            f"expected a hidden state of {width} features, got shape {tuple(output.shape)}"
        )
    if isinstance(output, tuple | list) and output:
        first, put = hidden_state(output[0], width)
        return first, lambda new: _with_first(output, put(new))
    fields = _fields(output)
    for name, value in fields.items():
        if is_float_tensor(value) and value.ndim > 1 and width in (None, value.shape[-1]):
            return value, functools.partial(_with_field, output, name)
    if any(is_float_tensor(value) for value in fields.values()):
        raise ValueError(
            f"expected a {type(output).__name__} with a hidden state of {width} features among its "
            f"fields {', '.join(fields)}"
        )
    raise TypeError(
        "expected a tensor, or a tuple, dataclass or mapping with one, got a "
        f"{type(output).__name__}"
    )


def _fields(output: Any) -> dict[str, Any]:
    """Returns the fields of a dataclass or the items of a mapping, by name."""
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
    return dict(output) if isinstance(output, Mapping) else {}


def _with_first(output: tuple | list, first: Any) -> Any:
    if hasattr(output, "_replace"):  # a named tuple
        return output._replace(**{output._fields[0]: first})  # pyright: ignore
    kind: Any = type(output)
    return kind([first, *output[1:]])


def _with_field(output: Any, name: str, value: Any) -> Any:
    if not isinstance(output, Mapping) or dataclasses.is_dataclass(output):
        return dataclasses.replace(output, **{name: value})
    kind: Any = type(output)
    return kind({key: value if key == name else own for key, own in output.items()})

"""The columns of a table that say what a trial was."""

import json
from collections.abc import Sequence
from typing import TypeAlias

from erasejax._core.types import Json
from erasejax.sweep._cells import Cell
from erasejax.sweep._grid import ROLES

__all__ = ["Value", "describe", "key_of", "word"]

Value: TypeAlias = str | float | None  # of a field, in a table


def describe(cells: Sequence[Cell]) -> dict[str, list[Value]]:
    """Returns the columns that tell cells apart: names of roles, and fields that differ."""
    columns: dict[str, list[Value]] = {}
    for role in ROLES:
        configs = [getattr(cell, role) for cell in cells]
        columns[role] = [config.name for config in configs]
        fields = dict.fromkeys(name for config in configs for name in config.fields)
        for field in fields:
            values = [_flat(config.fields.get(field)) for config in configs]
            own = {
                (config.name, value)
                for config, value in zip(configs, values, strict=True)
                if field in config.fields
            }
            if len(own) > len({name for name, _ in own}):  # one class with several values
                columns[f"{role}.{field}"] = _of_one_kind(values)
        content = f"{role}.content"  # of own rows: a hash, told only where nothing else differs
        if content in columns:
            rest = [columns[name] for name in columns if name != content]
            others = list(zip(*rest, strict=True))
            if len({*others}) == len({*zip(others, columns[content], strict=True)}):
                del columns[content]
    if len({cell.labels for cell in cells}) > 1:
        columns["labels"] = [cell.labels for cell in cells]
    return columns


def key_of(values: Sequence[Value]) -> tuple:
    """Returns values of axes as a key: numbers as floats, and None where there is none."""

    def plain(value):
        if isinstance(value, str):
            return value
        return None if value is None or value != value else float(value)

    return tuple(plain(value) for value in values)


def _flat(value: Json) -> Value:
    """Returns a value of a field as a number or a word."""
    return json.dumps(value) if isinstance(value, list | dict) else value


def _of_one_kind(values: Sequence[Value]) -> list[Value]:
    """Returns values that are all numbers or all words, None where there is none."""
    kinds = {isinstance(value, str) for value in values if value is not None}
    if len(kinds) == 1:
        return list(values)
    try:  # "inf" is how JSON says it
        return [None if value is None else float(value) for value in values]
    except ValueError:
        return [None if value is None else word(value) for value in values]


def word(value: Value) -> str:
    """Returns a value as a word, "" where there is none."""
    if isinstance(value, str):
        return value
    return "" if value is None or value != value else f"{value:g}"

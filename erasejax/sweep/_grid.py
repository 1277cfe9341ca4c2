"""What to run: specs, and the grids they stand for.

A spec is a table (a dict, or a TOML file). `dataset`, `eraser` and `probe` are each a name, a table
with a `name` and fields, a configuration object, or a list of these; in a table a list is an axis.
An axis that a configuration does not have does not multiply it. `[[part]]` tables are specs of
their own that take what they leave out from the top, so a sweep may be a sum of products.
"""

import dataclasses
import functools
import itertools
import json
import os
import runpy
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from erasejax._core.text import nearest
from erasejax.datasets import FileRows, OwnRows, Rows
from erasejax.files import find_layers
from erasejax.names import Named, known, look_up, name_of
from erasejax.sweep._cells import BLOCK, Config, Grid, Product, Table, canonical
from erasejax.sweep._columns import PROTOCOLS, Columns, metric_names
from erasejax.sweep._trial import LABELS

__all__ = ["ROLES", "grid", "read_spec"]

ROLES = ("dataset", "eraser", "probe")

_DEFAULTS: Table = {
    "eraser": ["identity", "mean-difference"],
    "probe": "logistic",
    "labels": "true",
    "protocols": list(PROTOCOLS),
    "metrics": ["accuracy", "auroc", "damage", "rank"],
    "seeds": 1024,
    "first_seed": 0,
}
Spec: TypeAlias = Table | str | Path | Grid

_KEYS = ("dataset", *_DEFAULTS)
_MAX_SEED = 2**32


def read_spec(path: str | Path) -> Spec:
    """Reads a spec from a file: TOML, or Python that sets the name `spec`.

    Args:
      path: ends in .toml or .py.

    Returns:
      The spec, for `grid`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is not valid TOML, sets no `spec`, or has another extension.

    Example:
      >>> from pathlib import Path
      >>> _ = Path("spec.toml").write_text('dataset = "xor-classes"')
      >>> ej.sweep.read_spec("spec.toml")
      {'dataset': 'xor-classes'}
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a spec, .toml or .py")
    if path.suffix == ".toml":
        try:
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not valid TOML: {error}") from None
    if path.suffix == ".py":
        names = runpy.run_path(str(path), run_name=path.stem)
        if "spec" not in names:
            raise ValueError(f"{path}: expected it to set the name spec")
        return names["spec"]
    raise ValueError(f"{path}: expected the extension .toml or .py")


def grid(spec: Spec) -> Grid:
    """Returns the grid that a spec stands for, every name and value checked.

    Args:
      spec: a table with `dataset`, and where the defaults will not do `eraser` (identity and
        mean-difference), `probe` (logistic), `labels` ("true"; "permuted" is the null: labels are
        permuted before anything is fitted), `protocols` ("fitting", "fresh"), `metrics`, `seeds`
        (1,024), `first_seed` (0, a multiple of 1,024) and `part`; the path of a spec; or a `Grid`.

    Returns:
      The grid.

    Raises:
      TypeError: the spec is none of these.
      ValueError: a name, field or value is not known, or does not fit; the message suggests the
        nearest name.

    Example:
      >>> erasers = ["sal", {"name": "leace", "shrinkage": [0.0, 0.1]}]  # shrinkage is an axis
      >>> grid = ej.sweep.grid({"dataset": "xor-classes", "eraser": erasers})
      >>> sum(1 for part in grid.parts for _ in part.cells())
      3
    """
    if isinstance(spec, Grid):
        if spec.parts[0].datasets[0].value is None:
            raise ValueError(
                "spec: a grid that was read from a folder says what was run; it is no "
                "spec to run again"
            )
        return spec
    if isinstance(spec, str | Path):
        spec = read_spec(spec)
    if not isinstance(spec, Mapping):
        raise TypeError(f"spec: expected a table or the path of one, got {type(spec).__name__}")
    top = {key: value for key, value in spec.items() if key != "part"}
    parts = spec.get("part", [{}])
    if not isinstance(parts, list) or not parts or not all(isinstance(p, Mapping) for p in parts):
        raise ValueError("part: expected a list of tables, [[part]] in TOML")
    return Grid(tuple(_product({**top, **part}) for part in parts))


def _product(table: Table) -> Product:
    """Resolves one product.

    Raises:
      ValueError: as `grid`.
    """
    for key in table:
        if key not in _KEYS:
            raise ValueError(f"{key}: no such key of a spec; {_hint(key, _KEYS)}")
    if "dataset" not in table:
        raise ValueError(f"dataset: missing; one or more of {', '.join(known('dataset'))}")
    table = {**_DEFAULTS, **table}
    seeds, first = (_whole(key, table[key]) for key in ("seeds", "first_seed"))
    if seeds < 1 or first < 0 or first + seeds > _MAX_SEED or first % BLOCK:
        raise ValueError(
            f"seeds, first_seed: expected 1 or more below 2**32, the first a multiple of {BLOCK}; "
            f"got {seeds} from {first}"
        )
    roles = [_unique(_configs(role, table[role])) for role in ROLES]
    columns = Columns(
        _words("metrics", table["metrics"], metric_names()),
        _words("protocols", table["protocols"], tuple(PROTOCOLS)),
    )
    labels = _words("labels", table["labels"], LABELS)
    return Product(*roles, labels=labels, seeds=(first, first + seeds), columns=columns)


def _configs(role: str, value: object) -> list[Config]:
    """Returns the configurations that the value of a role stands for.

    Raises:
      ValueError: it stands for none.
    """
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError(f"{role}: expected at least one, got an empty list")
        return [config for each in value for config in _configs(role, each)]
    if isinstance(value, str):
        value = {"name": value}
    if isinstance(value, Mapping):
        return _expand(role, value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        other = getattr(type(value), "role", role)
        if other != role:
            raise ValueError(f"{role}: {type(value).__name__} is of the role {other}")
        return [_config(role, value)]
    raise ValueError(f"{role}: expected a name, a table or a configuration object, got {value!r}")


def _expand(role: str, table: Table) -> list[Config]:
    """Returns the product of the axes of a table.

    Raises:
      ValueError: a name or field is not known.
    """
    names = table.get("name")
    if names is None:
        raise ValueError(f"{role}.name: missing; one or more of {', '.join(known(role))}")
    axes = {key: value for key, value in table.items() if key != "name"}
    names = _names(f"{role}.name", names)
    classes = [look_up(role, name) for name in names]
    fields = [_fields(cls) for cls in classes]
    for key, values in axes.items():
        some = sorted(set().union(*fields))
        if key not in some:
            raise ValueError(f"{role}.{key}: no field of {', '.join(names)}; {_hint(key, some)}")
        if not _listed(values):
            raise ValueError(f"{role}.{key}: expected at least one value, got an empty list")
    found = []
    for cls, own in zip(classes, fields, strict=True):
        mine = {key: _listed(values) for key, values in axes.items() if key in own}
        files = mine.get("file", [None])
        if cls is FileRows and all(isinstance(file, str | os.PathLike) for file in files):
            mine["file"] = list(find_layers(files))  # patterns are layers
        for values in itertools.product(*mine.values()):
            given: dict[str, Any] = dict(zip(mine, values, strict=True))
            if cls is not Rows:  # whose arrays are fields
                given = {k: _value(f"{role}.{k}", own[k], value) for k, value in given.items()}
            found.append(_config(role, cls(**given)))
    return found


def _config(role: str, value: Any) -> Config:
    """Returns the configuration of an object, its fields normalised."""
    if isinstance(value, OwnRows):
        return Config(name_of(value), value.described(), value, value.draws)
    fields = _fields(type(value))
    given = {
        key: _value(f"{role}.{key}", field, getattr(value, key)) for key, field in fields.items()
    }
    value = dataclasses.replace(value, **given)
    return Config(name_of(value), {key: _json(role, v) for key, v in given.items()}, value)


def _value(where: str, field: dataclasses.Field, value: Any) -> object:
    """Returns the value of a field in the type that the field has.

    Numbers that a sweep can map over become floats of the working precision, arrays become numpy;
    static fields become Python's own types.

    Raises:
      ValueError: it does not fit.
    """
    usual = _default(field)
    if isinstance(usual, Named):  # an eraser that has a probe or an eraser of its own
        found = _configs(usual.role, value)
        if len(found) != 1:
            raise ValueError(
                f"{where}: expected one {usual.role}, got {len(found)}; write a list for more"
            )
        return found[0].value
    if value is None:
        return None
    if field.metadata.get("pytree_node", True):
        array = np.asarray(value)
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{where}: expected a number, got {value!r}")
        if array.ndim == 0:
            return _shortest(where, array)
        if not np.isfinite(array).all():
            raise ValueError(f"{where}: expected finite numbers, got {value!r}")
        return np.vectorize(functools.partial(_shortest, where), otypes=[float])(array)
    if isinstance(value, list | tuple | np.ndarray):
        return tuple(_whole(where, each) for each in value)
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(usual, float) and isinstance(value, int | float) and type(value) is not bool:
        return float(value)
    if isinstance(usual, bool | str):
        if type(value) is not type(usual):
            kind = "true or false" if isinstance(usual, bool) else "a word"
            such = json.dumps(usual)
            raise ValueError(f"{where}: expected {kind} (such as {such}), got {value!r}")
        return value
    # Fields that may be left out hold whole numbers.
    return value if isinstance(value, str) and usual is None else _whole(where, value)


def _shortest(where: str, value: np.ndarray) -> float:
    """Returns the number with the fewest digits that is the same in the working precision.

    Raises:
      ValueError: it is finite, and too large.
    """
    dtype = jax.dtypes.canonicalize_dtype(float)
    with np.errstate(over="ignore"):
        found = dtype.type(value)
    if np.isinf(found) and np.isfinite(value):
        raise ValueError(f"{where}: {value:g} is more than {dtype} holds")
    return float(str(found)) + 0.0  # -0.0 is 0.0


def _json(role: str, value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Named):
        return _config(value.role, value).json
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _fields(cls: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _default(field: dataclasses.Field) -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _whole(where: str, value: object) -> int:
    """Returns a whole number.

    Raises:
      ValueError: it is none.
    """
    number = isinstance(value, int | float | np.integer | np.floating)
    if isinstance(value, bool) or not number or not np.isfinite(value) or value != int(value):
        raise ValueError(f"{where}: expected a whole number, got {value!r}")
    return int(value)


def _words(key: str, value: object, known: Sequence[str]) -> tuple[str, ...]:
    """Returns words of a list, or of one word.

    Raises:
      ValueError: there are none, or one is not known.
    """
    words = tuple(dict.fromkeys(_names(key, value)))
    if not words:
        raise ValueError(f"{key}: expected one or more of {', '.join(known)}")
    for word in words:
        if word not in known:
            raise ValueError(f"{key}: unknown {word!r}; {_hint(word, known)}")
    return words


def _names(key: str, value: object) -> list[str]:
    """Returns names of a list, or of one name.

    Raises:
      ValueError: one is no text.
    """
    names = _listed(value)
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{key}: expected a name or a list of names, got {name!r}")
    return names


def _hint(name: str, known: Iterable[str]) -> str:
    known = list(known)
    near = nearest(name.lower(), known)
    return (f"did you mean {near[0]}? " if near else "") + f"there are {', '.join(known)}"


def _listed(value: Any) -> list[Any]:
    """Returns the values of an axis; one value is an axis of one."""
    several = isinstance(value, list | tuple | range) or np.ndim(value) > 0
    return list(value) if several else [value]


def _unique(configs: Iterable[Config]) -> tuple[Config, ...]:
    """Returns the configurations, each once, in the order they were given."""
    return tuple({canonical(config.json): config for config in configs}.values())

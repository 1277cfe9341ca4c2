"""The command `info`: what a file holds."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from erasejax import files
from erasejax._core.status import describe
from erasejax._core.text import show
from erasejax.cli._arguments import Columns, Encoding, File
from erasejax.cli._common import check_notes
from erasejax.files import (
    Source,
    Stored,
    load_counted,
    open_array,
    open_table,
    parse,
    read_tensors,
    readable,
)

__all__ = ["info"]

_SHOWN = 20  # columns, arrays and classes listed
_CHUNK = 1 << 22


def info(file: File, /, *, drop: Columns = None, encoding: Encoding = None) -> str:
    """Say what a file holds: a saved eraser or probe, or data.

    Args:
      file: what to look at; name a part of it as x.npz:key.
      drop: columns of a table to pass over; names and patterns, commas between.
      encoding: of text in the file, such as cp1252; UTF-8 if nothing is said.

    Returns:
      Lines, each a name and a text.

    Raises:
      ValueError: the file is damaged or unknown.
      FileNotFoundError: there is no such file.
    """
    lines = _lines(file, drop, encoding)
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def _lines(file: str, drop: str | None, encoding: str | None) -> list[tuple[str, str]]:
    """Returns what `info` says, as pairs of a name and a text.

    Raises:
      ValueError: the file is damaged or unknown.
    """
    source = parse(file, encoding)
    if drop is not None and not source.format.is_table:
        raise ValueError(f"{source}: has no columns with names; leave out --drop")
    if source.kind == ".safetensors" and source.part is None and _is_ours(source):
        return _saved(str(source.path))
    if source.format.is_table:
        return _table(source, drop)
    if source.part is None:
        with readable(source):
            arrays = source.format.open(source)
        if len(names := list(arrays)) != 1:
            return [
                ("file", f"{source.path}, {len(names)} arrays"),
                *((show(name), _described(source, name, arrays[name])) for name in names[:_SHOWN]),
                *_more(names, "arrays"),
            ]
    return _array(source)


def _is_ours(source: Source) -> bool:
    with readable(source):
        return read_tensors(source.path)[0].get("format") == "erasejax"


def _saved(path: str) -> list[tuple[str, str]]:
    header = files.read_header(path)
    obj = files.load(path)
    lines = [("file", f"{path}, {show(header.name)}, format {header.format_version}")]
    lines.append(("written by", f"erasejax {header.version}"))
    notes = check_notes(path, header.notes)
    if notes.get("method"):
        options = "".join(
            f" --{show(k.replace('_', '-'))} {show(str(v))}"
            for k, v in notes.get("options", {}).items()
        )
        lines.append(("method", show(notes["method"]) + options))
        rows, features, labels = (notes.get(key) for key in ("rows", "features", "labels"))
        text = f"{rows} rows of {show(str(features))}, labels {show(str(labels))}"
        task = f", task {show(notes['task'])}" if notes.get("task") else ""
        lines.append(("fitted on", text + task))
    if "counted" in notes:
        counted = load_counted(path)
        names = _list([f"{show(file.name)} ({file.rows})" for file in counted.files])
        lines.append(("counted", f"{counted.rows} rows, files {names}"))
        lines.append(("labels", counted.concept))
        if counted.within_task:
            classes = _list([show(name) for name in counted.task_names or ()])
            lines.append(("within", f"the classes of a task, {classes}"))
    certificate = notes.get("certificate") or {}
    if certificate.get("damage") is not None:
        lines.append(("damage", f"{certificate['damage']:.4g} of the variance of these rows"))
    if certificate.get("before") is not None and certificate.get("after") is not None:
        text = f"{certificate['before']:.4g} before, {certificate['after']:.4g} after"
        if certificate.get("dtype"):
            text += f", rows written as {certificate['dtype']}"
        lines.append(("linear_r2", text))
    if notes.get("seed") is not None:
        lines.append(("seed", str(notes["seed"])))
    if notes.get("class_names"):
        pairs = zip(notes["class_names"], notes["class_counts"], strict=True)
        lines.append(("classes", _list([f"{show(n)} ({c})" for n, c in pairs])))
    elif notes.get("method"):
        lines.append(("concept", "real"))
    if notes.get("columns"):
        lines.append(("features", _list([show(name) for name in notes["columns"]])))
    if hasattr(obj, "dims"):
        lines.append(("dims", f"{obj.dims}, dtype {jax.tree.leaves(obj)[0].dtype}"))
    if hasattr(obj, "rank"):
        ranks = [str(rank) for rank in np.unique(np.asarray(obj.rank))] or ["none"]
        lines.append(("rank", ranks[0] if len(ranks) == 1 else f"{ranks[0]} to {ranks[-1]}"))
    if hasattr(obj, "status"):
        lines.append(("status", _status(np.asarray(obj.status))))
    for name, leaf in jax.tree_util.tree_leaves_with_path(obj):
        text = jax.tree_util.keystr(name, simple=True, separator=".") or "array"
        lines.append((show(text), _shape(np.shape(leaf), np.asarray(leaf).dtype)))
    return lines


def _status(status: np.ndarray) -> str:
    """Returns a status word, or a batch of them, in words."""
    if status.ndim == 0:
        return "; ".join(describe(int(status))) or "ok"
    words = [_status(word) for word in np.unique(status)]
    return f"{status.size} lanes of shape {status.shape}: " + ", ".join(words)


def _shape(shape: tuple[int, ...], dtype: object) -> str:
    return f"{' x '.join(map(str, shape)) or 'one number'}, {dtype}"


def _described(source: Source, name: str, describe: Callable[[], Stored]) -> str:
    """Returns a line about an array of a file of several; one that is damaged hides no other."""
    try:
        with readable(source._replace(part=name)):
            stored = describe()
    except ValueError as error:
        return str(error)
    return _shape(stored.shape, stored.kind) + (stored.problem and f"; {stored.problem}")


def _array(source: Source) -> list[tuple[str, str]]:
    stored = open_array(source)
    lines = [("file", str(source)), ("shape", _shape(stored.shape, stored.kind))]
    if stored.problem:
        return [*lines, ("not read", stored.problem)]
    rows = max(1, _CHUNK // max(math.prod(stored.shape[1:]), 1))
    if jnp.issubdtype(stored.dtype, jnp.inexact):
        bad = sum(int(np.sum(~np.isfinite(block))) for block in stored.blocks(rows))
        lines.append(("NaN or infinite", str(bad)))
    elif len(stored.shape) == 1 or len(stored.shape) == 2 and stored.shape[1] == 1:
        values = stored.array().reshape(-1)
        lines.append(("values", _counts(*np.unique(values, return_counts=True))))
    return lines


def _table(source: Source, drop: str | None) -> list[tuple[str, str]]:
    import pyarrow as pa

    table = open_table(source)
    names = table.choose(source.part) if source.part else table.columns
    dropped = set(table.choose(drop)) if drop is not None else set()
    names = [name for name in names if name not in dropped]
    lines = [("file", str(source)), ("shape", f"{table.rows} rows, {len(names)} columns")]
    if table.index:
        text = ", ".join(map(show, table.index))
        lines.append(("index", f"{text}, of pandas; no feature unless it is named"))
    for name in names[:_SHOWN]:
        column = table.column(name)
        missing = column.null_count
        kind = table.types[name]
        if pa.types.is_floating(kind):
            values = column.drop_null().to_numpy(zero_copy_only=False)
            missing += int(np.sum(~np.isfinite(values)))
            text = f"{kind}, {missing} missing, NaN or infinite"
        else:
            text = f"{kind}, {missing} missing"
            if not pa.types.is_nested(kind):
                pairs = column.drop_null().value_counts()
                values, counts = pairs.field(0).to_pylist(), pairs.field(1).to_pylist()
                order = sorted(range(len(values)), key=lambda i: values[i])
                text += f", {_counts([values[i] for i in order], [counts[i] for i in order])}"
        lines.append((show(name), text))
    return [*lines, *_more(names, "columns")]


def _counts(values: Sequence[object] | np.ndarray, counts: Sequence[int] | np.ndarray) -> str:
    if len(values) > _SHOWN:
        return f"{len(values)} different"
    pairs = [f"{show(str(v))} ({c})" for v, c in zip(values, counts, strict=True)]
    return f"{len(pairs)} different: {', '.join(pairs)}"


def _list(items: list[str]) -> str:
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)}: {', '.join(items[:_SHOWN])}{more}"


def _more(names: Sequence[str], what: str) -> list[tuple[str, str]]:
    """Returns a line about those that are not listed, if there are any."""
    return [("...", f"and {len(names) - _SHOWN} more {what}")] if len(names) > _SHOWN else []

"""What the command `info` does: says what a file holds."""

from typing import Any

import jax
import numpy as np
import safetensors

from erasejax import checks, io
from erasejax.files import Source, open_table, parse, read_array
from erasejax.files.sources import readable, show

__all__ = ["info"]

_SHOWN = 20  # columns, arrays and classes listed
_CHUNK = 1 << 22


def info(
    file: str, *, drop: str | None = None, encoding: str | None = None
) -> list[tuple[str, str]]:
    """Describes a file that erasejax wrote, or a file of data.

    Args:
      file: path, with a part where it has parts.
      drop: columns of a table to pass over.
      encoding: of its text, None for UTF-8.

    Returns:
      Lines, as pairs of a name and a text.

    Raises:
      ValueError: the file is damaged or unknown.
      FileNotFoundError: there is no such file.
    """
    source = parse(file, encoding)
    if drop is not None and not source.is_table:
        raise ValueError(f"{source}: has no columns with names; leave out --drop")
    if source.kind == ".safetensors" and source.part is None and _is_ours(source):
        return _saved(str(source.path))
    if source.is_table:
        return _table(source, drop)
    if source.part is None and source.kind != ".npy":
        arrays = _arrays(source)
        if len(arrays) != 1:
            return [("file", f"{source.path}, {len(arrays)} arrays"), *_cut(arrays)]
    return _array(source)


def _is_ours(source: Source) -> bool:
    with readable(source), safetensors.safe_open(source.path, framework="numpy") as file:
        return (file.metadata() or {}).get("format") == "erasejax"


def _saved(path: str) -> list[tuple[str, str]]:
    header = io.read_header(path)
    obj = io.load(path)
    lines = [("file", f"{path}, {header.name}, format {header.format_version}")]
    lines.append(("written by", f"erasejax {header.version}"))
    notes = header.notes
    if notes.get("method"):
        options = "".join(
            f" --{k.replace('_', '-')} {v}" for k, v in notes.get("options", {}).items()
        )
        lines.append(("method", notes["method"] + options))
        lines.append((
            "fitted on",
            f"{notes['rows']} rows of {notes['features']}, labels {notes['labels']}"
            + (f", task {notes['task']}" if notes.get("task") else ""),
        ))
    certificate = notes.get("certificate") or {}
    if certificate.get("damage") is not None:
        lines.append(("damage", f"{certificate['damage']:.4g} of the variance of these rows"))
    if certificate.get("before") is not None:
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
        ranks = np.unique(np.asarray(obj.rank))
        low, high = int(ranks[0]), int(ranks[-1])
        lines.append(("rank", f"{low}" if low == high else f"{low} to {high}"))
    if hasattr(obj, "status"):
        lines.append(("status", _status(np.asarray(obj.status))))
    for name, leaf in jax.tree_util.tree_leaves_with_path(obj):
        text = jax.tree_util.keystr(name, simple=True, separator=".") or "array"
        lines.append((text, _shape(np.shape(leaf), np.asarray(leaf).dtype)))
    return lines


def _status(status: np.ndarray) -> str:
    """Returns a status word, or a batch of them, in words."""
    if status.ndim == 0:
        return "; ".join(checks.describe(int(status))) or "ok"
    words = [_status(word) for word in np.unique(status)]
    return f"{status.size} lanes of shape {status.shape}: " + ", ".join(words)


def _shape(shape: tuple[int, ...], dtype: Any) -> str:
    return f"{' x '.join(map(str, shape)) or 'one number'}, {dtype}"


def _arrays(source: Source) -> list[tuple[str, str]]:
    with readable(source):
        if source.kind == ".npz":
            with np.load(source.path, allow_pickle=False) as archive:
                return [(key, _shape(archive[key].shape, archive[key].dtype)) for key in archive]
        with safetensors.safe_open(source.path, framework="numpy") as file:
            pieces = [(key, file.get_slice(key)) for key in file.keys()]
            return [(key, _shape(tuple(p.get_shape()), p.get_dtype())) for key, p in pieces]


def _array(source: Source) -> list[tuple[str, str]]:
    array = read_array(source)
    lines = [("file", str(source)), ("shape", _shape(array.shape, array.dtype))]
    flat = array.reshape(-1) if array.flags.c_contiguous else array.reshape(-1, order="F")
    if array.dtype.kind in "fc" or array.dtype.name == "bfloat16":
        chunks = (flat[i : i + _CHUNK] for i in range(0, flat.size, _CHUNK))
        bad = sum(int(np.sum(~np.isfinite(chunk))) for chunk in chunks)
        lines.append(("NaN or infinite", str(bad)))
    elif array.ndim == 1 or array.ndim == 2 and array.shape[1] == 1:
        lines.append(("values", _counts(*np.unique(flat, return_counts=True))))
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
    if len(names) > _SHOWN:
        lines.append(("...", f"and {len(names) - _SHOWN} more columns"))
    return lines


def _counts(values: Any, counts: Any) -> str:
    pairs = [f"{show(str(v))} ({c})" for v, c in zip(values, counts, strict=True)]
    return f"{len(pairs)} different" + (f": {', '.join(pairs)}" if len(pairs) <= _SHOWN else "")


def _list(items: list[str]) -> str:
    more = f", and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{len(items)}: {', '.join(items[:_SHOWN])}{more}"


def _cut(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[:_SHOWN], ("...", f"and {len(lines) - _SHOWN} more")]

"""Files that mean harm, or were damaged, and what every reader may do with them.

`python -m tests.hostile FOLDER SEED COUNT FAMILY...` draws COUNT inputs of each family, gives each
to all readers in this process, which is limited in memory, and prints a line of JSON: how many were
read and refused, and what went wrong. An input is read rightly, where it is known what is right, or
is refused in one line, within two seconds and 200 MB.
"""

import collections
import contextlib
import faulthandler
import functools
import io
import json
import os
import pickle
import resource
import socket
import struct
import sys
import time
import traceback
import warnings
import zipfile
from typing import Any, NamedTuple

import hypothesis
import jax
import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

import erasejax as ej
from erasejax.cli import _main as cli
from erasejax.cli._arguments import read_directions
from erasejax.cli._common import load_eraser
from erasejax.cli._info import info
from erasejax.files import _streaming as streaming
from erasejax.files import open_features, parse, read_array, read_labels, read_task
from erasejax.files._saved import read_header

SECONDS, MEMORY = 2.0, 200 << 20
REFUSALS = (ValueError, TypeError, OSError, MemoryError)  # what the command line makes a line of
UNKNOWN, BAD = object(), object()


class Case(NamedTuple):
    """An input: a file, the parts to ask for, and the features that are right.

    `truth` is an array, or BAD where nothing may be read as features, or UNKNOWN.
    """

    name: str
    content: bytes
    parts: tuple[str, ...] = ()
    truth: Any = UNKNOWN


# Pieces


ODD_NAMES = ["x", "", "../../up", "/etc/passwd", "a\nb", "\x1b[31mred\x1b[2J", "\u202eabc", "é,:"]
SHAPES = [(6, 2), (6,), (40, 3), (6, 1), (1, 1), (0,), (0, 3), (3, 0), (), (2, 3, 2)]
DTYPES = ["f4", "f8", "f2", ">f4", "i8", "u1", "u8", "?", "c8", "c16", "U3", "S2", "O", "M8[s]"]
DTYPES += ["V2", "V5", "longdouble", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int4"]
SIZES = [-1, 0, 1, 7, 2**31, 2**40, 2**62, 2**63, 2**64, 10**30]
WRONG = [None, True, -1, 0, 1.5, 1e308, 2**70, "", "x", "\x1b[2J\n", [], [[]], {}, {"kind": 1}]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, name) if name[-1].isalnum() else name)


def values(draw, dtype, shape):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = int(np.prod(shape))
    if dtype.kind in "US":
        array = np.array(["a", "b", "é" if dtype.kind == "U" else "c"])[rng.integers(0, 3, n)]
    elif dtype.hasobject:
        array = np.array([f"p{i % 2}" for i in range(n)], object)
    elif dtype.kind == "V" and dtype.type is np.void:
        return np.frombuffer(rng.bytes(n * dtype.itemsize), dtype).reshape(shape)
    elif dtype.kind == "M":
        array = rng.integers(0, 9, n)
    else:
        array = rng.integers(0, 3, n) + (0.5 if draw(st.booleans()) else 0)
    return array.reshape(shape).astype(dtype)


def features_of(array):
    """Returns what features of an array are, or BAD."""
    floats = jax.numpy.issubdtype(array.dtype, np.floating)
    if array.ndim != 2 or not array.size or not (floats or array.dtype.kind in "iub"):
        return BAD
    return array.astype(np.float64)


@st.composite
def arrays(draw):
    array = values(draw, dtype_of(draw(st.sampled_from(DTYPES))), draw(st.sampled_from(SHAPES)))
    return np.asfortranarray(array) if draw(st.booleans()) else array


@st.composite
def damaged(draw, content):
    """Bytes with a few changes."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        how = draw(st.sampled_from(["flip", "cut", "insert", "drop", "zero", "tail", "copy"]))
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        if draw(st.booleans()):  # near the end, where .npz and .parquet say what they hold
            at = max(len(content) - 1 - at % 200, 0)
        some = draw(st.binary(min_size=1, max_size=9))
        if how == "flip" and content:
            content[at] ^= draw(st.integers(1, 255))
        elif how == "cut":
            del content[at:]
        elif how == "insert":
            content[at:at] = some
        elif how == "drop":
            del content[at : at + len(some)]
        elif how == "zero":
            content[at : at + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f" * 4]))
        elif how == "tail":
            content += some * 50
        else:
            content += content[: at % 5000]
    return bytes(content)


# .npy


def npy(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


@st.composite
def npy_headers(draw):
    """A .npy file whose header says anything."""
    size = st.sampled_from(SIZES)
    shapes = st.one_of(
        st.lists(size, max_size=4).map(lambda s: repr(tuple(s))),
        st.sampled_from(["(6, 2)", "[6, 2]", "(True, 2)", "(1.5,)", "6", "((6,), 2)", "None", "("]),
        st.sampled_from(["(" * 3000, "-" * 5000 + "1", "(1,) * 10", "(" + "1," * 70 + ")"]),
    )
    descrs = st.sampled_from(
        "'<f4' '|O' '<U0' '|S0' '|V0' '<U1000000000' 'f4,f4' '<f1' '<f99' 'x' '' None 4 ['f4'] "
        "[('a','<f4')] [('a','|O')] ('<f4',(2,)) ('<f4',(9999999999,)) '<M8[99999999s]'".split()
    )
    order = draw(st.sampled_from(["False", "True", "1", "None", "'x'"]))
    more = draw(st.sampled_from(["", "'shape': (1,)", "'x': 1", "'__import__': 2", "**{}"]))
    text = f"{{'descr': {draw(descrs)}, 'fortran_order': {order}, 'shape': {draw(shapes)}, {more}}}"
    version = draw(st.sampled_from([b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\x09\0", b"\1\1"]))
    length = draw(st.sampled_from([len(text)] * 4 + [0, 2**16 - 1, 2**31, 2**32 - 1]))
    length = length & 0xFFFF if version[0] < 2 else length
    head = b"\x93NUMPY" + version + length.to_bytes(2 if version[0] < 2 else 4, "little")
    return head + text.encode() + draw(st.binary(max_size=64))


@st.composite
def npy_files(draw):
    how = draw(st.sampled_from(["right", "damaged", "header", "bytes"]))
    if how == "header":
        return Case("x.npy", draw(npy_headers()))
    if how == "bytes":
        return Case("x.npy", draw(st.sampled_from([b"", b"\x93NUMPY", b"PK"])) + draw(st.binary()))
    array = draw(arrays())
    if how == "right":
        plain = array.dtype.type.__module__ == "numpy"
        return Case("x.npy", npy(array), (), features_of(array) if plain else BAD)
    return Case("x.npy", draw(damaged(npy(array))))


# .npz


def archive(members, kind=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", kind) as opened:
        warnings.simplefilter("ignore")  # names that stand twice
        for name, content in members:
            opened.writestr(zipfile.ZipInfo(name), content, kind)
    return file.getvalue()


BOMBS = [(4_000_000, 5, "f4"), (30_000_000, 1, "i1"), (1, 9_000_000, "f8")]


@functools.cache
def bomb(rows, columns, dtype):
    """A .npz file of zeros, a thousand times as large as it looks."""
    head = npy(np.zeros((1, columns), dtype))[:128].replace(
        b"(1, %d)" % columns, b"(%d, %d)" % (rows, columns)
    )
    spare = len(head) - 128  # the header keeps its length
    head = head.replace(b" " * spare + b"\n", b"\n") if spare else head
    size = rows * columns * np.dtype(dtype).itemsize
    return archive([("x.npy", head + bytes(size))])


@st.composite
def npz_files(draw):
    how = draw(st.sampled_from(["right", "damaged", "lies", "odd", "many", "header"]))
    if draw(st.integers(0, 49)) == 37:  # 0 would be drawn too often
        how = "bomb"
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]
    if how == "bomb":
        size = draw(st.sampled_from(BOMBS))
        content = bomb(*size)
        truth = (
            np.broadcast_to(np.float64(0), size[:2]) if draw(st.integers(0, 9)) == 0 else UNKNOWN
        )
        return Case("x.npz", content, ("x",), truth)
    if how == "many":
        count = draw(st.sampled_from([0, 3, 30] * 5 + [3000]))
        odd = draw(st.sampled_from(["", "\x1b[2J", "\n"]))
        return Case(
            "x.npz", archive([(f"{odd}{i}.npy", npy(np.ones(2))) for i in range(count)]), ("1",)
        )
    if how == "header":
        return Case("x.npz", archive([("x.npy", draw(npy_headers()))]), ("x",))
    if how == "odd":
        kinds += [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
        names = draw(st.lists(st.sampled_from(ODD_NAMES), min_size=1, max_size=4))
        ends = [draw(st.sampled_from([".npy", ".npy", "", ".npy/"])) for _ in names]
        members = [(n + e, npy(draw(arrays()))) for n, e in zip(names, ends, strict=True)]
        members += draw(
            st.sampled_from([[], [("in.npz", archive(members))], [("o.npy", b"\x80\4.")]])
        )
        return Case("x.npz", archive(members, draw(st.sampled_from(kinds))), tuple(names))
    array = draw(arrays())
    plain = array.dtype.type.__module__ == "numpy"
    content = archive([("x.npy", npy(array))], draw(st.sampled_from(kinds)))
    if how == "right":
        return Case("x.npz", content, ("x",), features_of(array) if plain else BAD)
    if how == "damaged":
        return Case("x.npz", draw(damaged(content)), ("x",))
    at = content.index(b"PK\1\2")  # the directory says something else
    place = at + draw(st.sampled_from([8, 10, 16, 20, 24, 28, 30, 32, 42]))
    lie = struct.pack("<I", draw(st.sampled_from([0, 1, 99, 2**31, 2**32 - 2, 2**32 - 1])))
    return Case("x.npz", content[:place] + lie + content[place + 4 :], ("x",))


# .safetensors


def tensors(entries, data, *, length=None, metadata=None):
    head = dict(entries) if metadata is None else {"__metadata__": metadata} | dict(entries)
    text = json.dumps(head).encode() if isinstance(head, dict) else head
    return struct.pack("<Q", (len(text) if length is None else length) % 2**64) + text + data


KINDS = {
    "F32": "f4", "F64": "f8", "F16": "f2", "I64": "i8", "U8": "u1", "U16": "u2", "U32": "u4",
    "U64": "u8", "I8": "i1", "I16": "i2", "BOOL": "?", "C64": "c8", "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


@st.composite
def safetensors_files(draw):
    how = draw(st.sampled_from(["right", "damaged", "entry", "header", "packed"]))
    names = draw(st.lists(st.sampled_from(ODD_NAMES), min_size=1, max_size=3, unique=True))
    entries, data, first = {}, b"", None
    for name in names:
        kind = draw(st.sampled_from(sorted(KINDS)))
        array = values(draw, dtype_of(KINDS[kind]), draw(st.sampled_from(SHAPES)))
        raw = array.tobytes()
        place = [len(data), len(data) + len(raw)]
        entries[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": place}
        data, first = data + raw, array if first is None else first
    parts = tuple(names)
    if how == "right":
        truth = features_of(first)
        if truth is not BAD and not np.isfinite(truth).all():
            truth = BAD  # F8_E8M0 has no zero
        return Case("x.safetensors", tensors(entries, data), parts, truth)
    if how == "damaged":
        return Case("x.safetensors", draw(damaged(tensors(entries, data))), parts)
    if how == "packed":
        kind = draw(st.sampled_from(["F4", "F6_E2M3", "F6_E3M2", "F99", "\x1b[2J", ""]))
        entry = {"dtype": kind, "shape": [4, 8], "data_offsets": [0, 24 if "6" in kind else 16]}
        return Case(
            "x.safetensors", tensors({"x": entry}, bytes(entry["data_offsets"][1])), ("x",), BAD
        )
    if how == "entry":
        entry = entries[names[0]]
        for _ in range(draw(st.integers(1, 3))):
            key = draw(st.sampled_from(["dtype", "shape", "data_offsets", "more"]))
            sizes = st.lists(st.sampled_from([*SIZES, 0.5, "1", None]), max_size=40)
            entry[key] = draw(
                st.one_of(st.sampled_from(WRONG), sizes, st.sampled_from(sorted(KINDS)))
            )
        metadata = draw(st.one_of(st.none(), st.sampled_from(WRONG)))
        return Case("x.safetensors", tensors(entries, data, metadata=metadata), parts)
    whole = draw(
        st.sampled_from([
            b"", b"{}", b"[]", b"null", b"NaN", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe{}",
            b'{"x":NaN}', b'{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}',
            b'{"x":1,"x":2}', b"1" * 5000, b'{"__metadata__":[]}', b'{"__metadata__":{"a":1}}',
        ])
    )  # fmt: skip
    length = draw(st.sampled_from([len(whole)] * 3 + [0, 1, 2**27, 2**40, 2**63, -1]))
    return Case("x.safetensors", struct.pack("<Q", length % 2**64) + whole)


# Saved objects


@functools.cache
def objects():
    """Bytes of saved objects, and their notes as `fit` writes them."""
    rng = np.random.default_rng(0)
    x = jax.numpy.asarray(rng.standard_normal((12, 3)), jax.numpy.float32)
    z = jax.numpy.arange(12) % 2
    data = ej.Dataset(x, z, 2)
    made = [
        ej.MeanDifference().fit(data),
        ej.OracleLEACE().fit(data),
        ej.probes.LDA().fit(data),
        ej.Moments.of(data),
        {"a": x, "b": [z, None, 1.5]},
        x,
    ]
    notes = {
        "method": "mean-difference", "options": {"keep_mean": False}, "seed": None,
        "features": "x.npy", "labels": "z.npy", "task": None, "rows": 12, "dims": 3,
        "columns": ["a", "b", "c"], "class_names": ["u", "v"], "class_counts": [6, 6],
        "certificate": {"damage": 0.1, "before": 0.2, "after": 0.0},
    }  # fmt: skip
    files = []
    for obj in made:
        ej.save(obj, "made.safetensors", notes=notes)
        with open("made.safetensors", "rb") as file:
            files.append(file.read())
        os.unlink("made.safetensors")
    return files


def twisted(draw, tree):
    """JSON with one node replaced."""
    if isinstance(tree, dict | list) and tree and draw(st.integers(0, 3)):
        keys = sorted(tree) if isinstance(tree, dict) else range(len(tree))
        key = draw(st.sampled_from(list(keys)))
        copy = tree.copy()
        if draw(st.integers(0, 9)) == 0:
            del copy[key]
        else:
            copy[key] = twisted(draw, tree[key])
        return copy
    return draw(st.sampled_from([*WRONG, *ODD_NAMES, ["a"], [1, 2], {"a": 1}, "Moments", "tuple"]))


@st.composite
def saved_files(draw):
    content = draw(st.sampled_from(objects()))
    how = draw(st.sampled_from(["right", "damaged", "metadata", "tree", "notes", "tensor", "deep"]))
    if how == "right":
        return Case("x.safetensors", content)
    if how == "damaged":
        return Case("x.safetensors", draw(damaged(content)))
    size = int.from_bytes(content[:8], "little")
    head, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    meta = head.pop("__metadata__")
    if how == "metadata":
        key = draw(st.sampled_from(sorted(meta)))
        meta[key] = draw(
            st.sampled_from(["", "1", "99", "x", "[]", "null", "\x1b[2J", "NaN", "1e5"])
        )
    elif how in {"tree", "notes"}:
        meta[how] = json.dumps(twisted(draw, json.loads(meta[how])))
    elif how == "deep":
        wrap = draw(
            st.sampled_from(['{"kind":"list","items":[', '{"kind":"dict","items":{"a":', "["])
        )
        ends = {"items": "]}", "dict": "}}"}
        end = "]" if wrap == "[" else ends["dict" if "dict" in wrap else "items"]
        times = draw(st.sampled_from([100, 900, 5000, 100_000]))
        key = draw(st.sampled_from(["tree", "notes"]))
        meta[key] = wrap * times + '{"kind":"value","value":1}' + end * times
    else:
        entry = head[draw(st.sampled_from(sorted(head)))]
        bytes_each = {
            "F32": 4,
            "I32": 4,
            "U32": 4,
            "F16": 2,
            "I8": 1,
            "F64": 8,
            "BOOL": 1,
            "C64": 8,
        }
        held = entry["data_offsets"][1] - entry["data_offsets"][0]
        kind = draw(st.sampled_from(sorted(bytes_each)))
        count = held // bytes_each[kind]
        entry["dtype"] = kind
        entry["shape"] = draw(st.sampled_from([[count], [1, count], [count, 1], [count, 1, 1], []]))
    return Case("x.safetensors", tensors(head, data, metadata=meta))


# .csv


@st.composite
def csv_files(draw):
    columns = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.integers(-9, 9, (draw(st.integers(1, 9)), columns)) / 4
    names = [f"c{i}" for i in range(columns)]
    lines = [",".join(names), *(",".join(map(str, row)) for row in x)]
    text = "\n".join(lines) + "\n"
    how = draw(st.sampled_from(["right", "damaged", "cells", "code", "text", "wide"]))
    if how == "right":
        return Case("x.csv", text.encode(), ("c0",), x)
    if how == "damaged":
        return Case("x.csv", draw(damaged(text.encode())), ("c0",))
    if how == "code":
        code = draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "cp037"]))
        return Case("x.csv", text.encode(code), ("c0",))
    if how == "wide":
        count = draw(st.sampled_from([100] * 15 + [20_000]))
        head = draw(st.sampled_from(["a%d", "a", "\x1b[%dm", '"q\n%d"']))
        head = ",".join(head % i if "%" in head else head for i in range(count))
        return Case("x.csv", f"{head}\n{','.join(['1'] * count)}\n".encode(), ("a0",))
    cells = [
        "1", "0.5", "", "NA", "nan", "inf", "-1e999", "9" * 40, "a", '"', '"a', 'a"b', '"a""b"',
        "\r", "\x1b[2J", "true", "2024-01-01", "é", "1;2", "\t", " ", "[1,2]", '"line\nbreak"',
        "\0", "x" * 3000,
    ]  # fmt: skip
    if how == "cells":
        rows = [
            ",".join(draw(st.lists(st.sampled_from(cells), min_size=columns, max_size=columns)))
            for _ in range(draw(st.integers(0, 5)))
        ]
        return Case("x.csv", "\n".join([lines[0], *rows]).encode(), ("c0",))
    some = st.lists(st.sampled_from([*cells, ",", "\n", "\r\n", ",", "\n", "\ufeff"]), max_size=40)
    return Case("x.csv", "".join(draw(some)).encode(), ("a", "1"))


# .parquet


def parquet(table, **options):
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


COLUMNS = {
    "f4": lambda n: pa.array(np.arange(n, dtype="f4") / 4),
    "f2": lambda n: pa.array(np.arange(n, dtype="f2")),
    "i8": lambda n: pa.array(np.arange(n) % 2),
    "bool": lambda n: pa.array(np.arange(n) % 2 == 0),
    "text": lambda n: pa.array(["a\x1b[2J", "b\nc"] * n)[:n],
    "large": lambda n: pa.array(["a", "b"] * n, pa.large_string())[:n],
    "codes": lambda n: pa.array(["a", "b"] * n)[:n].dictionary_encode(),
    "bytes": lambda n: pa.array([b"\xff\xfe", b""] * n)[:n],
    "lists": lambda n: pa.array([[1.0, 2.0]] * n),
    "ragged": lambda n: pa.array([[1.0] * (i % 3) for i in range(n)]),
    "fixed": lambda n: pa.array([[1.0, 2.0]] * n, pa.list_(pa.float32(), 2)),
    "none": lambda n: pa.nulls(n),
    "gaps": lambda n: pa.array([1.0, None] * n)[:n],
    "day": lambda n: pa.array(np.arange(n, dtype="i4") % 2, pa.date32()),
    "far": lambda n: pa.array(np.arange(n) * 2**55, pa.timestamp("ns")),
    "decimal": lambda n: pa.array([1] * n, pa.int64()).cast(pa.decimal128(30, 2)),
    "struct": lambda n: pa.array([{"a": 1}] * n),
    "map": lambda n: pa.array([[("k", 1)]] * n, pa.map_(pa.string(), pa.int64())),
    "texts": lambda n: pa.array([["a"]] * n),
    "span": lambda n: pa.array([1] * n, pa.duration("s")),
}


@functools.cache
def constant(kind):
    """100 million equal rows in a few kilobytes, as run lengths."""
    value = {"f4": np.float32(1), "i8": np.int64(1), "text": "a"}[kind]
    rows = 1_000_000
    column = pa.array([value] * 2).take(pa.array(np.zeros(rows, np.int32)))
    table = pa.table({"a": column})
    file = io.BytesIO()
    with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(table)
    return file.getvalue()


@st.composite
def parquet_files(draw):
    n = draw(st.sampled_from([1, 2, 6]))
    how = draw(st.sampled_from(["right", "damaged", "damaged", "columns", "footer", "bomb"]))
    if how == "right":
        x = np.arange(n * 2, dtype="f4").reshape(n, 2) / 4
        table = pa.table({"a": x[:, 0], "b": x[:, 1]})
        return Case("x.parquet", parquet(table), ("a",), x.astype(np.float64))
    if how == "bomb":
        if draw(st.integers(0, 9)):
            return Case("x.parquet", parquet(pa.table({})), ("a",), BAD)
        return Case("x.parquet", constant(draw(st.sampled_from(["f4", "i8", "text"]))), ("a",))
    kinds = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3))
    names = [draw(st.sampled_from([*ODD_NAMES, "a", "b"])) for _ in kinds]
    table = pa.Table.from_arrays([COLUMNS[kind](n) for kind in kinds], names=names)
    squeeze = draw(st.sampled_from(["none", "snappy", "zstd", "gzip", "brotli", "lz4"]))
    content = parquet(
        table, compression=squeeze, data_page_version=draw(st.sampled_from(["1.0", "2.0"]))
    )
    if how == "columns":
        return Case("x.parquet", content, tuple(names))
    if how == "damaged":
        return Case("x.parquet", draw(damaged(content)), tuple(names))
    start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    footer = bytearray(content[start:])  # thrift: what the columns are and where they lie
    for _ in range(draw(st.integers(1, 6))):
        footer[draw(st.integers(0, len(footer) - 9))] = draw(st.integers(0, 255))
    return Case("x.parquet", content[:start] + bytes(footer), tuple(names))


# Places that are no files


@st.composite
def places(draw):
    name = draw(st.sampled_from(["x.npy", "x.npz", "x.csv", "x.parquet", "x.safetensors", "x"]))
    odd = draw(st.sampled_from(["", "a\nb", "\x1b[31m", "\udcff", "n" * 300, "a:b.npz:", "e\0"]))
    how = draw(
        st.sampled_from(["link:" + t for t in PLACES] + ["fifo", "socket", "folder", "none"])
    )
    part = draw(st.sampled_from([(), ("x",), ("\x1b[2J",), ("a\nb",)]))
    return Case(odd + name, how.encode(), part, BAD)


PLACES = [
    "{self}",
    ".",
    "/dev/zero",
    "/dev/null",
    "/dev/stdin",
    "/dev/tty",
    "/no",
    "/proc/self/mem",
]


def lay(case):
    """Makes what a case of `places` says."""
    how, _, target = case.content.decode().partition(":")
    with contextlib.suppress(OSError, ValueError):
        if how == "link":
            os.symlink(target.replace("{self}", case.name), case.name)
        elif how == "fifo":
            os.mkfifo(case.name)
        elif how == "socket":
            socket.socket(socket.AF_UNIX).bind(case.name)
        elif how == "folder":
            os.mkdir(case.name)


FAMILIES = {
    "npy": npy_files,
    "npz": npz_files,
    "safetensors": safetensors_files,
    "saved": saved_files,
    "csv": csv_files,
    "parquet": parquet_files,
    "places": places,
}


# Readers


def read_features(spec):
    features = open_features(spec)
    n, d = features.shape
    kept = []
    for block in features.blocks(min(n, max(1, streaming.BLOCK_VALUES // d))):
        assert block.dtype == features.dtype
        assert block.shape[1] == d
        assert np.isfinite(block).all()
        kept.append(block if n * d < 1000 else block.any())  # no view, which would hold the block
    return np.concatenate(kept) if n * d < 1000 else (n, d, any(kept))


def read_kept(spec):
    labels = read_labels(spec)
    assert labels.values.ndim == 1
    assert cli.plain(str(labels)).isprintable()


def read_eraser(path):
    eraser, notes = load_eraser(path)
    x = jax.ShapeDtypeStruct((4, eraser.dims), np.float32)
    given = (x, jax.ShapeDtypeStruct((4,), np.int32)) if eraser.needs_z else (x,)
    with contextlib.suppress(ValueError, TypeError):  # labels that are no classes
        assert jax.eval_shape(eraser, *given).shape == x.shape


def read_info(spec):
    for line in info(spec).splitlines():
        assert cli.plain(line).isprintable()


READERS = {
    "features": read_features,
    "labels": read_kept,
    "task": read_task,
    "array": lambda spec: read_array(parse(spec)),
    "directions": lambda spec: read_directions(parse(spec)),
    "info": read_info,
    "load": ej.load,
    "header": read_header,
    "eraser": read_eraser,
}
SAVED = {"load", "header", "eraser"}


class Watch:
    """Looks at what is opened and run while a reader works."""

    def __init__(self, folder):
        self.folder, self.on, self.seen = folder, False, []
        sys.addaudithook(self)

    def __call__(self, event, args):
        if not self.on:
            return
        if event in {"pickle.find_class", "os.system", "subprocess.Popen"}:
            self.seen.append(event)
        elif event == "open" and isinstance(args[0], str | bytes):
            path, flags = os.path.abspath(os.fsdecode(args[0])), args[2] or 0
            inside = path.startswith(self.folder + os.sep)
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
                self.seen.append(f"writes {path}")
            elif not inside and not path.startswith(ELSEWHERE):
                self.seen.append(f"reads {path}")


ROOT = os.path.dirname(os.path.dirname(os.path.abspath(ej.__file__)))
# What Python and the libraries read of their own accord.
ELSEWHERE = (sys.prefix, sys.base_prefix, ROOT, "/proc/", "/sys/", "/usr/", "/etc/", "/dev/")


def no_pickle(*args, **kwargs):
    raise AssertionError("unpickled")


def memory(key):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(key))


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def examine(case, watch, counts, faults):
    """Gives an input to all readers."""
    path = os.path.join(watch.folder, case.name)
    if case.content[:5] in {b"link:", b"fifo", b"socke", b"folde", b"none"} and case.truth is BAD:
        lay(case._replace(name=path))
    else:
        with open(path, "wb") as file:
            file.write(case.content)
    before = set(os.listdir(watch.folder))
    read = False
    try:
        for name, reader in READERS.items():
            if name in SAVED and not case.name.endswith((".safetensors", "x")):
                continue
            for part in (None,) if name in SAVED else (None, *case.parts):
                spec = path if part is None else f"{path}:{part}"
                got = one(name, reader, spec, part, case, watch, counts, faults)
                read |= got is not REFUSED
        if set(os.listdir(watch.folder)) != before:
            faults.append((repr(case), "files", str(os.listdir(watch.folder))))
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    counts["inputs read" if read else "inputs refused"] += 1


REFUSED = object()


def one(name, reader, spec, part, case, watch, counts, faults):
    """Runs a reader; returns what it gave, or REFUSED."""
    result, fault, memory_short = REFUSED, "", False
    forget_peak()
    limit = memory("VmSize") + MEMORY, resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, limit)
    held, started, used = memory("VmRSS"), time.perf_counter(), time.process_time()
    faulthandler.dump_traceback_later(60, exit=True)
    watch.seen, watch.on = [], True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = reader(spec)
    except (*REFUSALS, RuntimeError) as error:
        memory_short = isinstance(error, MemoryError)
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            fault = traceback.format_exc()[-2500:]
        line = cli._message(error)
        if not line or not line.isprintable() or len(line) > 5000:
            fault = f"message {line!r}"
    except BaseException:
        fault = traceback.format_exc()[-2500:]
    watch.on = False
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    faulthandler.cancel_dump_traceback_later()
    # On a machine with others at work the clock runs on; a reader that waits uses no processor.
    took = min(time.perf_counter() - started, max(time.process_time() - used, 0.0))
    more = memory("VmHWM") - held
    counts["max s"] = max(counts["max s"], round(took, 2))
    counts["max MB"] = max(counts["max MB"], more >> 20)
    counts[f"{name} {'refused' if result is REFUSED else 'read'}"] += 1
    if took > SECONDS:
        fault = fault or f"took {took:.1f} s"
    if more > MEMORY:
        fault = fault or f"took {more >> 20} MB"
    if watch.seen:
        fault = fault or str(watch.seen)
    if name == "features" and not fault and not memory_short:
        fault = judged(case, result, part)
    if fault:
        faults.append((repr(case)[:1500], f"{name} {spec!r}", fault))
    return result


def judged(case, result, part):
    """Returns what is wrong with what was read, or refused, as features."""
    # What is right is said of a table as a whole, and of the first of the arrays of other files.
    table = case.name.endswith((".csv", ".parquet"))
    meant = part is None if table or len(case.parts) < 2 else part and part == case.parts[0]
    if case.truth is UNKNOWN or not meant:
        return ""
    if case.truth is BAD:
        return "" if result is REFUSED else f"read as {result!r}"
    if result is REFUSED:
        return "refused, though it is right"
    if isinstance(result, tuple):
        return "" if result == (*case.truth.shape, False) else f"read as {result}"
    same = np.array_equal(result.astype(np.float64), case.truth.astype(result.dtype))
    return "" if same else f"read as {result!r}"


def run(folder, seed, count, families):
    """Returns counts and faults of inputs of some families."""
    watch, faults = Watch(os.path.realpath(folder)), []
    os.chdir(folder)
    objects()
    counts = {family: collections.Counter() for family in families}
    for case in (Case("x.npy", npy(np.ones((6, 2), "f4"))), Case("x.safetensors", objects()[0])):
        examine(case, watch, collections.Counter(), [])  # imports, threads
    examine(
        Case("x.parquet", parquet(pa.table({"a": [1.0, 2.0]}))), watch, collections.Counter(), []
    )
    examine(Case("x.csv", b"a\n1\n2\n"), watch, collections.Counter(), [])
    pickle.load = pickle.loads = no_pickle
    for family in families:
        done, started = 0, time.process_time()

        def look(case, count_of=counts[family]):
            nonlocal done
            if done < count:
                done += 1
                examine(case, watch, count_of, faults)

        while done < count:
            settings = hypothesis.settings(
                max_examples=count - done,
                database=None,
                deadline=None,
                suppress_health_check=list(hypothesis.HealthCheck),
                phases=[hypothesis.Phase.generate],
            )
            given = hypothesis.given(case=FAMILIES[family]())
            settings(hypothesis.seed(seed + done)(given(lambda case: look(case))))()
        counts[family]["s"] = round(time.process_time() - started, 1)
    return {"counts": counts, "faults": faults}


if __name__ == "__main__":
    found = run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] or list(FAMILIES))
    print(json.dumps(found))

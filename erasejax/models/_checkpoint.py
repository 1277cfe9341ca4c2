"""Erasers folded into a checkpoint in files, which is never loaded as a whole."""

import functools
import json
import os
import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from erasejax._core.text import nearest
from erasejax._core.types import Json
from erasejax.files import Tensor, read_tensors, remove_orphans, replacing
from erasejax.models._edit import Edit, Layout, Side, check, edit, host, rounded
from erasejax.projection import Projection

__all__ = ["fold_checkpoint"]

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_EDITED = re.compile(r"-erased-[0-9a-f]{8}(?=\.safetensors$)")
_REPLACED = "erasejax_replaced"  # in the index: files that its own took the place of


def fold_checkpoint(
    folder: str | os.PathLike[str],
    erasers: Mapping[str, Projection],
    *,
    out: str | os.PathLike[str] | None = None,
    side: Side = "writes",
    layout: Layout = "out,in",
    constant: bool = True,
) -> None:
    """Folds erasers into a checkpoint of safetensors files, sharded or one file.

    One tensor at a time is in memory, and only files that change are written. Dtypes stay, bfloat16
    too; all other bytes of the files are copied.

    In place, it is whole or not at all: changed shards are written beside the old ones under new
    names, and the checkpoint is the new one in the moment in which its index is replaced. Then old
    shards are removed. What a process that was killed left behind, the next call removes.

    Args:
      folder: with model.safetensors.index.json and its shards, or with model.safetensors.
      erasers: a `Projection` for each layer, by the name of its tensors without .weight and .bias.
      out: a new folder for the whole checkpoint, with the other files of the folder; it appears
        whole or not at all. None edits in place.
      side: "writes" or "reads", see `fold`.
      layout: of the weights, see `fold`; "in,out" for transformers' Conv1D.
      constant: whether the constant is part of it, see `fold_into`.

    Raises:
      FileExistsError: `out` exists.
      FileNotFoundError: there is no checkpoint in the folder.
      OSError: the files cannot be written.
      TypeError: an eraser is no `Projection`, or weights are no floats of 16 bits or more.
      ValueError: there are no such tensors, they are not as wide as the eraser, a bias is needed
        and the checkpoint has none, a file is damaged, or the fit of an eraser failed.

    Example:
      >>> from safetensors.numpy import load_file, save_file
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> eraser = ej.LEACE(keep_mean=False).fit(data)
      >>> weight = np.ones((2, 4), np.float32)
      >>> save_file({"layers.0.down.weight": weight}, "model.safetensors")
      >>> ej.models.fold_checkpoint(".", {"layers.0.down": eraser})
      >>> found = load_file("model.safetensors")["layers.0.down.weight"]
      >>> np.allclose(found, ej.models.fold(eraser, weight)[0])
      True
    """
    check(side=side, layout=layout)
    source = Path(folder)
    store = _opened(source)
    jobs = _jobs(store, erasers, side, layout, constant)
    if out is not None:
        _copy(source, Path(out), jobs)
        return
    if linked := [name for name in (_INDEX, *jobs) if (source / name).is_symlink()]:
        raise ValueError(
            f"{source / linked[0]}: a link, as in a cache that others read; pass out= a new folder"
        )
    if store.index is None:
        with replacing(source / _SINGLE) as temporary:
            _edit(source / _SINGLE, temporary, jobs[_SINGLE])
    else:
        _clean(source, store.index)
        _switch(source, store.index, jobs)


class _Store(NamedTuple):
    """A checkpoint.

    Attributes:
      index: what its index holds; None for a single file.
      files: the file of every tensor.
      tensors: the tensors by name, where their numbers can be read.
    """

    index: dict[str, Json] | None
    files: dict[str, str]
    tensors: dict[str, Tensor | None]


class _Job(NamedTuple):
    """A tensor of a file, and what computes its new numbers when they are written."""

    tensor: Tensor
    compute: Callable[[], np.ndarray]


def _opened(folder: Path) -> _Store:
    """Reads the index and the headers of a checkpoint.

    Raises:
      FileNotFoundError: there is none.
      ValueError: it is damaged.
    """
    index = None
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        files = dict(index["weight_map"])
        if wrong := [name for name in files.values() if Path(name).name != name]:
            raise ValueError(f"{folder / _INDEX}: {wrong[0]!r} is no file of this folder")
    elif (folder / _SINGLE).is_file():
        files = dict.fromkeys(_read(folder / _SINGLE), _SINGLE)
    else:
        raise FileNotFoundError(f"{folder}: expected {_INDEX} or {_SINGLE} there")
    tensors = {}
    for file in sorted(set(files.values())):
        tensors |= _read(folder / file)
    if missing := sorted(files.keys() - tensors.keys()):
        raise ValueError(f"{folder}: {missing[0]} is in the index and not in {files[missing[0]]}")
    return _Store(index, files, tensors)


def _read(path: Path) -> dict[str, Tensor | None]:
    """Returns the tensors of a file.

    Raises:
      ValueError: it is damaged.
    """
    try:
        return {name: entry.tensor for name, entry in read_tensors(path)[1].items()}
    except ValueError as error:
        raise ValueError(f"{path}: not a safetensors file, or damaged ({error})") from None


def _jobs(
    store: _Store,
    erasers: Mapping[str, Projection],
    side: Side,
    layout: Layout,
    constant: bool,
) -> dict[str, list[_Job]]:
    """Returns what to write into which file, everything looked at before.

    Raises:
      TypeError: as `fold_checkpoint`.
      ValueError: as `fold_checkpoint`.
    """
    jobs: dict[str, list[_Job]] = defaultdict(list)
    layers = sorted(
        name.removesuffix(".weight") for name in store.files if name.endswith(".weight")
    )
    for layer, eraser in erasers.items():
        found = edit(layer, eraser, constant=constant)
        if layer not in layers:
            near = nearest(layer, layers)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{layer}: the checkpoint has no {layer}.weight{hint}")
        weight, bias = (store.tensors.get(f"{layer}.{part}") for part in ("weight", "bias"))
        _look(layer, weight, eraser, side, layout)
        assert weight is not None
        jobs[store.files[f"{layer}.weight"]].append(
            _Job(weight, functools.partial(_weight, found, weight, side, layout))
        )
        if bias is not None:
            jobs[store.files[f"{layer}.bias"]].append(
                _Job(bias, functools.partial(_bias, found, weight, bias, side, layout))
            )
        elif found.constant.any():
            raise ValueError(
                f"{layer}: the eraser adds a constant, and the checkpoint has no {layer}.bias that "
                "could hold it; fit the eraser about the origin (keep_mean=False), or leave the "
                "constant out (constant=False) where another layer has it"
            )
    if not jobs:
        raise ValueError("erasers: expected at least one")
    return jobs


def _weight(found: Edit, weight: Tensor, side: Side, layout: Layout) -> np.ndarray:
    own = _oriented(weight, layout)
    up, down = found.factors(own, side)
    own += up @ down
    return own if layout == "out,in" else own.T


def _bias(found: Edit, weight: Tensor, bias: Tensor, side: Side, layout: Layout) -> np.ndarray:
    own = host(bias.map())
    return own + found.shift(_oriented(weight, layout) if side == "reads" else None, own, side)


def _oriented(weight: Tensor, layout: Layout) -> np.ndarray:
    """Returns a weight as (out, in), in float64."""
    own = host(weight.map())
    return own if layout == "out,in" else own.T


def _look(
    layer: str, weight: Tensor | None, eraser: Projection, side: Side, layout: Layout
) -> None:
    """Checks that an eraser fits a weight, without a number of it.

    Raises:
      TypeError: the weight holds no floats of 16 bits or more.
      ValueError: its shape does not fit.
    """
    if weight is None or weight.dtype.name not in ("float64", "float32", "float16", "bfloat16"):
        kind = "a packed dtype" if weight is None else weight.dtype.name
        raise TypeError(f"{layer}.weight: expected floats of 16 bits or more, got {kind}")
    if len(weight.shape) != 2:
        raise ValueError(f"{layer}.weight: expected 2 axes, got shape {weight.shape}")
    out, into = weight.shape if layout == "out,in" else weight.shape[::-1]
    width = out if side == "writes" else into
    if width != eraser.dims:
        raise ValueError(
            f"{layer}.weight: {side} {width} features with the layout {layout!r}, and the eraser "
            f"was fitted on {eraser.dims}"
        )


def _edit(source: Path, target: Path, jobs: list[_Job]) -> None:
    """Writes a file as another one with new numbers: of the same size, in the same places."""
    shutil.copyfile(source, target)
    with open(target, "r+b") as file:
        for tensor, compute in jobs:
            file.seek(tensor.offset)
            file.write(rounded(compute(), tensor.dtype).tobytes())


def _switch(folder: Path, index: dict[str, Json], jobs: Mapping[str, list[_Job]]) -> None:
    """Edits a sharded checkpoint in place.

    Until the index is replaced it is the old one, from then on the new one: no file that either
    index names is ever changed.
    """
    names = {file: _renamed(file) for file in jobs}
    try:
        for file, new in names.items():
            with replacing(folder / new, overwrite=False) as temporary:
                _edit(folder / file, temporary, jobs[file])
        files = {tensor: names.get(file, file) for tensor, file in index["weight_map"].items()}
        metadata = {**index.get("metadata", {}), _REPLACED: sorted(names)}
        text = json.dumps({**index, "metadata": metadata, "weight_map": files}, indent=2) + "\n"
        with replacing(folder / _INDEX) as temporary:
            temporary.write_text(text, encoding="utf-8")
    finally:
        # Whatever happened, the index says which files are part of the checkpoint.
        _clean(folder, json.loads((folder / _INDEX).read_text(encoding="utf-8")))


def _renamed(file: str) -> str:
    """Returns a new name for an edited shard."""
    stem = _EDITED.sub("", file).removesuffix(".safetensors")
    return f"{stem}-erased-{secrets.token_hex(4)}.safetensors"


def _clean(folder: Path, index: Mapping[str, Any]) -> None:
    """Removes shards that were replaced, and edited ones that never became part of a checkpoint."""
    used = set(index["weight_map"].values())
    replaced = {Path(name).name for name in index.get("metadata", {}).get(_REPLACED, ())}
    for path in folder.glob("*.safetensors"):
        if path.name not in used and (path.name in replaced or _EDITED.search(path.name)):
            path.unlink()
    remove_orphans(folder)


def _copy(source: Path, out: Path, jobs: Mapping[str, list[_Job]]) -> None:
    """Writes an edited checkpoint as a new folder.

    Raises:
      FileExistsError: the folder exists.
    """
    if out.exists():
        raise FileExistsError(f"{out}: exists; name a new folder")
    temporary = out.with_name(f".erasejax-{secrets.token_hex(8)}")
    temporary.mkdir(parents=True)
    try:
        for path in sorted(source.iterdir()):
            if path.name in jobs:
                _edit(path, temporary / path.name, jobs[path.name])
            elif path.is_dir():
                shutil.copytree(path, temporary / path.name)
            elif not path.name.startswith(".erasejax-"):
                shutil.copyfile(path, temporary / path.name)
        for path in temporary.rglob("*"):
            if path.is_file():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        os.rename(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)

"""Erasers as adapters in the format of PEFT: W' = W + B A, with the bias beside it."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from erasejax._core.types import Json
from erasejax.files import replacing
from erasejax.models._edit import Side, host
from erasejax.models._fold import places
from erasejax.models._paths import is_torch_model
from erasejax.projection import Projection

__all__ = ["save_lora"]

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def save_lora(
    erasers: Mapping[str, Projection],
    model: Any,
    folder: str | os.PathLike[str],
    *,
    side: Side = "writes",
    constant: bool = True,
    overwrite: bool = False,
) -> None:
    """Saves erasers as a LoRA adapter, for `PeftModel.from_pretrained(model, folder)` of PEFT.

    A layer that writes gets B = -K and A = T^T W, one that reads B = -V K and A = T^T; the scaling
    is 1. LoRA alone says nothing of biases, and an eraser about a point b other than zero needs
    one: it is saved as that of B, PEFT's `lora_bias`, from PEFT 0.14 on. Into a layer without a
    bias such an adapter cannot be merged; an eraser about the origin (`keep_mean=False`) needs no
    bias where the layer has none.

    Either both files are there when it returns, or what was there before; a folder in which it was
    interrupted holds no configuration, and is no adapter.

    Args:
      erasers: a `Projection` for each path of a layer, torch's Linear or transformers' Conv1D.
      model: the torch module that the adapter is for.
      folder: is made if there is none.
      side: "writes" or "reads", see `fold`.
      constant: whether the constant K T^T b is part of it, see `fold_into`.
      overwrite: whether an adapter in the folder is replaced.

    Raises:
      FileExistsError: there is an adapter in the folder and overwrite is False.
      OSError: the files cannot be written.
      TypeError: the model is no torch module, or an eraser no `Projection`.
      ValueError: as `fold_into`; or a layer is an embedding, whose constant LoRA cannot say.

    Example:
      >>> path = "transformer.h.3.mlp.c_proj"
      >>> ej.models.save_lora({path: eraser}, model, "adapter")  # doctest: +SKIP
      >>> model = peft.PeftModel.from_pretrained(model, "adapter")  # doctest: +SKIP
    """
    if not is_torch_model(model):
        raise TypeError(f"model: expected a torch module, got {type(model).__name__}")
    if not erasers:
        raise ValueError("erasers: expected at least one")
    found = places(model, erasers, side, constant=constant)
    tensors: dict[str, dict[str, np.ndarray]] = {}
    for path, place in found.items():
        if place.kind != "linear" or not path:
            what = "the model itself" if not path else "an embedding"
            raise ValueError(f"{path!r}: LoRA is for layers of a model, this is {what}; fold_into")
        weight = host(place.weight) if place.layout == "out,in" else host(place.weight).T
        bias = None if place.bias is None else host(place.bias)
        up, down = place.edit.factors(weight, side)
        moved = place.edit.shift(weight, bias, side)
        if not down.size:  # PEFT has no adapters of rank 0
            up, down = np.zeros((len(weight), 1)), np.zeros((1, weight.shape[1]))
        dtype = np.float64 if "float64" in str(place.weight.dtype) else np.float32
        tensors[path] = {
            name: np.ascontiguousarray(value, dtype)
            for name, value in (
                ("lora_A.weight", down),
                ("lora_B.weight", up),
                ("lora_B.bias", moved),
            )
        }
    biased = any(parts["lora_B.bias"].any() for parts in tensors.values())
    content = {
        f"base_model.model.{path}.{name}": value
        for path, parts in tensors.items()
        for name, value in parts.items()
        if biased or name != "lora_B.bias"
    }
    config = _config(
        {path: len(parts["lora_A.weight"]) for path, parts in tensors.items()},
        biased=biased,
        transposed=all(place.layout == "in,out" for place in found.values()),
        base=getattr(getattr(model, "config", None), "_name_or_path", None) or None,
    )
    _write(Path(folder), config, safetensors.numpy.save(content, {"format": "pt"}), overwrite)


def _config(
    ranks: Mapping[str, int], *, biased: bool, transposed: bool, base: str | None
) -> dict[str, Json]:
    """Returns the configuration of an adapter.

    Args:
      ranks: of every layer, by path.
      biased: whether B has a bias.
      transposed: whether the weights of all layers are (in, out).
      base: name of the model.
    """
    rank = max(ranks.values())
    others = {f"^{re.escape(path)}": own for path, own in ranks.items() if own != rank}
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "target_modules": f"(?:{'|'.join(map(re.escape, sorted(ranks)))})",
        "r": rank,
        "lora_alpha": rank,  # a scaling of 1
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_bias": biased,
        "bias": "none",
        "lora_dropout": 0.0,
        "fan_in_fan_out": transposed,
        "init_lora_weights": True,
        "inference_mode": True,
        "task_type": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _write(folder: Path, config: Mapping[str, Json], content: bytes, overwrite: bool) -> None:
    """Writes an adapter.

    Raises:
      FileExistsError: there is one and overwrite is False.
    """
    for name in (_CONFIG, _WEIGHTS):
        if not overwrite and (folder / name).exists():
            raise FileExistsError(f"{folder / name}: exists; overwrite=True replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / _CONFIG, overwrite=overwrite) as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        with replacing(folder / _WEIGHTS, overwrite=overwrite) as weights:
            weights.write_bytes(content)
            # From here to the end there is no adapter: never the weights of one with the
            # configuration of another.
            (folder / _CONFIG).unlink(missing_ok=True)

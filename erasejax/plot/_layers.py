"""Layers of a model as the axis of a picture, before erasing and after."""

import re
from collections.abc import Sequence
from typing import Any

__all__ = ["LAYER", "along_layers", "layer_numbers"]

LAYER = "layer"


def along_layers(frame: Any) -> Any:
    """Returns a table whose files of own rows, where they differ by one number, are layers.

    So "acts.npz:layer0" and "acts.npz:layer6" are the layers 0 and 6, and what nothing was erased
    from is called what it is, the rows before.

    Args:
      frame: a `pandas.DataFrame` of `Sweep.to_pandas`.
    """
    for axis in ("dataset.file", "dataset.layer"):
        values = frame[axis].drop_duplicates().tolist() if axis in frame else []
        numbers = {v: v for v in values} if axis == "dataset.layer" else layer_numbers(values)
        if numbers and all(isinstance(number, int | float) for number in numbers.values()):
            layers = frame[axis].astype(object).map(numbers).astype(float)
            before = frame["eraser"].astype(str).replace("identity", "before (identity)")
            frame = frame.assign(**{axis: layers, "eraser": before})
            return frame.rename(columns={axis: LAYER})
    return frame


def layer_numbers(files: Sequence[str]) -> dict[str, int]:
    """Returns the number by which names of files differ; none where they differ by more."""
    if not all(isinstance(file, str) for file in files):
        return {}
    pieces = [re.split(r"(\d+)", file) for file in files]  # text and numbers in turn
    if len({len(own) for own in pieces}) != 1:
        return {}
    places = [i for i, own in enumerate(zip(*pieces, strict=True)) if len({*own}) > 1]
    if len(places) != 1 or places[0] % 2 == 0:
        return {}
    return {file: int(own[places[0]]) for file, own in zip(files, pieces, strict=True)}

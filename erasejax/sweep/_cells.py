"""What a sweep is made of: configurations, cells, and grids of them.

Each says what it is as JSON, which names its files and keys its draws.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from erasejax._core.types import Json
from erasejax.sweep._columns import Columns

__all__ = ["BLOCK", "Cell", "Config", "Grid", "Product", "Table", "canonical"]

Table: TypeAlias = Mapping[str, Json]  # of a spec or a manifest, by names, as JSON has it

BLOCK = 1024  # seeds that are stored together


@dataclasses.dataclass(frozen=True)
class Config:
    """A dataset, eraser or probe of a sweep.

    Attributes:
      name: as in a spec.
      fields: all its fields as JSON values, normalised by their types: 1, 1.0 and np.float32(1) are
        one.
      value: the configuration object; None where it was read back from a manifest.
      draws: as JSON, what its draws are keyed by; None for all that it is.
    """

    name: str
    fields: Table
    value: Any = dataclasses.field(default=None, compare=False, repr=False)
    draws: Table | None = dataclasses.field(default=None, compare=False, repr=False)

    @functools.cached_property
    def json(self) -> Table:
        """The configuration as JSON."""
        return {"name": self.name, **self.fields}

    @functools.cached_property
    def digest(self) -> bytes:
        """A hash of what it is."""
        return _sha(self.json)

    @functools.cached_property
    def words(self) -> np.ndarray:
        """(4,) uint32 of a hash; draws are keyed by them."""
        digest = self.digest if self.draws is None else _sha(self.draws)
        return np.frombuffer(digest[:16], ">u4").astype(np.uint32)


class Cell(NamedTuple):
    """One dataset, eraser and probe, with the true labels or permuted ones."""

    dataset: Config
    eraser: Config
    probe: Config
    labels: str

    @property
    def key(self) -> tuple[Hashable, ...]:
        """What it is, hashable."""
        return (*(config.digest for config in self[:3]), self.labels)

    @property
    def json(self) -> Table:
        """The cell as JSON."""
        return {
            "dataset": self.dataset.json,
            "eraser": self.eraser.json,
            "probe": self.probe.json,
            "labels": self.labels,
        }


class Product(NamedTuple):
    """A product of axes: every combination of what stands on them.

    Attributes:
      datasets: configurations.
      erasers: configurations.
      probes: configurations.
      labels: "true", "permuted" or both.
      seeds: of the trials, first and last + 1.
      columns: the numbers wanted.
    """

    datasets: tuple[Config, ...]
    erasers: tuple[Config, ...]
    probes: tuple[Config, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, int]
    columns: Columns

    def cells(self) -> Iterator[Cell]:
        """Yields every combination."""
        for labels in self.labels:
            for dataset, eraser, probe in itertools.product(
                self.datasets, self.erasers, self.probes
            ):
                yield Cell(dataset, eraser, probe, labels)


@dataclasses.dataclass(frozen=True)
class Grid:
    """What a spec stands for: a sum of products of axes.

    Attributes:
      parts: a product for each `[[part]]` of the spec.

    Example:
      >>> spec = {"dataset": "xor-classes", "eraser": "sal", "probe": "mean-difference"}
      >>> grid = ej.sweep.grid(spec)
      >>> [cell.probe.name for product in grid.parts for cell in product.cells()]
      ['mean-difference']
    """

    parts: tuple[Product, ...]

    @property
    def json(self) -> list[Table]:
        """The grid as JSON, which `from_json` reads."""
        return [
            {
                "datasets": [config.json for config in product.datasets],
                "erasers": [config.json for config in product.erasers],
                "probes": [config.json for config in product.probes],
                "labels": list(product.labels),
                "seeds": list(product.seeds),
                "protocols": list(product.columns.protocols),
                "metrics": list(product.columns.metrics),
            }
            for product in self.parts
        ]

    @classmethod
    def from_json(cls, parts: Sequence[Table]) -> "Grid":
        """Returns the grid of a manifest; its configurations have no objects."""

        def configs(tables: Sequence[Table]) -> tuple[Config, ...]:
            return tuple(
                Config(table["name"], {k: v for k, v in table.items() if k != "name"})
                for table in tables
            )

        return cls(
            tuple(
                Product(
                    configs(part["datasets"]),
                    configs(part["erasers"]),
                    configs(part["probes"]),
                    tuple(part["labels"]),
                    (part["seeds"][0], part["seeds"][1]),
                    Columns(tuple(part["metrics"]), tuple(part["protocols"])),
                )
                for part in parts
            )
        )


def _sha(value: object) -> bytes:
    return hashlib.sha256(canonical(value).encode()).digest()


def canonical(value: object) -> str:
    """Returns JSON with sorted keys and no spaces: the same value is the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)

"""Which datasets run through one program, though their rows are not of one number.

Drawing compiles in a second, and every structure of dataset draws in a program of its own. Erasing,
probing and scoring takes longer to compile than thousands of small trials to run, so datasets with
rows of one shape share that. Fewer rows are filled up with rows of weight 0, which no method reads,
where the work on them is less than compiling.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax

from erasejax.datasets import Generator, OwnRows
from erasejax.rows import Dataset, Pairs
from erasejax.sweep._cells import Config, Product
from erasejax.sweep._columns import OF_PROBES, Columns

__all__ = [
    "Shape",
    "drawn_shapes",
    "filled",
    "groups",
    "in_words",
    "is_short",
    "outline",
    "shape_of",
]

H = TypeVar("H", bound=Hashable)

# Seconds, roughly, of two cores: a sum that only has to tell minutes from seconds.
_COMPILE = 3.0  # of a program, for each of its erasers and probes
_NUMBER = 1e-8  # of a trial, for each number of its rows


class Shape(NamedTuple):
    """What rows have in common that run through one program.

    Attributes:
      rows: how many rows.
      dims: how many features; 0 where rows cannot be filled up.
      kind: all else.
    """

    rows: int
    dims: int
    kind: Hashable


def outline(dataset: Generator) -> Generator:
    """Returns a dataset as it is for all that shapes decide: of own rows, without the rows."""
    return dataset.outline if isinstance(dataset, OwnRows) else dataset


def drawn_shapes(dataset: Generator) -> Dataset | Pairs:
    """Returns the shapes of one part of the rows that a dataset draws."""
    if isinstance(dataset, OwnRows):
        rows = dataset.outline
        return jax.eval_shape(lambda rows, key: rows.sample(key), rows, jax.random.key(0))
    return jax.eval_shape(lambda key: dataset.sample(key), jax.random.key(0))


def shape_of(dataset: Generator) -> Shape:
    """Returns the shape of the rows that a dataset draws."""
    rows = drawn_shapes(dataset)
    leaves, tree = jax.tree.flatten(rows)
    if isinstance(rows, Pairs):
        return Shape(0, 0, (tree, tuple((leaf.shape, leaf.dtype) for leaf in leaves)))
    kind = tree, tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    n, d = rows.x.shape
    return Shape(n, d, kind)


def filled(rows: Dataset, count: int) -> Dataset:
    """Returns rows, and behind them rows of weight 0, `count` in all."""
    rows = rows.replace(weights=rows.row_weights)

    def fill(leaf: jax.Array) -> jax.Array:
        rest = count - leaf.shape[0]
        return jax.numpy.pad(leaf, ((0, rest),) + ((0, 0),) * (leaf.ndim - 1))

    return jax.tree.map(fill, rows)


def in_words(programs: Sequence[Sequence[int]]) -> str:
    """Returns which numbers of rows share a program, and why; "" where none do.

    Args:
      programs: the numbers of rows of each, sorted.
    """
    found = [
        f"{', '.join(map(str, rows[:-1]))} rows are filled up to {rows[-1]}"
        for rows in programs
        if rows[1:]
    ]
    return "; ".join([*found, "that takes less than to compile more programs"] if found else [])


def groups(product: Product, shapes: Mapping[H, Shape], lanes: Mapping[H, int]) -> list[list[H]]:
    """Returns structures of datasets in groups that share a program.

    Args:
      product: what is asked of them.
      shapes: of the rows of each.
      lanes: how many datasets there are of each.
    """
    families: dict[Hashable, list[H]] = {}
    for structure, shape in shapes.items():
        # With more features than rows methods take other ways.
        wide = shape.rows <= shape.dims
        alone = () if _fills(product) and not wide else shape.rows
        families.setdefault((shape.dims, shape.kind, alone), []).append(structure)
    return [group for family in families.values() for group in _cut(product, family, shapes, lanes)]


def _cut(
    product: Product, family: list[H], shapes: Mapping[H, Shape], lanes: Mapping[H, int]
) -> list[list[H]]:
    """Returns a family cut by the number of rows so that compiling and running take least."""
    family = sorted(family, key=lambda structure: shapes[structure].rows)

    def seconds(group: Sequence[H]) -> float:
        most = shapes[group[-1]]
        numbers = sum(lanes[structure] for structure in group) * most.rows * most.dims
        return sum(_seconds(product.erasers, product.probes, product.columns, numbers))

    best: list[tuple[float, list[list[H]]]] = [(0.0, [])]  # of the first so many
    for end in range(1, len(family) + 1):
        ways = [
            (best[start][0] + seconds(family[start:end]), [*best[start][1], family[start:end]])
            for start in range(end)
        ]
        best.append(min(ways, key=lambda way: way[0]))
    return best[-1][1]


def is_short(
    erasers: Sequence[Config], probes: Sequence[Config], columns: Columns, numbers: int
) -> bool:
    """Returns whether a program has run in much less time than it takes to compile.

    What compiles quickly spares two fifths of the one. The other may take three times as long as
    was guessed, and then twice that.

    Args:
      erasers: all of them.
      probes: all of them.
      columns: the numbers wanted.
      numbers: in the rows of one part of all datasets.
    """
    compiling, running = _seconds(erasers, probes, columns, numbers)
    return 8 * running < compiling


def _seconds(
    erasers: Sequence[Config], probes: Sequence[Config], columns: Columns, numbers: int
) -> tuple[float, float]:
    """Returns about how long a program takes to compile, and to run."""
    width = len(erasers) * len(probes) * len(columns.protocols)
    return _COMPILE * (len(erasers) + len(probes)), _NUMBER * width * numbers


def _fills(product: Product) -> bool:
    """Returns whether rows may be filled up: nothing draws by the row or overlooks weights."""
    methods: tuple[Config, ...] = (*product.erasers, *product.probes)
    columns = product.columns
    metrics = [
        *columns.of(*OF_PROBES, "rows", "change", "eraser", "labels").values(),
        *columns.of("task").values(),
    ]
    return not any(config.value.needs_key for config in methods) and all(
        type(metric).__module__.startswith("erasejax.") for metric in metrics
    )

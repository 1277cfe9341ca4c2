"""A question asked of rows: what do these probes read before this eraser, and after it?"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from erasejax._core.bars import bar
from erasejax._core.status import raise_if_failed
from erasejax.erasers import Eraser, FittedEraser
from erasejax.files import Features, Labels
from erasejax.probes import Probe
from erasejax.readout._found import Protocol, over_splits
from erasejax.readout._protocol import Part, protocol
from erasejax.readout._words import few_rows, fresh_rows, same_rows, shares
from erasejax.rows import Dataset, split_groups, split_rows

__all__ = ["Question"]


def _nothing() -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked, of any features of the same rows.

    Attributes:
      probes: by name.
      concept: what is erased, classes.
      task: what should survive, classes, or None.
      groups: which rows belong together, or None.
      method: the eraser to fit; None where `eraser` is fitted elsewhere.
      eraser: the fitted one, or None.
      where: what the fitted one is called.
      given: what the eraser erases: "none", or within the classes of the task.
      seed: of the first split, and of what draws.
      splits: how many splits into fresh rows, of seeds one after another.
    """

    probes: Mapping[str, Probe]
    concept: Labels
    task: Labels | None = None
    groups: Labels | None = None
    method: Eraser[FittedEraser] | None = None
    eraser: FittedEraser | None = None
    where: str = ""
    given: str = "none"
    seed: int = 0
    splits: int = 1

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the concept's classes."""
        return self.concept.names or ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the task's classes; none without a task."""
        return () if self.task is None else self.task.names or ()

    def unequal(self) -> str:
        """Returns what shares of the classes the parts of the first split have, if unequal."""
        return "" if self.groups is None else shares(self.concept, self.split(self.seed))

    def split(self, seed: int) -> list[np.ndarray]:
        """Returns the row numbers of the parts: two where the eraser is fitted, else three.

        Raises:
          ValueError: a class has too few rows, or groups.
        """
        count = 3 if self.eraser is None else 2
        names, task = self.classes, self.task
        if self.groups is not None:
            parts = split_groups(
                self.concept.values,
                self.groups.values,
                count,
                seed=seed,
                names=names,
                source=self.groups.source,
            )
        else:
            within = None if task is None else task.values
            parts = split_rows(self.concept.values, count, seed=seed, names=names, within=within)
        for part in parts if task is not None else ():
            assert task is not None
            rows = np.bincount(task.values[part], minlength=len(self.tasks))
            if not rows.all():
                name = self.tasks[int(np.argmin(rows))]
                raise ValueError(
                    f"{task.source}: of {count} parts of fresh rows one has no row of the task's "
                    f"class {name!r}, which is too rare, or too unequal among groups"
                )
        return parts

    def same_rows(self, x: np.ndarray) -> Protocol:
        """Returns what is read where eraser, probe and score see the same rows.

        Args:
          x: (n, d) features.
        """
        whole = self._part(x, slice(None))
        found = protocol(
            same_rows(len(whole.data.z), whole.groups),
            self._fit(whole, self.seed),
            self.probes,
            whole,
            whole,
            jax.random.key(self.seed),
            held_out=False,
            given=self.given,
            intervals=True,
        )
        return self._remarked(found, x.shape)

    def fresh_rows(self, x: np.ndarray, *, done: Callable[[], object] = _nothing) -> Protocol:
        """Returns what is read of rows that the eraser, and then the probe, has not seen.

        Args:
          x: (n, d) features.
          done: called after each split.
        """
        found, sizes, parts = [], (0, 0), []
        for seed in range(self.seed, self.seed + self.splits):
            *fitted, train, test = (self._part(x, part) for part in self.split(seed))
            parts = [*fitted, train, test]
            eraser = self._fit(fitted[0], seed) if fitted else self.eraser
            assert eraser is not None
            title = fresh_rows(
                [(len(part.data.z), part.groups) for part in parts], self.where, self.splits
            )
            found.append(
                protocol(
                    title,
                    eraser,
                    self.probes,
                    train,
                    test,
                    jax.random.key(seed),
                    held_out=True,
                    given=self.given,
                    intervals=self.splits == 1,
                )
            )
            rows = [len(part.data.z) for part in parts]
            sizes = sizes if sizes[0] else (rows[-1], sum(rows[:-1]))
            done()
        whole = over_splits(found, scored=sizes[0], fitted=sizes[1])
        return self._remarked(whole, (len(parts[0].data.z), x.shape[1]))

    def ask(self, files: Mapping[str, Features]) -> dict[str, list[Protocol]]:
        """Asks of the features of one file, or of several, with a bar where it takes a second.

        Args:
          files: features of the same rows, by name.

        Returns:
          The protocols by name: of one file that of the same rows, if there is an eraser to fit,
          and that of fresh rows; of several fresh rows alone.

        Raises:
          ValueError: a file holds NaN, or fitting failed.
          ModuleNotFoundError: the bar needs tqdm.
        """
        found = {}
        total = len(files) * self.splits
        options = {"unit": "split", "delay": 1, "leave": False}
        shown = bar("cli", total=total, desc="probing", **options)
        done = _nothing if shown is None else shown.update
        with contextlib.nullcontext() if shown is None else shown:
            for name, features in files.items():
                x = features.array(exact=True)
                both = len(files) == 1 and self.eraser is None
                same = [self.same_rows(x)] if both else []
                found[name] = [*same, self.fresh_rows(x, done=done)]
        return found

    def _remarked(self, found: Protocol, fitted: tuple[int, ...]) -> Protocol:
        """Returns a protocol with a remark on an eraser of so many rows and features."""
        rows, dims = fitted
        return dataclasses.replace(found, remark=few_rows(self.method, rows, dims, found.damage))

    def _part(self, x: Any, index: np.ndarray | slice) -> Part:
        z = jnp.asarray(self.concept.values[index])
        data = Dataset(x=x[index], z=z, num_classes=len(self.classes))
        groups = None if self.groups is None else self.groups.values[index]
        if self.task is None:
            return Part(data, None, 0, groups)
        task, tasks = self.task.values[index], len(self.tasks)
        columns: Any = np.asarray(task[:, None] == np.arange(tasks), np.float32)
        return Part(dataclasses.replace(data, task=columns), task, tasks, groups)

    def _fit(self, part: Part, seed: int) -> FittedEraser:
        assert self.method is not None
        data = part.data if self.method.reads_task else part.of_concept
        return raise_if_failed(self.method.fit(data, key=jax.random.key(seed)))

"""Files that the tests of the commands run on."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.command import D
from tests.many import PARTS, ROWS


@pytest.fixture
def parts(here, data):
    """The rows of `data` in four files of every kind; those of a class lie together."""
    order = np.argsort(data.z, kind="stable")
    x, z, task = np.asarray(data.x)[order], np.load("z.npy")[order], np.load("task.npy")[order]
    np.save("all.npy", x)
    np.save("labels.npy", z)
    np.save("tasks.npy", task)
    for i in range(PARTS):
        own = slice(i * ROWS, (i + 1) * ROWS)
        np.save(f"acts-{i}.npy", x[own])
        np.save(f"y-{i}.npy", z[own])
        np.save(f"t-{i}.npy", task[own])
        np.savez(f"acts-{i}.npz", x=x[own], z=z[own])
        columns = {f"f{j}": x[own, j] for j in range(D)} | {"label": z[own]}
        pq.write_table(pa.table(columns), f"acts-{i}.parquet")
    return here

"""Moments of rows that are spread over the devices of a mesh."""

import functools

import jax
from jax.sharding import Mesh, PartitionSpec

from erasejax._core.programs import program
from erasejax._core.types import Given
from erasejax.rows import Dataset, as_dataset_about, moved
from erasejax.statistics._moments import Moments, combine

__all__ = ["sharded_moments"]


def sharded_moments(
    x: Given | Dataset,
    z: Given | None = None,
    *,
    mesh: Mesh,
    axis: str | None = None,
    weights: Given | None = None,
    num_classes: int | None = None,
    task: Given | None = None,
    covariance: bool = True,
) -> Moments:
    """Returns the moments of rows sharded over a mesh; every device ends with all of them.

    Each device takes the moments of its own rows. Counts, means and covariances with the concept
    are gathered and merged exactly; the (d, d) matrices, moved to the common mean, are summed
    (psum), so no device ever holds more than its rows and two such matrices.

    Args:
      x: (n, d) floats, or a `Dataset` and no z. Arrays of several processes are made with
        `jax.make_array_from_process_local_data`.
      z: the concept, one entry a row.
      mesh: the devices, of one process or of several.
      axis: the mesh axis that rows are sharded over; the first one if None.
      weights: (n,) row weights, or None. Rows of weight 0 are never read: pad with them.
      num_classes: number of classes of integer labels; required where z spans several processes.
      task: (n, t) columns of a task, or None.
      covariance: False keeps variances only, as in `Moments.init`.

    Returns:
      `Moments`, replicated, the same as of all rows at once but for rounding.

    Raises:
      ValueError: n is no multiple of the number of devices on the axis, or inputs do not match.

    Under jit: pure.

    Example:
      >>> data = ej.datasets.GaussianClasses(rows=3, dims=2).sample(jax.random.key(0))
      >>> mesh = jax.sharding.Mesh(jax.devices()[:1], ("rows",))
      >>> float(ej.sharded_moments(data, mesh=mesh).total)
      6.0
    """
    data, origin = as_dataset_about(x, z, weights=weights, num_classes=num_classes, task=task)
    axis = mesh.axis_names[0] if axis is None else axis
    if axis not in mesh.axis_names:
        raise ValueError(f"axis: expected one of {mesh.axis_names}, got {axis!r}")
    n, devices = data.x.shape[0], mesh.shape[axis]
    if n % devices:
        raise ValueError(
            f"x: {n} rows do not divide over {devices} devices; pad with rows of weight 0"
        )
    return moved(_sharded(mesh, axis, covariance, data.task is not None)(data), origin)


@functools.lru_cache(maxsize=64)
def _sharded(mesh: Mesh, axis: str, covariance: bool, task: bool):
    def local(data: Dataset) -> Moments:
        own = Moments.of(data, covariance=covariance, task=task)
        return combine(own, axis, mesh.shape[axis])

    return program(
        jax.shard_map(
            local,
            mesh=mesh,
            in_specs=PartitionSpec(axis),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
    )

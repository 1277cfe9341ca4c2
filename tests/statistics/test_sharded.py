"""Rows over several devices and processes give the moments of all rows."""

import os
import socket
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

import erasejax as ej
from tests.common import draw

MANY = """
import jax, numpy as np
from jax.sharding import Mesh
import erasejax as ej
from tests import common
from tests.common import draw

count = {count}
assert jax.device_count() == count
x, z = draw(0, 1200, 9, 3, dtype=np.float64)
x = (x + 1e3).astype(np.float32)
order = np.argsort(z, kind="stable")
x, z = x[order], z[order]
weights = np.ones(1200, np.float32)
weights[-7:] = 0
x[-7:] = np.nan
mesh = Mesh(np.array(jax.devices()), ("rows",))
sharded = ej.sharded_moments(x, z, mesh=mesh, weights=weights, num_classes=3)
whole = ej.Moments.init(9, 3).update(x[:-7], z[:-7])
sd = np.asarray(whole.sd)
assert float(sharded.total) == 1193
gap = np.asarray(sharded.mean_x, float).sum(0) - np.asarray(whole.mean_x, float).sum(0)
assert (np.abs(gap) < 1e-5 * sd).all()
assert (np.abs(sharded.covariance - whole.covariance) < 1e-5 * np.outer(sd, sd)).all()
for method in (ej.LEACE(), ej.MeanDifference()):
    eraser = ej.raise_if_failed(method.solve(sharded))
    assert common.gap_in_sd(x[:-7], np.asarray(eraser(x[:-7])), z[:-7]) < 1
light = ej.sharded_moments(x, z, mesh=mesh, weights=weights, num_classes=3, covariance=False)
np.testing.assert_allclose(light.xx, np.diagonal(sharded.xx), rtol=1e-5)
print("fine")
"""

PROCESS = """
import sys
import jax, numpy as np
rank, port = int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=rank)
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import erasejax as ej
from tests.common import draw

x, z = draw(0, 800, 5, 2)
mesh = Mesh(np.array(jax.devices()), ("rows",))
spread = NamedSharding(mesh, PartitionSpec("rows"))
mine = slice(400 * rank, 400 * rank + 400)
xs = jax.make_array_from_process_local_data(spread, x[mine], (800, 5))
zs = jax.make_array_from_process_local_data(spread, z[mine], (800,))
sharded = ej.sharded_moments(xs, zs, mesh=mesh, num_classes=2)
sharded = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), sharded)
whole = ej.Moments.init(5, 2).update(x, z)
np.testing.assert_allclose(sharded.mean_x.sum(0), whole.mean, atol=1e-6)
np.testing.assert_allclose(sharded.xx, whole.xx, rtol=1e-5, atol=1e-3)
np.testing.assert_allclose(sharded.xz, whole.xz, rtol=1e-5, atol=1e-3)
print("fine")
"""


def start(code, *args, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    try:
        for process in processes:
            output, _ = process.communicate(timeout=120)
            assert process.returncode == 0, output
            assert output.strip().endswith("fine")
    finally:
        for process in processes:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("count", [4, 2])
def test_virtual_devices(count):
    flags = {"JAX_NUM_CPU_DEVICES": str(count)}
    finish(start(MANY.format(count=count), **flags))


def test_two_processes():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    finish(*(start(PROCESS, str(rank), port, JAX_NUM_CPU_DEVICES="1") for rank in range(2)))


@pytest.mark.slow
def test_one_device_and_clear_errors():
    x, z = draw(1, 90, 4, 2)
    mesh = Mesh(np.array(jax.devices()[:1]), ("rows",))
    sharded = ej.sharded_moments(x, z, mesh=mesh)
    whole = ej.Moments.init(4, 2, one_hot=True).update(x, z)
    np.testing.assert_allclose(sharded.xx, whole.xx, rtol=1e-5, atol=1e-3)
    with pytest.raises(ValueError, match="axis: expected one of"):
        ej.sharded_moments(x, z, mesh=mesh, axis="columns")

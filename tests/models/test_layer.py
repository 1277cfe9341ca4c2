"""The eraser as a layer of flax nnx."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import erasejax as ej
from tests.common import draw

D = 5
X, Z = draw(0, 100, D, 3)
ERASER = ej.LEACE().fit(X, Z)


def make(eraser=ERASER):
    rngs = nnx.Rngs(0)
    return nnx.Sequential(
        nnx.Linear(D, D, rngs=rngs), ej.models.Erase(eraser), nnx.Linear(D, 2, rngs=rngs)
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize(
    "eraser",
    [ERASER, ERASER.with_strength(0.5), ERASER.towards(X[0]), ej.SAL().fit(X[:, :2], Z)],
    ids=["whole", "part", "towards", "flat"],
)
def test_it_does_what_the_eraser_does(eraser, dtype):
    layer = ej.models.Erase(eraser)
    x = jnp.asarray(X[:, : eraser.dims], dtype).reshape(4, 25, -1)
    found = layer(x)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, eraser(x))
    jitted = nnx.jit(lambda m, x: m(x))(layer, x)
    np.testing.assert_allclose(np.float32(jitted), np.float32(found), atol=1e-2)


def test_no_optimiser_touches_it():
    model = make()
    before = [
        np.array(leaf)
        for leaf in jax.tree.leaves(
            nnx.state(model[1] if hasattr(model, "__getitem__") else model.layers[1])
        )
    ]
    weights = np.array(model.layers[0].kernel[...])
    optimizer = nnx.Optimizer(model, optax.adam(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        loss, slopes = nnx.value_and_grad(lambda m: (m(jnp.asarray(X)) ** 2).mean())(model)
        optimizer.update(model, slopes)
        return loss

    losses = [float(step(model, optimizer)) for _ in range(5)]
    assert losses[-1] < losses[0]
    after = jax.tree.leaves(nnx.state(model.layers[1]))
    assert len(after) == 5
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
    assert np.abs(weights - model.layers[0].kernel[...]).max() > 0.1  # gradients flow through
    assert not jax.tree.leaves(nnx.state(model.layers[1], nnx.Param))


def test_saved_and_restored(tmp_path):
    orbax = pytest.importorskip("orbax.checkpoint")
    model = make(ERASER.towards(X[0]).with_strength(0.5))
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "c", nnx.state(model))
        checkpointer.wait_until_finished()
        other = make()  # another eraser, and then another structure of fields
        target = jax.tree.map(jnp.zeros_like, nnx.state(other))
        nnx.update(other, checkpointer.restore(tmp_path / "c", target))
    np.testing.assert_array_equal(other(X), model(X))
    assert np.abs(other(X) - make()(X)).max() > 1e-3


def test_what_is_no_projection_is_refused():
    with pytest.raises(TypeError, match="expected a Projection, got OracleProjection"):
        ej.models.Erase(ej.OracleLEACE().fit(X, Z))
    with pytest.raises(ValueError, match="NaN or infinity"):
        ej.models.Erase(ERASER.replace(status=jnp.uint32(1)))


SHARDED = """
import jax, numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tests.models.test_layer import X, make

assert len(jax.devices()) == 2
mesh = Mesh(np.array(jax.devices()), ("rows",))
model = make()
expected = model(X)
rows = jax.device_put(X, NamedSharding(mesh, PartitionSpec("rows")))
whole = NamedSharding(mesh, PartitionSpec())
nnx.update(model, jax.device_put(nnx.state(model), whole))
found = nnx.jit(lambda m, x: m(x))(model, rows)
assert len(found.sharding.device_set) == 2, found.sharding
assert not found.sharding.is_fully_replicated
np.testing.assert_allclose(found, expected, atol=1e-5)
print("done")
"""


@pytest.mark.slow
def test_rows_spread_over_devices():
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    run = subprocess.run(
        [sys.executable, "-c", SHARDED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.stdout.strip() == "done", run.stderr


@pytest.mark.slow
def test_importing_the_room_imports_no_layers():
    code = "import sys, erasejax as ej; ej.models.fold; print('flax.nnx' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True
    )
    assert run.stdout.strip() == "False"

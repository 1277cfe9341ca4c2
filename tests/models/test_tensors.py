"""Erasers as functions of tensors, and the rest of the package with tensors and without torch."""

import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from tests.common import class_means, draw, gap_in_sd

N, D, K = 300, 12, 3
X, Z = draw(3, N, D, K)
X = X * np.logspace(-6, 6, D, dtype=np.float32) + np.float32(3)
ERASER = ej.LEACE().fit(X, Z)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def deviations(found, expected):
    """The largest difference in deviations of X."""
    difference = np.asarray(found, np.float64) - np.asarray(expected, np.float64)
    return np.abs(difference / X.astype(np.float64).std(axis=0)).max()


def test_of_tensors_it_is_the_eraser(torch):
    erase = ej.models.applied(ERASER)
    found = erase(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.float32
    # A product of D terms is rounded by D eps of terms of up to ten deviations, twice.
    assert deviations(found, ERASER(X)) <= 20 * D * np.finfo(np.float32).eps
    assert gap_in_sd(X, found.numpy(), Z) <= 1


@pytest.mark.parametrize("strength", [0.0, 0.25, 1.0, 1.5])
@pytest.mark.parametrize("constant", [False, True])
def test_in_part_and_towards_a_point_too(torch, strength, constant):
    x = X.copy()
    if constant:  # a feature that is set to the centre
        x[:, 2] = 3 + Z
    eraser = ej.LEACE().fit(x, Z)
    assert constant == (eraser.flat is not None and bool(eraser.flat[2]))
    for own in (eraser, eraser.towards(x[Z == 1].mean(axis=0))):
        part = own.with_strength(strength)
        found, expected = ej.models.applied(part)(torch.from_numpy(x)).numpy(), part(x)
        # As in full, by D eps of terms of up to ten deviations, twice; and where it is stored.
        most = 20 * D * np.finfo(np.float32).eps * x.std(axis=0) + np.spacing(np.abs(expected))
        assert (np.abs(found - expected) <= most).all()
        if strength == 0:
            np.testing.assert_array_equal(found, x)


def test_any_leading_shape_and_strides(torch):
    erase = ej.models.applied(ERASER)
    x = torch.from_numpy(X)
    whole = erase(x)
    assert torch.equal(erase(x.reshape(10, 3, 10, D)).reshape(N, D), whole)
    torch.testing.assert_close(erase(x[7]), whole[7])
    assert erase(x[:0]).shape == (0, D)
    twice = torch.stack([x, x], dim=-1)[..., 1]
    assert not twice.is_contiguous()
    torch.testing.assert_close(erase(twice), whole)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_short_floats_are_rounded_once(torch, name):
    dtype = getattr(torch, name)
    x = torch.from_numpy(draw(3, N, D, K)[0]).to(dtype)
    eraser = ej.LEACE().fit(x.float(), Z)
    found = ej.models.applied(eraser)(x)
    assert found.dtype == dtype
    assert torch.equal(found, ej.models.applied(eraser)(x.float()).to(dtype))


def test_doubles_are_computed_as_doubles(torch):
    x = torch.from_numpy(X).double()
    found = ej.models.applied(ERASER)(x)
    assert found.dtype == torch.float64
    k, t, b = (np.asarray(part, np.float64) for part in (ERASER.kernel, ERASER.test, ERASER.center))
    left = x.numpy() - b
    for _ in range(2):  # what is left is read once more
        left = left - left @ t @ k.T
    assert deviations(found, b + left) < 1e-12


def test_autocast_does_not_round_the_products(torch):
    erase = ej.models.applied(ERASER)
    x = torch.from_numpy(X)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x.T).dtype == torch.bfloat16
        found = erase(x)
    assert gap_in_sd(X, found.numpy(), Z) <= 1


def test_gradients_flow_as_those_of_the_eraser(torch):
    x = torch.from_numpy(draw(3, N, D, K)[0]).requires_grad_()
    eraser = ej.LEACE().fit(x.detach(), Z)
    with torch.inference_mode():  # constants made here serve no gradient
        erase = ej.models.applied(eraser)
        erase(x)
    (erase(x) ** 2).sum().backward()
    expected = jax.grad(lambda x: jnp.sum(eraser(x) ** 2))(jnp.asarray(x.detach().numpy()))
    np.testing.assert_allclose(x.grad, expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_what_is_not_touched_stays_to_the_bit(torch):
    x, z = draw(5, 40, 4, 2)
    x[:, 1], x[:, 2] = 7.3, z  # a constant, and the concept itself
    eraser = ej.LEACE().fit(x, z)
    assert eraser.flat is not None
    assert bool(eraser.flat[2])
    found = ej.models.applied(eraser)(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(found[:, 1], x[:, 1])
    np.testing.assert_array_equal(found[:, 2], np.full(40, eraser.center[2]))
    np.testing.assert_allclose(found, eraser(x), rtol=0, atol=1e-5)


def test_constants_are_moved_once(torch, monkeypatch):
    calls = []
    plain = torch.Tensor.new_tensor
    monkeypatch.setattr(
        torch.Tensor, "new_tensor", lambda *a, **k: (calls.append(1), plain(*a, **k))[1]
    )
    erase = ej.models.applied(ERASER)
    x = torch.from_numpy(X)
    erase(x)
    first = len(calls)
    erase(x.bfloat16())
    erase(x.half())
    assert len(calls) == first > 0
    erase(x.double())
    assert len(calls) == 2 * first


def test_the_device_is_that_of_the_tensor(torch):
    found = ej.models.applied(ERASER)(torch.empty(5, D, device="meta"))
    assert found.device.type == "meta"
    assert found.shape == (5, D)


def test_jax_arrays_go_to_the_eraser():
    erase = ej.models.applied(ERASER)
    np.testing.assert_array_equal(erase(X), ERASER(X))
    traced = jax.jit(erase)(jnp.asarray(X).reshape(10, 30, D)).reshape(N, D)
    assert deviations(traced, ERASER(X)) < 1e-5


def test_erasers_may_be_arguments_of_a_program():
    found = jax.jit(lambda eraser, x: ej.models.applied(eraser)(x))(ERASER, jnp.asarray(X))
    assert deviations(found, ERASER(X)) < 1e-5


@pytest.mark.slow
def test_what_cannot_be_applied_says_why(torch):
    data = ej.datasets.GaussianClasses(rows=8, dims=2).sample(jax.random.key(0))
    for method in (ej.OracleLEACE(), ej.QLEACE()):
        with pytest.raises(TypeError, match="reads the concept of every row when it is applied"):
            ej.models.applied(method.fit(data))
    with pytest.raises(TypeError, match="expected a fitted Projection, got a LEACE; call its fit"):
        ej.models.applied(ej.LEACE())
    with pytest.raises(ValueError, match="a batch of"):
        ej.models.applied(jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), ERASER))
    failed = ej.LEACE().fit(X * np.nan, Z, throw=False)
    with pytest.raises(ej.FailedLanesError):
        ej.models.applied(failed)
    erase = ej.models.applied(ERASER)
    with pytest.raises(ValueError, match=r"fitted on 12 features, got shape \(4, 11\)"):
        erase(torch.ones(4, 11))
    with pytest.raises(TypeError, match=r"expected floating-point values, got torch\.int64"):
        erase(torch.ones(4, 12, dtype=torch.int64))


@pytest.mark.slow
def test_fits_probes_and_metrics_take_tensors(torch):
    x, z = torch.from_numpy(X), torch.from_numpy(Z)
    wide = torch.stack([x, x], dim=1)[:, 1]  # strides of twice the row
    for rows in (x, wide, x.t().contiguous().t()):
        eraser = ej.LEACE().fit(rows, z)
        np.testing.assert_array_equal(eraser.kernel, ERASER.kernel)
        np.testing.assert_array_equal(eraser(rows), ERASER(X))
    probe = ej.probes.LeastSquares().fit(x, z)
    assert float(ej.metrics.accuracy(probe, x, z)) == float(ej.metrics.accuracy(probe, X, Z))
    assert float(ej.metrics.linear_r2(x, z)) == float(ej.metrics.linear_r2(X, Z))


@pytest.mark.slow
def test_bfloat16_tensors_are_read_as_such(torch):
    x = torch.from_numpy(draw(3, N, D, K)[0]).bfloat16()
    eraser = ej.LEACE().fit(x, torch.from_numpy(Z))
    assert eraser(x).dtype == jnp.bfloat16
    np.testing.assert_array_equal(eraser.kernel, ej.LEACE().fit(x.float(), Z).kernel)


def test_tensors_that_require_grad_say_so(torch):
    x = torch.from_numpy(X).requires_grad_()
    for call in (lambda: ej.LEACE().fit(x, Z), lambda: ERASER(x)):
        with pytest.raises(TypeError, match=r"requires grad; pass x\.detach\(\)"):
            call()


def test_a_tensor_that_cannot_be_read_says_where_it_is(torch):
    with pytest.raises(TypeError, match=r"Tensor on meta .*pass it as a dense tensor on the CPU"):
        ERASER(torch.empty(5, D, device="meta"))


BLOCKED = """
    import sys

    class Blocked:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "torch":
                raise AssertionError("torch is imported")

    sys.meta_path.insert(0, Blocked())
    import numpy as np

    import erasejax as ej
    import erasejax.models

    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((40, 3)).astype(np.float32), np.arange(40) % 2
    eraser = ej.LEACE().fit(x, z)
    probe = ej.probes.LeastSquares().fit(eraser(x), z)
    assert 0 <= float(ej.metrics.accuracy(probe, eraser(x), z)) <= 1
    assert float(ej.metrics.linear_r2(eraser(x), z)) == 0
    ej.save(eraser, "eraser.safetensors")
    assert (ej.load("eraser.safetensors")(x) == eraser(x)).all()
    assert (ej.models.applied(eraser)(x) == eraser(x)).all()
    try:
        import torch
    except AssertionError:
        print("done")
"""


@pytest.mark.slow
def test_everything_works_where_torch_cannot_be_imported(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(BLOCKED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout == "done\n", done.stderr


def test_the_gap_that_is_erased_was_there():
    assert np.ptp(class_means(X, Z), axis=0).max() > 0.1


def test_gradients_at_the_centre_are_those_of_the_matrix(torch):
    erase = ej.models.applied(ERASER)
    slope = torch.autograd.functional.jacobian(erase, torch.from_numpy(np.array(ERASER.center)))
    np.testing.assert_allclose(slope.numpy(), ERASER.matrix(), rtol=1e-5, atol=1e-5)

"""What failed and what is several is said: errors of eager fits, and batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from tests import common
from tests.common import draw

X, Z = draw(0, 48, 5, 2)
BROKEN = np.where(np.arange(48)[:, None] == 3, np.nan, X).astype(np.float32)
KEY = jax.random.key(0)
FITS = common.erasers(5) | common.probes() | common.contrast_probes()
OF_PAIRS = common.contrast_probes()


def fit(name, x, **options):
    if name in OF_PAIRS:
        return FITS[name].fit(x, -x, key=KEY, **options)
    more = {"task": jnp.asarray(Z)} if name == "SPLINCE" else {}
    return FITS[name].fit(x, jnp.asarray(Z), num_classes=2, key=KEY, **more, **options)


@pytest.mark.parametrize("name", [n for n in FITS if n != "Identity"])
def test_an_eager_fit_that_fails_raises(name):
    with pytest.raises(ej.FailedLanesError, match="NaN or infinity"):
        fit(name, BROKEN)
    quiet = fit(name, BROKEN, throw=False)
    assert int(quiet.status) & ej.Status.NONFINITE
    with pytest.raises(ej.FailedLanesError, match="NaN or infinity"):
        ej.raise_if_failed(quiet)


@pytest.mark.parametrize("name", ["LEACE", "LDA", "CRC"])
def test_only_status_speaks_under_jit_and_vmap(name):
    assert int(jax.jit(lambda x: fit(name, x))(BROKEN).status) & ej.Status.NONFINITE
    found = jax.vmap(lambda x: fit(name, x))(jnp.stack([X, BROKEN]))
    assert [bool(s & ej.Status.NONFINITE) for s in np.asarray(found.status)] == [False, True]


def test_failed_lanes_are_public():
    assert issubclass(ej.FailedLanesError, ValueError)


@pytest.mark.parametrize("name", ["LEACE", "OracleLEACE", "QLEACE", "LDA", "QDA", "CRC"])
def test_a_batch_says_how_it_is_read(name):
    two = jnp.stack([X, X + 1])
    batch = jax.vmap(lambda x: fit(name, x))(two)
    if name in OF_PAIRS:
        read = lambda fitted, x: fitted.scores(x, -x)  # noqa: E731
    elif hasattr(batch, "scores"):
        read = lambda fitted, x: fitted.scores(x)  # noqa: E731
    else:
        read = lambda fitted, x: fitted(x, Z) if fitted.needs_z else fitted(x)  # noqa: E731
    with pytest.raises(ValueError, match=r"a batch of \(2,\).*jax\.vmap"):
        read(batch, X)
    assert jax.vmap(read)(batch, two).shape[0] == 2

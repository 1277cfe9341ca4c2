"""What failed and what is several is said: errors of eager fits, and batches."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.status import describe
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


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", [n for n in FITS if n != "Identity"])
def test_an_eager_fit_that_fails_raises(name):
    with pytest.raises(ej.FailedLanesError, match="NaN or infinity"):
        fit(name, BROKEN)
    quiet = fit(name, BROKEN, throw=False)
    assert int(quiet.status) & ej.Status.NONFINITE
    with pytest.raises(ej.FailedLanesError, match="NaN or infinity"):
        ej.raise_if_failed(quiet)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", ["LEACE", "LDA", "CRC"])
def test_only_status_speaks_under_jit_and_vmap(name):
    assert int(jax.jit(lambda x: fit(name, x))(BROKEN).status) & ej.Status.NONFINITE
    found = jax.vmap(lambda x: fit(name, x))(jnp.stack([X, BROKEN]))
    assert [bool(s & ej.Status.NONFINITE) for s in np.asarray(found.status)] == [False, True]


def test_failed_lanes_are_public():
    assert issubclass(ej.FailedLanesError, ValueError)


@pytest.mark.quick(2)
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


@pytest.mark.slow
def test_a_failed_fit_says_in_which_rows_what_is_not_a_number():
    real = X[:, 0].copy()
    real[[7, 9]] = np.nan
    with pytest.raises(ej.FailedLanesError) as caught:
        ej.LEACE().fit(X, real)
    assert str(caught.value).endswith("; z in 2 of 48 rows, the first row 7, counted from 0")
    assert "constant" not in str(caught.value)
    first = "x in 1 of 48 rows, the first row 3 [(]column 0[)]"
    for config in (ej.LEACE(), ej.probes.LDA()):
        with pytest.raises(ej.FailedLanesError, match=f"{first}, counted from 0$"):
            config.fit(BROKEN, Z)
    with pytest.raises(ej.FailedLanesError, match=f"{first}, z in 2 of 48 rows"):
        ej.LEACE().fit(BROKEN, real)
    weights = np.where(np.arange(48) == 5, np.inf, 1).astype(np.float32)
    with pytest.raises(ej.FailedLanesError, match="; weights in 1 of 48 rows, the first row 5,"):
        ej.probes.LDA().fit(X, Z, weights=weights)
    with pytest.raises(ej.FailedLanesError, match="; x_neg in 1 of 48 rows, the first row 3"):
        ej.probes.CRC().fit(X, BROKEN)


@pytest.mark.slow
def test_rows_of_weight_zero_are_no_reason():
    weights = (np.arange(48) != 3).astype(np.float32)
    ej.LEACE().fit(BROKEN, Z, weights=weights)
    real = np.where(np.arange(48) == 7, np.nan, X[:, 0]).astype(np.float32)
    with pytest.raises(
        ej.FailedLanesError, match=r"squared\); z in 1 of 48 rows, the first row 7,"
    ):
        ej.LEACE().fit(BROKEN, real, weights=weights)


def test_a_concept_of_nan_is_not_called_constant():
    both = ej.Status.NONFINITE | ej.Status.CONSTANT_CONCEPT
    assert describe(both) == describe(ej.Status.NONFINITE)
    assert "constant" in describe(ej.Status.CONSTANT_CONCEPT)[0]


@pytest.mark.parametrize("name", FITS)
def test_what_is_not_fitted_says_so(name):
    config = FITS[name]
    kind = type(config).__name__
    rows = "x_pos, x_neg" if name in OF_PAIRS else "x, z"
    message = rf"{kind}.*it is not fitted yet: fitted = {kind}\(\.\.\.\)\.fit\({rows}\)"
    for missing in ("predict", "scores", "matrix", "dims"):
        assert not hasattr(config, missing)
        with pytest.raises(AttributeError, match=message):
            getattr(config, missing)
    assert not callable(config)
    assert not isinstance(config, ej.erasers.FittedEraser)
    assert not hasattr(config, "__array__")
    for same in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert jax.tree.structure(same) == jax.tree.structure(config)

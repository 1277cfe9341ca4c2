"""What features, labels, weights and keys may be, and what is said of those that may not."""

import warnings

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import erasejax as ej
from erasejax._core import foreign, inputs
from tests import common
from tests._core.test_foreign import Exporter, dlpack_strided
from tests.common import draw

N, D, K = 48, 5, 2
KEY = jax.random.key(7)
X, Z = draw(0, N, D, K)
MANY = np.arange(N) % 3


@pytest.fixture(scope="module")
def eraser():
    return ej.LEACE().fit(jnp.asarray(X), jnp.asarray(Z))


def assert_fits_alike(x, z, **options):
    """A fit to foreign arrays is the fit to what they hold."""
    expected = ej.SPLINCE().fit(jnp.asarray(X), jnp.asarray(Z), task=X[:, :1])
    found = ej.SPLINCE().fit(x, z, **{"task": X[:, :1]} | options)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


# Tensors.


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.slow
def test_views_of_tensors(torch, eraser):
    hidden = torch.from_numpy(np.stack([X, X], axis=1))
    labels = torch.from_numpy(np.stack([Z, Z], axis=1))
    weights = torch.ones(N, 2)
    assert_fits_alike(hidden[:, -1], labels[:, -1], weights=weights[:, -1], task=hidden[:, -1, :1])
    np.testing.assert_array_equal(eraser(hidden[:, -1]), eraser(X))
    np.testing.assert_array_equal(eraser(hidden)[:, 0], eraser(X))
    for labels in (torch.from_numpy(Z).long(), torch.from_numpy(Z).bool()):
        assert_fits_alike(torch.from_numpy(X), labels)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_dtypes_of_tensors(torch, eraser, dtype):
    hidden = torch.from_numpy(np.stack([X, X], axis=1)).to(getattr(torch, dtype))[:, -1]
    found, expected = eraser(hidden), eraser(jnp.asarray(X.astype(jnp.dtype(dtype))))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_tensor_that_is_negated_when_it_is_read(torch, eraser):
    negated = torch.imag(torch.from_numpy(X * 1j).conj())
    assert negated.is_neg()
    np.testing.assert_array_equal(eraser(negated), eraser(-X))


def test_tensors_that_cannot_be_read(torch, eraser):
    tensor = torch.from_numpy(X.copy())
    with pytest.raises(TypeError, match=r"x: .*requires grad; pass x.detach\(\)"):
        eraser(tensor.clone().requires_grad_())
    with pytest.raises(TypeError, match="got Tensor on meta .* on the CPU"):
        eraser(tensor.to("meta"))
    with pytest.raises(TypeError, match="x: .*dense tensor"):
        eraser(tensor.to_sparse())
    with pytest.raises(ValueError, match="z: expected shape"):
        ej.LEACE().fit(tensor, torch.tensor(1))


def test_what_numpy_refuses_is_read_by_jax():
    narrow = jnp.asarray(X).astype(jnp.bfloat16)
    found = inputs.features("x", Exporter(narrow))
    np.testing.assert_array_equal(found, narrow)
    assert found.unsafe_buffer_pointer() != narrow.unsafe_buffer_pointer()


def test_exporters_of_numpy(eraser):
    np.testing.assert_array_equal(eraser(Exporter(X)), eraser(X))
    np.testing.assert_array_equal(eraser(dlpack_strided(X)[0]), eraser(X))
    sealed = X.copy()
    sealed.flags.writeable = False
    np.testing.assert_array_equal(eraser(sealed), eraser(X))


# Arrays that hold something else.


class Columns:
    """A table of another library: it converts itself to numpy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array.astype(dtype or self.array.dtype)


class Param:
    """A parameter of a model, which JAX reads by its own protocol."""

    def __init__(self, array):
        self.array = array

    def __jax_array__(self):
        return self.array


class Sparse:
    def toarray(self):
        return X


def test_what_converts_itself(eraser):
    expected = eraser(X)
    for x in (Columns(X), Param(jnp.asarray(X)), X.tolist(), list(X), list(jnp.asarray(X))):
        np.testing.assert_array_equal(eraser(x), expected)
    assert_fits_alike(Columns(X), Columns(Z))
    assert_fits_alike(X.tolist(), Z.tolist())
    np.testing.assert_array_equal(eraser(np.ma.masked_greater(X, 1e9)), expected)


def test_data_frames(eraser):
    pandas = pytest.importorskip("pandas")
    assert_fits_alike(pandas.DataFrame(X), pandas.Series(Z))
    named = pandas.DataFrame(X, columns=list("abcde"))
    with pytest.raises(TypeError, match="x: .* text in the columns name, id; leave them out$"):
        eraser(named.assign(name="a", id="b"))
    with pytest.raises(TypeError, match=r"x: .* \(dtype object\); convert it with .astype"):
        eraser(named.astype(object))


@pytest.mark.parametrize("name", ["z", "task"])
def test_advice_about_labels_is_for_labels(name):
    labels = np.array(["barolo", "barbera"])[Z]
    advice = rf"{name}: .*; number the classes: numpy.unique\({name}, return_inverse=True\)\[1\]$"
    for given in (labels, labels.astype(object)):
        with pytest.raises(TypeError, match=advice):
            ej.SPLINCE().fit(X, **{"z": Z, "task": X[:, 0], name: given})


def test_narrow_floats_of_numpy(eraser):
    narrow = X.astype(ml_dtypes.bfloat16)
    assert eraser(narrow).dtype == jnp.bfloat16
    np.testing.assert_array_equal(eraser(narrow), eraser(jnp.asarray(narrow)))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X.astype(ml_dtypes.bfloat16).view("V2"), r"bfloat16; .*\.view\(ml_dtypes.bfloat16\)"),
        (X.astype(ml_dtypes.float8_e4m3fn), "16 bits or more, got float8_e4m3fn"),
        (X.astype(object), r"Python objects .*\.astype\(numpy.float32\)"),
        (X.astype(str), r"text .*; convert it with .astype\(numpy.float32\)$"),
        (X.astype("M8[s]"), "times"),
        (X.astype(np.longdouble), "JAX does not have"),
        (np.zeros(N, [("a", "f4"), ("b", "f4")]), "structured"),
        (np.ma.masked_greater(X, 0), r"masked .*filled"),
        (Sparse(), r"sparse Sparse; pass x.toarray\(\)"),
        ([[1.0, 2.0], [1.0]], "got list"),
        ("x.npy", "got str"),
        ({"x": X}, "got dict"),
        (None, "got NoneType"),
        (X.astype(complex), "floating-point"),
        (X.astype(int), "floating-point values, got int64"),
    ],
)
def test_features_that_are_none(eraser, x, message):
    for call in (eraser, lambda x: ej.LEACE().fit(x, Z)):
        with pytest.raises(TypeError, match=f"x: expected .*{message}") as caught:
            call(x)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.array(["a", "b"])[Z], "text .*numpy.unique"),
        (np.array(["a", "b"], object)[Z], "numpy.unique"),
        (Z.astype(complex), "got complex128"),
    ],
)
def test_labels_that_are_none(z, message):
    with pytest.raises(TypeError, match=f"z: expected .*{message}"):
        ej.LEACE().fit(X, z)


# Labels.


@pytest.mark.parametrize("num_classes", [None, K])
@pytest.mark.parametrize(
    "wide",
    [Z.astype(np.int64) << 32, Z.astype(np.uint64) << 63, -(Z.astype(np.int64) << 40)],
    ids=["int64", "uint64", "negative"],
)
def test_labels_do_not_wrap(wide, num_classes):
    if num_classes is None and wide.min() < 0:
        num_classes = K
    with pytest.raises(ValueError, match=r"labels should be 0, 1, \.\.\., k - 1"):
        ej.LEACE().fit(X, wide, num_classes=num_classes)
    pairs = ej.Pairs(positive=jnp.asarray(X), negative=jnp.asarray(X), templates=wide)
    with pytest.raises(ValueError, match="templates"):
        ej.PairNormalization.of(pairs)


def test_labels_of_jax_do_not_wrap():
    labels = jnp.asarray(Z.astype(np.uint32) * np.uint32(2**32 - 1))
    fitted = ej.LEACE().fit(X, labels, num_classes=K, throw=False)
    assert int(fitted.status) & ej.Status.LABEL_RANGE
    with common.enable_x64():
        labels = jnp.asarray(Z.astype(np.int64) << 32)
        kept = inputs.as_labels("z", labels)
    np.testing.assert_array_equal(kept, Z * np.int64(2**31 - 1))


COLUMN = Z[:, None]
LOGISTIC = ej.probes.Logistic()


@pytest.mark.parametrize(
    "call",
    {
        "num_classes": lambda p: ej.LEACE().fit(X, COLUMN, num_classes=K),
        "probe": lambda p: LOGISTIC.fit(X, COLUMN),
        "many": lambda p: ej.LEACE().fit(X, MANY[:, None]),
        "many, jax": lambda p: ej.LEACE().fit(X, jnp.asarray(MANY)[:, None]),
        "quadratic": lambda p: ej.QLEACE().fit(X, COLUMN),
        "balanced": lambda p: ej.probes.LeastSquares().fit(X, COLUMN, class_weights="balanced"),
        "accuracy": lambda p: ej.metrics.accuracy(p, X, COLUMN),
        "majority": lambda p: ej.metrics.majority_rate(COLUMN),
        "class moments": lambda p: ej.ClassMoments.init(D, K).update(X, COLUMN),
        "pairs": lambda p: ej.PairNormalization.of(ej.Pairs(X, -X, labels=COLUMN)),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_column_of_labels(call):
    probe = LOGISTIC.fit(jnp.asarray(X), jnp.asarray(Z))
    with pytest.raises((TypeError, ValueError), match=r"\(48, 1\).*pass z\[:, 0\]"):
        call[1](probe)


def test_a_task_of_labels_in_a_column():
    with pytest.raises(ValueError, match=r"task: .*pass task\[:, 0\]"):
        ej.SPLINCE().fit(X, Z, task=MANY[:, None])


@pytest.mark.slow
def test_whole_numbers_as_floats():
    with pytest.warns(UserWarning, match=r"z: float64 \(48,\) of whole numbers .*z.astype\(int\)"):
        ej.LEACE().fit(X, Z.astype(float))
    with pytest.warns(UserWarning, match="whole numbers"):
        ej.metrics.linear_r2(X, jnp.asarray(Z, jnp.float32))
    with pytest.raises(TypeError, match=r"got float32 \(48,\); pass integers, such as z.astype"):
        LOGISTIC.fit(X, Z.astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ej.LEACE().fit(X, Z + 0.5)
        # What they are is settled by what they are read with, or by their container.
        ej.Moments.init(D, 1).update(X, Z.astype(float))
        ej.LEACE().fit(ej.Dataset(x=jnp.asarray(X), z=jnp.asarray(Z, jnp.float32)))
        jax.jit(ej.LEACE().fit)(X, jnp.asarray(Z, jnp.float32))


@pytest.mark.parametrize("z", [np.where(Z == 1, np.nan, 0.5), np.full((N, 2), np.nan)])
def test_nan_as_a_concept(z):
    assert int(ej.LEACE().fit(X, z, throw=False).status) & ej.Status.NONFINITE


# Keys.

DRAWS = {
    "sample": lambda key: ej.datasets.SkewedClasses(rows=20).sample(key),
    "pairs": lambda key: ej.datasets.ContrastPairs(rows=20, dims=5).sample(key),
    "eraser": lambda key: ej.RandomDirections().fit(X, Z, key=key),
    "probe": lambda key: common.probes()["MLP"].fit(X, Z, key=key),
    "contrast": lambda key: ej.probes.RandomDirection().fit(X, -X, key=key),
    "recursive": lambda key: ej.probes.recursive(LOGISTIC, X, Z, rounds=2, key=key),
    "recursive_ccs": lambda key: ej.probes.recursive_ccs(
        common.contrast_probes()["CCS"], X, -X, rounds=2, key=key
    ),
    "select_l2": lambda key: ej.probes.select_l2(LOGISTIC, X, Z, l2=[0.1, 1], key=key, folds=2),
    "bootstrap": lambda key: ej.metrics.bootstrap(
        ej.metrics.accuracy, LOGISTIC.fit(X, Z), X, Z, key=key, resamples=8
    ),
    "codelength": lambda key: ej.metrics.codelength(LOGISTIC, X, Z, key=key, permutations=0),
    "learning_curve": lambda key: ej.metrics.learning_curve(LOGISTIC, X, Z, key=key),
    "selectivity": lambda key: ej.metrics.selectivity(LOGISTIC, X, Z, key=key),
    "v_information": lambda key: ej.metrics.v_information(LOGISTIC, X, Z, key=key),
    "guardedness_test": lambda key: ej.metrics.guardedness_test(X, Z, key=key, permutations=10),
    "trial": lambda key: ej.sweep.trial(
        key,
        ej.datasets.SkewedClasses(rows=20),
        ej.Identity(),
        ej.probes.LDA(),
        metrics=("accuracy",),
        protocols=("fitting",),
    ),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", DRAWS)
def test_keys(name):
    draws, raw = DRAWS[name], np.asarray(jax.random.key_data(KEY))
    expected = jax.tree.leaves(draws(KEY))
    for key in (raw, jnp.asarray(raw)):
        for a, b in zip(jax.tree.leaves(draws(key)), expected, strict=True):
            np.testing.assert_array_equal(a, b)
    with pytest.raises(TypeError, match=r"key: .* got int; pass jax.random.key\(3\)"):
        draws(3)
    with pytest.raises(ValueError, match=r"key: expected one key, got \(3,\) keys"):
        draws(jax.random.split(KEY, 3))
    with pytest.raises(ValueError, match=r"key: expected one key, got \(3,\) keys"):
        draws(jax.random.key_data(jax.random.split(KEY, 3)))
    for wrong in (jnp.zeros(3, jnp.uint32), jnp.int32(0), "0"):
        with pytest.raises(TypeError, match="key: expected a jax.random.key"):
            draws(wrong)


def test_own_keeps_what_an_array_holds():
    for array in (np.float32(3), X[:0], X.T, X.astype(">f4"), Z.astype(np.int8), Z > 0):
        np.testing.assert_array_equal(foreign.own(np.asarray(array)), array)


# Numbers of a configuration.


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ej.LEACE(shrinkage=2.0), "shrinkage: expected a number from 0 to 1, got 2$"),
        (ej.LEACE(shrinkage=np.float32(-1)), "shrinkage: expected a number from 0 to 1, got -1$"),
        (ej.LEACE(shrinkage=jnp.nan), "shrinkage: expected a number from 0 to 1, got nan$"),
        (ej.SPLINCE(shrinkage=jnp.float32(1.5)), "shrinkage: .* got 1.5$"),
        (ej.ALFQLEACE(target=-0.5), "target: expected a number from 0 to 1, got -0.5$"),
        (ej.KernelLEACE(shrinkage=2), "shrinkage: expected"),
        (ej.KernelLEACE(bandwidth=0.0), "bandwidth: expected a number above 0, got 0$"),
        (ej.HSICDescent(bandwidth=-1.0), "bandwidth: expected a number above 0, got -1$"),
        (ej.INLP(probe=ej.probes.Logistic(l2=-1.0)), "l2: expected a number of at least 0, got -1"),
        (ej.erasers.Partial(of=ej.LEACE(shrinkage=2.0)), "shrinkage: expected"),
        (ej.probes.MLP(validation=1.0), "validation: expected a number between 0 and 1, got 1$"),
        (ej.probes.KernelRidge(bandwidth=jnp.inf), "bandwidth: expected a number above 0, got inf"),
        *[
            (getattr(ej.probes, name)(l2=-1.0), "l2: expected a number of at least 0, got -1$")
            for name in ("Logistic", "LinearSVM", "LeastSquares", "LDA", "QDA", "KernelRidge")
        ],
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else None,
)
def test_known_numbers_lie_within_their_range(config, message):
    task = {"task": X[:, 0]} if getattr(config, "reads_task", False) else {}
    with pytest.raises(ValueError, match=message):
        config.fit(X, Z, key=KEY, **task)


@pytest.mark.slow
def test_ranges_hold_for_solve_and_not_for_traced_numbers():
    moments = ej.Moments.of(ej.Dataset(x=jnp.asarray(X), z=jnp.asarray(Z), num_classes=K))
    with pytest.raises(ValueError, match="shrinkage: expected"):
        ej.LEACE(shrinkage=2.0).solve(moments)
    with pytest.raises(ValueError, match="l2: expected"):
        ej.probes.recursive(ej.probes.LeastSquares(l2=-1.0), X, Z, rounds=1)
    weights = jnp.array([0.0, 1.0, 2.0])
    found = jax.vmap(lambda weight: ej.LEACE(shrinkage=weight).solve(moments))(weights)
    assert found.kernel.shape[0] == 3

"""One contract for every eraser, probe and dataset, whatever it does."""

import contextlib
import inspect
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax.erasers import _base as erasers_base
from erasejax.probes import _base as probes_base
from erasejax.probes import _contrast as probes_contrast
from tests import common
from tests.common import draw

N, D, K = 48, 5, 2
KEY = jax.random.key(7)

ERASERS = common.erasers(D)
PROBES = common.probes()
FITS = ERASERS | PROBES
DATASETS = {
    "Activations": ej.datasets.Activations(rows=20, dims=5),
    "ContinuousConcept": ej.datasets.ContinuousConcept(rows=20, dims=5, rotate=False),
    "DiscreteFeatures": ej.datasets.DiscreteFeatures(rows=20),
    "GaussianClasses": ej.datasets.GaussianClasses(rows=20, dims=5, directions=2),
    "SkewedClasses": ej.datasets.SkewedClasses(rows=20),
    "TwoConcepts": ej.datasets.TwoConcepts(rows=20, dims=5, rotate=False),
    "XorClasses": ej.datasets.XorClasses(rows=20, rotate=False),
}


def data(seed=0):
    x, z = draw(seed, N, D, K)
    return jnp.asarray(x), jnp.asarray(z)


def fit(config, x, z, key=KEY, classes=K):
    options = {"task": x[:, :1]} if isinstance(config, ej.SPLINCE) else {}
    return config.fit(x, z, num_classes=classes, key=key, **options)


def outputs(fitted, x, classes=K):
    """What a fitted object makes of rows; one that reads labels is told a fixed pattern."""
    if isinstance(fitted, ej.OracleProjection | ej.ClassTransport):
        return fitted(x, jnp.arange(x.shape[0]) % classes)
    return fitted(x) if isinstance(fitted, ej.Projection) else fitted.scores(x)


def assert_same(a, b, tolerance=2e-5):
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", FITS)
def test_jit_is_eager(name):
    x, z = data()
    eager = fit(FITS[name], x, z)
    jitted = jax.jit(lambda c, x, z: fit(c, x, z))(FITS[name], x, z)
    assert_same(outputs(jitted, x), outputs(eager, x))


@pytest.mark.parametrize("name", FITS)
def test_vmap_is_a_loop(name):
    xs, zs = map(jnp.stack, zip(*(data(s) for s in range(3)), strict=True))
    keys = jax.random.split(KEY, 3)
    batched = jax.vmap(lambda x, z, key: fit(FITS[name], x, z, key))(xs, zs, keys)
    read = jax.vmap(outputs)(batched, xs)
    for i in range(3):
        assert_same(read[i], outputs(fit(FITS[name], xs[i], zs[i], keys[i]), xs[i]))


@pytest.mark.parametrize("name", FITS)
def test_a_failing_lane_is_alone(name):
    xs, zs = map(jnp.stack, zip(*(data(s) for s in range(3)), strict=True))
    run = jax.jit(jax.vmap(lambda x, z: fit(FITS[name], x, z)))
    good = run(xs, zs)
    bad = run(xs.at[1, 3, 2].set(jnp.nan), zs)
    assert (np.asarray(good.status) & 0xFFFF == 0).all()
    read_good, read_bad = jax.vmap(outputs)(good, xs), jax.vmap(outputs)(bad, xs)
    np.testing.assert_array_equal(read_bad[0], read_good[0])
    np.testing.assert_array_equal(read_bad[2], read_good[2])
    if name == "Identity":
        return  # reads nothing, so nothing can fail
    assert int(bad.status[1]) & ej.Status.NONFINITE
    assert np.isnan(read_bad[1]).all()
    if name in PROBES:
        labels = jax.vmap(lambda p, x: p.predict(x))(bad, xs)
        assert (labels[1] == -1).all()
        assert (labels[0] >= 0).all()
        score = jax.vmap(ej.metrics.accuracy)(bad, xs, zs)
        assert np.isnan(score[1])
        assert not np.isnan(score[jnp.array([0, 2])]).any()
    with pytest.raises(ValueError, match="lane 1"):
        ej.raise_if_failed(bad)


@pytest.mark.parametrize("name", [n for n in FITS if n != "Identity"])
def test_one_class_is_an_error_where_labels_are_read(name):
    x, z = data()
    fitted = fit(FITS[name], x, jnp.zeros_like(z))
    labels_matter = not name.startswith(("Ablation", "RandomDirections"))
    assert bool(int(fitted.status) & ej.Status.CONSTANT_CONCEPT) == labels_matter
    assert np.isnan(outputs(fitted, x)).all() == labels_matter


@pytest.mark.parametrize("name", FITS)
def test_nothing_depends_on_values_while_tracing(name):
    x = jax.ShapeDtypeStruct((N, D), jnp.float32)
    z = jax.ShapeDtypeStruct((N,), jnp.int32)
    key = jax.eval_shape(lambda: jax.random.key(0))
    shapes = jax.eval_shape(lambda x, z, key: fit(FITS[name], x, z, key), x, z, key)
    assert shapes.status.dtype == jnp.uint32
    with pytest.raises(ValueError, match="num_classes: required"):
        jax.eval_shape(lambda x, z, key: fit(FITS[name], x, z, key, classes=None), x, z, key)


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtypes(name, dtype):
    x, z = data()
    fitted = fit(FITS[name], x.astype(dtype), z)
    floats = [a for a in jax.tree.leaves(fitted) if jnp.issubdtype(a.dtype, jnp.floating)]
    assert {a.dtype for a in floats} == {jnp.dtype(jnp.float32)}
    if isinstance(fitted, ej.OracleProjection | ej.ClassTransport):
        assert fitted(x.astype(dtype), z).dtype == dtype
    elif name in ERASERS:
        assert fitted(x.astype(dtype)).dtype == dtype
        assert fitted(x[0].astype(dtype)).shape == (D,)
        assert fitted(jnp.zeros((2, 3, D), dtype)).shape == (2, 3, D)


@pytest.mark.parametrize("name", FITS)
def test_float64_stays(name):
    with common.enable_x64():
        x, z = draw(0, N, D, K, dtype=np.float64)
        fitted = fit(common.erasers(D).get(name) or PROBES[name], x, z)
        floats = [a for a in jax.tree.leaves(fitted) if jnp.issubdtype(a.dtype, jnp.floating)]
        assert {a.dtype for a in floats} == {jnp.dtype(jnp.float64)}


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("Logistic", "l2"),
        ("LeastSquares", "l2"),
        ("LDA", "l2"),
        ("QDA", "l2"),
        ("LEACE", "shrinkage"),
        ("ALFQLEACE", "target"),
        ("MLP", "validation"),
    ],
)
def test_floats_of_any_kind_are_one_trace(name, field):
    x, z = data()
    traced = probes_base._fit if name in PROBES else erasers_base._fit
    fit(FITS[name].replace(**{field: 0.5}), x, z)
    traces = traced._cache_size()
    for value in (1, 1.0, np.float32(2), np.float64(3), jnp.float32(4), jnp.asarray(5)):
        fit(FITS[name].replace(**{field: value}), x, z)
    assert traced._cache_size() == traces


def test_directions_of_any_kind_are_one_trace():
    x, z = data()
    fit(ej.Ablation(directions=np.eye(D)[0]), x, z)
    traces = erasers_base._fit._cache_size()
    fit(ej.Ablation(directions=np.ones(D, np.int32)), x, z)
    fit(ej.Ablation(directions=jnp.ones(D)), x, z)
    assert erasers_base._fit._cache_size() == traces


def test_one_vmap_sweeps_a_field():
    x, z = data()
    penalties = jnp.array([1e-3, 1e-1, 10.0])
    swept = jax.vmap(lambda l2: fit(ej.probes.Logistic(l2=l2), x, z))(penalties)
    for i, l2 in enumerate(penalties):
        np.testing.assert_allclose(
            swept.weight[i], fit(ej.probes.Logistic(l2=l2), x, z).weight, rtol=1e-4, atol=1e-5
        )


def assert_same_rows(x, expected):
    """Programs may fold constants and order sums differently: a few ulp of a column's largest."""
    atol = 8 * common.EPS * np.abs(expected).max(axis=0)
    assert (np.abs(x - expected) <= atol).all()


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name):
    dataset = DATASETS[name]
    one = dataset.sample(jax.random.key(3))
    again = jax.jit(dataset.sample)(jax.random.key(3))
    assert_same_rows(again.x, one.x)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(jnp.arange(3))
    batch = jax.vmap(dataset.sample)(keys)
    assert_same_rows(batch.x[1], dataset.sample(keys[1]).x)
    assert one.x.dtype == jnp.float32
    if one.is_classes:
        assert one.z.dtype == jnp.int32
        assert int(one.z.max()) + 1 == one.num_classes
        assert (jnp.diff(one.z) >= 0).all()
    else:
        assert one.z.dtype == jnp.float32
    other = dataset.sample(jax.random.key(3), part=1)
    assert not np.array_equal(one.x, other.x)
    with pytest.raises(TypeError, match="key: expected a jax.random.key"):
        dataset.sample(0)


def equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda v: hasattr(v, "eqns")
        ):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


def precisions(function, *args):
    """The precisions of every dot_general in a function, those in loops and calls included."""
    found = [
        e.params["precision"]
        for e in equations(jax.make_jaxpr(function)(*args).jaxpr)
        if e.primitive.name == "dot_general"
    ]
    return {p if isinstance(p, tuple) else (p, p) for p in found}, len(found)


HIGHEST = (jax.lax.Precision.HIGHEST,) * 2


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("classes", [2, 3])
def test_every_product_is_at_highest_precision(name, classes):
    if name == "ZeroOne" and classes == 3:
        pytest.skip("two classes only")
    x, z = draw(0, N, D, classes)
    x = jnp.asarray(x)
    found, count = precisions(lambda x, z: fit(FITS[name], x, z, classes=classes), x, z)
    assert count > 0
    assert found == {HIGHEST}
    fitted = fit(FITS[name], x, z, classes=classes)
    found, count = precisions(lambda x: outputs(fitted, x, classes), x)
    assert count > 0
    assert found == {HIGHEST}


def test_the_precision_test_can_fail():
    found, _ = precisions(jax.jit(lambda x: jax.lax.map(lambda r: r @ r, x)), jnp.ones((4, 3)))
    assert found != {HIGHEST}


CONTRAST = common.contrast_probes()
PAIRS = ej.datasets.ContrastPairs(rows=12, dims=D, directions=2, templates=2)


def contrast_fit(config, pairs, key=KEY):
    return config.fit(pairs, key=key)


@pytest.mark.parametrize("name", CONTRAST)
def test_contrast_probes_under_jit_and_vmap(name):
    config = CONTRAST[name]
    keys = jax.random.split(KEY, 3)
    pairs = jax.vmap(PAIRS.sample)(keys)
    run = jax.jit(jax.vmap(lambda pairs, key: contrast_fit(config, pairs, key)))
    read = jax.jit(jax.vmap(lambda found, pairs: (found.scores(pairs), found.predict(pairs))))
    good = run(pairs, keys)
    raw, labels = read(good, pairs)
    assert (np.asarray(good.status) & 0xFFFF == 0).all()
    for i in range(2):
        one = jax.tree.map(lambda leaf, i=i: leaf[i], pairs)
        eager = contrast_fit(config, one, keys[i]).scores(one)
        # A principal component has no sign of its own.
        turned = eager * jnp.sign(jnp.vdot(eager, raw[i])) if name == "CRC" else eager
        assert_same(raw[i], turned, 2e-4)
    bad = run(pairs.replace(positive=pairs.positive.at[1, 3, 2].set(jnp.nan)), keys)
    assert int(bad.status[1]) & ej.Status.NONFINITE
    failed, failed_labels = read(bad, pairs)
    assert np.isnan(failed[1]).all()
    assert (failed_labels[1] == -1).all()
    assert np.isnan(jax.vmap(lambda found, pairs: found.accuracy(pairs))(bad, pairs)[1])
    for lane in (0, 2):
        np.testing.assert_array_equal(failed[lane], raw[lane])
        np.testing.assert_array_equal(failed_labels[lane], labels[lane])
    with pytest.raises(ValueError, match="lane 1"):
        ej.raise_if_failed(bad)
    same = pairs.replace(negative=pairs.positive)
    assert (run(same, keys).status == ej.Status.CONSTANT_CONCEPT).all()
    far = run(pairs.replace(templates=pairs.templates + 1), keys)
    assert (np.asarray(far.status) & ej.Status.LABEL_RANGE != 0).all()
    none = run(pairs.replace(weights=jnp.zeros(pairs.labels.shape)), keys)
    assert (np.asarray(none.status) & ej.Status.NO_WEIGHT != 0).all()


@pytest.mark.parametrize("name", CONTRAST)
def test_contrast_probes_keep_dtypes_precision_and_traces(name):
    config, pairs = CONTRAST[name], PAIRS.sample(KEY)
    found, count = precisions(lambda pairs: contrast_fit(config, pairs).scores(pairs), pairs)
    assert count > 0
    assert found == {HIGHEST}
    half = pairs.replace(
        positive=pairs.positive.astype(jnp.bfloat16), negative=pairs.negative.astype(jnp.bfloat16)
    )
    for rows, dtype in ((half, jnp.float32), (None, jnp.float64)):
        with common.enable_x64() if rows is None else contextlib.nullcontext():
            rows = PAIRS.sample(jax.random.key(7)) if rows is None else rows
            fitted = jax.eval_shape(lambda rows: contrast_fit(config, rows), rows)
            floats = [a for a in jax.tree.leaves(fitted) if jnp.issubdtype(a.dtype, jnp.floating)]
            assert {a.dtype for a in floats} == {jnp.dtype(dtype)}
    with pytest.raises(ValueError, match="num_templates: required"):
        jax.eval_shape(lambda t: config.fit(half.positive, half.negative, templates=t), half.labels)
    if name == "CCS":
        traced = probes_contrast._fit
        contrast_fit(config.replace(learning_rate=0.5), pairs)
        traces = traced._cache_size()
        for value in (1, np.float32(2), np.float64(3), jnp.asarray(5)):
            contrast_fit(config.replace(learning_rate=value), pairs)
        assert traced._cache_size() == traces


def test_contrast_pairs_are_a_dataset():
    one = PAIRS.sample(jax.random.key(3))
    again = jax.jit(PAIRS.sample)(jax.random.key(3))
    # Fields known to the compiler may be multiplied in another order.
    assert_same(one, again, 16 * common.EPS)
    batch = jax.vmap(PAIRS.sample)(jax.random.split(KEY, 3))
    alone = PAIRS.sample(jax.random.split(KEY, 3)[1])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), batch, alone)
    assert one.positive.dtype == jnp.float32
    assert not np.array_equal(one.positive, PAIRS.sample(jax.random.key(3), part=1).positive)
    for a in (one.labels, one.templates, one.distractor):
        assert a.dtype == jnp.int32
        assert float(a.mean()) == 0.5
        for b in (one.labels, one.templates, one.distractor):
            assert b is a or float((a * b).mean()) == 0.25
    with pytest.raises(TypeError, match="key: expected a jax.random.key"):
        PAIRS.sample(0)


MODULES = [ej, ej.datasets, ej.erasers, ej.metrics, ej.probes, ej.sweep, ej.transport]


@pytest.mark.parametrize("module", MODULES)
def test_public_names_are_declared_and_sorted(module):
    assert list(module.__all__) == sorted(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


def public_callables():
    for module in MODULES:
        for name in module.__all__:
            thing = getattr(module, name)
            if inspect.isclass(thing):
                yield from (
                    (f"{name}.{n}", f)
                    for n, f in inspect.getmembers(thing, inspect.isfunction)
                    if not n.startswith("_") and f.__module__.startswith("erasejax")
                )
            elif callable(thing):
                yield name, thing


@pytest.mark.parametrize(("name", "function"), list(public_callables()))
def test_conventions(name, function):
    parameters = inspect.signature(function).parameters
    assert "rng" not in parameters, "randomness is a keyword called key"
    assert function.__doc__, f"{name} has no docstring"
    for parameter in parameters.values():
        if parameter.name in {"num_classes", "key", "part", "overwrite"} and name != "sample":
            positional_key = name.endswith(".sample") or name == "trial"  # the key is the dataset
            assert positional_key or parameter.kind == inspect.Parameter.KEYWORD_ONLY
    for cls in (*ERASERS.values(), *PROBES.values()):
        assert "key" in inspect.signature(type(cls).fit).parameters


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_documented(module):
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text()
    _, *section = page.partition(f"\n## {module.__name__}\n")
    section = section[1].partition("\n## ")[0]
    for name in module.__all__:
        assert f"`{name}`" in section, f"{module.__name__}.{name} is not in docs/api.md"

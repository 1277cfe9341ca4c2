"""One contract for every eraser, probe and dataset, whatever it does: that of `ej.testing`."""

import atexit
import inspect
import shutil
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import erasejax as ej
import erasejax.sklearn
from erasejax.names import known
from erasejax.testing import _fits, _rules
from tests import common

D = 5
KEY = jax.random.key(7)


def with_new(role, listed):
    """The listed configurations, and defaults of the package's classes that are not among them."""
    held = {type(config) for config in listed.values()}
    named = known(role, entry_points=False)
    return listed | {name: cls() for name, cls in named.items() if cls not in held}


ERASERS = with_new("eraser", common.erasers(D))
# A penalty that is a number to sweep: what is 0 stays 0.
LOGISTIC = {"Logistic": ej.probes.Logistic(l2=0.1)}
ALL_PROBES = with_new("probe", common.probes() | LOGISTIC | common.contrast_probes())
CONTRAST = {n: p for n, p in ALL_PROBES.items() if isinstance(p, ej.probes.ContrastProbe)}
PROBES = {n: p for n, p in ALL_PROBES.items() if n not in CONTRAST}
FITS = ERASERS | PROBES


def own_rows():
    x = np.random.default_rng(0).normal(size=(23, D)).astype(np.float32)
    return ej.datasets.Rows(x, np.arange(23) % 2, groups=np.arange(23) // 2)


def own_files():
    rows = own_rows()
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    np.savez(folder / "rows.npz", x=rows.x, z=rows.z)
    return ej.datasets.FileRows(file=f"{folder}/rows.npz:x", labels=f"{folder}/rows.npz:z")


PAIRS = ej.datasets.ContrastPairs(rows=12, dims=D, directions=2, templates=2)
LISTED = {
    "Activations": ej.datasets.Activations(rows=20, dims=5),
    "ContinuousConcept": ej.datasets.ContinuousConcept(rows=20, dims=5, rotate=False),
    "ContrastPairs": PAIRS,
    "DiscreteFeatures": ej.datasets.DiscreteFeatures(rows=20),
    "GaussianClasses": ej.datasets.GaussianClasses(rows=20, dims=5, directions=2),
    "SkewedClasses": ej.datasets.SkewedClasses(rows=20),
    "Rows": own_rows(),
    "FileRows": own_files(),
    "TwoConcepts": ej.datasets.TwoConcepts(rows=20, dims=5, rotate=False),
    "XorClasses": ej.datasets.XorClasses(rows=20, rotate=False),
}
DATASETS = with_new("dataset", LISTED)


def test_what_is_not_listed_is_held_to_the_contract_too():
    found = with_new("probe", {"LDA": ej.probes.LDA()})
    assert found["mlp"] == ej.probes.MLP()
    assert "lda" not in found


@pytest.mark.quick(8)
@pytest.mark.parametrize("name", ERASERS)
def test_erasers(name):
    ej.testing.check_eraser(ERASERS[name], dims=D)


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", PROBES)
def test_probes(name):
    ej.testing.check_probe(PROBES[name], dims=D)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", CONTRAST)
def test_contrast_probes(name):
    ej.testing.check_probe(CONTRAST[name], dims=D, tolerance=2e-4)


@pytest.mark.quick(1)
@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name):
    ej.testing.check_dataset(DATASETS[name])


@pytest.mark.parametrize("name", FITS)
def test_products_of_three_classes_are_precise(name):
    if name != "ZeroOne":  # two classes only
        rows = _fits._draw(0, D, 3)
        _rules.is_precise(FITS[name], _fits._outcome, FITS[name], rows, KEY)


@pytest.mark.parametrize("name", FITS)
def test_there_are_products(name):
    # All of them are precise where none is found.
    config, rows = FITS[name], _fits._draw(0, D, 2)
    fitted = jax.eval_shape(_fits._fit, config, rows, KEY)
    assert list(_rules.products(_fits._fit, config, rows, KEY))
    assert list(_rules.products(_fits._read, fitted, rows))


@pytest.mark.parametrize("name", CONTRAST)
def test_pairs_without_weight(name):
    pairs = PAIRS.sample(KEY)
    fitted = CONTRAST[name].fit(pairs.replace(weights=jnp.zeros(24)), key=KEY, throw=False)
    assert int(fitted.status) & ej.Status.NO_WEIGHT


@pytest.mark.slow
def test_vmapped_pairs_are_the_pairs():
    keys = jax.random.split(KEY, 3)
    batch = jax.vmap(PAIRS.sample)(keys)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[1], b), batch, PAIRS.sample(keys[1]))


def test_features_of_pairs_are_balanced():
    one = PAIRS.sample(KEY)
    for a in (one.labels, one.templates, one.distractor):
        assert a.dtype == jnp.int32
        assert float(a.mean()) == 0.5
        for b in (one.labels, one.templates, one.distractor):
            assert b is a or float((a * b).mean()) == 0.25


class Means(ej.erasers.Eraser):
    """One that is right; what is wrong with the others is in their names."""

    def _fit(self, data, key):
        return ej.MeanDifference()._fit(data, key)


@struct.dataclass
class Branches(Means):
    def _fit(self, data, key):
        return super()._fit(data if data.x[0, 0] > 0 else data.replace(x=-data.x), key)


@struct.dataclass
class Rounds(Means):
    def _fit(self, data, key):
        fitted = super()._fit(data, key)
        return fitted.replace(kernel=fitted.kernel.astype(jnp.bfloat16))


@struct.dataclass
class TracesEachType(Means):
    strength: float = 1.0

    def fit(self, x, z, *, num_classes=None, key=None, throw=True):
        return jax.jit(type(self)._fit)(self, ej.Dataset(x, z, num_classes=num_classes), key)


@struct.dataclass
class CountsClasses(Means):
    def fit(self, x, z, *, num_classes=None, key=None, throw=True):
        return super().fit(x, z, num_classes=num_classes or 2, throw=throw)


@struct.dataclass
class HasItsOwnKey(Means):
    needs_key = True

    def fit(self, x, z, *, num_classes=None, key=None, throw=True):
        return super().fit(x, z, num_classes=num_classes, key=jax.random.key(0), throw=throw)


@struct.dataclass
class HidesNaN(Means):
    def _fit(self, data, key):
        return super()._fit(data.replace(x=jnp.nan_to_num(data.x)), key)


@struct.dataclass
class TakesOneClass(Means):
    def _fit(self, data, key):
        one_class = (data.z == data.z[0]).all()
        z = jnp.where(one_class, jnp.arange(len(data.z)) % 2, data.z)
        return super()._fit(data.replace(z=z), key)


@struct.dataclass
class DependsOnTheCall(Means):
    def fit(self, x, z, *, num_classes=None, key=None, throw=True):
        fitted = super().fit(x, z, num_classes=num_classes, throw=throw)
        shift = 0.0 if isinstance(x, jax.core.Tracer) else 1e-3
        return fitted.replace(center=fitted.center + shift)


@struct.dataclass
class MixesLanes(Means):
    by: float = struct.field(pytree_node=False, default=0.0)

    def _fit(self, data, key):
        @jax.custom_batching.custom_vmap
        def mixed(x):
            return x

        mixed.def_vmap(lambda size, _, x: (x + self.by * x.sum(axis=0), True))
        fitted = super()._fit(data, key)
        return fitted.replace(center=mixed(fitted.center))


class Own(ej.Projection):
    pass


@struct.dataclass
class CannotBeSaved(Means):
    def _fit(self, data, key):
        return struct.dataclass(Own)(**vars(super()._fit(data, key)))


@pytest.mark.quick(5)
@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (Branches(), "nothing depends on values while tracing: .* TracerBoolConversionError"),
        (Rounds(), "parameters for float16 features: expected float32, got .*bfloat16"),
        (TracesEachType(), "numbers of every type are one trace: expected one trace, got [2-9]"),
        (CountsClasses(), "num_classes is required under jit: expected ValueError"),
        (HasItsOwnKey(), "a method that draws asks for a key: expected TypeError"),
        (HidesNaN(), "NaN is said: expected .*NONFINITE"),
        (TakesOneClass(), "a bad label is said: expected .*CONSTANT_CONCEPT"),
        (DependsOnTheCall(), "jit is eager: expected the eager values, to 2e-05, got values up to"),
        (MixesLanes(1.0), "vmap is a loop: expected the eager values"),
        (MixesLanes(0.0), "a failing lane is alone: expected the bits of other lanes unchanged"),
        (CannotBeSaved(), "what is saved is loaded: expected .*, got .*cannot save a .*Own"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Means) else "",
)
def test_a_broken_eraser_is_found(config, rule):
    with pytest.raises(AssertionError, match=f"(?s)^{type(config).__name__}: {rule}"):
        ej.testing.check_eraser(config)


@struct.dataclass
class Imprecise(ej.probes.Probe):
    def _fit(self, data, key):
        probe = ej.probes.MeanDifferenceProbe()._fit(data, key)
        scores = jax.lax.map(lambda row: row @ probe.weight, data.x)  # products in loops count
        return probe.replace(offset=probe.offset + 0 * scores.sum())


def test_a_probe_of_default_precision_is_found():
    rule = "Imprecise: every product is precise: expected Precision.HIGHEST, got dot_general of"
    with pytest.raises(AssertionError, match=rule):
        ej.testing.check_probe(Imprecise())


@struct.dataclass
class Draws(ej.datasets.Generator):
    """By key and part, by key, or neither."""

    by: str = struct.field(pytree_node=False, default="part")

    def _sample(self, population, rows):
        key = {"part": rows, "key": population, "": jax.random.key(0)}[self.by]
        z = jnp.arange(10, dtype=jnp.int32) // 5
        return ej.Dataset(jax.random.normal(key, (10, 2)), z, num_classes=2)


@pytest.mark.slow
def test_a_dataset_that_ignores_its_key_is_found():
    ej.testing.check_dataset(Draws())
    for by, what in (("", "key"), ("key", "part")):
        with pytest.raises(AssertionError, match=f"Draws: another {what} draws other rows"):
            ej.testing.check_dataset(Draws(by))


MODULES = [
    ej,
    ej.datasets,
    ej.erasers,
    ej.metrics,
    ej.models,
    ej.probes,
    ej.sklearn,
    ej.sweep,
    ej.testing,
    ej.transport,
]


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
            # The key is the dataset.
            positional_key = name.endswith((".sample", ".parts")) or name == "trial"
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

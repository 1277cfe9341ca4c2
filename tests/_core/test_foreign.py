"""What a call returns depends on what it was given when it was called.

A computation that waits for another one reads its arguments late. Every public call is made so, its
numpy arguments are overwritten as soon as it returns, and its result must be that of arrays which
nobody overwrites.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

import erasejax as ej
from erasejax._core.foreign import own
from erasejax.rows._dataset import as_dataset
from tests import common
from tests.common import aligned, draw

N, D, K = 48, 5, 2
KEY = jax.random.key(7)
X, Z = draw(0, N, D, K)
OTHER = draw(1, N, D, K)[0]
RNG = np.random.default_rng(2)
WEIGHTS = RNG.uniform(0.5, 1.5, N).astype(np.float32)
TASK = RNG.standard_normal((N, 1)).astype(np.float32)
TEMPLATES = np.arange(N, dtype=np.int32) % 2
SPREAD = np.cov(X.T).astype(np.float32), np.cov(OTHER.T).astype(np.float32)
ROWS = ej.Dataset(x=jnp.asarray(X), z=jnp.asarray(Z), num_classes=K)
TOKENS = X.reshape(16, 3, D)
MASK = np.arange(3) <= np.arange(16)[:, None] % 3
ATTENTION = ej.probes.AttentionProbe(l2=0.1, max_steps=9)
BIG = jnp.ones((1200, 1200))


@jax.jit
def _nothing(big):
    return 0 * (big @ big @ big)[0, 0]


class Given:
    """Makes arguments out of arrays: of the caller's memory, late ones, and JAX arrays."""

    def __init__(self, make):
        self.make, self.spoilers, self.late = make, [], jnp.float32(0)

    def own(self, value):
        """Puts the arrays of `value` into memory that `spoil` overwrites."""

        def one(leaf):
            if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                leaf = jax.random.key_data(leaf)
            given, spoiler = self.make(np.array(leaf))
            self.spoilers.append(spoiler)
            return given

        return jax.tree.map(one, value)

    def wait(self, value):
        """Makes floats and keys JAX arrays that are not there yet; labels, whose values count."""

        def one(leaf):
            leaf = jnp.array(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                bits = jax.random.key_data(leaf)
                return jax.random.wrap_key_data(bits + self.late.astype(bits.dtype))
            return leaf + self.late if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

        return jax.tree.map(one, value)

    def spoil(self):
        for spoiler in self.spoilers:
            spoiler()


def overwrite(array):
    array[...] = 1


def plain(array):
    return jnp.array(array), lambda: None


def as_numpy(array):
    found = aligned(array)
    return found, lambda: overwrite(found)


@functools.cache
def fitted(name):
    """A fitted eraser or probe of the registries, by its name there."""
    config = (common.erasers(D) | common.probes() | common.contrast_probes())[name]
    if name in common.contrast_probes():
        return config.fit(jnp.asarray(X), jnp.asarray(OTHER), key=KEY)
    return config.fit(ROWS, key=KEY)


@functools.cache
def attended():
    """A fitted probe of tokens."""
    return ATTENTION.fit(jnp.asarray(TOKENS), jnp.asarray(Z[:16]), mask=jnp.asarray(MASK), key=KEY)


@functools.cache
def moments(kind, other=False):
    """Moments of the rows, or of others."""
    rows = ROWS.replace(x=jnp.asarray(OTHER)) if other else ROWS
    if kind == "task":
        return ej.Moments.of(rows.replace(task=jnp.asarray(TASK)), task=True)
    return getattr(ej, kind).of(rows)


def fit(config, task=False):
    def call(a, b):
        options = {"task": a(TASK)} if task else {}
        return a(config).fit(a(X), a(Z), weights=b(WEIGHTS), key=b(KEY), **options)

    return call


def solve(config, kind):
    return lambda a, b: b(config).solve(a(moments(kind)))


def fit_pairs(config):
    return lambda a, b: a(config).fit(
        a(X), a(OTHER), weights=b(WEIGHTS), key=b(KEY), templates=a(TEMPLATES)
    )


def rows(a, b):
    return ej.Dataset(x=a(X), z=a(Z), num_classes=K, weights=b(WEIGHTS))


def pairs(a, b):
    return ej.Pairs(
        positive=a(X),
        negative=a(OTHER),
        labels=a(Z),
        templates=a(TEMPLATES),
        distractor=a(Z),
        weights=b(WEIGHTS),
        num_templates=2,
    )


def metric(name, probe):
    return lambda a, b: getattr(ej.metrics, name)(b(fitted(probe)), a(X), a(Z), weights=b(WEIGHTS))


MESH = Mesh(np.array(jax.devices()[:1]), ("rows",))


@functools.cache
def normalization():
    return ej.PairNormalization.of(pairs(jnp.asarray, jnp.asarray))


def cases():
    """Returns calls by name, as functions of what makes their first and their other arguments."""
    found = {}
    configs = common.erasers(D)
    for label, config in configs.items():
        name = type(config).__name__
        found[f"{name}.fit|{label}"] = fit(config, task=name == "SPLINCE")
        if hasattr(config, "solve"):
            kind = {"QLEACE": "ClassMoments", "ALFQLEACE": "ClassMoments", "SPLINCE": "task"}
            found[f"{name}.solve|{label}"] = solve(config, kind.get(name, "Moments"))
        if hasattr(config, "concept"):
            found[f"{name}.concept"] = lambda a, b, c=config: c.concept(
                ej.rows.as_dataset(a(X), a(Z), weights=b(WEIGHTS))
            )
    for label, config in common.probes().items():
        found[f"{type(config).__name__}.fit|{label}"] = fit(config)
    for config in common.contrast_probes().values():
        found[f"{type(config).__name__}.fit"] = fit_pairs(config)
    for kind in sorted(set(ej.datasets.__all__) - {"Generator", "OwnRows", "Rows", "FileRows"}):
        config = getattr(ej.datasets, kind)(rows=20)
        found[f"{kind}.sample"] = lambda a, b, c=config: a(c).sample(b(KEY))
    for part in ("sample", "parts"):
        found[f"Rows.{part}"] = lambda a, b, f=part: getattr(
            ej.datasets.Rows(a(X), a(Z), weights=b(WEIGHTS)), f
        )(b(KEY))
    found["Generator.sample|key"] = lambda a, b: b(ej.datasets.SkewedClasses(rows=20)).sample(
        a(KEY)
    )

    for name, eraser in {"Projection": "LEACE", "TracedProjection": "INLP"}.items():
        found[f"{name}.__call__"] = lambda a, b, e=eraser: b(fitted(e))(a(X))
        found[f"{name}.__call__|its own"] = lambda a, b, e=eraser: a(fitted(e))(b(X))
        found[f"{name}.with_strength"] = lambda a, b, e=eraser: b(fitted(e)).with_strength(
            a(np.float32(0.5))
        )
        found[f"{name}.towards"] = lambda a, b, e=eraser: b(fitted(e)).towards(a(X[0]))
        found[f"{name}.then"] = lambda a, b, e=eraser: a(fitted(e)).then(b(fitted("LEACE")))
    found["OracleProjection.__call__"] = lambda a, b: b(fitted("OracleLEACE"))(a(X), a(Z))
    for part in ("__call__", "features"):
        found[f"KernelEraser.{part}"] = lambda a, b, p=part: getattr(b(fitted("KernelLEACE")), p)(
            a(X)
        )
    found["ClassTransport.__call__"] = lambda a, b: b(fitted("QLEACE"))(a(X), a(Z))

    for name in ("Moments", "ClassMoments"):
        found[f"{name}.of"] = lambda a, b, k=name: getattr(ej, k).of(rows(a, b))
        found[f"{name}.update"] = lambda a, b, k=name: b(moments(k)).update(a(X), a(Z), b(WEIGHTS))
        found[f"merge|{name}"] = lambda a, b, k=name: ej.merge(
            b(moments(k)), a(moments(k, other=True))
        )
    found["ClassMoments.merge"] = lambda a, b: b(moments("ClassMoments")).merge(
        a(moments("ClassMoments", other=True))
    )
    found["certify"] = lambda a, b: ej.metrics.certify(b(fitted("LEACE")), a(moments("Moments")))
    found["certify_rows"] = lambda a, b: ej.metrics.certify_rows(
        b(fitted("LEACE")), rows(a, b), dtype=np.dtype("f4")
    )
    found["sharded_moments"] = lambda a, b: ej.sharded_moments(
        a(X), a(Z), mesh=MESH, weights=b(WEIGHTS)
    )
    found["LEACE.fit|Dataset"] = lambda a, b: ej.LEACE().fit(rows(a, b))
    found["Logistic.fit|class_weights"] = lambda a, b: ej.probes.Logistic().fit(
        b(X), b(Z), class_weights=a(np.float32([1, 2]))
    )

    for name in common.probes():
        for method in ("scores", "predict", "log_proba"):
            kind = {"QDA": "QuadraticClassifier", "KernelRidge": "FourierProbe"}.get(name, "probe")
            if method != "log_proba" or name in {"LDA", "Logistic", "MLP", "QDA"}:
                found[f"{kind}.{method}|{name}"] = lambda a, b, n=name, m=method: getattr(
                    b(fitted(n)), m
                )(a(X))
    for name, kind in {"CCS": "CCSClassifier", "CRC": "ContrastClassifier"}.items():
        for method in ("scores", "predict", "proba", "mean_scores", "loss_on"):
            if hasattr(getattr(ej.probes, kind), method):
                found[f"{kind}.{method}"] = lambda a, b, n=name, m=method: getattr(b(fitted(n)), m)(
                    a(X), a(OTHER)
                )
        for method in ("accuracy", "oriented"):
            found[f"{kind}.{method}"] = lambda a, b, n=name, m=method: getattr(b(fitted(n)), m)(
                a(X), a(OTHER), a(Z), weights=b(WEIGHTS)
            )
    found["PairNormalization.of"] = lambda a, b: ej.PairNormalization.of(pairs(a, b))
    found["PairNormalization.__call__"] = lambda a, b: b(normalization())(pairs(a, b))
    found["PairNormalization.differences"] = lambda a, b: b(normalization()).differences(
        pairs(a, b)
    )
    found["ablate_pairs"] = lambda a, b: ej.ablate_pairs(pairs(a, b), pairs(a, b), mode="oracle")

    found["AttentionProbe.fit"] = lambda a, b: a(ATTENTION).fit(
        a(TOKENS), a(Z[:16]), mask=a(MASK), weights=b(WEIGHTS[:16]), key=b(KEY)
    )
    for name in ("attention", "log_proba", "pooled", "predict", "scores"):
        found[f"AttentionLikelihood.{name}"] = lambda a, b, m=name: getattr(b(attended()), m)(
            a(TOKENS), a(MASK)
        )
    found["mean_pooled"] = lambda a, b: ej.probes.mean_pooled(a(TOKENS), a(MASK))

    logistic = ej.probes.Logistic()
    found["recursive"] = lambda a, b: ej.probes.recursive(
        a(logistic), a(X), a(Z), rounds=2, stop_at=a(0.5), weights=b(WEIGHTS)
    )
    found["recursive_ccs"] = lambda a, b: ej.probes.recursive_ccs(
        a(common.contrast_probes()["CCS"]), a(X), a(OTHER), rounds=2, weights=b(WEIGHTS), key=b(KEY)
    )
    found["select_l2"] = lambda a, b: ej.probes.select_l2(
        logistic, a(X), a(Z), l2=a(np.float32([0.1, 1])), key=b(KEY), folds=2, weights=b(WEIGHTS)
    )
    scores = ("accuracy", "auroc", "balanced_accuracy", "expected_calibration_error", "log_loss")
    scores += ("recall_at_fpr",)
    for name in scores:
        found[name] = metric(name, "Logistic")
    found["r2"] = metric("r2", "LeastSquares")
    found["bootstrap"] = lambda a, b: ej.metrics.bootstrap(
        ej.metrics.accuracy,
        b(fitted("Logistic")),
        a(X),
        a(Z),
        key=b(KEY),
        resamples=8,
        level=a(0.9),
        weights=b(WEIGHTS),
    )
    found["damage"] = lambda a, b: ej.metrics.damage(a(X), b(OTHER), weights=a(WEIGHTS))
    for name in ("equalized_odds_difference", "group_rates", "tpr_gap", "worst_group_accuracy"):
        found[name] = lambda a, b, f=name: getattr(ej.metrics, f)(
            a(Z), a(Z[::-1].copy()), groups=b(Z), weights=a(WEIGHTS)
        )
    for name in ("demographic_parity_difference", "demographic_parity_ratio"):
        found[name] = lambda a, b, f=name: getattr(ej.metrics, f)(
            a(Z), groups=b(Z[::-1].copy()), weights=a(WEIGHTS)
        )
    found["calibration_by_group"] = lambda a, b: ej.metrics.calibration_by_group(
        b(fitted("Logistic")), a(X), a(Z), groups=b(Z), weights=a(WEIGHTS)
    )
    found["majority_rate"] = lambda a, b: ej.metrics.majority_rate(a(Z), weights=b(WEIGHTS))
    for name in ("canonical_correlations", "linear_r2"):
        found[name] = lambda a, b, f=name: getattr(ej.metrics, f)(a(X), a(Z), weights=b(WEIGHTS))
    found["guardedness_test"] = lambda a, b: ej.metrics.guardedness_test(
        a(X), a(Z), key=b(KEY), permutations=10, weights=b(WEIGHTS)
    )
    for name in ("codelength", "learning_curve", "v_information", "selectivity"):
        more = {} if name == "learning_curve" else {"level": np.float32(0.9)}
        found[name] = lambda a, b, f=name, more=more: getattr(ej.metrics, f)(
            b(logistic),
            a(X),
            a(Z),
            key=b(KEY),
            groups=a(np.arange(N) // 2),
            weights=b(WEIGHTS),
            **{option: b(value) for option, value in more.items()},
        )
    found["ot_map"] = lambda a, b: ej.transport.ot_map(a(SPREAD[0]), b(SPREAD[1]))
    found["barycenter"] = lambda a, b: ej.transport.barycenter(
        a(np.stack(SPREAD)), b(np.float32([1, 2])), steps=4, tolerance=a(1e-3)
    )
    found["distance"] = lambda a, b: ej.transport.distance(
        a(SPREAD[0]), b(SPREAD[1]), mean_a=a(X[0]), mean_b=b(X[1])
    )
    found["trial"] = lambda a, b: ej.sweep.trial(
        b(KEY),
        a(ej.datasets.SkewedClasses(rows=20)),
        a(ej.Ablation(directions=np.eye(2, dtype=np.float32)[:, :1])),
        a(ej.probes.LDA()),
        metrics=("accuracy",),
        protocols=("fitting",),
    )
    return found


CASES = cases()
ARRAYLESS = {
    # Given no arrays, or nothing but results, which are JAX's.
    "ClassMoments.init", "Moments.init", "Projection.affine", "Projection.matrix",
    "Projection.restrict", "TracedProjection.affine", "TracedProjection.matrix",
    "TracedProjection.of", "TracedProjection.restrict", "CCSClassifier.each_start",
    "cache_programs", "raise_if_failed", "register",
    # Keeps what it is given and computes nothing.
    "Dataset.replace", "OwnRows.described", "OwnRows.loaded", "OwnRows.parts", "OwnRows.sample",
    "Rows.check", "Rows.described", "Rows.loaded", "Rows.split_in_words",
    # Given files; `test_files` overwrites those.
    "load", "save", "stream_moments", "FileRows.described", "FileRows.loaded", "FileRows.parts",
    "FileRows.sample",
}  # fmt: skip


# Classes whose methods are those of the probes with cases, by the names of these.
BASES = {
    "Classifier", "ContrastProbe", "FittedProbe", "Likelihood", "LinearClassifier",
    "LinearLikelihood", "LinearProbe", "LinearRegressor", "MLPLikelihood", "Probe",
}  # fmt: skip
# Methods that take words, what was fitted, or moments, and metrics whose functions have cases.
TOLD = {"check_options", "compute", "damage", "erased_moments", "remarks"}


def public_calls():
    """Returns the names of all public functions, and of all methods of public classes."""
    found = set()
    for module in (ej, ej.probes, ej.metrics, ej.datasets, ej.transport):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                found.add(name)
            elif inspect.isclass(value) and value is not ej.Status and name not in BASES:
                for method in set(dir(value)) - TOLD:
                    member = inspect.getattr_static(value, method)
                    if isinstance(member, classmethod):
                        member = member.__func__
                    own = inspect.isfunction(member) and member.__module__.startswith("erasejax")
                    if own and (method == "__call__" or method[0] != "_"):
                        found.add(f"{name}.{method}")
    return found


def test_every_public_call_has_a_case():
    assert public_calls() <= {name.partition("|")[0] for name in CASES} | ARRAYLESS


def late_result(case, make, *, first):
    """Returns a result whose arguments are overwritten before it can have been computed."""
    given = Given(make)
    given.late = _nothing(BIG)
    a, b = (given.own, given.wait) if first else (given.wait, given.own)
    result = case(a, b)
    given.spoil()
    return result


def assert_unspoiled(case, make, *, first=True):
    clean = Given(plain)
    expected = case(clean.own, clean.own)
    found = late_result(case, make, first=first)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.quick(40)
@pytest.mark.parametrize("name", CASES)
def test_calls(name):
    assert_unspoiled(CASES[name], as_numpy)


SOME = ["LEACE.fit|LEACE", "Projection.__call__", "Moments.update", "accuracy", "distance"]


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", [*SOME, "CRC.fit", "PairNormalization.of"])
def test_calls_whose_other_arguments_are_overwritten(name):
    assert_unspoiled(CASES[name], as_numpy, first=False)


def strided(array):
    buffer = aligned(np.repeat(array, 2, axis=0))
    return buffer[::2], lambda: overwrite(buffer)


def columns(array):
    buffer = aligned(np.repeat(array, 2, axis=-1) if array.ndim else array)
    return buffer[..., ::2] if array.ndim else buffer, lambda: overwrite(buffer)


def fortran(array):
    buffer = aligned(np.ascontiguousarray(array.T))
    return buffer.T, lambda: overwrite(buffer)


def reversed_rows(array):
    buffer = aligned(array[::-1]) if array.ndim else aligned(array)
    return buffer[::-1] if array.ndim else buffer, lambda: overwrite(buffer)


def readonly(array):
    buffer = aligned(array)
    view = buffer[...]
    view.flags.writeable = False
    return view, lambda: overwrite(buffer)


def big_endian(array):
    buffer = array.astype(array.dtype.newbyteorder(">"))
    return buffer, lambda: overwrite(buffer)


def double(array):
    buffer = array.astype(array.dtype.kind + "8")
    return buffer, lambda: overwrite(buffer)


class Exporter:
    """A tensor of another library: it speaks DLPack, and nothing else."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def dlpack(array):
    buffer = aligned(array)
    return Exporter(buffer), lambda: overwrite(buffer)


def dlpack_strided(array):
    given, spoiler = strided(array) if array.ndim else as_numpy(array)
    return Exporter(given), spoiler


def torch_tensor(array):
    import torch

    buffer = aligned(array)
    return torch.from_numpy(buffer), lambda: overwrite(buffer)


def torch_view(array):
    import torch

    if not array.ndim:
        return torch_tensor(array)
    buffer = aligned(np.stack([array, array], axis=1))
    return torch.from_numpy(buffer)[:, -1], lambda: overwrite(buffer)


class Interface:
    """An object with nothing but numpy's array interface."""

    def __init__(self, array):
        self.__array_interface__, self.kept = array.__array_interface__, array


def interface(array):
    buffer = aligned(array)
    return Interface(buffer), lambda: overwrite(buffer)


KINDS = [
    strided,
    columns,
    fortran,
    reversed_rows,
    readonly,
    big_endian,
    double,
    dlpack,
    dlpack_strided,
    torch_tensor,
    torch_view,
    interface,
]


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_memory_of_every_kind(make, name):
    if "torch" in make.__name__:
        pytest.importorskip("torch")
    assert_unspoiled(CASES[name], make)


@pytest.mark.parametrize("name", SOME)
def test_memory_mapped_files(name, tmp_path):
    paths = (tmp_path / f"{i}.bin" for i in range(9))

    def make(array):
        path = next(paths)
        path.write_bytes(array.tobytes())

        def spoil():
            other = np.memmap(path, array.dtype, "r+", shape=array.shape or (1,))
            overwrite(other)
            other.flush()

        return np.memmap(path, array.dtype, "r", shape=array.shape or (1,)).reshape(
            array.shape
        ), spoil

    assert_unspoiled(CASES[name], make)


def test_files(tmp_path):
    """What is saved and what is loaded is no longer the object and the file it came from."""
    path, array = tmp_path / "a.safetensors", aligned(X)
    ej.save({"x": array}, path)
    overwrite(array)
    found = ej.load(path)
    with open(path, "r+b") as file:
        content = bytearray(file.read())
        file.seek(0)
        file.write(bytes(len(content)))
    np.testing.assert_array_equal(found["x"], X)

    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "z.npy", Z)
    late = _nothing(BIG)
    found = ej.stream_moments(tmp_path / "x.npy", tmp_path / "z.npy")
    np.load(tmp_path / "x.npy", mmap_mode="r+")[...] = 1
    expected = ej.Moments.init(D, K, one_hot=True).update(jnp.array(X), jnp.array(Z))
    np.testing.assert_array_equal(found.xx, expected.xx)
    assert late == 0


def test_one_buffer_for_all_batches():
    """A hundred batches through one buffer are a hundred batches."""
    buffer, labels = aligned(X), aligned(Z)
    streamed = together = ej.Moments.init(D, K, one_hot=True)
    for i in range(100):
        batch, codes = np.roll(X, i, axis=1) * (1 + i), np.roll(Z, i)
        buffer[...], labels[...] = batch, codes
        streamed = streamed.update(buffer, labels)
        overwrite(buffer)
        overwrite(labels)
        together = together.update(jnp.array(batch), jnp.array(codes))
    for a, b in zip(jax.tree.leaves(streamed), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_hundred_calls_in_a_row():
    eraser, probe = fitted("LEACE"), fitted("Logistic")
    calls = {
        "fit": lambda x, z: ej.LEACE().fit(x, z),
        "apply": lambda x, _: eraser(x),
        "scores": lambda x, _: probe.scores(x),
        "accuracy": lambda x, z: ej.metrics.accuracy(probe, x, z),
        "r2": lambda x, z: ej.metrics.linear_r2(x, z),
    }
    for call in calls.values():
        expected = jax.tree.leaves(call(jnp.array(X), jnp.array(Z)))
        for _ in range(100):
            x, z = aligned(X), aligned(Z)
            found = call(x, z)
            overwrite(x)
            overwrite(z)
            for a, b in zip(jax.tree.leaves(found), expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_jax_arrays_are_not_copied():
    x, z = jnp.array(X), jnp.array(Z)
    data = as_dataset(x, z, num_classes=K)
    assert data.x is x
    assert data.z.unsafe_buffer_pointer() == z.unsafe_buffer_pointer()


def test_a_numpy_array_is_copied_once():
    copy = own(X)
    assert copy.unsafe_buffer_pointer() % 64 == 0
    assert not np.shares_memory(np.asarray(copy), X)

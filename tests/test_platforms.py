"""Every public program lowers for a CPU, GPUs of both makes and a TPU, from one trace."""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import erasejax as ej
from erasejax._linalg import factor, platforms, products, solves
from erasejax.names import known
from erasejax.testing import _fits
from tests.test_contract import CONTRAST, DATASETS, FITS, PAIRS

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
D = 5
KEY = jax.random.key(0)
TWO = ej.datasets.TwoConcepts(rows=12, dims=D)
REAL = ej.datasets.ContinuousConcept(rows=12, dims=D)


def lowered(run, *arguments):
    return export.export(jax.jit(run), platforms=PLATFORMS)(*arguments).mlir_module()


@pytest.mark.quick(12)
@pytest.mark.parametrize("name", FITS)
def test_fits_lower(name):
    rows = _fits._draw(0, D, 2)
    assert lowered(lambda rows: _fits._outcome(FITS[name], rows, KEY), rows)


@pytest.mark.parametrize("name", CONTRAST)
def test_contrast_probes_lower(name):
    assert lowered(lambda pairs: CONTRAST[name].fit(pairs, key=KEY), PAIRS.sample(KEY))


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_lower(name):
    assert lowered(lambda seed: DATASETS[name].sample(jax.random.key(seed)), np.uint32(0))


@pytest.mark.quick(7)
@pytest.mark.parametrize("name", known("metric"))
def test_metrics_lower(name):
    metric = known("metric")[name]()
    data = (REAL if "values" in metric.needs else TWO).sample(KEY)
    probe = (ej.probes.LeastSquares if "values" in metric.needs else ej.probes.Logistic)()

    def number(data):
        given = {
            "probe": lambda: (probe.fit(data), data),
            "fit": lambda: (probe, probe.fit(data), data, data),
            "rows": lambda: (data,),
            "change": lambda: (data.x, ej.LEACE().fit(data)(data.x)),
            "eraser": lambda: (ej.LEACE().fit(data),),
            "labels": lambda: (data,),
        }
        options = {"key": KEY} if metric.of == "fit" else {}
        return metric.compute(*given[metric.of](), **options)

    assert lowered(number, data)


def test_probes_of_tokens_lower():
    x, z, mask = jnp.zeros((12, 3, D)), jnp.arange(12) % 2, jnp.ones((12, 3), bool)

    def run(x, z, mask):
        probe = ej.probes.AttentionProbe(heads=2).fit(x, z, mask=mask, num_classes=2, key=KEY)
        return probe.predict(x, mask), ej.probes.mean_pooled(x, mask)

    assert lowered(run, x, z, mask)


@pytest.mark.slow
def test_tests_lower():
    data = TWO.sample(KEY)
    assert lowered(lambda data: ej.metrics.guardedness_test(data, key=KEY), data)
    score = ej.metrics.accuracy
    probe = ej.probes.LDA().fit(data)
    assert lowered(lambda data: ej.metrics.bootstrap(score, probe, data, key=KEY), data)
    config = ej.probes.Logistic()
    assert lowered(lambda data: ej.metrics.learning_curve(config, data, key=KEY), data)
    options = {"groups": jnp.arange(24) // 3, "key": KEY}
    assert lowered(lambda data: ej.metrics.codelength(config, data, **options), data)
    assert lowered(lambda data: ej.metrics.selectivity(config, data, **options), data)
    given = lambda data: ej.metrics.v_information(config, data, given=data.x, **options)  # noqa: E731
    assert lowered(given, data)


@pytest.mark.parametrize("d", [5, 150, 300])
def test_solves_lower_at_every_size(d):
    matrix, rhs = jnp.zeros((d, d)), jnp.zeros((d, 9))
    assert lowered(solves.solve_correlation, matrix, rhs)
    assert lowered(jax.vmap(solves.solve_correlation), matrix[None], rhs[None])


def test_one_platform_gets_its_own_program_alone():
    def run(x):
        return platforms.choose(x, cpu=jnp.sin, gpu=jnp.tanh, tpu=jnp.exp)

    both = jnp.zeros((2, 3))
    for each in (run, jax.vmap(run), lambda x: jax.lax.map(run, x)):
        for platform, own in zip(PLATFORMS, ("sine", "tanh", "tanh", "exponential"), strict=True):
            text = export.export(jax.jit(each), platforms=[platform])(both).mlir_module()
            found = {name for name in ("sine", "tanh", "exponential") if f".{name}" in text}
            assert found == {own}


def test_rows_are_summed_alike_on_all_platforms():
    rows = jax.random.normal(KEY, (100, 3))

    def part(rows, fresh):
        return jnp.sum(rows if fresh is None else jnp.where(fresh[:, None], rows, 0), axis=0)

    at_once = products.sum_over_rows(part, (rows,), limit=100)
    in_blocks = products.sum_over_rows(part, (rows,), limit=30)  # the last one starts early
    np.testing.assert_allclose(at_once, in_blocks, rtol=0, atol=1e-5)
    text = {
        name: export.export(
            jax.jit(lambda rows: products.sum_over_rows(part, (rows,), limit=30)), platforms=[name]
        )(rows).mlir_module()
        for name in PLATFORMS
    }
    assert {name for name in PLATFORMS if "while" in text[name]} == {"cpu"}


@pytest.mark.slow
def test_lanes_spread_over_devices_may_differ_in_the_matrix_alone():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("lanes",))
    along = jax.sharding.PartitionSpec("lanes")
    for d, m in [(5, 9), (300, 1), (300, 9)]:

        def solve(matrix, d=d, m=m):
            lower = factor.cholesky(matrix[0])
            return solves.solve_correlation(lower @ lower.T, jnp.ones((d, m)))[None]

        run = jax.jit(jax.shard_map(solve, mesh=mesh, in_specs=along, out_specs=along))
        np.testing.assert_allclose(run(jnp.eye(d)[None])[0], np.ones((d, m)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="needs the compiler for TPUs: pip install 'jax[tpu]' (an environment of its own)",
)
def test_programs_compile_for_a_tpu():
    from bench.speed import tpu

    made = {name: tpu.compiled(name) for name in tpu.CASES}
    assert not {name: one.failure for name, one in made.items() if one.failure}
    # Unrolled factorisations, or products block by block, are tens of megabytes.
    assert max(one.code for one in made.values()) < 16e6

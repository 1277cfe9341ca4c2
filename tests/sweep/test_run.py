"""Sweeps: what the numbers are, and that they depend on nothing but the spec."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import erasejax as ej
from erasejax.datasets._base import Generator
from erasejax.rows._dataset import Dataset
from erasejax.sweep._grid import grid
from erasejax.sweep._trial import lane_key
from tests.common import enable_x64
from tests.sweeps import SPEC, TINY, assert_same, finish, run_in_a_process, sorted_frame

CHUNK = 40  # lanes of a block, so that shares run through the program of the whole


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return ej.sweep.run(SPEC, out=tmp_path_factory.mktemp("sweep"), chunk=CHUNK)


# What the numbers are.


def test_every_row_is_its_trial(results):
    frame = results.to_pandas()
    assert len(frame) == 3 * 3 * 2 * 40
    part = grid(SPEC).parts[0]
    probes = {config.name: config.value for config in part.probes}
    erasers = {config.name: config.value for config in part.erasers}
    run = jax.jit(functools.partial(ej.sweep.trial, metrics=tuple(SPEC["metrics"])))
    for eraser, probe in (("leace", "logistic"), ("identity", "least-squares")):
        for dataset in part.datasets:
            key = lane_key(jnp.uint32(7), jnp.asarray(dataset.words))
            alone = run(key, dataset.value, erasers[eraser], probes[probe])
            row = frame[
                (frame["dataset.separation"] == dataset.fields["separation"])
                & (frame.probe == probe)
                & (frame.eraser == eraser)
                & (frame.seed == 7)
            ]
            assert len(row) == 1
            for column, value in alone.items():
                found = row[column].iloc[0]
                np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-6, err_msg=column)


@pytest.mark.slow
def test_a_trial_is_its_parts():
    dataset, key = ej.datasets.GaussianClasses(rows=20, dims=4), jax.random.key(3)
    found = ej.sweep.trial(
        key, dataset, ej.LEACE(), ej.probes.LDA(), metrics=("accuracy", "damage")
    )
    parts = [dataset.sample(key, part=part) for part in range(3)]
    eraser = ej.LEACE().fit(parts[0])
    erased = [part.replace(x=eraser(part.x)) for part in parts]
    for name, fit, score in (("fitting", 0, 0), ("fresh", 1, 2)):
        probe = ej.probes.LDA().fit(erased[fit])
        expected = ej.metrics.accuracy(probe, erased[score])
        np.testing.assert_allclose(found[f"accuracy_{name}"], expected, atol=1e-6)
        expected = ej.metrics.damage(parts[score].x, erased[score].x)
        np.testing.assert_allclose(found[f"damage_{name}"], expected, rtol=1e-4)


def test_erasers_and_probes_see_the_same_draws(results):
    frame = results.to_pandas()
    damage = frame.groupby(["dataset.separation", "eraser", "seed"], observed=True).damage_fitting
    assert (damage.nunique() == 1).all()


def test_numbers_make_sense(results):
    frame = results.to_pandas()
    assert (frame.status & 0xFFFF == 0).all()
    exact = frame[frame.eraser != "identity"]
    assert (exact["rank"] == 1).all()
    unsure = exact.status & int(ej.Status.UNRESOLVED) != 0  # rounding is more than independent
    assert unsure.mean() < 0.01
    assert (exact[~unsure].linear_r2_fitting == 0).all()
    assert (exact.linear_r2_fitting < 1e-5).all()
    assert (exact[exact.probe == "logistic"].accuracy_fitting == 0.5).all()
    assert frame[frame.probe == "least-squares"].log_loss_fitting.isna().all()
    assert frame[frame.probe == "logistic"].log_loss_fitting.notna().all()
    before = frame[(frame.eraser == "identity") & (frame.probe == "logistic")]
    means = before.groupby("dataset.separation").accuracy_fresh.mean()
    assert means.is_monotonic_increasing


def test_summary_is_pandas(results):
    frame, summary = results.to_pandas(), results.summary()
    assert len(summary) == 3 * 3 * 2
    cell = summary.loc[("gaussian-classes", 0.5, "leace", "logistic")]
    rows = frame[
        (frame["dataset.separation"] == 0.5)
        & (frame.eraser == "leace")
        & (frame.probe == "logistic")
    ].accuracy_fresh
    np.testing.assert_allclose(cell["accuracy_fresh", "mean"], rows.mean(), rtol=1e-6)
    np.testing.assert_allclose(cell["accuracy_fresh", "sd"], rows.std(), rtol=1e-5)
    np.testing.assert_allclose(cell["accuracy_fresh", "se"], rows.std() / 40**0.5, rtol=1e-5)
    np.testing.assert_allclose(cell["accuracy_fresh", "q95"], rows.quantile(0.95), rtol=1e-6)
    assert cell["accuracy_fresh", "count"] == cell["trials", "count"] == 40


def test_xarray_has_a_dimension_for_each_axis(results):
    found = results.to_xarray()
    assert dict(found.sizes) == {"dataset.separation": 3, "eraser": 3, "probe": 2, "seed": 40}
    assert found.attrs["dataset"] == "gaussian-classes"
    one = found.accuracy_fresh.sel({"dataset.separation": 2.0, "eraser": "leace", "seed": 3})
    frame = results.to_pandas()
    row = frame[(frame["dataset.separation"] == 2) & (frame.eraser == "leace") & (frame.seed == 3)]
    for probe in ("logistic", "least-squares"):
        assert float(one.sel(probe=probe)) == row[row.probe == probe].accuracy_fresh.iloc[0]


@pytest.mark.slow
def test_axes_with_gaps_and_of_words_and_numbers(tmp_path):
    spec = {
        **TINY,
        "eraser": ["identity", {"name": "leace", "shrinkage": [0.0, 0.5]}],
        "probe": ["mean-difference", {"name": "lda", "l2": [1.0, float("inf")]}],
        "dataset": {"name": "gaussian-classes", "dims": 2, "rows": [6, [4, 8]]},
    }
    found = ej.sweep.run(spec, out=tmp_path)
    frame = found.to_pandas()
    assert set(frame["dataset.rows"]) == {"6", "[4, 8]"}
    assert set(frame["probe.l2"].dropna()) == {1.0, np.inf}
    cube = found.to_xarray()
    assert set(cube["eraser.shrinkage"].to_numpy()) == {"", "0", "0.5"}
    gaps = ["eraser.shrinkage", "probe.l2"]
    words = frame[gaps].map(lambda value: "" if np.isnan(value) else f"{value:g}")
    names = ["eraser", "probe", "dataset.rows", "seed"]
    for place, accuracy in zip(
        frame[names].join(words).to_dict("records"), frame.accuracy_fresh, strict=True
    ):
        np.testing.assert_equal(cube.accuracy_fresh.sel(place).item(), accuracy)


@pytest.mark.slow
def test_permuted_labels_are_a_null(tmp_path):
    spec = {
        **TINY,
        "dataset": {"name": "gaussian-classes", "dims": 2, "rows": 50, "separation": 3},
        "labels": ["true", "permuted"],
        "seeds": 100,
    }
    frame = ej.sweep.run(spec, out=tmp_path).to_pandas()
    fresh = frame[frame.eraser == "identity"].groupby("labels", observed=True).accuracy_fresh
    assert fresh.mean()["true"] > 0.9
    # A probe that knows nothing is right in half of 100 rows, with a deviation of 1/20.
    assert abs(fresh.mean()["permuted"] - 0.5) < 5 / 20 / 100**0.5
    alone = ej.sweep.run({**spec, "labels": "true"}, out=tmp_path / "alone")
    both = frame[frame.labels == "true"].accuracy_fresh.to_numpy()
    np.testing.assert_array_equal(alone.to_pandas().accuracy_fresh, both)


@pytest.mark.slow
def test_tasks_pairs_and_real_concepts(tmp_path):
    spec = {
        "dataset": {"name": "two-concepts", "rows": 60, "correlation": 0.0},
        "eraser": ["identity", "splince"],
        "probe": "lda",
        "metrics": ["accuracy", "task_accuracy"],
        "protocols": "fresh",
        "seeds": 20,
        "part": [
            {},
            {
                "dataset": {"name": "contrast-pairs", "rows": 40, "dims": 6, "truth": 3.0},
                "eraser": ["identity", "mean-difference"],
                "probe": ["crc", "random-direction", "lda"],
                "metrics": "accuracy",
            },
            {
                "dataset": {"name": "continuous-concept", "rows": 80, "strength": 2.0},
                "eraser": ["identity", "leace"],
                "probe": "least-squares",
                "metrics": ["r2", "accuracy", "linear_r2"],
            },
        ],
    }
    frame = ej.sweep.run(spec, out=tmp_path).to_pandas()
    assert (frame.status & 0xFFFF == 0).all()

    def mean(column, **cell):
        rows = frame
        for name, value in cell.items():
            rows = rows[rows[name] == value]
        return rows[column].mean()

    assert mean("accuracy_fresh", dataset="two-concepts", eraser="splince") < 0.65
    assert mean("task_accuracy_fresh", dataset="two-concepts", eraser="splince") > 0.75
    for probe in ("crc", "lda"):
        pairs = {"dataset": "contrast-pairs", "probe": probe}
        assert mean("accuracy_fresh", eraser="identity", **pairs) > 0.9
        assert mean("accuracy_fresh", eraser="mean-difference", **pairs) < 0.75
    concept = {"dataset": "continuous-concept"}
    assert mean("r2_fresh", eraser="identity", **concept) > 0.7
    assert mean("linear_r2_fresh", eraser="leace", **concept) < 0.2
    assert np.isnan(mean("accuracy_fresh", **concept))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"dataset": "continuous-concept"}, TypeError, "LDA predicts class labels"),
        ({"metrics": "task_accuracy"}, ValueError, "needs a dataset with a binary task"),
        ({"probe": "ccs"}, TypeError, "CCS reads contrast pairs"),
        ({"eraser": "splince"}, TypeError, "SPLINCE keeps a task"),
        ({"dataset": {"name": "skewed-classes", "rows": 7}}, ValueError, "multiple of ratio"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_computed(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        ej.sweep.run({**TINY, "probe": "lda", **change}, out=tmp_path)
    assert not [*tmp_path.rglob("*.parquet")]


# That they depend on nothing else.


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [7, 64])
def test_results_do_not_depend_on_the_chunk(results, tmp_path, chunk):
    assert_same(ej.sweep.run(SPEC, out=tmp_path, chunk=chunk), results)


@pytest.mark.slow
def test_chunks_from_one_to_thousands(tmp_path):
    spec = {**SPEC, "seeds": 2000}
    found = [ej.sweep.run(spec, out=tmp_path / str(size), chunk=size) for size in (1, 64, 4096)]
    for other in found[:-1]:
        assert_same(other, found[-1])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_iterative_methods_stay_within_their_bands(tmp_path):
    classes = {"name": "gaussian-classes", "dims": 4, "rows": 30, "separation": [0.5, 2.0]}
    four = {"name": "gaussian-classes", "dims": 6, "num_classes": 4, "directions": 3}
    inlp = {"name": "inlp", "rounds": 2}
    spec = {
        "seeds": 64,
        "metrics": ["accuracy", "rank"],
        "part": [
            {"dataset": classes, "eraser": ["identity", inlp], "probe": ["logistic", "mlp"]},
            {"dataset": four, "eraser": {"name": "rlace", "rank": 1}},
            {"dataset": "contrast-pairs", "eraser": "identity", "probe": "ccs"},
        ],
    }
    base = sorted_frame(ej.sweep.run(spec, out=tmp_path / "default"))
    ej.sweep.run(spec, out=tmp_path / "seven", chunk=7)
    finish(run_in_a_process(spec, tmp_path / "devices", 2))
    for name in ("seven", "devices"):
        other = sorted_frame(ej.sweep.open(tmp_path / name))
        assert (other["rank"] == base["rank"]).all()
        assert (other.status == base.status).all()
        for column in ("accuracy_fitting", "accuracy_fresh"):
            change = (other[column] - base[column]).groupby([base.dataset, base.eraser, base.probe])
            assert (change.agg(lambda one: (one != 0).mean()) <= 0.05).all()
            assert (change.mean().abs() <= 0.002).all()


@pytest.mark.slow
def test_results_do_not_depend_on_the_grid(results, tmp_path):
    other = {
        **SPEC,
        "dataset": {**SPEC["dataset"], "separation": [3, 2, 1, 0.5]},
        "eraser": ["sal", "leace", "mean-difference", "identity"],
        "probe": ["logistic", "lda", "least-squares"],
        "seeds": 50,
    }
    found = ej.sweep.run(other, out=tmp_path)

    class Part:
        """The rows that both have."""

        columns = found.columns

        @staticmethod
        def to_pandas():
            frame = found.to_pandas()
            return frame[
                (frame.seed < 40)
                & (frame["dataset.separation"] < 3)
                & (frame.eraser != "sal")
                & (frame.probe != "lda")
            ].reset_index(drop=True)

    assert_same(Part, results)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [4, 2])
def test_results_do_not_depend_on_the_devices(results, tmp_path, devices):
    finish(run_in_a_process(SPEC, tmp_path, devices))
    assert_same(ej.sweep.open(tmp_path), results)


@pytest.mark.slow
def test_processes_share_a_folder(results, tmp_path):
    processes = [run_in_a_process(SPEC, tmp_path, shard=f"{i}/2", chunk=CHUNK) for i in range(2)]
    for process in processes:
        finish(process)
    assert_same(ej.sweep.open(tmp_path), results)


@pytest.mark.slow
def test_a_sweep_has_the_precision_of_its_caller(tmp_path):
    ej.sweep.run(TINY, out=tmp_path)
    with enable_x64():  # of this thread only
        found = ej.sweep.run(TINY, out=tmp_path).to_pandas()
    assert found.accuracy_fitting.dtype == np.float64
    assert (found[found.eraser == "mean-difference"].accuracy_fitting == 0.5).all()
    assert len([*tmp_path.glob("manifest-*.json")]) == 2


def test_shares(monkeypatch):
    from erasejax.sweep._plan import share, share_in_words

    assert share() == (0, 1)
    assert not share_in_words(share())
    assert share("2/3") == (2, 3)
    assert share_in_words((2, 3), "2/3") == "part 3 of 3 of the sweep, as shard 2/3 asks"
    for wrong in ("3/3", "a/b", "1", "-1/2"):
        with pytest.raises(ValueError, match="i/n"):
            share(wrong)
    for name, value in (("ID", 7), ("MIN", 3), ("MAX", 9), ("COUNT", 4), ("STEP", 2)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert share() == (2, 4)
    words = share_in_words(share())
    assert words.startswith("part 3 of 4 of the sweep: this is task 7 of a SLURM job array of 4;")
    assert "shard 0/1" in words
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    assert share() == (5, 8)
    assert "of 4, process 1 of 2 of jax.distributed;" in share_in_words(share())
    monkeypatch.undo()
    for name, value in (("ID", 7), ("MIN", 3), ("MAX", 9), ("STEP", 2)):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "3")
    with pytest.raises(ValueError, match="not evenly spaced"):
        share()
    assert share("0/1") == (0, 1)


@struct.dataclass(kw_only=True)
class CoinClasses(Generator):
    """Rows whose labels are tosses of a coin: now and then all of one class."""

    rows: int = struct.field(pytree_node=False, default=4)
    broken: float = 0.0

    def _sample(self, population, rows):
        z = jax.random.bernoulli(rows, 0.5, (self.rows,)).astype(jnp.int32)
        x = jax.random.normal(population, (self.rows, 2)) + z[:, None]
        bad = jax.random.uniform(jax.random.fold_in(rows, 1)) < self.broken
        return Dataset(x=jnp.where(bad, jnp.nan, x), z=z, num_classes=2)


@pytest.mark.slow
def test_a_failed_lane_is_reported_and_leaves_its_neighbours_alone(tmp_path):
    spec = {**TINY, "seeds": 200, "protocols": "fitting", "probe": ["least-squares", "logistic"]}
    spec["dataset"] = CoinClasses(broken=0.1)
    found = ej.sweep.run(spec, out=tmp_path / "together")
    frame = found.to_pandas()
    failed = (frame.status & 0xFFFF) != 0
    # All four rows of one class: 1 in 8. A NaN: 1 in 10.
    assert 0.1 < failed.mean() < 0.4
    assert frame.accuracy_fitting[failed].isna().all()
    assert frame.accuracy_fitting[~failed].notna().all()
    constant = (frame.status & int(ej.Status.CONSTANT_CONCEPT)) != 0
    broken = (frame.status & int(ej.Status.NONFINITE)) != 0
    assert constant.any()
    assert broken.any()
    assert_same(ej.sweep.run(spec, out=tmp_path / "alone", chunk=1), found)
    summary = found.summary()
    assert summary["trials", "failed"].sum() == failed.sum()
    for name in ("accuracy_fitting", "rank"):
        assert (summary[name, "count"] + summary["trials", "failed"] == 200).all()


@pytest.mark.slow
def test_two_rows(tmp_path):
    spec = {**TINY, "dataset": {"name": "discrete-features", "rows": 1}, "seeds": 50}
    frame = ej.sweep.run(spec, out=tmp_path).to_pandas()
    assert (frame.status & 0xFFFF == 0).all()
    assert frame.accuracy_fitting.notna().all()
    # One row of each class: what is left after erasing is one point, to rounding, and a probe
    # without units may read the rounding.
    assert (frame[frame.eraser == "mean-difference"]["rank"] <= 1).all()

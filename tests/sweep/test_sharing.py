"""Datasets that share a program: the same draws, and the same numbers to rounding."""

import jax
import numpy as np
import pytest

import erasejax as ej
from erasejax.sweep import _sharing
from erasejax.sweep._blocks import numerics
from erasejax.sweep._plan import plan
from tests.sweeps import sorted_frame

SPEC = {
    "dataset": {"name": "gaussian-classes", "dims": 4, "rows": [6, 10, 33]},
    "eraser": ["identity", "leace", "mean-difference"],
    "probe": ["logistic", "lda"],
    "labels": ["true", "permuted"],
    "metrics": ["accuracy", "auroc", "log_loss", "linear_r2", "damage", "rank", "majority_rate"],
    "seeds": 20,
}


def rows_of(spec):
    """The numbers of rows of each class, program by program."""
    programs = plan(ej.sweep.grid(spec), None, numerics()).programs
    return [{item.dataset.fields["rows"] for item in program.items} for program in programs]


@pytest.mark.slow
def test_numbers_are_those_of_programs_of_their_own(tmp_path, monkeypatch):
    assert rows_of(SPEC) == [{6, 10, 33}]
    shared = sorted_frame(ej.sweep.run(SPEC, out=tmp_path / "shared"))
    monkeypatch.setattr(_sharing, "_COMPILE", 0.0)
    assert rows_of(SPEC) == [{6}, {10}, {33}]
    apart = sorted_frame(ej.sweep.run(SPEC, out=tmp_path / "apart"))
    for name in apart.columns:
        one, other = shared[name].to_numpy(), apart[name].to_numpy()
        if one.dtype.kind == "f":
            wrong = ~np.isclose(one, other, rtol=2e-5, atol=1e-5, equal_nan=True)
            # A row within rounding of a boundary may fall on either side of it.
            assert wrong.mean() <= (0.01 if name.startswith(("accuracy", "auroc")) else 0), name
        elif name != "status":
            assert (one == other).all(), name


def test_what_runs_long_has_a_program_of_its_own():
    assert rows_of({**SPEC, "seeds": 2**22}) == [{6}, {10}, {33}]


@pytest.mark.parametrize(
    "change",
    [
        {"probe": {"name": "mlp", "steps": 1}},  # draws by the row
        {"dataset": {**SPEC["dataset"], "dims": 70}},  # fewer rows than features
        {"dataset": {"name": "contrast-pairs", "rows": [6, 10, 33]}},
    ],
)
def test_rows_are_not_filled_up_where_that_changes_the_method(change):
    assert len(rows_of({**SPEC, **change})) == 3


@pytest.mark.slow
def test_structures_of_one_shape_share_a_program():
    dataset = {"name": "discrete-features", "normalize": [False, True]}
    probe = {"name": "mlp", "steps": 1}
    spec = {**SPEC, "dataset": [dataset, "two-concepts"], "probe": probe}
    counts = ej.sweep.estimate({**spec, "seeds": 1}, measure=False)
    assert (counts.programs, counts.sharing) == (2, "")  # a task is part of the shape


@pytest.mark.slow
def test_the_plan_says_what_shares_and_why():
    words = ej.sweep.estimate({**SPEC, "seeds": 1}, measure=False).sharing
    assert words.startswith("12, 20 rows are filled up to 66; ")
    assert "compile" in words


@pytest.mark.slow
def test_no_method_reads_what_rows_are_filled_up_with():
    data = ej.datasets.GaussianClasses(rows=5, dims=3).sample(jax.random.key(0))
    filled = _sharing.filled(data, 16)
    assert filled.x.shape == (16, 3)
    assert np.asarray(filled.weights).sum() == 10
    assert (np.asarray(filled.weights)[:10] == 1).all()
    spoiled = filled.replace(x=filled.x.at[10:].set(np.nan))
    for eraser in (ej.LEACE(), ej.MeanDifference()):
        one, other = eraser.fit(filled), eraser.fit(spoiled)
        np.testing.assert_array_equal(one.kernel, other.kernel)

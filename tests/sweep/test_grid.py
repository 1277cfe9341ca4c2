"""What a spec of a sweep stands for."""

import json

import numpy as np
import pytest

import erasejax as ej
from erasejax.sweep._blocks import blocks, numerics
from erasejax.sweep._cells import canonical
from erasejax.sweep._grid import grid
from tests.sweeps import SPEC, TINY


def test_a_list_is_an_axis_and_axes_multiply():
    part = grid(SPEC).parts[0]
    assert len(part.datasets) == 3
    assert [config.fields["separation"] for config in part.datasets] == [0.5, 1.0, 2.0]
    assert len(list(part.cells())) == 3 * 3 * 2


def test_an_axis_that_a_probe_does_not_have_does_not_multiply_it():
    probe = {"name": ["logistic", "mean-difference"], "l2": [0.1, 1.0]}
    part = grid({**TINY, "probe": probe}).parts[0]
    assert [config.name for config in part.probes] == ["logistic", "logistic", "mean-difference"]


def test_ranges_and_arrays_are_axes():
    probe = {"name": "logistic", "l2": np.array([0.1, 0.2])}
    dataset = {"name": "gaussian-classes", "dims": range(2, 5)}
    part = grid({**TINY, "probe": probe, "dataset": dataset}).parts[0]
    assert [config.fields["l2"] for config in part.probes] == [0.1, 0.2]
    assert [config.fields["dims"] for config in part.datasets] == [2, 3, 4]


def test_zero_has_no_sign():
    def words(separation):
        dataset = {"name": "gaussian-classes", "separation": separation}
        return grid({**TINY, "dataset": dataset}).parts[0].datasets[0].words

    np.testing.assert_array_equal(words(-0.0), words(0.0))


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.int64(1)])
def test_a_number_is_one_whatever_its_type(one):
    def described(value):
        probe = {"name": "logistic", "l2": value}
        part = grid({**TINY, "probe": probe}).parts[0]
        return [block.described(numerics()) for block in blocks(part)]

    assert described(one) == described(1.0)
    assert described(np.float32(0.1)) == described(0.1)
    assert described(0.2) != described(0.1)


def test_objects_and_names_are_the_same():
    objects = {
        **TINY,
        "dataset": ej.datasets.DiscreteFeatures(rows=5),
        "eraser": [ej.Identity(), ej.MeanDifference()],
        "probe": ej.probes.LeastSquares(),
    }
    assert canonical(grid(objects).json) == canonical(grid(TINY).json)


def test_parts_take_what_they_leave_out_from_the_top():
    parts = grid({**TINY, "part": [{"seeds": 3}, {"probe": "lda"}]}).parts
    assert [part.seeds for part in parts] == [(0, 3), (0, 8)]
    assert [part.probes[0].name for part in parts] == ["least-squares", "lda"]


def test_a_method_has_a_probe_of_its_own():
    eraser = {"name": "inlp", "probe": ["lda", {"name": "logistic", "l2": 0.5}]}
    configs = grid({**TINY, "eraser": eraser}).parts[0].erasers
    assert [config.fields["probe"]["name"] for config in configs] == ["lda", "logistic"]
    assert configs[1].value.probe == ej.probes.Logistic(l2=0.5)


def test_a_grid_comes_back_from_its_json():
    whole = grid({**SPEC, "eraser": [*SPEC["eraser"], {"name": "inlp", "rounds": 2}]})
    again = type(whole).from_json(json.loads(json.dumps(whole.json)))
    assert again == whole
    first, second = ([*blocks(g.parts[0])] for g in (whole, again))
    described = [[b.described(numerics()) for b in found] for found in (first, second)]
    assert described[0] == described[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"datset": "x"}, "did you mean dataset"),
        ({"dataset": "gausian-classes"}, "did you mean gaussian-classes"),
        ({"dataset": {"name": "gaussian-classes", "seperation": 1}}, "did you mean separation"),
        ({"dataset": {"dims": 3}}, "dataset.name: missing"),
        ({"eraser": ["leece"]}, "did you mean leace"),
        ({"eraser": ["laece"]}, "did you mean leace"),
        ({"eraser": []}, "eraser: expected at least one"),
        ({"probe": {"name": "logistic", "l2": []}}, r"probe\.l2: expected at least one"),
        ({"probe": {"name": "logistic", "l2": "much"}}, r"probe\.l2: expected a number"),
        ({"probe": 3}, "probe: expected a name"),
        ({"dataset": {"name": "gaussian-classes", "dims": 2.5}}, "whole number, got 2.5"),
        ({"dataset": {"name": "gaussian-classes", "rotate": 1}}, "expected true or false"),
        ({"metrics": ["acuracy"]}, "did you mean accuracy"),
        ({"protocols": "fitted"}, "did you mean fitting"),
        ({"labels": "wrong"}, "labels: unknown 'wrong'"),
        ({"seeds": 0}, "seeds, first_seed"),
        ({"first_seed": 5}, "multiple of 1024"),
        ({"part": {}}, r"\[\[part\]\]"),
        ({"dataset": {"name": "gaussian-classes", "dims": float("inf")}}, "whole number, got inf"),
        ({"dataset": {"name": "gaussian-classes", "separation": 1e300}}, "more than float32 holds"),
        ({"dataset": ej.LEACE()}, "LEACE is of the role eraser"),
        ({"eraser": {"name": 3}}, "expected a name or a list of names, got 3"),
        ({"eraser": {"name": "alf-qleace", "max_rank": True}}, "whole number, got True"),
        ({"metrics": [["accuracy"]]}, "expected a name or a list of names"),
    ],
)
def test_bad_specs_are_clear(change, message):
    with pytest.raises(ValueError, match=message):
        grid({**TINY, **change})


def test_spec_files(tmp_path):
    toml = tmp_path / "spec.toml"
    toml.write_text(
        'dataset = {name = "discrete-features", rows = 5}\nprobe = "least-squares"\n'
        'seeds = 8\nmetrics = ["accuracy", "rank"]\n'
    )
    python = tmp_path / "spec.py"
    python.write_text(f"spec = {TINY!r}\n")
    assert grid(toml) == grid(python) == grid(TINY)
    toml.write_text("dataset = = 3")
    with pytest.raises(ValueError, match="not valid TOML"):
        grid(toml)
    with pytest.raises(FileNotFoundError, match="no such file"):
        grid(tmp_path / "other.toml")
    python.write_text("x = 1")
    with pytest.raises(ValueError, match="name spec"):
        grid(python)

"""Pictures: what they show, on whose axes, and that they leave nothing behind."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import erasejax as ej
from erasejax._core import extras

DATA = ej.datasets.GaussianClasses(rows=40, dims=4, separation=4.0).sample(jax.random.key(0))
SPEC = {
    "dataset": {"name": "gaussian-classes", "dims": [2, 4], "rows": [6, 12, 240]},
    "eraser": ["identity", "mean-difference"],
    "probe": "mean-difference",
    "seeds": 4,
    "metrics": ["accuracy", "rank"],
    "protocols": "fitting",
}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return ej.sweep.run(SPEC, out=tmp_path_factory.mktemp("plot") / "sweep")


def places(panel):
    """The rows of a panel, without the marks of the legend."""
    return np.concatenate([np.asarray(points.get_offsets()) for points in panel.collections])


def picture(ax):
    """Draws what axes show; no pyplot manages it."""
    assert "matplotlib.pyplot" not in sys.modules or ax.figure.canvas.manager is None
    return ax._repr_png_()


def test_erasing_takes_the_difference_of_the_means_away():
    ax = ej.plot.before_after(DATA.x, DATA.z, ej.MeanDifference().fit(DATA))
    before, after = ax.child_axes
    assert np.ptp(places(before)[:, 0]) > 4
    assert np.ptp(places(after)[:, 0]) < 1e-4
    np.testing.assert_allclose(places(before)[:, 1], places(after)[:, 1], atol=1e-4)
    assert before.get_xlim() == after.get_xlim()
    assert before.get_ylim() == after.get_ylim()
    assert before.get_xlabel() == "difference of the means"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 0", "class 1"]
    assert picture(ax).startswith(b"\x89PNG")


def test_directions_of_ones_own_make_the_plane():
    ax = ej.plot.before_after(
        DATA.x, DATA.z, ej.Identity().fit(DATA), directions=[[0, 0, 2, 0], [0, 1, 1, 0]]
    )
    rows = np.asarray(DATA.x - DATA.x.mean(0))
    found = np.sort(places(ax.child_axes[0]), axis=0)
    np.testing.assert_allclose(found, np.sort(rows[:, [2, 1]], axis=0), atol=1e-5)


@pytest.mark.parametrize("kind", ["classes", "real", "same", "oracle", "function"])
def test_every_concept_and_eraser_is_drawn(kind):
    x, z, eraser = DATA.x, DATA.z, ej.LEACE().fit(DATA)
    if kind == "classes":
        z = jnp.arange(len(z)) % 3
    elif kind == "real":
        z = x[:, 0]
    elif kind == "same":
        x = jnp.tile(x[:40], (2, 1))  # both classes alike: any direction will do
    elif kind == "oracle":
        eraser = ej.OracleLEACE().fit(DATA)
    else:
        eraser = np.tanh
    ax = ej.plot.before_after(x, z, eraser)
    assert all(len(places(panel)) == len(z) for panel in ax.child_axes)
    assert picture(ax)


def test_of_many_rows_the_same_part_is_drawn_in_both_panels():
    ax = ej.plot.before_after(DATA.x, DATA.z, lambda x: x, most=30)
    before, after = map(places, ax.child_axes)
    assert len(before) == 30
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": jnp.stack([DATA.z, DATA.z], 1)}, "one concept"),
        ({"x": DATA.x[:, :1]}, "two features"),
        ({"x": DATA.x.at[0, 0].set(jnp.nan)}, "finite rows"),
        ({"directions": [[1, 0, 0, 0]]}, "directions: expected shape"),
        ({"directions": [[1, 0, 0, 0], [2, 0, 0, 0]]}, "lie on one line"),
    ],
)
def test_what_cannot_be_drawn_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        ej.plot.before_after(**{"x": DATA.x, "z": DATA.z, "eraser": lambda x: x} | change)


def test_a_curve_has_its_scores_bands_and_chance():
    bands = {"LEACE": ([0.8, 0.4], [1.0, 0.6])}
    lines = {"LEACE": jnp.array([0.9, 0.5]), "INLP": [0.9, np.nan]}
    ax = ej.plot.curve([100, 1], lines, bands=bands, chance=0.5, xlabel="rows", ylabel="accuracy")
    leace, inlp, chance = ax.lines
    np.testing.assert_allclose(leace.get_xydata(), [[1, 0.5], [100, 0.9]], rtol=1e-6)
    assert chance.get_ydata()[0] == 0.5
    assert len(ax.collections) == 1
    assert ax.get_xscale() == "log"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("rows", "accuracy")
    assert leace.get_color() != inlp.get_color()
    with pytest.raises(ValueError, match="LEACE: expected"):
        ej.plot.curve([1, 2, 3], {"LEACE": [0.9]})


def test_layers_are_drawn_where_their_number_is():
    ax = ej.plot.curve(["h.8.out", "h.2.out"], {"a": [0.9, 0.5]})
    assert ax.lines[0].get_xdata().tolist() == [2, 8]
    assert ax.get_xlabel() == "layer"
    ax = ej.plot.curve(["embed", "final"], {"a": [0.9, 0.5]})
    assert [label.get_text() for label in ax.get_xticklabels()] == ["embed", "final"]


def test_readings_by_layer_are_a_curve():
    found = ej.models.read_layers({"layer.1": DATA.x, "layer.3": DATA.x}, DATA.z)
    ax = found.plot()
    assert ax.lines[0].get_xdata().tolist() == [1, 3]
    drawn = {line.get_ydata()[0] for line in ax.lines}
    assert {found.fresh_before[0], found.fresh_after[0], found.same_after[0]} <= drawn


@pytest.mark.slow
def test_a_sweep_draws_the_means_of_its_summary(sweep):
    where = {"eraser": "identity", "dataset.dims": 4}
    ax = sweep.plot("accuracy_fitting", where=where)
    summary = sweep.summary().reset_index()
    rows = summary[(summary["eraser"] == "identity") & (summary["dataset.dims"] == 4)]
    expected = rows.sort_values("dataset.rows")["accuracy_fitting", "mean"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), expected, rtol=1e-6)
    assert ax.get_xlabel() == "dataset.rows"
    assert ax.lines[-1].get_ydata()[0] == 0.5  # chance
    every = sweep.plot("accuracy_fitting", along="dataset.dims")
    assert len(every.get_legend().get_texts()) == 6


@pytest.mark.slow
def test_a_heat_map_has_its_boundary(sweep):
    options = {"along": "dataset.rows", "across": "dataset.dims", "where": {"eraser": "identity"}}
    ax = sweep.plot("accuracy_fitting", **options)
    values = ax.images[0].get_array()
    assert values.shape == (2, 3)
    plain = len(ax.collections)
    middle = float((values.min() + values.max()) / 2)
    with_line = ej.plot.heat_map(sweep, "accuracy_fitting", **options, boundary=middle)
    assert len(with_line.collections) > plain
    beyond = ej.plot.heat_map(sweep, "accuracy_fitting", **options, boundary=7.0)
    assert len(beyond.collections) == plain
    assert picture(with_line)


@pytest.mark.parametrize(
    ("column", "options", "message"),
    [
        ("accuracy", {}, "column: expected one of accuracy_fitting"),
        ("accuracy_fitting", {"along": "rows"}, "expected one of the axes"),
        ("accuracy_fitting", {"where": {"eraser": "leace"}}, "eraser is one of"),
        ("accuracy_fitting", {"across": "dataset.rows"}, "needs both axes"),
        (
            "accuracy_fitting",
            {"along": "dataset.rows", "across": "dataset.dims"},
            "where: eraser has several values",
        ),
        (
            "accuracy_fitting",
            {"where": {"dataset.rows": 6, "dataset.dims": 2}},
            "no axis of numbers varies",
        ),
    ],
)
def test_what_a_sweep_does_not_have_is_said(sweep, column, options, message):
    with pytest.raises(ValueError, match=message):
        sweep.plot(column, **options)


def test_axes_given_are_drawn_on_and_returned(sweep):
    figure = Figure()
    axes = figure.subplots(2, 2).ravel()
    drawn = [
        ej.plot.before_after(DATA.x, DATA.z, lambda x: x, ax=axes[0]),
        ej.plot.curve([1, 2], {"a": [0, 1]}, ax=axes[1]),
        sweep.plot("accuracy_fitting", ax=axes[2]),
        sweep.plot(
            "accuracy_fitting",
            along="dataset.rows",
            across="dataset.dims",
            where={"eraser": "identity"},
            ax=axes[3],
        ),
    ]
    assert all(got is given for got, given in zip(drawn, axes, strict=True))
    assert all(isinstance(ax, Axes) for ax in drawn)


def test_without_matplotlib_the_extra_is_named(sweep, monkeypatch):
    real = extras.importlib.import_module

    def missing(name):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(name, name="matplotlib")
        return real(name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    for draw in (
        lambda: ej.plot.curve([1], {"a": [1]}),
        lambda: ej.plot.before_after(DATA.x, DATA.z, lambda x: x),
        lambda: sweep.plot("accuracy_fitting"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'erasejax\[plot\]'"):
            draw()


@pytest.mark.slow
def test_pictures_import_no_pyplot_and_the_package_no_pictures():
    code = """
import sys, erasejax as ej
assert not {"matplotlib", "pandas", "erasejax.pages"} & {*sys.modules}
ax = ej.plot.curve([1, 2], {"a": [0.5, 1]})
assert len(ax._repr_png_()) > 1000
assert "matplotlib.pyplot" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

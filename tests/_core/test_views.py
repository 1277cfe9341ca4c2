"""What results show of themselves, as a line and in a notebook."""

import re
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import erasejax as ej
from erasejax._core.views import View

DATA = ej.datasets.GaussianClasses(rows=12, dims=3).sample(jax.random.key(0))
PAIRS = ej.datasets.ContrastPairs(rows=8, dims=4, directions=1).sample(jax.random.key(0))
KEY = jax.random.key(1)
FITTED = {
    "leace": lambda: ej.LEACE().fit(DATA),
    "inlp": lambda: ej.INLP(rounds=2, probe=ej.probes.LeastSquares()).fit(DATA),
    "oracle": lambda: ej.OracleLEACE().fit(DATA),
    "qleace": lambda: ej.QLEACE().fit(DATA),
    "lda": lambda: ej.probes.LDA().fit(DATA),
    "regressor": lambda: ej.probes.LeastSquares().fit(DATA.x, DATA.x[:, 0]),
    "qda": lambda: ej.probes.QDA().fit(DATA),
    "crc": lambda: ej.probes.CRC().fit(PAIRS),
    "test": lambda: ej.metrics.guardedness_test(DATA, permutations=20, key=KEY),
    "interval": lambda: ej.metrics.bootstrap(
        ej.metrics.accuracy, ej.probes.LDA().fit(DATA), DATA, resamples=20, key=KEY
    ),
}


class Balanced(HTMLParser):
    """Holds HTML to be whole, and to ask for nothing outside."""

    def __init__(self, text):
        super().__init__()
        self.open, self.said = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "link", "style", "img", "iframe"}
        assert not {"src", "href"} & {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)


def said(thing):
    """The words of the HTML of a result."""
    text = thing._repr_html_()
    assert "url(" not in text
    assert not re.search(r"[;\"](color|background)", text)  # the notebook's, light or dark
    return " ".join(Balanced(text).said)


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", FITTED)
def test_a_line_and_html_say_the_same(name):
    fitted = FITTED[name]()
    line, words = repr(fitted), said(fitted)
    assert line.startswith(type(fitted).__name__ + "(")
    assert len(line) < 300
    assert "\n" not in line
    for piece in line.removesuffix(")").partition("(")[2].split("; "):
        assert piece in words


def test_what_a_person_wants_to_know():
    assert repr(FITTED["leace"]()) == "Projection(directions removed 1; features 3)"
    assert repr(FITTED["lda"]()) == "LinearLikelihood(features 3; classes 2)"
    assert "evidence of a linear leak" in said(FITTED["test"]())
    assert "strength 0.5" in repr(FITTED["leace"]().with_strength(0.5))
    assert "from 0" in repr(FITTED["interval"]())


def test_a_warning_and_a_failure_are_said():
    same = ej.SAL().fit(jnp.ones((6, 2)), jnp.arange(6) % 2)
    assert "warning: nothing was removed" in repr(same)
    assert "warning: nothing was removed" in said(same)
    broken = ej.SAL().fit(jnp.ones((6, 2)), jnp.zeros(6, int), num_classes=2, throw=False)
    assert "failed: the concept is constant" in said(broken)
    assert "directions removed none" in repr(broken)


@pytest.mark.quick(1)
@pytest.mark.parametrize("fit", [ej.LEACE().fit, ej.probes.LDA().fit, ej.QLEACE().fit])
def test_lanes_are_counted_and_failed_ones_too(fit):
    x = jnp.stack([DATA.x] * 5).at[3, 0, 0].set(jnp.nan)
    fitted = jax.vmap(lambda rows: fit(rows, DATA.z, num_classes=2))(x)
    for text in (repr(fitted), said(fitted)):
        assert "lanes 5" in text
        assert "1 of 5 lanes failed" in text
        assert "NaN or infinity" in text
        assert "features 3" in text
        assert "-1" not in text  # what the failed lane holds
    grid = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), fitted)
    assert "lanes 10 (2 x 5)" in said(grid)


@pytest.mark.slow
def test_a_test_of_many_lanes_counts_its_verdicts():
    tests = jax.vmap(lambda key: ej.metrics.guardedness_test(DATA, permutations=20, key=key))(
        jax.random.split(KEY, 3)
    )
    assert "of 3 lanes" in said(tests)


@pytest.mark.quick(3)
@pytest.mark.parametrize("name", FITTED)
def test_nothing_fails_on_traced_values_and_on_no_arrays(name):
    fitted = FITTED[name]()
    texts = []

    @jax.jit
    def look(traced):
        texts.append(repr(traced) + said(traced))
        jax.vmap(lambda lane: texts.append(repr(lane) + said(lane)) or lane.status)(
            jax.tree.map(lambda leaf: leaf[None], traced)
        )
        return traced.status

    look(fitted)
    assert len(texts) == 2
    for other in (lambda leaf: leaf.shape, lambda leaf: None, lambda leaf: object()):
        assert "no arrays" in repr(jax.tree.map(other, fitted))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), fitted)
    assert "at hand" in said(shapes)


@pytest.mark.slow
def test_nothing_is_computed_and_large_arrays_stay_on_the_device(monkeypatch):
    data = ej.datasets.GaussianClasses(rows=12, dims=5, num_classes=3).sample(KEY)
    fitted = ej.LEACE().fit(data)
    assert fitted.kernel.size == 10
    read = []
    take = np.asarray
    monkeypatch.setattr(np, "asarray", lambda a, *r, **o: read.append(a.size) or take(a, *r, **o))
    with jax.transfer_guard_host_to_device("disallow"):
        repr(fitted)
    assert read
    assert max(read) <= 5


def test_a_class_of_others_that_reads_values_is_shown():
    class Odd(ej.probes.FittedProbe):
        @property
        def dims(self):
            return self.missing

    assert Odd().__repr__() == "Odd(holds no arrays)"


def test_text_is_escaped():
    assert "&lt;b&gt;" in View("<b>", {}).html()


@pytest.mark.slow
def test_an_estimate_and_a_sweep(tmp_path):
    spec = {"dataset": {"name": "xor-classes", "rows": 3}, "eraser": ["identity", "sal"]}
    spec |= {"probe": "mean-difference", "metrics": "accuracy", "protocols": "fitting", "seeds": 2}
    found = ej.sweep.estimate(spec, measure=False)
    assert "4 to run" in said(found)
    assert "trials    4 to run" in str(found)
    sweep = ej.sweep.run(spec, out=tmp_path / "sweep")
    assert "identity, sal" in said(sweep)
    assert "4 of 4 trials" in said(sweep)
    assert "missing: run" not in said(sweep)


@pytest.mark.slow
def test_a_table_of_scores():
    found = ej.models.read_layers({"a.<0>": DATA.x}, DATA.z)
    assert "a.<0>" in said(found)
    assert f"{found.fresh_after[0]:.3f}" in said(found)

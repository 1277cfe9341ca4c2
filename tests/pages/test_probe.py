"""The page of what probes read before erasing and after."""

import base64
import csv
import io
import re

import numpy as np
import pytest

from erasejax.cli._question import question
from erasejax.pages import write_probe_page
from erasejax.pages._before_after import Panel, curves
from erasejax.pages._probe import _pooled
from tests.pages.test_html import Tags

pytestmark = pytest.mark.slow

ROWS = 180


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("probe")
    rng = np.random.default_rng(0)
    y, z = np.arange(ROWS) % 3, rng.integers(0, 2, ROWS)
    layers = {f"layer{i}": rng.normal(size=(ROWS, 3)) + z[:, None] for i in (1, 4)}
    np.savez(path / "acts.npz", **layers)
    np.save(path / "z.npy", np.array(["<b>", "&"])[z])
    np.save(path / "y.npy", np.array(["red", "green", "blue"])[y])
    return path


@pytest.fixture(scope="module")
def pages(folder):
    """The page of one layer and of two, each with what was found."""
    made = {}
    for name, parts in {"one": ["layer1"], "two": ["layer1", "layer4"]}.items():
        files = [f"{folder}/acts.npz:{part}" for part in parts]
        options = {"task": f"{folder}/y.npy", "probes": "lda,mean-difference"}
        summary, asked, features = question(*files, f"{folder}/z.npy", **options)
        found = asked.ask(features)
        path = folder / f"{name}.html"
        write_probe_page(path, asked, found, summary=summary)
        made[name] = path.read_text(encoding="utf-8"), found
    return made


def table(text, name):
    """Returns the rows of a CSV file that a page holds."""
    (held,) = re.findall(rf'download="{name}" href="data:text/csv;base64,([^"]*)"', text)
    return list(csv.DictReader(io.StringIO(base64.b64decode(held).decode())))


@pytest.mark.parametrize("name", ["one", "two"])
def test_a_page_is_whole_and_asks_for_nothing(pages, name):
    text, _ = pages[name]
    assert Tags(text).seen.count("img") == {"one": 2, "two": 6}[name]
    assert not re.findall(r"(?:src|href)=\"(?!data:)", text)
    assert "<b>" not in text
    assert "&lt;b&gt;" in text
    for picture in re.findall(r"data:image/svg\+xml;base64,([^\"]*)", text):
        assert b"<svg" in base64.b64decode(picture)


def test_pages_hold_all_numbers(pages):
    for text, found in pages.values():
        rows = table(text, "scores.csv")
        read = {
            tuple(row[key] for key in ("features", "rows", "of", "probe", "when", "number")): row
            for row in rows
        }
        assert len(read) == len(rows)
        for name, protocols in found.items():
            for protocol in protocols:
                for of, lines in (("concept", protocol.lines), ("task", protocol.task_lines)):
                    for line in lines:
                        key = (name, protocol.title.partition(":")[0], of, line.probe, line.when)
                        row = read[(*key, "accuracy")]
                        assert float(row["value"]) == pytest.approx(line.scores["accuracy"])
                        ends = float(row["low"]), float(row["high"])
                        assert ends == pytest.approx(line.interval)
                        for number, value in line.fairness.items():
                            own = float(read[(*key, number)]["value"])
                            assert own == pytest.approx(value, nan_ok=True)
        counts = table(text, "counts.csv")
        assert sum(int(row["count"]) for row in counts) == sum(
            line.counts.sum() for p in found.values() for q in p for line in q.lines + q.task_lines
        )
        assert {row["group"] for row in counts if row["of"] == "task"} == {"<b>", "&"}


def test_confusion_stands_on_the_page(pages):
    text, found = pages["one"]
    before = found[next(iter(found))][-1].task_lines[0].counts.sum(axis=1)
    shares = before / before.sum(axis=1, keepdims=True)
    for row in shares:
        cells = "".join(f'<td style="--share: {s:.0%}">{s:.3f}</td>' for s in row)
        assert cells in text
    assert text.count("share of the rows of a class") == 2 * 2 * 2


def test_rare_classes_of_a_confusion_table_stand_together():
    counts = np.diag(np.arange(1, 13)) + 1
    names, pooled = _pooled(counts, [f"c{i}" for i in range(12)])
    assert names == [*(f"c{i}" for i in range(5, 12)), "5 others"]
    assert pooled.sum() == counts.sum()
    np.testing.assert_array_equal(pooled[:-1, :-1], counts[5:, 5:])
    np.testing.assert_array_equal(pooled[-1, -1], counts[:5, :5].sum())
    few = _pooled(counts[:8, :8], list("abcdefgh"))
    assert few[0] == list("abcdefgh")


def test_curves_are_in_the_order_of_the_layers(pages):
    _, found = pages["two"]

    def lines(name):
        return found[name][-1].lines

    def number(line):
        return (line.scores["accuracy"], *line.interval)

    names = list(found)
    figure = curves({name: Panel("accuracy", lines(name), number, 0.5) for name in names[::-1]})
    assert [axes.get_title() for axes in figure.axes] == ["lda", "mean-difference"]
    for axes, i in zip(figure.axes, (0, 2), strict=True):
        before, after, chance = axes.lines
        for drawn, line in ((before, i), (after, i + 1)):
            np.testing.assert_array_equal(drawn.get_xdata(), [1, 4])
            expected = [lines(name)[line].scores["accuracy"] for name in names]
            np.testing.assert_allclose(drawn.get_ydata(), expected)
        np.testing.assert_array_equal(chance.get_ydata(), [0.5, 0.5])

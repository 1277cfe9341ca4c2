"""The page that explains the experiment; its pictures lie beside it."""

import platform
from collections.abc import Sequence
from importlib import metadata

from erasejax.pages import _html as html
from erasejax.pages._demo.runs import ERASERS, PROTOCOLS
from erasejax.pages._demo.summary import NULL, SCORES, Row, groups
from erasejax.pages._html import Html, element, join

__all__ = ["page"]


def page(rows: Sequence[Row], *, datasets: int, seed: int, seconds: float) -> Html:
    """Returns the page.

    Args:
      rows: in the order of the table.
      datasets: how many there were.
      seed: of all draws.
      seconds: from the start until now.
    """
    by_name = {(row.data, row.eraser, row.probe, row.labels): row for row in rows}

    def accuracy(eraser, probe="Logistic", protocol=0, labels="true", data="raw"):
        return f"{by_name[data, eraser, probe, labels].scores[protocol]['accuracy'][0]:.4f}"

    erased = "mean difference"
    words = {
        "datasets": f"{datasets:,}",
        "few": f"{min(row.datasets for row in rows):,}",
        "before": accuracy("before"),
        "after": accuracy(erased),
        "fresh": accuracy(erased, protocol=1),
        "random": accuracy("random direction"),
        "column": accuracy("column 0 only"),
        "best": accuracy(erased, "ZeroOne"),
        "best_fresh": accuracy(erased, "ZeroOne", 1),
        "best_fresh_normalised": accuracy(erased, "ZeroOne", 1, data="normalised"),
        "null": accuracy(erased, "ZeroOne", labels=NULL),
        "command": f"erasejax demo --datasets {datasets} --seed {seed}",
        "seed": seed,
        "seconds": f"{seconds:.0f}",
        "versions": _versions(),
    }
    short = [
        (
            accuracy(name),
            accuracy(name, protocol=1),
            accuracy(name, "ZeroOne"),
            accuracy(name, "ZeroOne", labels=NULL),
        )
        for name in ERASERS
    ]
    words = {name: join([text]) for name, text in words.items()}  # escaped
    figures = {
        name: _figure(f"{name}.png", alt, Html(caption.format_map(words)))
        for name, (alt, caption) in _FIGURES.items()
    }
    lines = [html.row([name], cells) for name, cells in zip(ERASERS, short, strict=True)]
    tables = {"short": html.table([_SHORT], lines, class_="short"), "table": _table(rows)}
    return html.page(_TITLE, Html(_PROSE.format_map(words | figures | tables)))


def _figure(name: str, alt: str, caption: Html) -> Html:
    """Returns a picture that lies beside the page, and opens alone."""
    return html.figure(element("a", html.image(name, alt), href=name), caption)


def _table(rows: Sequence[Row]) -> Html:
    span = len(SCORES)
    first = element("th", Html("data, what was erased<br>probe"), rowspan=2, class_="key")
    parts = [element("th", name, colspan=span, scope="colgroup") for name in PROTOCOLS]
    names = [element("th", name) for _ in PROTOCOLS for name in SCORES]
    bodies = []
    for title, damage, group in groups(rows):
        note = element("span", f" damage {damage:.3f}") if damage else ""
        width = 1 + span * len(PROTOCOLS)
        head = element("th", title, note, colspan=width, scope="rowgroup")
        lines = [
            html.row([row.title(" datasets")], [*row.cells(0), *row.cells(1)]) for row in group
        ]
        bodies.append([element("tr", head), *lines])
    head = [element("tr", first, *parts), element("tr", *names)]
    return html.table(head, *bodies, parts=[1] + [span] * len(PROTOCOLS))


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("erasejax", "jax", "numpy"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (not installed as a package)")
    return f"{', '.join(found)}, {platform.system()} {platform.machine()}"


_TITLE = "One direction erased, and what can still be read"

_SHORT = element(
    "tr",
    element("th", "what was erased", class_="key"),
    element("th", "Logistic, fitting rows"),
    element("th", "Logistic, fresh rows"),
    element("th", "ZeroOne, fitting rows"),
    element("th", "ZeroOne, null"),
)

_FIGURES = {  # what it shows to those who cannot see it, and its caption
    "before_after_3d": (
        "Two three-dimensional scatter plots on the same axes. Left: two classes apart along an "
        "arrow u. Right: the same rows in a plane at a right angle to u, the classes mixed.",
        """The first dataset, raw. Left: the rows, and <i>u</i> through their mean. Right: after the
projection all rows lie in the grey plane. Axes are the same. Columns 0 and 1 are discrete, so rows
stand on upright lines.""",
    ),
    "accuracy": (
        "Histograms of accuracy, a row of panels for each eraser and a column each for Logistic on "
        "fitting rows, Logistic on fresh rows and ZeroOne on fitting rows.",
        """Accuracy over the datasets, raw data. Each row of panels is an eraser. Left and middle:
logistic regression by the two protocols, {datasets} datasets. Right: ZeroOne on fitting rows, the
first {few} datasets, with its null as an outline. The dashed line is chance.""",
    ),
    "boundaries": (
        "Three panels. Before: rows in the plane of columns 0 and 1 with five boundaries. After: "
        "rows on a line with one boundary, ZeroOne's. Right: counts of the classes along the line, "
        "with one common mean.",
        """The first dataset again, columns 0 and 1 alone: eraser and probes were fitted to these
two columns, on the rows shown. Rows fall on 25 places, so they are drawn with a little jitter. The
boundaries of the four convex probes nearly coincide. After the projection the rows lie on a line.
Right: along it the two classes have one mean but not one shape, and that is what ZeroOne finds.""",
    ),
}

_PROSE = """
<p>Data can carry a label along many directions. Remove only the one that joins the two class means,
and no linear classifier trained by a convex loss can tell the classes apart on those rows. This is
a fact of linear algebra, not of any particular model. The page shows it on {datasets} datasets, and
shows what it does not mean.</p>

<h2>The experiment</h2>
<p>A dataset has two classes of 100 rows and three columns. Columns 0 and 1 take the values
&minus;1, &minus;0.5, 0, 0.5 and 1. High values are common in the positive class, low values in the
negative class, so that either column tells the label. Column 2 is standard normal noise.</p>
<p>Let <i>u</i> be the difference of the class means, scaled to length one. Erasing replaces every
row <i>x</i> by
<i>x</i>&nbsp;&minus;&nbsp;((<i>x</i>&nbsp;&minus;&nbsp;mean)&middot;<i>u</i>)&nbsp;<i>u</i>. Then
probes look for the label.</p>
{before_after_3d}

<h2>The result in short</h2>
{short}
<p class="tiny">Mean accuracy on raw data; 0.5 is chance. Logistic: {datasets} datasets. ZeroOne:
the first {few}.</p>
<ul>
<li>Before, the accuracy of logistic regression is {before}. After the mean difference is erased it
is {after} on the rows the eraser was fitted on.</li>
<li>Erasing another direction is not enough. After a random direction the accuracy is still
{random}, after column 0 it is {column}: the second column tells the label as well.</li>
<li>Not every classifier is blind. A search for the threshold with the most rows right still finds
{best}, where the same search on permuted labels finds {null}.</li>
<li>On fresh rows logistic regression finds {fresh}. The eraser was fitted on 200 rows, and the
difference of their means is only an estimate.</li>
</ul>

<h2>Two protocols</h2>
<dl>
<dt>Fitting rows</dt>
<dd>Eraser, probe and score use the same 200 rows. This is where the theorem holds exactly.</dd>
<dt>Fresh rows</dt>
<dd>The eraser is fitted on one set of 200 rows, the probe on a second, and the score is of a third.
The second set shows the probe what the eraser missed.</dd>
</dl>
<p>Raw rows are used as they are. Normalised rows have every column standardised over both classes
first, each set of rows by its own means and deviations.</p>
{accuracy}

<h2>The probes</h2>
<dl>
<dt>LeastSquares, LDA, MeanDifferenceProbe, Logistic</dt>
<dd>Linear classifiers found from class means or by a convex loss. Once the class means coincide,
the best of each is a constant: zero weights, no boundary.</dd>
<dt>ZeroOne</dt>
<dd>Looks for the linear threshold with the most rows right. That loss is not convex. With three
columns the search tries random directions and improves them, so its figure is a lower bound. A
search always finds something: its null is the same search after the labels were permuted, with the
eraser fitted to the permuted labels.</dd>
</dl>
{boundaries}

<h2>What this shows, and what it does not</h2>
<ul>
<li>Convex losses are blind on the fitting rows, however many directions were predictive before.
This is exact: the weights are zero.</li>
<li>The 0-1 loss is not blind ({best} against {null}), nor would non-linear probes be. Equal means
do not make equal distributions.</li>
<li>Removing some other direction leaves the label readable. That is why a direction's own removal
says little about where the label is.</li>
<li>Fresh rows find the error of the estimate. It falls as the eraser sees more rows.</li>
<li>ZeroOne after the mean difference finds {best_fresh} on fresh raw rows and
{best_fresh_normalised} on fresh normalised rows. Its threshold passes between places that lie close
together on the plane that is left. Raw rows fall on the same places every time; normalising each
set by its own means moves them across.</li>
<li>Nothing here says that a model does not use the label, or that it could not restore it by a
non-linear step.</li>
</ul>

<h2>The table</h2>
{table}
<p class="tiny">Means over {datasets} datasets, with the standard deviation from dataset to dataset
after &plusmn;; ZeroOne and its null over the first {few}. AUROC: area under the ROC curve, 0.5 is
chance. nats: mean log-loss, for probes with a likelihood; 0.693 knows nothing. R&sup2;: share of
the label's variance explained, for the regression. Damage: mean squared change of a row over the
total variance, on fitting rows. Half of the rows are of each class, so always guessing one class is
right in 0.5.</p>

<h2>How to do it again</h2>
<pre><code>{command}</code></pre>
<p>Every number, one row a dataset, data, eraser, probe and protocol, is in
<a href="results.parquet">results.parquet</a>. Its schema says what each column is. Draws depend on
the seed and the number of the dataset alone.</p>
<p class="tiny">{versions}. Seed {seed}. {seconds} seconds from start to finished page.</p>"""

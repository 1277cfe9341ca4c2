"""The demo's table on the terminal, and its page."""

import html
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import groupby
from typing import NamedTuple

from erasejax._core.extras import require

__all__ = ["Facts", "Row", "page", "show"]

_NULL = "permuted"
_WIDTH = 98  # of the whole table, characters


class Row(NamedTuple):
    """What was found for one kind of data, eraser and probe.

    Attributes:
      data: raw or normalised.
      eraser: its name.
      probe: its name.
      labels: "true", or "permuted" for a null.
      datasets: how many.
      scores: one a protocol, name to (mean, standard deviation) over the datasets.
    """

    data: str
    eraser: str
    probe: str
    labels: str
    datasets: int
    scores: list[dict[str, tuple[float, float]]]

    @property
    def title(self) -> str:
        """What the table calls the row."""
        return "  its null" if self.labels == _NULL else self.probe


class Facts(NamedTuple):
    """What the page says about the run: number of datasets, seed, and seconds until it was done."""

    datasets: int
    seed: int
    seconds: float


def show(rows: Sequence[Row], *, protocols: Sequence[str]) -> None:
    """Prints the table, for 100 columns; on a narrower terminal accuracy and AUROC only.

    Args:
      rows: in the order of the table.
      protocols: names of the protocols.
    """
    require("rich", "cli")
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if console.width < _WIDTH and not console.is_terminal:
        console = Console(width=_WIDTH)
    shown = _SCORES if console.width >= _WIDTH else _SCORES[:2]  # the page has them all
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title="What can still be read, by which probe",
        caption=_caption(rows, protocols),
        caption_justify="left",
    )
    table.add_column("data, what was erased\n  probe", no_wrap=True)
    for protocol in protocols:
        for i, (name, _) in enumerate(shown):
            heading = f"{protocol.upper()}\n{name}" if i == 0 else f"\n{name}"
            table.add_column(heading, justify="right", no_wrap=True)
    for (data, eraser), group in _groups(rows):
        damage = group[0].scores[0]["damage"][0]
        note = f"[dim]damage {damage:.2f}[/dim]" if damage else ""
        table.add_row(f"[bold]{data}, {eraser}[/bold]", note)
        for row in group:
            parts = [list(_cells(scores)) for scores in _padded(row, protocols)]
            cells = [cell for part in parts for cell in part[: len(shown)]]
            count = f" ({row.datasets})" if row.probe == "ZeroOne" and row.labels != _NULL else ""
            table.add_row(f"  {row.title}{count}", *cells)
        table.add_section()
    console.print(table)


_SCORES = (("accuracy ± sd", "accuracy"), ("AUROC", "auroc"), ("nats", "log_loss"), ("R²", "r2"))


def _cells(scores: dict[str, tuple[float, float]]) -> Iterator[str]:
    for _, name in _SCORES:
        if name not in scores:
            yield ""
        elif name == "accuracy":
            mean, spread = scores[name]
            yield f"{mean:.4f} ± {spread:.3f}"
        else:
            yield f"{scores[name][0]:.3f}".replace("-0.000", "0.000").replace("-", "\u2212")


def _padded(row: Row, protocols: Sequence[str]) -> list[dict]:
    return row.scores + [{}] * (len(protocols) - len(row.scores))


def _groups(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, str], list[Row]]]:
    for key, group in groupby(rows, lambda row: (row.data, row.eraser)):
        yield key, list(group)


def _caption(rows: Sequence[Row], protocols: Sequence[str]) -> str:
    many = max(row.datasets for row in rows)
    few = min(row.datasets for row in rows)
    first, second = (name.capitalize() for name in protocols)
    return (
        f"Means over {many:,} datasets of 200 rows (sd: from dataset to dataset); ZeroOne over the "
        f"first {few:,}, a lower bound on the best threshold. Its null: the same search after the "
        f"labels were permuted and the eraser fitted to those. {first}: eraser, probe and score "
        f"on the same rows. {second}: eraser on one set, probe on a second, score on a third. "
        "nats: log-loss, 0.693 knows nothing. Damage: mean squared change over the total variance."
    )


def page(rows: Sequence[Row], facts: Facts, *, protocols: Sequence[str]) -> str:
    """Returns the page that explains the experiment, HTML with pictures by relative path.

    Args:
      rows: in the order of the table.
      facts: about the run.
      protocols: names of the protocols.
    """
    by_name = {(row.data, row.eraser, row.probe, row.labels): row for row in rows}

    def accuracy(eraser, probe="Logistic", protocol=0, labels="true", data="raw"):
        scores = by_name[data, eraser, probe, labels].scores
        return f"{scores[protocol]['accuracy'][0]:.4f}" if protocol < len(scores) else ""

    few = min(row.datasets for row in rows)
    erasers = list(dict.fromkeys(row.eraser for row in rows))
    summary = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td>{accuracy(name)}</td>"
        f"<td>{accuracy(name, protocol=1)}</td><td>{accuracy(name, 'ZeroOne')}</td>"
        f"<td>{accuracy(name, 'ZeroOne', labels=_NULL)}</td></tr>"
        for name in erasers
    )
    return _PAGE.format(
        style=_STYLE,
        datasets=f"{facts.datasets:,}",
        few=f"{few:,}",
        seed=facts.seed,
        seconds=f"{facts.seconds:.0f}",
        command=f"erasejax demo --datasets {facts.datasets} --seed {facts.seed}",
        before=accuracy("before"),
        after=accuracy("mean difference"),
        fresh=accuracy("mean difference", protocol=1),
        random=accuracy("random direction"),
        column=accuracy("column 0 only"),
        best=accuracy("mean difference", "ZeroOne"),
        best_fresh=accuracy("mean difference", "ZeroOne", 1),
        best_fresh_normalised=accuracy("mean difference", "ZeroOne", 1, data="normalised"),
        null=accuracy("mean difference", "ZeroOne", labels=_NULL),
        summary=summary,
        table=_html_table(rows, protocols),
        versions=_versions(),
    )


def _html_table(rows: Sequence[Row], protocols: Sequence[str]) -> str:
    span = len(_SCORES)
    lines = [
        "<table class=full><thead><tr><th rowspan=2>data, what was erased<br>probe</th>",
        *(f"<th colspan={span} class=group>{html.escape(name)}</th>" for name in protocols),
        "</tr><tr>",
        *(
            f"<th{' class=group' if i == 0 else ''}>{name}</th>"
            for _ in protocols
            for i, (name, _) in enumerate(_SCORES)
        ),
        "</tr></thead>",
    ]
    for (data, eraser), group in _groups(rows):
        title = html.escape(f"{data}, {eraser}")
        damage = group[0].scores[0]["damage"][0]
        note = f" <span>damage {damage:.3f}</span>" if damage else ""
        width = 1 + span * len(protocols)
        lines.append(f"<tbody><tr><th colspan={width} class=title>{title}{note}</th></tr>")
        for row in group:
            cells = "".join(
                f"<td{' class=group' if i == 0 else ''}>{cell}</td>"
                for scores in _padded(row, protocols)
                for i, cell in enumerate(_cells(scores))
            )
            name = row.title
            if row.probe == "ZeroOne":
                name += f" ({row.datasets} datasets)" if row.labels != _NULL else ""
            lines.append(f"<tr><th scope=row>{html.escape(name)}</th>{cells}</tr>")
        lines.append("</tbody>")
    return "".join([*lines, "</table>"])


def _versions() -> str:
    found = [f"Python {platform.python_version()}"]
    for name in ("erasejax", "jax", "numpy"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (not installed as a package)")
    return html.escape(", ".join(found) + f", {platform.system()} {platform.machine()}")


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --page: #fff; --soft: #59636e; --line: #d5dae0;
  --tint: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --page: #14171a; --soft: #a0a8b0;
  --line: #363c43; --tint: #1e2328; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; color: var(--ink);
  background: var(--page); font: 1.05rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: .5rem 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; }
p, ul, ol { max-width: 46rem; }
li { margin: .3rem 0; }
figure { margin: 1.5rem 0; }
figure img { width: 100%; height: auto; display: block; background: #fff; border-radius: 6px;
  border: 1px solid var(--line); }
figcaption { color: var(--soft); font-size: .95rem; max-width: 46rem; margin-top: .5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; text-align: right; white-space: nowrap; }
th:first-child, th.title { text-align: left; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
.short thead th { white-space: normal; }
tbody th { font-weight: normal; }
th.title { font-weight: 600; background: var(--tint); }
th.title span { font-weight: normal; color: var(--soft); margin-left: .6rem; }
.full tbody th[scope=row] { padding-left: 1.2rem; white-space: pre; }
.group { border-left: 1px solid var(--line); }
th.group[colspan] { text-align: left; }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; border-radius: 6px;
  font-size: .95rem; }
code { font-family: ui-monospace, monospace; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0 0 0 1.2rem; }
dl { max-width: 46rem; }
.tiny { color: var(--soft); font-size: .9rem; }
@media (max-width: 40rem) { .short { font-size: .75rem; }
  .short th, .short td { padding: .2rem .25rem; } .short tbody th { white-space: normal; }
  h1 { font-size: 1.5rem; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>One direction erased, and what can still be read</title>
<style>{style}</style>
</head>
<body>
<h1>One direction erased, and what can still be read</h1>
<p>Data can carry a label along many directions. Remove only the one that joins the two class means,
and no linear classifier trained by a convex loss can tell the classes apart on those rows. This is
a fact of linear algebra, not of any particular model. The page shows it on {datasets} datasets, and
shows what it does not mean.</p>

<h2>The experiment</h2>
<p>A dataset has two classes of 100 rows and three columns. Columns 0 and 1 take the values
&minus;1,
&minus;0.5, 0, 0.5 and 1. High values are common in the positive class, low values in the negative
class, so that either column tells the label. Column 2 is standard normal noise.</p>
<p>Let <i>u</i> be the difference of the class means, scaled to length one. Erasing replaces every
row <i>x</i> by
<i>x</i>&nbsp;&minus;&nbsp;((<i>x</i>&nbsp;&minus;&nbsp;mean)&middot;<i>u</i>)&nbsp;<i>u</i>. Then
probes look
for the label.</p>
<figure><a href="before_after_3d.png"><img src="before_after_3d.png" alt="Two three-dimensional
scatter plots on the same axes. Left: two classes apart along an arrow u. Right: the same rows in a
plane at a right angle to u, the classes mixed."></a>
<figcaption>The first dataset, raw. Left: the rows, and <i>u</i> through their mean. Right: after
the
projection all rows lie in the grey plane. Axes are the same. Columns 0 and 1 are discrete, so rows
stand on upright lines.</figcaption></figure>

<h2>The result in short</h2>
<div class="wide"><table class=short>
<thead><tr><th>what was erased</th><th>Logistic, fitting rows</th><th>Logistic, fresh rows</th>
<th>ZeroOne, fitting rows</th><th>ZeroOne, null</th></tr></thead>
<tbody>{summary}</tbody></table></div>
<p class=tiny>Mean accuracy on raw data; 0.5 is chance. Logistic: {datasets} datasets. ZeroOne: the
first {few}.</p>
<ul>
<li>Before, the accuracy of logistic regression is {before}. After the mean difference is erased it
is {after} on the rows the eraser was fitted on.</li>
<li>Erasing another direction is not enough. After a random direction the accuracy is still
{random},
after column 0 it is {column}: the second column tells the label as well.</li>
<li>Not every classifier is blind. A search for the threshold with the most rows right
still finds {best}, where the same search on permuted labels finds {null}.</li>
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
<figure><a href="accuracy.png"><img src="accuracy.png" alt="Histograms of accuracy, a row of panels
for each eraser and a column each for Logistic on fitting rows, Logistic on fresh rows and ZeroOne
on
fitting rows."></a>
<figcaption>Accuracy over the datasets, raw data. Each row of panels is an eraser. Left and middle:
logistic regression by the two protocols, {datasets} datasets. Right: ZeroOne on fitting rows, the
first {few} datasets, with its null as an outline. The dashed line is chance.</figcaption></figure>

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
<figure><a href="boundaries.png"><img src="boundaries.png" alt="Three panels. Before: rows in the
plane of columns 0 and 1 with five boundaries. After: rows on a line with one boundary, ZeroOne's.
Right: counts of the classes along the line, with one common mean."></a>
<figcaption>The first dataset again, columns 0 and 1 alone: eraser and probes were fitted to these
two columns, on the rows shown. Rows fall on 25 places, so they are drawn with a little jitter.
The boundaries of the four convex probes nearly coincide. After the projection
the rows lie on a line. Right: along it the two classes have one mean but not one shape, and that is
what ZeroOne finds.</figcaption></figure>

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
set
by its own means moves them across.</li>
<li>Nothing here says that a model does not use the label, or that it could not restore it by a
non-linear step.</li>
</ul>

<h2>The table</h2>
<div class="wide">{table}</div>
<p class=tiny>Means over {datasets} datasets, with the standard deviation from dataset to dataset
after &plusmn;; ZeroOne and its null over the first {few}. AUROC: area under the ROC curve, 0.5 is
chance. nats: mean log-loss, for probes with a likelihood; 0.693 knows nothing. R&sup2;: share of
the
label's variance explained, for the regression. Damage: mean squared change of a row over the total
variance, on fitting rows. Half of the rows are of each class, so always guessing one class is right
in 0.5.</p>

<h2>How to do it again</h2>
<pre><code>{command}</code></pre>
<p>Every number, one row a dataset, data, eraser, probe and protocol, is in
<a href="results.parquet">results.parquet</a>. Its schema says what each column is. Draws depend on
the seed and the number of the dataset alone.</p>
<p class=tiny>{versions}. Seed {seed}. {seconds} seconds from start to finished page.</p>
</body>
</html>
"""

"""The page of a sweep: one HTML file that holds its pictures and their numbers."""

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from erasejax.files import replacing
from erasejax.pages import _html as html
from erasejax.pages._html import Html, element, join
from erasejax.pages._pictures import Picture, pictures
from erasejax.plot import Frame, along_layers, save
from erasejax.sweep import Config, Grid, Sweep

__all__ = ["report"]

_ROWS = 200  # of the table on the page; its CSV has all


def report(
    sweep: Sweep | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    title: str = "",
    overwrite: bool = True,
) -> Path:
    """Writes the page of a sweep.

    It holds what was asked for, with what it was computed, a table of means and intervals, and
    pictures chosen by the axes, each with its numbers as CSV. Everything is inside the file.

    Args:
      sweep: the results, or their folder, or its URL in a bucket.
      path: of the page.
      title: of the page; the folder's name if empty.
      overwrite: False refuses to replace a file.

    Returns:
      The path of the page.

    Raises:
      FileNotFoundError: there is no sweep, or no folder for the page.
      FileExistsError: the page exists and overwrite is False.
      ValueError: nothing is stored yet, or a file is damaged.
    """
    sweep = sweep if isinstance(sweep, Sweep) else Sweep(sweep)
    path = Path(path)
    with replacing(path, overwrite=overwrite) as temporary:
        temporary.write_text(
            _page(sweep, title or Path(sweep.path).resolve().name), encoding="utf-8"
        )
    return path


def _page(sweep: Sweep, title: str) -> Html:
    frame = sweep.to_pandas()
    summary = sweep.summary(frame)
    drawn = pictures(along_layers(frame), sweep.columns, classes=sweep.num_classes)
    return html.page(
        title,
        element("p", "; ".join(_facts(sweep, frame, summary)), "."),
        _PROTOCOLS,
        element("h2", "Pictures"),
        join(map(_figure, drawn)) or element("p", "No number varies: there is nothing to draw."),
        element("h2", "Table"),
        *_table(summary, sweep),
        element("h2", "What was run"),
        *dict.fromkeys(part for manifest in sweep.manifests for part in _parts(manifest.grid)),
        element("p", "Computed with ", _provenance(sweep), ".", class_="tiny"),
    )


def _facts(sweep: Sweep, frame: Frame, summary: Frame) -> Iterator[str]:
    """Yields how much there is, and what is missing."""
    there, planned = sweep.trials
    of = "" if there == planned else f" of {planned:,} that were asked for"
    yield f"{len(frame):,} trials{of} in {len(summary):,} cells"
    if missing := len(sweep.missing()):
        yield f"{missing:,} blocks are not computed yet"
    if failed := int(summary["trials", "failed"].sum()):
        yield f"{failed:,} trials failed (their status says why) and are left out"


def _figure(picture: Picture) -> Html:
    drawn = io.BytesIO()
    save(picture.figure, drawn, "svg")
    source = html.data_url("image/svg+xml", drawn.getvalue())
    return join([
        element("h3", picture.title),
        html.figure(
            html.image(source, f"{picture.title}: {picture.caption}"),
            f"{picture.caption} ",
            _csv(picture.data, picture.title),
        ),
    ])


def _csv(frame: Frame, name: str) -> Html:
    """Returns a link to a table as CSV."""
    return html.download(f"{name}.csv", frame.to_csv(index=False, float_format="%.7g"))


def _table(summary: Frame, sweep: Sweep) -> tuple[Html, Html]:
    """Returns means and intervals, a row a cell, and how to read them."""
    names = [name for name in sweep.columns if name != "status"]
    flat = summary.reset_index()
    keys = [key for key, second in flat.columns if not second]
    shown = [key for key in keys if flat[key].nunique(dropna=False) > 1] or keys[:1]
    gaps = bool((flat["trials", "count"] < flat["trials", "planned"]).any())
    head = [element("th", key, class_="key") for key in shown]
    head += [element("th", name) for name in (*names, *["trials"] * gaps)]
    lines = []
    for _, line in flat.head(_ROWS).iterrows():
        cells = [_interval(line[name, "mean"], line[name, "se"]) for name in names]
        if gaps:
            there, planned = line["trials", "count"], line["trials", "planned"]
            of = [element("span", f"of {planned:,}")] if there < planned else []
            cells.append(join([f"{there:,}", *of], " "))
        lines.append(html.row([_text(line[key, ""]) for key in shown], cells))
    flat.columns = [f"{a} {b}".strip() for a, b in flat.columns]
    more = len(flat) - _ROWS
    note = f"{more:,} more rows are in the CSV. " if more > 0 else ""
    note = f"Means over the seeds, ± half of their 95% interval. {note}All statistics: "
    return (
        html.table([element("tr", *head)], lines),
        element("p", note, _csv(flat, "summary"), class_="tiny"),
    )


def _interval(mean: float, se: float) -> Html:
    if mean != mean:
        return Html()
    half = [element("span", f"± {1.96 * se:.4f}")] if se > 0 else []
    return join([f"{mean:.4f}", *half], " ")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "" if value != value else f"{value:g}"


def _parts(grid: Grid) -> Iterator[Html]:
    """Yields what was asked for, as lists."""
    for part in grid.parts:
        first, end = part.seeds
        roles = {"dataset": part.datasets, "eraser": part.erasers, "probe": part.probes}
        facts = {
            **{role: join(_configs(configs), "<br>") for role, configs in roles.items()},
            "labels": ", ".join(part.labels),
            "protocols": ", ".join(part.columns.protocols),
            "metrics": ", ".join(part.columns.metrics),
            "seeds": f"{first:,} to {end - 1:,}",
        }
        counts = [f"{role}s: {len(configs):,}" for role, configs in roles.items()]
        lines = [html.row([name], [text]) for name, text in facts.items()]
        title = f"{', '.join(counts)}, seeds: {end - first:,}"
        yield html.details(title, html.table([], lines, class_="text"))


def _configs(configs: Sequence[Config]) -> Iterator[Html]:
    """Yields a line for each name: its fields, and the values they take."""
    by_name: dict[str, dict[str, dict[str, None]]] = {}
    for config in configs:
        fields = by_name.setdefault(config.name, {})
        for key, value in config.fields.items():
            fields.setdefault(key, {})[str(value)[:60]] = None
    for name, fields in by_name.items():
        text = ", ".join(f"{key} {', '.join(values)}" for key, values in fields.items())
        yield join([element("b", name), f" {text}"])


def _provenance(sweep: Sweep) -> Html:
    found = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in manifest.provenance.items() if k != "started")
        for manifest in sweep.manifests
    )
    return join(found, "<br>")


_PROTOCOLS = Html("""<p class="tiny">Protocols: on <b>fitting</b> rows eraser, probe and score use
the same rows. On <b>fresh</b> rows the eraser was fitted on one set of rows, the probe on a second,
and the score is of a third.</p>""")

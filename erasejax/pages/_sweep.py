"""The page of a sweep: one HTML file that holds its pictures and their numbers."""

import base64
import html
import io
import os
from pathlib import Path
from typing import Any

from erasejax.files import replacing
from erasejax.pages._pictures import pictures
from erasejax.sweep import Sweep

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
      sweep: the results, or their folder.
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
        temporary.write_text(_page(sweep, title or sweep.path.resolve().name), encoding="utf-8")
    return path


def _page(sweep: Sweep, title: str) -> str:
    frame = sweep.to_pandas()
    summary = sweep.summary(frame)
    missing = len(sweep.missing())
    drawn = pictures(frame, sweep.columns, classes=_classes(sweep))
    figures = "".join(_figure(picture) for picture in drawn)
    failed = int(summary["trials", "failed"].sum())
    there, planned = sweep.trials
    of = "" if there == planned else f" of {planned:,} that were asked for"
    facts = [f"{len(frame):,} trials{of} in {len(summary):,} cells"]
    if missing:
        facts.append(f"{missing:,} blocks are not computed yet")
    if failed:
        facts.append(f"{failed:,} trials failed (their status says why) and are left out")
    return _PAGE.format(
        title=html.escape(title),
        style=_STYLE,
        facts="; ".join(facts),
        spec=_spec(sweep),
        figures=figures or "<p>No number varies: there is nothing to draw.</p>",
        table=_table(summary, sweep),
        provenance=_provenance(sweep),
    )


def _classes(sweep: Sweep) -> int | None:
    """Returns how many classes the datasets have; None if that differs."""
    parts = [part for manifest in sweep.manifests for part in manifest.grid.parts]
    found = {config.fields.get("num_classes", 2) for part in parts for config in part.datasets}
    return found.pop() if len(found) == 1 else None


def _figure(picture: Any) -> str:
    image = io.BytesIO()
    picture.figure.savefig(image, format="svg", facecolor="white")
    source = base64.b64encode(image.getvalue()).decode()
    name = html.escape(picture.title)
    return (
        f'<figure><h3>{name}</h3><div class=wide><img src="data:image/svg+xml;base64,{source}" '
        f'alt="{name}: {html.escape(picture.caption)}"></div><figcaption>'
        f"{html.escape(picture.caption)} "
        f"{_csv(picture.data, picture.title)}</figcaption></figure>"
    )


def _csv(frame: Any, name: str, index: bool = False) -> str:
    """Returns a link to a table as CSV, which the page holds."""
    text = frame.to_csv(index=index, float_format="%.7g")
    source = base64.b64encode(text.encode()).decode()
    name = html.escape(f"{name}.csv", quote=True)
    return f'<a download="{name}" href="data:text/csv;base64,{source}">{name}</a>'


def _table(summary: Any, sweep: Sweep) -> str:
    """Returns means and intervals, a row a cell."""
    names = [name for name in sweep.columns if name != "status"]
    flat = summary.reset_index()
    keys = [key for key, second in flat.columns if not second]
    shown = [key for key in keys if flat[key].nunique(dropna=False) > 1] or keys[:1]
    head = "".join(f"<th class=key>{html.escape(name)}</th>" for name in shown)
    head += "".join(f"<th>{html.escape(name)}</th>" for name in names)
    gaps = bool((flat["trials", "count"] < flat["trials", "planned"]).any())
    head += "<th>trials</th>" if gaps else ""
    lines = []
    for _, row in flat.head(_ROWS).iterrows():
        cells = [f"<th scope=row>{html.escape(_text(row[key, '']))}</th>" for key in shown]
        for name in names:
            mean, se = row[name, "mean"], row[name, "se"]
            text = "" if mean != mean else f"{mean:.4f}"
            text += f" <span>± {1.96 * se:.4f}</span>" if text and se == se and se > 0 else ""
            cells.append(f"<td>{text}</td>")
        if gaps:
            there, planned = row["trials", "count"], row["trials", "planned"]
            of = f" <span>of {planned:,}</span>" if there < planned else ""
            cells.append(f"<td>{there:,}{of}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    csv = flat.copy()
    csv.columns = [f"{a} {b}".strip() for a, b in csv.columns]
    more = len(flat) - _ROWS
    note = f"{more:,} more rows are in the CSV. " if more > 0 else ""
    return (
        f"<div class=wide><table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
        f"</table></div><p class=tiny>Means over the seeds, ± half of their 95% interval. "
        f"{note}All statistics: {_csv(csv, 'summary')}</p>"
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value != value else f"{value:g}"


def _spec(sweep: Sweep) -> str:
    """Returns what was asked for, as lists."""
    lines = []
    for part in (part for manifest in sweep.manifests for part in manifest.grid.parts):
        roles = (("dataset", part.datasets), ("eraser", part.erasers), ("probe", part.probes))
        rows = [(role, "<br>".join(_configs(configs))) for role, configs in roles]
        rows += [
            ("labels", ", ".join(part.labels)),
            ("protocols", ", ".join(part.columns.protocols)),
            ("metrics", ", ".join(part.columns.metrics)),
            ("seeds", f"{part.seeds[0]:,} to {part.seeds[1] - 1:,}"),
        ]
        lines.append("".join(f"<tr><th scope=row>{a}</th><td>{b}</td></tr>" for a, b in rows))
    tables = dict.fromkeys(
        f"<div class=wide><table class=spec>{line}</table></div>" for line in lines
    )
    return "".join(tables)


def _configs(configs: Any) -> list[str]:
    """Returns a line for each name: its fields, and the values they take."""
    by_name: dict[str, dict[str, dict[str, None]]] = {}
    for config in configs:
        fields = by_name.setdefault(config.name, {})
        for key, value in config.fields.items():
            fields.setdefault(key, {})[str(value)[:60]] = None
    return [
        f"<b>{html.escape(name)}</b> "
        + html.escape(", ".join(f"{k} {', '.join(v)}" for k, v in fields.items()))
        for name, fields in by_name.items()
    ]


def _provenance(sweep: Sweep) -> str:
    found = dict.fromkeys(
        ", ".join(f"{k} {v}" for k, v in manifest.provenance.items() if k != "started")
        for manifest in sweep.manifests
    )
    return "<br>".join(html.escape(line) for line in found)


_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --page: #fff; --soft: #59636e; --line: #d5dae0;
  --tint: #f3f5f7; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --page: #14171a; --soft: #a0a8b0;
  --line: #363c43; --tint: #1e2328; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem; color: var(--ink);
  background: var(--page); font: 1.02rem/1.55 system-ui, sans-serif; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: .5rem 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 2.2rem 0 .5rem; }
h3 { font-size: 1.05rem; margin: 0 0 .4rem; }
figure { margin: 1.6rem 0; }
figure img { width: 100%; min-width: 34rem; height: auto; display: block; background: #fff;
  border-radius: 6px; border: 1px solid var(--line); }
figcaption, .tiny { color: var(--soft); font-size: .93rem; margin-top: .4rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .22rem .7rem; text-align: right; white-space: nowrap; }
th[scope=row], th.key { text-align: left; }
th[scope=row] { font-weight: normal; }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody tr:nth-child(even) { background: var(--tint); }
td span { color: var(--soft); }
.spec { margin-bottom: 1rem; }
.spec td { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.spec th { vertical-align: top; }
a { color: inherit; }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{facts}.</p>
<p class=tiny>Protocols: on <b>fitting</b> rows eraser, probe and score use the same rows. On
<b>fresh</b> rows the eraser was fitted on one set of rows, the probe on a second, and the score is
of a third.</p>
<h2>Pictures</h2>
{figures}
<h2>Table</h2>
{table}
<h2>What was run</h2>
{spec}
<p class=tiny>Computed with {provenance}.</p>
</body>
</html>
"""

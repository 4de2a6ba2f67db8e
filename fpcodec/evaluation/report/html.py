"""One page with everything in it: no file, script or font from elsewhere, no photograph."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from fpcodec.evaluation.report.comparisons import Comparisons
from fpcodec.evaluation.report.palette import DARK
from fpcodec.evaluation.report.plots import (
    AREAS,
    area_figure,
    left_out,
    measured_scales,
    shown_drop,
    svg_text,
)
from fpcodec.evaluation.report.source import FEATURES, ResultSet
from fpcodec.evaluation.report.style import CSS, SORTING
from fpcodec.evaluation.report.tables import (
    Cell,
    Table,
    ablation_table,
    bd_table,
    costs_table,
    levels_table,
    operating_points_table,
    rows_table,
)
from fpcodec.evaluation.report.verdict import verdict


def page(reports: Sequence[Comparisons]) -> str:
    """The report of one or several sets of results as one HTML document."""
    links = "".join(
        f'<a href="#{_anchor(x.results.name)}">{escape(x.results.name)}</a>' for x in reports
    )
    body = "".join(_section(report) for report in reports)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>fpcodec: rate and accuracy</title><style>{CSS}</style></head><body>"
        "<h1>fpcodec: rate and accuracy</h1>"
        '<p class="soft">Mean bytes per image beside the loss of average precision (AP, in points '
        "of 100) against the same detector unsplit, on the same images. A drop's interval holds "
        "95 % of paired bootstrap draws of the images.</p>"
        f"<nav>{links if len(reports) > 1 else ''}</nav>{body}"
        f"<script>{SORTING}</script></body></html>\n"
    )


def _section(report: Comparisons) -> str:
    results = report.results
    first, unsplit = results.rows[0], results.unsplit
    ap = unsplit.ap.get("ap") if unsplit else None
    said = f"{first.images} images of {first.data}" + (f", unsplit AP {ap:.1f}" if ap else "")
    low, high = report.drops
    ours = set(results.families_of(FEATURES))
    mine = {row.name for row in results.rows if row.kind == FEATURES} | ours
    bd, ablations, levels = bd_table(report), ablation_table(report), levels_table(results)
    return "".join(
        [
            f'<section id="{_anchor(results.name)}"><h2>{escape(results.name)}</h2>',
            f'<p class="soft">{escape(said)}</p>',
            "<h3>When to split, and when not</h3><ul>",
            *(f"<li>{escape(sentence)}</li>" for sentence in verdict(report)),
            "</ul><h3>Bytes at equal accuracy</h3>",
            '<p class="soft">Read off the lower hull of log bytes and drop, at so many points of '
            "AP lost. The best picture may choose any format and quality at every drop. ≤: the "
            "smallest setting loses less already. Brackets hold 95 % of the draws.</p>",
            _table(operating_points_table(report), mine),
            "<h3>Curves</h3>",
            _figures(report),
            "<h3>BD-rate</h3>",
            f'<p class="soft">Bytes at equal accuracy, averaged over drops of {low:g} to {high:g} '
            f"points ({escape(report.method)} between hull points): -50 % is half the bytes. "
            "Where two families share less than the whole interval the part is stated; under 75 % "
            "of it there is no value.</p>",
            _table(bd, mine) if bd.rows and len(bd.head) > 1 else "<p>Nothing to compare.</p>",
            _notes(bd),
            *_optional("Ablations: beside our best family", ablations, mine),
            _notes(ablations),
            "<h3>All rows</h3>",
            '<p class="soft">A column\'s title sorts by it.</p>',
            _table(rows_table(results), mine),
            "<h3>Times and multiply-accumulates</h3>",
            '<p class="soft">Median milliseconds per image; millions of multiply-accumulates.</p>',
            _table(costs_table(results), mine),
            *_optional("Mean bytes per level", levels, mine),
            "<h3>Environment</h3>",
            _environments(results),
            "</section>",
        ]
    )


def _optional(title: str, table: Table, mine: set[str]) -> list[str]:
    return [f"<h3>{escape(title)}</h3>", _table(table, mine)] if table.rows else []


def _table(table: Table, mine: set[str]) -> str:
    head = "".join(
        f'<th scope="col"><button type="button">{escape(title)}</button></th>'
        for title in table.head
    )
    marks = [' class="ours"' if row[0].text in mine else "" for row in table.rows]
    rows = "".join(
        f"<tr{mark}>{''.join(map(_cell, row))}</tr>"
        for mark, row in zip(marks, table.rows, strict=True)
    )
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-v="{cell.value!r}"'
    note = f' title="{escape(cell.note)}"' if cell.note else ""
    return f"<td{value}{note}>{escape(cell.text)}</td>"


def _notes(table: Table) -> str:
    """Why values or intervals are missing."""
    notes = dict.fromkeys(cell.note for row in table.rows for cell in row if cell.note)
    if not notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f'<details class="soft"><summary>Why values are missing</summary><ul>{items}</ul></details>'
    )


def _figures(report: Comparisons) -> str:
    results = report.results
    name = _anchor(results.name)
    below = left_out(results)
    caption = (
        "AP over mean bytes per image. Ours in orange with 95 % intervals, the best family of each "
        "rival named, other families faint. "
        f"Settings that lose more than {shown_drop(results):.3g} points lie below the plot"
        + (f": {', '.join(below)}." if below else ".")
    )
    scales = "".join(
        _figure(area_figure(report, area, size=(5.2, 4.4)), f"{name}-{area}", AREAS[area], "")
        for area in measured_scales(results)
    )
    main = _figure(area_figure(report, "ap", size=(6.2, 4.6)), f"{name}-ap", AREAS["ap"], caption)
    return f'{main}<div class="grid">{scales}</div>' if results.families else ""


def _figure(figure: Any, ident: str, title: str, caption: str) -> str:
    label = escape(f"AP over bytes per image, {title}; the same numbers stand in the table of rows")
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{inline_svg(svg_text(figure, ident), ident, label)}{said}</figure>"


def inline_svg(svg: str, ident: str, label: str) -> str:
    """An SVG file's text as an element of a page.

    Args:
        svg: As matplotlib writes it.
        ident: Put before every id, so that several figures do not share one.
        label: What a screen reader says, escaped.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{ident}-', svg)
    svg = re.sub(r'href="#', f'href="#{ident}-', svg)
    svg = svg.replace("url(#", f"url(#{ident}-")
    for colour in DARK:
        svg = svg.replace(f": {colour}", f": var(--c-{colour[1:]})")
    width_height = r'(<svg\b[^>]*?) (?:width|height)="[^"]*"'
    svg = re.sub(width_height, r"\1", re.sub(width_height, r"\1", svg, count=1), count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def _environments(results: ResultSet) -> str:
    """Where the rows come from; one list per environment, most have one."""
    seen: dict[str, str] = {}
    for row in results.rows:
        environment = row.environment
        packages = ", ".join(f"{k} {v}" for k, v in environment.packages.items() if v)
        facts = {
            "command": environment.command,
            "commit": environment.git_sha,
            "processor": environment.cpu_model,
            "threads": environment.threads,
            "packages": packages,
            "bootstrap": f"{row.drop.draws} draws, seed {row.seed}" if row.drop else None,
        }
        key = str([facts[x] for x in ("command", "commit", "processor", "threads", "packages")])
        if key not in seen or row.drop:
            seen[key] = _facts(facts.items())
    return "".join(seen.values())


def _facts(facts: Iterable[tuple[str, Any]]) -> str:
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in facts if value
    )
    return f"<dl>{items}</dl>"


def _anchor(name: str) -> str:
    """An id from a name."""
    return re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower() or "results"

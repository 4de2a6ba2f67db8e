"""The parts of the page that are numbers of one picture: the summary and the bars."""

from __future__ import annotations

from collections.abc import Sequence

from fpcodec.evaluation.agreement import Agreement
from fpcodec.explain.figure import level_colour
from fpcodec.pyramid import PyramidSpec
from fpcodec.ui.markup import css_colour, section, text
from fpcodec.ui.results import Result, Subject
from fpcodec.ui.rivals import BOXES_MIN_SCORE, choose_rivals

_ALONE = f"all boxes of score {BOXES_MIN_SCORE:g} or more"
_NOTHING = "nothing to compare"
_TITLES = {"webp": "WebP", "jpeg": "JPEG", "avif": "AVIF"}

Part = tuple[str, int, str]
"""A piece of a bar: its name, its bytes, its colour."""


def summary_part(subject: Subject, result: Result) -> str:
    """The result in a few sentences; for the live region."""
    agreed, sent = result.agreed, [x for x in result.levels if x.fate == "sent"]
    levels = ", ".join(
        [*(f"{x.name} {x.sent_bytes:,}" for x in sent), f"header {result.header_bytes}"]
    )
    recovered = ", ".join(x.name for x in result.levels if x.fate == "recovered")
    times = len(result.frame) / max(subject.boxes_bytes, 1)
    facts = (
        ("bytes sent", f"{len(result.frame):,}", f"quality {result.quality:.2f}; {levels}"),
        ("boxes in common", *_in_common(agreed)),
        ("recovered", recovered or "none", "levels not sent, predicted by the server"),
        ("boxes alone", f"{subject.boxes_bytes:,}",
         f"bytes, {_ALONE}; the frame takes {times:.0f} times"),
    )  # fmt: skip
    tiles = "".join(
        f'<div class="fact"><dt>{text(title)}</dt><dd><b>{text(value)}</b>'
        f'<span class="soft">{text(more)}</span></dd></div>'
        for title, value, more in facts
    )
    return f'<section class="fpc" aria-label="Result"><dl class="facts">{tiles}</dl></section>'


def _in_common(agreed: Agreement) -> tuple[str, str]:
    if not agreed.count_a and not agreed.count_b:
        return "none", "nothing to compare: no box on either side"
    return (
        f"{agreed.matched}",
        f"of {agreed.count_a} unsplit and {agreed.count_b} split; agreement with the unsplit "
        f"boxes, F1: {agreed.f1:.2f}",
    )


def bytes_part(subject: Subject, result: Result, spec: PyramidSpec) -> str:
    """Bytes per level beside the other ways of sending the same picture."""
    own: list[Part] = [
        (f"{x.name} {x.sent_bytes:,} bytes", x.sent_bytes, css_colour(level_colour(spec, x.name)))
        for x in reversed(result.levels)
        if x.fate == "sent"
    ]
    own.append((f"header {result.header_bytes} bytes", result.header_bytes, "var(--fpc-header)"))
    # Of nothing found on both sides F1 would be 1, which says nothing.
    empty = not result.agreed.count_a and not result.agreed.count_b
    f1 = _NOTHING if empty else f"{result.agreed.f1:.2f}"
    rows: list[tuple[str, str, list[Part], str]] = [("Frame", "this codec", own, f1)]
    for rival in choose_rivals(subject.files, result.agreed.f1):
        file = rival.file
        title = _TITLES[file.codec]
        why = file.name.split()[-1] + ("" if rival.is_equal else ", none agrees as well")
        bar = [(file.name, file.sent_bytes, "var(--fpc-picture)")]
        rows.append((title, why, bar, _NOTHING if empty and file.f1 == 1 else f"{file.f1:.2f}"))
    boxes = [("boxes", subject.boxes_bytes, "var(--fpc-boxes)")]
    rows.append(
        (
            "Boxes alone",
            f"whole detector at the edge; {_ALONE}",
            boxes,
            _NOTHING if empty else "1.00",
        )
    )
    longest = max(sum(size for _, size, _ in parts) for _, _, parts, _ in rows)
    body = "".join(_bar_row(*row, longest) for row in rows)
    legend = "".join(
        f'<li><span class="patch" style="background:{colour}"></span>{text(title)}</li>'
        for title, _, colour in own
    )
    if subject.files:
        waiting = (
            f"Pictures are coded at the network's input size, {_size(subject)}; of each format "
            "the smallest of four qualities in which the whole detector agrees with the original "
            "as well as the frame does. Agreement on one picture is coarse: the measured curve "
            "says what holds on average."
        )
    else:
        waiting = "The same picture as WebP, JPEG and AVIF is being measured."
    content = (
        '<table class="bars"><caption class="hidden">Bytes by way of sending</caption><thead><tr>'
        '<th scope="col">way</th><th scope="col">bytes</th>'
        '<th scope="col">agreement with the unsplit boxes, F1</th>'
        f'</tr></thead><tbody>{body}</tbody></table><ul class="legend">{legend}</ul>'
        f'<p class="soft">{text(waiting)}</p>'
    )
    return section("bytes", "Bytes, beside the other ways", content) + not_to_split(subject, result)


def not_to_split(subject: Subject, result: Result) -> str:
    """The honest line."""
    return (
        '<p class="fpc honest"><b>When not to split.</b> The boxes alone take '
        f"{subject.boxes_bytes:,} bytes, this frame {len(result.frame):,}. Where the edge can run "
        "the whole detector, send the boxes. Where somebody must see the picture, send the "
        "picture. A pyramid is no privacy measure.</p>"
    )


def _size(subject: Subject) -> str:
    width, height = subject.pyramid.geometry.content_size
    return f"{width} × {height} pixels"


def _bar_row(title: str, why: str, parts: Sequence[Part], f1: str, longest: int) -> str:
    total = sum(size for _, size, _ in parts)
    spans = "".join(
        f'<span style="width:{100 * size / longest:.2f}%;background:{colour}"></span>'
        for _, size, colour in parts
    )
    return (
        f'<tr><th scope="row">{text(title)}<span class="soft">{text(why)}</span></th>'
        f'<td><span class="bar" aria-hidden="true">{spans}</span>'
        f'<span class="number">{total:,}</span></td><td>{f1}</td></tr>'
    )


def sentence(subject: Subject, result: Result) -> str:
    """The result in a sentence, to be read out."""
    agreed = result.agreed
    common = "nothing to compare, no box on either side"
    if agreed.count_a or agreed.count_b:
        common = (
            f"{agreed.matched} boxes in common, of {agreed.count_a} unsplit and "
            f"{agreed.count_b} split"
        )
    return (
        f"{subject.name}: {len(result.frame):,} bytes at quality {result.quality:.2f}; "
        f"{common}. Took {result.took_ms:,.0f} ms."
    )

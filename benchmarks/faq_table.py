"""The short table of the FAQ: one drop, three ways."""

from __future__ import annotations

from collections.abc import Callable

from markdown_tables import markdown

from fpcodec.evaluation.curves import BEST_PICTURE
from fpcodec.evaluation.report import Comparisons
from fpcodec.evaluation.report.tables import ratio_cell

DROP = 1.0
RUNS = {
    "yolox_nano_learned": "YOLOX-nano, COCO photographs",
    "bccd_learned": "`bccd`, blood cells",
    "tiny_learned": "`tiny`, generated scenes",
}


def faq(report: Callable[[str], Comparisons]) -> str:
    """Bytes of a frame, of the best picture and of boxes, a line per detector.

    Args:
        report: The committed run of a name, compared within itself.
    """
    rows = []
    for name, title in RUNS.items():
        compared = report(name)
        ours = next(x for x in compared.ours if x.startswith("learned"))
        (point,) = compared.operating_points(ours, [DROP])
        sizes = (compared.bytes_at(x, DROP) for x in (ours, BEST_PICTURE, "boxes"))
        first = compared.results.rows[0]
        rows.append((
            title, str(first.images), *("-" if x is None else f"{x:,.0f}" for x in sizes),
            ratio_cell(point.ratio, True).text,
        ))  # fmt: skip
    head = ("detector", "images", "a frame, `learned`", "the best picture", "boxes",
            "frame of picture [95 %]")  # fmt: skip
    note = "From the rows of the README's tables; -: not measured on both sides of this drop."
    return f"{markdown(head, rows)}\n\n<sub>{note}</sub>"

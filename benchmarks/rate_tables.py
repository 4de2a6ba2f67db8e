"""What runs of ``fpcodec bench rd`` say: bytes at equal accuracy, verdicts, every row."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

from markdown_tables import markdown

from fpcodec.evaluation.bd_rate import DEFAULT_DROPS
from fpcodec.evaluation.curves import BEST_PICTURE
from fpcodec.evaluation.report import (
    Comparisons,
    bd_markdown,
    load_results,
    operating_points_markdown,
    rows_markdown,
    source_markdown,
    verdict,
)
from fpcodec.evaluation.report.tables import operating_points_table
from fpcodec.evaluation.results import bytes_at_drop

RESULTS = Path(__file__).resolve().parent / "results"

RUNS = (
    "yolox_nano_coco", "bccd", "tiny", "yolox_nano_learned", "bccd_learned", "tiny_learned",
)  # fmt: skip
"""Folders of results that ``fpcodec bench rd`` wrote."""

BD_DROPS = {
    "yolox_nano_learned": (0.5, 3.0), "bccd_learned": (0.7, 2.2), "tiny_learned": (0.7, 2.1),
}  # fmt: skip
"""Drops that a run's families share, where these are not the usual 0.5 to 4."""


def points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


@cache
def report(name: str) -> Comparisons:
    """A committed run, compared within itself."""
    results = load_results(RESULTS / name)
    return Comparisons(results, drops=BD_DROPS.get(name, DEFAULT_DROPS))


def headline(name: str) -> str:
    """Bytes at equal accuracy, a line per codec, and BD-rates against pictures."""
    compared = report(name)
    results = compared.results
    first = results.rows[0]
    shown = shown_families(compared)
    ours = [family for family in shown if family in own_families(compared)]
    closed_form = [x for x in ours[1:] if x.startswith("pca")]
    if closed_form:  # a run that has few settings of any one picture codec
        against, ours = [BEST_PICTURE, *closed_form], [x for x in ours if x not in closed_form]
    else:
        against = [BEST_PICTURE, *(x for x in shown if x in PLAIN_PICTURES)]
    return "\n\n".join((
        f"{first.images} images, unsplit AP {points(first.ap['ap'])}; bytes per image at some "
        "drops of AP, read off each family's lower hull.",
        operating_points_markdown(compared, families=shown),
        bd_markdown(compared, anchors=against, tests=ours),
        source_markdown(compared),
    ))  # fmt: skip


PLAIN_PICTURES = ("webp", "jpeg", "jpeg 4:4:4", "avif", "jxl")
"""At the network's size."""


def shown_families(compared: Comparisons) -> list[str]:
    """All levels, the best choice of some, the pictures at the network's size, and baselines."""
    families = list(dict.fromkeys(row.family for row in compared.results.rows[1:]))
    mine = own_families(compared)
    most = max(x.count("+") for x in mine)
    whole = [x for x in mine if x.count("+") == most]
    some = [x for x in mine if x not in whole and smallest_at(compared, x, 1.0) is not None]
    best = sorted(some, key=lambda x: smallest_at(compared, x, 1.0) or math.inf)[:1]
    wanted = (*PLAIN_PICTURES, "boxes", "x265", "svtav1", "seed mix", "seed finer", "seed coarser")
    return [*whole, *best, BEST_PICTURE, *(x for x in wanted if x in families)]


def own_families(compared: Comparisons) -> list[str]:
    """Families of our frames; ``uniform`` is a baseline, far above every picture's bytes."""
    rows = compared.results.rows[1:]
    mine = (x for x in rows if x.kind == "features" and x.parameters.get("codec_id") != 1)
    return list(dict.fromkeys(row.family for row in mine))


def smallest_at(compared: Comparisons, family: str, drop: float) -> float | None:
    """Bytes of a family at a drop."""
    return bytes_at_drop([row for row in compared.results.rows if row.family == family], drop)


def verdicts(name: str) -> str:
    """The report's verdict in sentences."""
    return "\n".join(f"- {sentence}" for sentence in verdict(report(name)))


def all_rows(name: str) -> str:
    """Every row of a run."""
    return f"{rows_markdown(report(name))}\n\n{source_markdown(report(name))}"


OVERVIEW = {
    "yolox_nano_learned": "YOLOX-nano, COCO photographs",
    "bccd_learned": "Faster R-CNN, blood cells",
    "tiny_learned": "Faster R-CNN, generated scenes",
}
"""The run that each detector is known by."""


def overview() -> str:
    """A line per detector: one point of AP in bytes, ours beside the best picture and boxes."""
    lines = []
    for name, title in OVERVIEW.items():
        compared = report(name)
        families = (own_families(compared)[0], BEST_PICTURE, "boxes")
        ours, picture, boxes = operating_points_table(compared, (1.0,), families).rows
        first = compared.results.rows[0]
        lines.append((
            title, f"{first.images}", points(first.ap["ap"]), ours[1].text, picture[1].text,
            ours[2].text, boxes[1].text,
        ))  # fmt: skip
    head = ("detector", "images", "unsplit AP", "frame, bytes", "best picture, bytes",
            "frame of picture [95 %]", "boxes, bytes")  # fmt: skip
    return markdown(head, lines)


SECTIONS: dict[str, Callable[[], str]] = {
    "overview": overview,
    **{f"headline {name}": partial(headline, name) for name in RUNS},
    **{f"verdict {name}": partial(verdicts, name) for name in RUNS if name in OVERVIEW},
    **{f"rows {name}": partial(all_rows, name) for name in RUNS},
}

"""What distillation is worth, as Markdown: light edges beside full ones, students, explanations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

from fpcodec.evaluation.results import ResultRow, read_rows

_ABSENT = "Not measured yet."


def light_edge(folder: Path) -> str:
    """Every way of one run: AP, bytes, and what the edge computes for it.

    Args:
        folder: Has ``rows.json`` of ``fpcodec bench rd`` with a full and a light profile.
    """
    if not (folder / "rows.json").is_file():
        return _ABSENT
    rows, uncoded = read_rows(folder), folder / "uncoded.json"
    head = ("way", "AP", "small", "medium", "large", "drop [95 %]", "bytes",
            "edge million MACs", "edge ms")  # fmt: skip
    environment = rows[0].environment
    return "\n\n".join((
        f"{rows[0].images} photographs; MACs of network and codec, and milliseconds of CPU "
        "(medians), of what the edge does before it sends.",
        markdown(head, [_way(row) for row in rows]),
        f"<sub>`{environment.command}`, commit {(environment.git_sha or 'unknown')[:7]}, "
        f"{environment.cpu_model}</sub>",
        "Without a codec:",
        detectors(uncoded),
    ))  # fmt: skip


def _way(row: ResultRow) -> tuple[str, ...]:
    macs = sum(row.macs.get("edge", {}).values())
    stages = [row.times_ms[x].p50 for x in ("extract", "encode") if x in row.times_ms]
    if row.kind == "boxes":
        stages = [x.p50 for name, x in row.times_ms.items() if name in ("extract", "head")]
    drop = row.drop
    return (
        row.name,
        *(_points(row.ap.get(x)) for x in ("ap", "ap_small", "ap_medium", "ap_large")),
        "" if drop is None else f"{drop.value:.1f} [{drop.low:.1f}, {drop.high:.1f}]",
        "" if row.sent_bytes is None else f"{row.sent_bytes.mean:,.0f}",
        "" if row.kind == "unsplit" or not macs else f"{macs / 1e6:,.0f}",
        "" if row.kind == "unsplit" else f"{sum(stages):.1f}",
    )


STUDENTS = {
    "frs_bccd": "Faster R-CNN, 159 photographs of blood cells",
    "frs_scenes": "FCOS, crowded generated scenes",
}
"""Folders of results and what was trained on what."""


def students(paths: Sequence[Path]) -> str:
    """AP of students, taught in several ways, beside their teachers."""
    parts = []
    for path in paths:
        if not path.is_file():
            continue
        parts.append(f"**{STUDENTS[path.parent.name]}**\n\n{detectors(path)}")
    return "\n\n".join(parts) or _ABSENT


def detectors(path: Path) -> str:
    """What ``distilled.py`` measured."""
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    environment = rows[0]["environment"]
    head = ["detector", "million MACs before the head", "AP", "small", "medium", "large",
            "below the first [95 %]"]  # fmt: skip
    gains = any("gain" in row for row in rows)
    table = markdown(
        (*head, "above the student alone [95 %]") if gains else head,
        [_student(row)[: len(head) + gains] for row in rows],
    )
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"{table}\n\n<sub>`{environment['command']}`, commit {sha}</sub>"


def _student(row: Mapping[str, Any]) -> tuple[str, ...]:
    macs = row.get("edge_macs")
    return (
        row["name"],
        "" if macs is None else f"{macs / 1e6:,.0f}",
        *(_points(row["ap"].get(x)) for x in ("ap", "ap_small", "ap_medium", "ap_large")),
        _interval(row.get("drop")),
        _interval(row.get("gain")),
    )


def _interval(found: Mapping[str, float] | None) -> str:
    if found is None:
        return ""
    return f"{found['value']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"

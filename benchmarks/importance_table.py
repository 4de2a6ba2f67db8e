"""What ``importance.py`` and ``explanation_fidelity.py`` found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_tables import markdown

from fpcodec.evaluation.results import ResultRow, read_rows

WEIGHTS = {
    "uniform": "uniform",
    "probe": "linear probe of S",
    "S": "S (FRS)",
    "odam": "ODAM",
    "odam-magnitude": "ODAM, both signs",
    "uniform + head": "uniform, and the head's losses",
    "S + head": "S, and the head's losses",
    "odam + head": "ODAM, and the head's losses",
}
NEEDS_HEAD = ("S", "odam", "odam-magnitude")
"""As quantisation weights: what an edge that has no head cannot know."""

NOTHING = "Not measured yet."


def importance(folder: Path) -> str:
    """A line per weight: bytes and AP at each quality, and what it takes beside the anchor.

    Args:
        folder: Has ``summary.json`` and ``rows.json``.
    """
    if not (folder / "summary.json").is_file():
        return NOTHING
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    rows = read_rows(folder)
    unsplit, settings = rows[0], rows[1:]
    qualities = sorted({row.parameters["quality"] for row in settings})
    points = {(row.parameters["profile"], row.parameters["quality"]): row for row in settings}
    training = summary["part"] == "training"
    lines = []
    for entry in sorted(summary["weights"], key=lambda x: list(WEIGHTS).index(x["weight"])):
        name = entry["weight"]
        size = entry["bytes_at_drop"]["bytes"]
        knows = () if training else ("no" if name in NEEDS_HEAD else "yes",)
        lines.append((
            WEIGHTS[name], *knows, *(_point(points.get((name, q))) for q in qualities),
            "-" if size is None else f"{size:,.0f}",
            *_beside(entry, training),
        ))  # fmt: skip
    first = summary["weights"][0]
    head = (
        "weight", *(() if training else ("known to the edge",)),
        *(f"quality {q:g}" for q in qualities), f"bytes at -{first['bytes_at_drop']['drop']:g} AP",
        *(
            f"{what} beside {anchor}{unit}"
            for anchor in first["beside"]
            for what, unit in (
                [(f"AP at {size:,.0f}", "") for size in first["bytes"]] if training
                else [("BD-rate", ", %")]
            )
        ),
    )  # fmt: skip
    said = f"{summary['images']} images, unsplit AP {unsplit.ap['ap']:.1f}"
    if training:
        said += (f"; {summary['steps']:,} steps of {summary['batch']} images on "
                 f"{summary['calibration_images']:,} photographs, the same seed")  # fmt: skip
    drops = next(
        (found["bd_rate"]["drops_asked"]
         for x in summary["weights"] for found in x["beside"].values()
         if "drops_asked" in found["bd_rate"]),
        (0, 0),
    )  # fmt: skip
    compared = (
        "points of AP more or less at equal bytes" if training
        else f"BD-rate: bytes more or less at equal AP, over drops of {drops[0]:g} to "
        f"{drops[1]:g} points"
    )  # fmt: skip
    return "\n\n".join((
        f"{said}. Bytes / AP at each quality; {compared}, with the 95 % of paired draws over "
        "images.",
        markdown(head, lines), _made_by(summary["environment"]),
    ))  # fmt: skip


def fidelity(path: Path) -> str:
    """A line per way: bytes, what was lost, how far maps moved."""
    if not path.is_file():
        return NOTHING
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    lines = [
        (
            entry["way"], "" if not entry["mean_bytes"] else f"{entry['mean_bytes']:,.0f}",
            "" if not entry["mean_bytes"] else _interval(entry["lost"], 100, 1),
            _interval(entry["correlation"], 1, 2),
            _median(entry["median_correlation"]),
            _interval(entry["moved"], 100, 1),
            _interval(entry["odi_shift"], 1, 3), _interval(entry["odi_moved"], 1, 3),
        )
        for entry in found["summary"]
    ]  # fmt: skip
    return "\n\n".join((
        f"{found['objects']} objects in {found['images_with_objects']} images; ODI before: "
        f"{found['odi_before']:.2f} (of objects that are not alone).",
        markdown(
            ("way", "bytes", "objects lost, %", "correlation", "median", "below 0.5, %",
             "ODI shift", "ODI shift, absolute"), lines,
        ),
        _made_by(found["environment"]),
    ))  # fmt: skip


def _beside(entry: Mapping[str, Any], training: bool) -> list[str]:
    """Comparisons with each anchor."""
    if not training:
        return [_bd_rate(found["bd_rate"]) for found in entry["beside"].values()]
    return [
        "0" if anchor == entry["weight"] else _signed(won)
        for anchor, found in entry["beside"].items()
        for won in found["won_at_bytes"]
    ]


def _signed(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{found['value']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]"


def _point(row: ResultRow | None) -> str:
    if row is None or row.sent_bytes is None:
        return "-"
    return f"{row.sent_bytes.mean:,.0f} / {row.ap['ap']:.1f}"


def _bd_rate(found: Mapping[str, Any]) -> str:
    if "percent" not in found:
        return "-"
    if found["anchor"] == found["test"]:
        return "0"
    if found["low"] is None:
        return f"{found['percent']:+.0f}"
    return f"{found['percent']:+.0f} [{found['low']:+.0f}, {found['high']:+.0f}]"


def _interval(found: Mapping[str, float] | None, factor: float, digits: int) -> str:
    if found is None:
        return "-"
    value, low, high = (factor * found[key] for key in ("value", "low", "high"))
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _median(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _made_by(environment: Mapping[str, Any]) -> str:
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"<sub>`{environment['command']}`, commit {sha}</sub>"

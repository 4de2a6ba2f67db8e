"""The video mode as Markdown, from what ``video_coding.py`` measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from markdown_tables import markdown

FAMILIES = {
    "frame by frame": "frame by frame",
    "x264": "x264", "x264 at 0.75": "x264, pictures at 3/4",
    "x265": "x265", "x265 at 0.75": "x265, pictures at 3/4",
    "svtav1": "SVT-AV1", "svtav1 at 0.75": "SVT-AV1, pictures at 3/4",
}  # fmt: skip

Document = Mapping[str, Any]


def read_document(folder: Path) -> Document:
    """What ``video_coding.py`` wrote into a folder."""
    found: dict[str, Any] = json.loads((folder / "rows.json").read_text("utf-8"))
    return found


def comparisons(folder: Path, measure: str = "mean_f1") -> str:
    """Bytes of the video mode by those of every other way, at equal agreement."""
    document = read_document(folder)
    rows = [x for x in document["rows"] if "ratio" in x and x["agreement"] == measure]
    levels = sorted({row["level"] for row in rows})
    table = []
    for every, clip in dict.fromkeys((row["every"], row["clip"]) for row in rows):
        for key, title in FAMILIES.items():
            found = {
                x["level"]: x for x in rows
                if (x["every"], x["clip"], x["name"]) == (every, clip, f"video mode by {key}")
            }  # fmt: skip
            if found:
                cells = [_cell(found.get(level)) for level in levels]
                table.append((clip, _rate(document, clip, every), title, *cells))
    head = ("clip", "frames a second", "beside", *(f"at F1 {level:g}" for level in levels))
    return f"{markdown(head, table, (0, 1, 2))}\n\n{_source(document)}"


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "-"
    sizes = f"{row['ours_bytes']:,.0f} by {row['theirs_bytes']:,.0f} B"
    return f"{row['ratio']:.2f} [{row['low']:.2f}, {row['high']:.2f}]; {sizes}"


def _rate(document: Document, clip: str, every: int) -> str:
    data = document["facts"]["data"]
    rates = [data[clip]["rate"]] if clip in data else [x["rate"] for x in data.values()]
    return ", ".join(f"{rate / every:g}" for rate in rates)


def points(folder: Path) -> str:
    """Every setting over all clips."""
    document = read_document(folder)
    table = [
        (
            row["name"], f"1/{row['every']}", f"{row['mean_bytes']:,.0f}", f"{row['f1']:.3f}",
            f"{row['mean_f1']:.3f}",
        )
        for row in document["rows"] if "mean_bytes" in row and row["clip"] == "all"
    ]  # fmt: skip
    head = ("way, quality or crf", "of the frames", "bytes a frame", "F1", "mean F1")
    return f"{markdown(head, table, (0, 1))}\n\n{_source(document)}"


def _source(document: Document) -> str:
    environment = document["facts"]["environment"]
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"<sub>`{environment['command']}`, commit {sha}</sub>"


SECTIONS = {
    "video comparisons": comparisons,
    "video comparisons f1": partial(comparisons, measure="f1"),
    "video points": points,
}
"""Mark to what stands there; each is given the folder."""

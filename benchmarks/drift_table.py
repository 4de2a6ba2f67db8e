"""What ``fpcodec drift`` found for several detectors, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

MEASURES = {
    "drift": "drift", "noise": "by the masks' luck", "squared_drift": "drift squared, without luck",
    "centre_bias": "nearer to the centre by", "squared_bias": "nearer, of squares, without luck",
    "probe_to_features": "class slice to features", "probe_to_image": "class slice to picture",
}  # fmt: skip


def drift(folder: Path, titles: Mapping[str, str]) -> str:
    """A line per detector: means over its objects, and how sure they are.

    Args:
        folder: Holds a file ``NAME.json``, the ``rows.json`` of ``fpcodec drift``, for each.
        titles: Name to what a line is called, in the order of lines; those not measured are left
            out.
    """
    found = {
        title: json.loads((folder / f"{name}.json").read_text("utf-8"))
        for name, title in titles.items()
        if (folder / f"{name}.json").is_file()
    }
    if not found:
        return "Not measured yet."
    first = next(iter(found.values()))
    commands = (_source(title, x) for title, x in found.items())
    return "\n\n".join((
        f"{first['settings']['masks']} masks per image and space; in diagonals of the box, squares "
        "in squared diagonals; [95 % of draws over objects].",
        markdown(("detector", "objects", *MEASURES.values()),
                 [_line(title, x) for title, x in found.items()]),
        *commands,
    ))  # fmt: skip


def _line(title: str, result: Mapping[str, Any]) -> Sequence[str]:
    means = result["summary"]["all"]
    return (title, str(result["objects"]), *(_cell(means.get(name)) for name in MEASURES))


def _cell(mean: Mapping[str, float] | None) -> str:
    if mean is None:  # a head without class scores has no slice
        return "-"
    return f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}]"


def _source(title: str, result: Mapping[str, Any]) -> str:
    environment = result["environment"]
    commit = (environment["git_sha"] or "")[:7]
    return f"<sub>{title}: `{environment['command']}`, commit {commit}</sub>"

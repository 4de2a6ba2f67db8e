"""What ``explanations.py`` found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_tables import markdown

METRICS = {
    "pointing_game": "pointing game", "energy": "energy in the box", "compactness": "compactness",
    "odi": "ODI", "deletion": "deletion", "insertion": "insertion",
    "seconds": "seconds an object",
}  # fmt: skip


def explanations(path: Path) -> str:
    """A line per method; below it what ODAM is ahead or behind, object by object."""
    if not path.is_file():
        return "Not measured yet."
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    environment, first = rows[0]["environment"], rows[0]["method"]
    return "\n\n".join((
        f"{rows[0]['objects']} objects; D-RISE with {rows[0]['masks']} masks; budget of deletion "
        f"and insertion: {rows[0]['budget']}. Higher is better for the pointing game, energy and "
        "insertion, lower for the others; [95 % of draws over objects].",
        markdown(("method", *METRICS.values()), [
            (row["method"], *(_cell(row[metric]) for metric in METRICS)) for row in rows
        ]),
        f"The same, less what `{first}` has on the same objects:",
        markdown(("method", *METRICS.values()), [
            (row["method"], *(_cell(row[metric][f"minus_{first}"]) for metric in METRICS))
            for row in rows[1:]
        ]),
        f"<sub>`{environment['command']}`, commit {(environment['git_sha'] or '')[:7]}</sub>",
    ))  # fmt: skip


def _cell(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return "-"
    return f"{found['value']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"

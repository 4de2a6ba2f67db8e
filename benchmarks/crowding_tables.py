"""What ``crowding.py`` and ``odam_training.py`` found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

METRICS = {"ap": "AP", "ap50": "AP50", "ar100": "AR100", "recall50": "recall at IoU 0.5"}
_ABSENT = "Not measured yet."


def suppression(paths: Mapping[str, Path]) -> str:
    """Every way of every data set, and how far it is from plain NMS.

    Args:
        paths: Title to the rows of one run of ``crowding.py``.
    """
    parts = [_run(title, _rows(path)) for title, path in paths.items() if path.is_file()]
    return "\n\n".join(parts) or _ABSENT


def _run(title: str, rows: Sequence[Mapping[str, Any]]) -> str:
    first = rows[0]
    return "\n\n".join((
        f"**{title}**: thresholds chosen on {first['chosen_on']} pictures, measured on "
        f"{first['images']} others; {first['candidates']} boxes of a picture have maps, which take "
        f"{first['maps_by_plain']:.0f} times the head's own time (median). In brackets the "
        "difference from the first line, with 95 % of draws over pictures.",
        markdown(
            ("way", "thresholds", *METRICS.values()),
            [(x["way"], _settings(x["settings"]), *(_cell(x[m]) for m in METRICS)) for x in rows],
            (0, 1),
        ),
        _source(first["environment"]),
    ))  # fmt: skip


def training(path: Path) -> str:
    """Object discrimination without and with Odam-Train."""
    if not path.is_file():
        return _ABSENT
    rows = _rows(path)
    return "\n\n".join((
        f"{rows[0]['objects']} objects that both find, in {rows[0]['images']} pictures; ODI is "
        "better where lower, energy in the own box where higher.",
        markdown(
            ("trained", "steps", "ODI", "energy in the own box"),
            [
                (
                    f"{row['name']} Odam-Train", f"{row['training']['steps']:,}",
                    _share(row["odi"]), _share(row["energy"]),
                )
                for row in rows
            ],
        ),
        _source(rows[0]["environment"]),
    ))  # fmt: skip


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return rows


def _settings(settings: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} {'off' if x is None else x}" for name, x in settings.items())


def _cell(found: Mapping[str, Any]) -> str:
    minus = found["minus_nms"]
    if minus["low"] == minus["high"] == 0:
        return f"{found['value']:.1f}"
    return (
        f"{found['value']:.1f} ({minus['value']:+.1f} [{minus['low']:+.1f}, {minus['high']:+.1f}])"
    )


def _share(found: Mapping[str, Any]) -> str:
    minus = found["minus_first"]
    text = f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"
    if minus["low"] == minus["high"] == 0:
        return text
    return f"{text}, {minus['value']:+.3f} [{minus['low']:+.3f}, {minus['high']:+.3f}]"


def _source(environment: Mapping[str, Any]) -> str:
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"<sub>`{environment['command']}`, commit {sha}</sub>"

"""The training losses' committed results as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_tables import markdown

from fpcodec.evaluation.results import ResultRow, read_rows

NAMES = {
    "closed form": "the closed form, untrained",
    "mse": "plain MSE",
    "frs-features": "FRS features",
    "frs": "FRS features + head",
}
SCALES = ("small", "medium", "large", "all")


def training_losses(folder: Path) -> str:
    """What each loss keeps of AP by scale: at equal bytes, then setting by setting.

    Args:
        folder: Has ``summary.json`` and ``rows.json``.
    """
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    command, sha = (summary["environment"][key] for key in ("command", "git_sha"))
    parts = [
        f"{summary['steps']:,} steps of {summary['batch']} images each, the same seed, on "
        f"{summary['trained_on']:,} photographs; judged on {summary['images']} others with "
        f"{summary['boxes']:,} boxes ({', '.join(summary['categories'])}).",
        "Points of AP lost by objects' scale at equal bytes:",
        _at_bytes(summary["at_bytes"], "drop", tuple(NAMES)),
        "Points of AP won over plain MSE, paired over images:",
        _at_bytes(summary["at_bytes"], "gain_over_mse", ("frs-features", "frs")),
        "Every setting:",
        _settings(read_rows(folder)),
        f"<sub>`{command}`, commit {(sha or 'unknown')[:7]}</sub>",
    ]
    return "\n\n".join(parts)


def _at_bytes(entries: list[dict[str, Any]], key: str, losses: tuple[str, ...]) -> str:
    cells = {(x["loss"], x["bytes"], x["scale"]): _cell(x[key]) for x in entries}
    rows = []
    for budget in sorted({x["bytes"] for x in entries}):
        for loss in losses:
            found = [cells.get((loss, budget, scale), "-") for scale in SCALES]
            rows.append((NAMES[loss], f"{budget:,.0f}", *found))
    return markdown(("trained with", "bytes", *SCALES), rows)


def _cell(found: Mapping[str, float] | None) -> str:
    if found is None:
        return "-"
    return f"{found['value']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def _settings(rows: list[ResultRow]) -> str:
    keys = ("ap_small", "ap_medium", "ap_large", "ap")
    lines = []
    for row in rows:
        profile = row.parameters.get("profile")
        scores = [row.ap[key] for key in keys]
        lines.append((
            "unsplit" if profile is None else NAMES[profile],
            f"{row.parameters['quality']:g}" if profile else "",
            f"{row.sent_bytes.mean:,.0f}" if row.sent_bytes else "",
            *("-" if score is None else f"{score:.1f}" for score in scores),
        ))  # fmt: skip
    return markdown(("trained with", "quality", "bytes", *SCALES), lines)

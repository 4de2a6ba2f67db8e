"""What the key-level study's own method says of our detectors."""

from __future__ import annotations

import json
from typing import Any

from markdown_tables import markdown
from rate_tables import RESULTS

SWEEPS = {
    "sweep_bccd": "`bccd`, 159 photographs of blood cells",
    "sweep_yolox_nano": "YOLOX-nano, 500 COCO photographs (one-stage: scope `all` alone)",
}


def sweeps() -> str:
    """Losses of single levels by object scale, and whether the study's reading holds."""
    parts = []
    for folder, title in SWEEPS.items():
        result = json.loads((RESULTS / folder / "sweep.json").read_text())
        parts.append(f"**{title}**")
        parts += [reading_table(kind, found) for kind, found in result["readings"].items()]
        parts.append("\n".join(f"<sub>`{command}`</sub>" for command in result["commands"]))
    return "\n\n".join(parts)


def reading_table(kind: str, reading: dict[str, Any]) -> str:
    """AP lost by degrading one level at the greatest ratio, by object scale."""
    direction = reading["direction"]
    names = list(next(iter(direction.values()))["loss"])
    rows = [
        (
            scale,
            *(f"{found['loss'][name]:.1f}" for name in names),
            "+".join(found["claimed"]),
            "+".join(found["costliest_pair"] or ["-"]),
            VERDICTS[found["verdict"]],
            "+".join(reading["key_levels"][scale]),
        )
        for scale, found in direction.items()
    ]
    scope, resample = kind.split()
    ratio = next(iter(direction.values()))["ratio"]
    head = ("objects", *names, "the study names", "costliest pair", "the reading", "key levels")
    said = f"Scope `{scope}`, resampling `{resample}`: AP lost with one level at 1/{ratio:g}."
    return f"{said}\n\n{markdown(head, rows)}"


VERDICTS = {
    "agrees": "holds",
    "direction": "holds in direction",
    "differs": "does not hold",
    None: "cannot be told",
}

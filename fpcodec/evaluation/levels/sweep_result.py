"""What a degradation study found: its file, its losses, its reading, a profile's key levels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fpcodec.calibration.key_levels import macs_saved
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.levels.reading import LevelLosses, key_level_table, read_direction
from fpcodec.files import replacing
from fpcodec.profile import Profile
from fpcodec.pyramid import PyramidSpec


def read_result(path: Path, fingerprint: str) -> dict[str, Any]:
    """What an earlier run wrote, or an empty result.

    Raises:
        InputError: It is another study's, or no result at all.
    """
    if not path.exists():
        return {}
    try:
        result = json.loads(path.read_text("utf-8"))
        same = result["fingerprint"] == fingerprint and isinstance(result["cells"], dict)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is no result of a sweep ({error}); choose another --out"
        ) from error
    if not same:
        raise InputError(
            f"{path} is of another detector, data set, number of images or seed; choose another "
            "--out"
        )
    return dict(result)


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """Write a result; the file is whole or as it was.

    Raises:
        InputError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", "utf-8")


def read_cells(result: Mapping[str, Any], spec: PyramidSpec) -> dict[str, Any]:
    """Key levels and direction, per scope and resampling whose single levels were all measured."""
    readings = {}
    for kind in sorted({key.split(" ", 1)[1] for key in result["cells"]}):
        losses = losses_of(result, kind)
        if losses.top_ratio is None:
            continue
        halves = [losses_of(result, kind, half) for half in (0, 1)]
        readings[kind] = {
            "key_levels": {k: list(v) for k, v in key_level_table(losses, spec).items()},
            "direction": read_direction(losses, halves),
        }
    return readings


def losses_of(result: Mapping[str, Any], kind: str, half: int | None = None) -> LevelLosses:
    """The losses of one scope and resampling, such as ``all seed``.

    Args:
        result: What ``run_sweep`` returns.
        kind: Scope and resampling.
        half: 0 or 1 for every other image; None for all.
    """
    cells = [cell for key, cell in result["cells"].items() if key.split(" ", 1)[1] == kind]
    return LevelLosses.of(
        result["levels"],
        [(x["ratios"], x["ap"] if half is None else x["ap_halves"][half]) for x in cells],
    )


def with_key_levels(
    profile: Profile, result: Mapping[str, Any], kind: str, detector: Detector
) -> Profile:
    """A profile with the key levels of a study; its stream and all else stay.

    Args:
        profile: Made for the detector that was measured.
        result: What ``run_sweep`` returns.
        kind: Scope and resampling, such as ``all seed``.
        detector: Says what its levels cost.
    """
    table = {k: tuple(v) for k, v in result["readings"][kind]["key_levels"].items()}
    measured = {
        **profile.measured,
        "key_levels": {"sweep": kind, "data": result["data"], "images": result["images"]},
        "edge_macs_saved_by_scale": macs_saved(detector, table),
    }
    return replace(profile, key_levels=table, measured=measured)

"""Made-up results of known curves: rows as a benchmark writes them, and draws beside them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import DRAWS, ROWS, ResultRow, Spread, write_rows
from fpcodec.evaluation.scoring import write_draws

UNSPLIT_AP = 40.0
DRAW_COUNT = 400

Point = tuple[float, float]


def spread(mean: float) -> Spread:
    return Spread(mean, 0.9 * mean, 1.8 * mean)


def curve(bytes_at_one_point: float, count: int = 7, steepness: float = 2.0) -> list[Point]:
    """Points of an exponential fall of the drop over the logarithm of bytes, through (b, 1)."""
    drops = np.geomspace(8.0, 0.15, count)
    return [(bytes_at_one_point * float(d) ** (-1 / steepness), float(d)) for d in drops]


def row(kind: str, name: str, parameters: dict[str, Any], size: float | None, drop: float | None,
        **changed: Any) -> ResultRow:  # fmt: skip
    """One row; ``changed`` replaces fields."""
    family = {"picture": parameters.get("format"), "features": f"fpc {parameters.get('levels')}"}
    ap = UNSPLIT_AP - (drop or 0.0)
    values: dict[str, Any] = {
        "name": name, "kind": kind, "parameters": parameters, "data": "made up", "images": 100,
        "seed": 0,
        "ap": {"ap": ap, "ap50": ap + 15, "ap75": ap + 1, "ap_small": ap - 20, "ap_medium": ap,
               "ap_large": None},
        "drop": None if drop is None else Interval(drop, drop - 0.4, drop + 0.5, DRAW_COUNT),
        "sent_bytes": None if size is None else spread(size), "level_bytes": {},
        "times_ms": {"encode": spread(5.25), "decode": spread(2.125)},
        "agreement_f1": 0.9, "agreement_iou": None, "family": family.get(kind, kind),
        "environment": Environment("fpcodec bench rd --out <made up>", "0" * 40, {"numpy": "2"},
                                   "CPU & co", 1),
    }  # fmt: skip
    return ResultRow(**{**values, **changed})


def picture_rows(form: str, points: Iterable[Point]) -> list[ResultRow]:
    return [
        row("picture", f"{form} q{n}", {"format": form, "quality": n}, *point)
        for n, point in enumerate(points)
    ]


def feature_rows(levels: list[str], points: Iterable[Point]) -> list[ResultRow]:
    return [
        row(
            "features",
            f"fpc q{n} {'+'.join(levels)}",
            {"quality": n, "levels": "+".join(levels)},
            *point,
        )
        for n, point in enumerate(points)
    ]


def made_up_rows() -> list[ResultRow]:
    """Ours at half of the better picture's bytes at every drop; boxes are smaller than all."""
    return [
        row("unsplit", "unsplit", {}, None, None),
        *feature_rows(["p3", "p4", "p5"], curve(4000.0)),
        *feature_rows(["p4", "p5"], [(2000.0, 9.0), (3000.0, 6.5), (9000.0, 6.0)]),
        row("boxes", "boxes 0.05", {"min_score": 0.05}, 250.0, 0.3),
        *picture_rows("webp", curve(8000.0)),
        *picture_rows("jpeg", curve(16000.0)),
    ]


def made_up_draws(rows: Iterable[ResultRow], noise: float = 0.1) -> dict[str, Any]:
    """Drops per draw: the rows' own, with some noise common to all and some of each."""
    generator = np.random.default_rng(5)
    common = generator.normal(0, noise, DRAW_COUNT)
    return {
        x.name: x.drop.value + common + generator.normal(0, noise / 2, DRAW_COUNT)
        for x in rows
        if x.drop is not None
    }


def write_folder(folder: Path, rows: list[ResultRow], draws: dict[str, Any] | None = None) -> Path:
    """A folder as a benchmark leaves it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / ROWS, rows)
    if draws is not None:
        write_draws(folder / DRAWS, draws)
    return folder

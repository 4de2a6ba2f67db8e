"""Rows of results: one JSON object per setting, and what is read off a curve of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.cost import Macs
from fpcodec.evaluation.environment import Environment
from fpcodec.files import replacing

ROWS, DRAWS = "rows.json", "draws.npz"
"""Files of a run's folder: its rows, and the drop of AP per bootstrap draw."""


Hull = Sequence[tuple[float, float]]
"""Vertices (log bytes, drop): bytes rise, drops fall."""


@dataclass(frozen=True)
class Spread:
    """Mean, median and 95th percentile of a quantity over images."""

    mean: float
    p50: float
    p95: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of one value per image.

        Raises:
            InputError: There is no value.
        """
        if not values:
            raise InputError("no values to summarise; measure at least one image")
        p50, p95 = np.percentile(np.asarray(values, np.float64), [50, 95])
        return cls(float(np.mean(values)), float(p50), float(p95))


@dataclass(frozen=True)
class ResultRow:
    """One setting's results.

    Attributes:
        name: The setting, for people.
        kind: ``unsplit``, ``features``, ``picture``, ``boxes``, ``mosaic`` or ``seed``.
        parameters: The setting, for programs.
        data: The data set's name.
        images: How many images of it.
        seed: Of the bootstrap.
        ap: ``ap``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large``, ``ap_common``
            (over classes with at least 20 boxes) in points.
        drop: Against the unsplit detector; None on its own row.
        sent_bytes: Bytes per image; None on the unsplit row.
        level_bytes: Mean bytes per image and level.
        times_ms: Stage to milliseconds of CPU time per image (``answer``: of wall-clock time).
        agreement_f1: Agreement with the unsplit detections, in [0, 1].
        agreement_iou: Mean IoU of the boxes that agree; None where none does.
        environment: What ran where.
        family: What the rows of one curve share, such as ``webp`` or ``fpc p4+p5``.
        payload_bytes: Bytes per image less container and headers; None where not told apart.
        symbols: Entropy-coded symbols per image; None where not counted.
        bits_per_element: Sent bits by the pyramid's feature values, all levels.
        bpp: Sent bits by the pixels of the network's input, padding included.
        macs: Side (``edge``, ``server``) to part (``network``, ``codec``, ``head``) to
            multiply-accumulates of one image; unknown parts are absent.
    """

    name: str
    kind: str
    parameters: Mapping[str, Any]
    data: str
    images: int
    seed: int
    ap: Mapping[str, float | None]
    drop: Interval | None
    sent_bytes: Spread | None
    level_bytes: Mapping[str, float]
    times_ms: Mapping[str, Spread]
    agreement_f1: float
    agreement_iou: float | None
    environment: Environment
    family: str = ""
    payload_bytes: Spread | None = None
    symbols: Spread | None = None
    bits_per_element: float | None = None
    bpp: float | None = None
    macs: Macs = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ResultRow:
        """Read the form that ``to_dict`` writes.

        Raises:
            InputError: A key is missing or unknown.
        """
        try:
            # Rows of earlier releases lack what has a default.
            values = {f.name: data[f.name] for f in fields(cls) if f.name in data or _needed(f)}
            values["drop"] = Interval(**values["drop"]) if values["drop"] else None
            for name in ("sent_bytes", "payload_bytes", "symbols"):
                values[name] = Spread(**values[name]) if values.get(name) else None
            values["times_ms"] = {k: Spread(**v) for k, v in values["times_ms"].items()}
            values["environment"] = Environment(**values["environment"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"a result row is incomplete: {error}") from error
        return cls(**values)


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def write_rows(path: Path | str, rows: Iterable[ResultRow]) -> None:
    """Write rows as a JSON list; the file is whole or absent.

    Raises:
        InputError: The file cannot be written.
    """
    target = Path(path)
    text = json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False) + "\n"
    with replacing(target) as temporary:
        temporary.write_text(text, "utf-8")


def read_rows(path: Path | str) -> list[ResultRow]:
    """Read what ``write_rows`` wrote: the file, or ``rows.json`` in a folder.

    Raises:
        InputError: The file is missing, not JSON, or not such rows.
    """
    file = Path(path) / ROWS if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise InputError(f"results {file}: no such file or folder; measure with fpcodec bench rd")
    try:
        data = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"results {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"results {file} is no {ROWS} of fpcodec bench rd: no JSON") from error
    if not isinstance(data, list):
        raise InputError(f"results {path} hold no list of rows")
    return [ResultRow.from_dict(row) for row in data]


def bytes_at_drop(rows: Iterable[ResultRow], drop: float = 1.0) -> float | None:
    """Mean bytes per image at which a family of settings loses ``drop`` points of AP.

    Read off the lower convex hull of (log bytes, drop), linearly in the logarithm of bytes: a
    setting that others beat, or that lies above the line between two others, does not count.

    Args:
        rows: Settings of one family; rows without bytes or drop are left out.
        drop: Points of AP.

    Returns:
        Bytes, or None where the measured settings do not lie on both sides of the drop.
    """
    points = [
        (math.log(row.sent_bytes.mean), row.drop.value)
        for row in rows
        if row.drop is not None and row.sent_bytes is not None and row.sent_bytes.mean > 0
    ]
    size = log_bytes_at(pareto_hull(points), drop)
    return None if size is None else math.exp(size)


def log_bytes_at(hull: Hull, drop: float) -> float | None:
    """Logarithm of the bytes at a drop, linear between vertices; None outside the hull."""
    for (x0, y0), (x1, y1) in pairwise(hull):
        if y1 <= drop <= y0:
            return x0 + (y0 - drop) / (y0 - y1) * (x1 - x0)
    return hull[0][0] if len(hull) == 1 and hull[0][1] == drop else None


def pareto_hull(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The falling part of the lower convex hull, from the least x on.

    Args:
        points: Pairs of which less is better in both.
    """
    hull: list[tuple[float, float]] = []
    for x, y in sorted(points):
        if hull and y >= hull[-1][1]:
            continue
        while len(hull) > 1 and _turns_right(hull[-2], hull[-1], (x, y)):
            hull.pop()
        hull.append((x, y))
    return hull


def _turns_right(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b[0] - a[0]) * (c[1] - a[1]) <= (b[1] - a[1]) * (c[0] - a[0])

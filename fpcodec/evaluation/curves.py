"""Rate-accuracy curves: rows of one family, their lower hull, and the same hull in every draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.evaluation.results import Hull, ResultRow, log_bytes_at, pareto_hull

Floats = npt.NDArray[np.float64]
BEST_PICTURE = "best picture"
"""Name of the curve that may choose any picture format and quality at every drop."""


@dataclass(frozen=True)
class Curve:
    """Settings of one family as points of bytes and AP drop.

    Attributes:
        name: Of the family.
        points: Mean bytes per image and AP drop in points, per setting.
        draws: Shape (settings, draws): the bootstrap's AP drops; None where they are not known.
            NaN where a draw leaves the AP undefined.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    draws: Floats | None = None

    def __post_init__(self) -> None:
        if not self.points:
            raise InputError(f"{self.name} has no setting with bytes and a drop; measure some")
        if any(not (0 < size < math.inf) or not math.isfinite(drop) for size, drop in self.points):
            raise InputError(f"{self.name} has a point without positive bytes and a finite drop")
        if self.draws is not None and (
            self.draws.ndim != 2 or len(self.draws) != len(self.points) or not self.draws.shape[1]
        ):
            raise InputError(
                f"{self.name} has {len(self.points)} settings and draws of shape "
                f"{self.draws.shape}; give one row of draws per setting"
            )

    @classmethod
    def of(
        cls, name: str, rows: Iterable[ResultRow], draws: Mapping[str, Floats] | None = None
    ) -> Curve:
        """The curve of rows; those without bytes or drop are left out.

        Args:
            name: Of the curve.
            rows: Settings.
            draws: Row name to drops per draw; where a row has none, the curve has none.

        Raises:
            InputError: No row has bytes and a drop, or the draws differ in number.
        """
        used = [row for row in rows if is_point(row)]
        points = tuple(
            (row.sent_bytes.mean, row.drop.value)
            for row in used
            if row.sent_bytes is not None and row.drop is not None
        )
        found = [draws[row.name] for row in used if draws and row.name in draws]
        if not found or len(found) < len(used):
            return cls(name, points)
        if len({len(x) for x in found}) > 1:
            raise InputError(
                f"{name}: settings differ in their number of draws; measure them in one run"
            )
        return cls(name, points, np.asarray(found, np.float64))

    @cached_property
    def hull(self) -> Hull:
        """The falling part of the lower convex hull of (log bytes, drop)."""
        return _hull(self._log_bytes, [drop for _, drop in self.points])

    @cached_property
    def draw_hulls(self) -> tuple[Hull, ...]:
        """The hull of every draw; bytes are the same in each. Empty without draws."""
        if self.draws is None:
            return ()
        return tuple(_hull(self._log_bytes, drops) for drops in self.draws.T.tolist())

    @property
    def drop_range(self) -> tuple[float, float]:
        """The least and the largest drop on the hull, in points."""
        return self.hull[-1][1], self.hull[0][1]

    @cached_property
    def _log_bytes(self) -> list[float]:
        return [math.log(size) for size, _ in self.points]


def _hull(log_bytes: list[float], drops: list[float]) -> Hull:
    pairs = zip(log_bytes, drops, strict=True)
    return tuple(pareto_hull((x, y) for x, y in pairs if math.isfinite(y)))


def is_point(row: ResultRow) -> bool:
    """Whether a row has a place on a curve: bytes above zero and a drop."""
    return row.sent_bytes is not None and row.sent_bytes.mean > 0 and row.drop is not None


def by_family(rows: Iterable[ResultRow]) -> dict[str, list[ResultRow]]:
    """Rows that have a place on a curve, by family, in order of first appearance."""
    families: dict[str, list[ResultRow]] = {}
    for row in rows:
        if is_point(row):
            families.setdefault(row.family, []).append(row)
    return families


def picture_rows(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """All pictures, of any format: the settings among which the best picture chooses."""
    return [row for row in rows if row.kind == "picture" and is_point(row)]


def best_single_picture(rows: Iterable[ResultRow], drop: float) -> tuple[str, float] | None:
    """The picture family with the fewest bytes at a drop.

    Returns:
        Family and mean bytes per image; None where no family was measured on both sides.
    """
    sizes = {
        family: log_bytes_at(Curve.of(family, members).hull, drop)
        for family, members in by_family(picture_rows(rows)).items()
    }
    reached = {family: math.exp(size) for family, size in sizes.items() if size is not None}
    return min(reached.items(), key=lambda item: item[1]) if reached else None


def named_curve(
    rows: Iterable[ResultRow], name: str, draws: Mapping[str, Floats] | None = None
) -> Curve:
    """The curve of a family, or of :data:`BEST_PICTURE`.

    Raises:
        InputError: No row is of that family.
    """
    listed = list(rows)
    families = by_family(listed)
    if name in families:
        return Curve.of(name, families[name], draws)
    pictures = picture_rows(listed)
    if name == BEST_PICTURE and pictures:
        return Curve.of(name, pictures, draws)
    known = [*families, *([BEST_PICTURE] if pictures else [])]
    raise InputError(f"no family {name!r} in the results; choose from {', '.join(known) or 'none'}")

"""The rate-accuracy curve that a profile carries, or that results of its stream hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from fpcodec.errors import ProfileError
from fpcodec.evaluation.results import ResultRow

MEASURED_KEY = "rate_accuracy"
"""Where in a profile's ``measured`` the curve lies."""

FEATURES, UNSPLIT = "features", "unsplit"


@dataclass(frozen=True)
class CurvePoint:
    """One measured setting.

    Attributes:
        name: Such as ``webp q60``.
        family: What the points of one line share.
        kind: ``features`` for frames of the profile, ``picture`` or ``boxes``.
        mean_bytes: Per image.
        ap: In points.
        quality: Of a frame; None for what has none.
    """

    name: str
    family: str
    kind: str
    mean_bytes: float
    ap: float
    quality: float | None = None


@dataclass(frozen=True)
class ProfileCurve:
    """AP over bytes, measured on one data set in one run.

    Attributes:
        data: Name of the data.
        images: How many.
        unsplit_ap: Of the detector without a codec, in points; None where it was not measured.
        points: All settings.
    """

    data: str
    images: int
    unsplit_ap: float | None
    points: tuple[CurvePoint, ...]

    @property
    def families(self) -> dict[str, list[CurvePoint]]:
        """Points by family, fewest bytes first; the profile's own frames come first."""
        ordered = sorted(self.points, key=lambda x: (x.kind != FEATURES, x.mean_bytes))
        families: dict[str, list[CurvePoint]] = {}
        for point in ordered:
            families.setdefault(point.family, []).append(point)
        return families

    @property
    def frames(self) -> list[CurvePoint]:
        """The profile's own frames, fewest bytes first."""
        return [point for line in self.families.values() for point in line if _is_frame(point)]

    def at_quality(self, quality: float) -> tuple[float, float] | None:
        """Mean bytes and AP at a quality, between the two measured ones beside it.

        Returns:
            None outside the measured qualities.
        """
        known = sorted(
            (x.quality, x.mean_bytes, x.ap) for x in self.frames if x.quality is not None
        )
        for low, high in pairwise(known):
            if low[0] <= quality <= high[0]:
                span = high[0] - low[0]
                share = (quality - low[0]) / span if span else 0.0
                size = low[1] * (high[1] / low[1]) ** share
                return size, low[2] + share * (high[2] - low[2])
        return None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProfileCurve:
        """Read the form that ``to_dict`` writes.

        Raises:
            ProfileError: A key is missing or unknown.
        """
        try:
            points = tuple(CurvePoint(**point) for point in data["points"])
            unsplit = data["unsplit_ap"]
            return cls(str(data["data"]), int(data["images"]), unsplit and float(unsplit), points)
        except (KeyError, TypeError, ValueError) as error:
            raise ProfileError(f"the profile's curve is incomplete: {error}") from error

    @classmethod
    def of_rows(cls, rows: Iterable[ResultRow], stream_id: bytes) -> ProfileCurve | None:
        """The curve of one stream among a run's rows, with the pictures and boxes of that run.

        Args:
            rows: Of one run.
            stream_id: The profile's.

        Returns:
            None where no row is of this stream with all levels.
        """
        listed = list(rows)
        own = [x for x in listed if x.parameters.get("stream_id") == stream_id.hex()]
        full = max((len(x.parameters["levels"]) for x in own), default=0)
        points = tuple(
            CurvePoint(
                row.name, row.family or row.kind, row.kind, round(row.sent_bytes.mean, 1),
                round(row.ap["ap"] or 0.0, 3),
                row.parameters.get("quality") if row in own else None,
            )
            for row in listed
            if row.sent_bytes is not None and row.ap.get("ap") is not None
            and (row.kind in ("picture", "boxes")
                 or (row in own and len(row.parameters["levels"]) == full))
        )  # fmt: skip
        if not any(map(_is_frame, points)):
            return None
        unsplit = next((x.ap.get("ap") for x in listed if x.kind == UNSPLIT), None)
        return cls(
            listed[0].data, listed[0].images, None if unsplit is None else round(unsplit, 3), points
        )


def _is_frame(point: CurvePoint) -> bool:
    return point.kind == FEATURES


def carried_curve(measured: Mapping[str, Any]) -> ProfileCurve | None:
    """The curve in a profile's ``measured``; None where it has none.

    Raises:
        ProfileError: It is damaged.
    """
    data = measured.get(MEASURED_KEY)
    return None if data is None else ProfileCurve.from_dict(data)

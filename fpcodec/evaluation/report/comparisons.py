"""What a report states about a set of results: bytes at some drops, BD-rates, the best of each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import exp

from fpcodec.errors import InputError
from fpcodec.evaluation.bd_rate import (
    DEFAULT_DROPS,
    BdRate,
    BytesRatio,
    FittedCurve,
    Method,
    Span,
    bd_rate,
    bytes_ratio_at_drop,
)
from fpcodec.evaluation.curves import (
    BEST_PICTURE,
    Curve,
    best_single_picture,
    named_curve,
)
from fpcodec.evaluation.report.source import FEATURES, PICTURE, ResultSet
from fpcodec.evaluation.results import log_bytes_at

HEADLINE_DROPS = (0.5, 1.0, 2.0)
REFERENCE_DROP = 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """Bytes of a family at one AP drop.

    Attributes:
        family: Of the settings.
        drop: In points of AP.
        mean_bytes: Read off the hull; None where every setting loses more.
        is_bound: The smallest setting loses less than the drop already: ``mean_bytes`` is its
            size, and the family would need no more.
        ratio: To the best picture; None where one of both does not reach the drop.
    """

    family: str
    drop: float
    mean_bytes: float | None
    is_bound: bool
    ratio: BytesRatio | None


@dataclass(frozen=True)
class Comparison:
    """A BD-rate, or why there is none.

    Attributes:
        anchor: Family compared with.
        test: Family compared.
        result: None where refused.
        note: Why there is no result, or why it has no interval; empty otherwise.
    """

    anchor: str
    test: str
    result: BdRate | None
    note: str = ""


class Comparisons:
    """Comparisons within one set of results; every curve is fitted once.

    Args:
        results: Of one run.
        drops: Interval of AP drops that BD-rates average over, in points.
        method: Interpolation of the BD-rates.
    """

    def __init__(
        self, results: ResultSet, drops: Span = DEFAULT_DROPS, method: Method = "pchip"
    ) -> None:
        self.results = results
        self.drops = drops
        self.method = method
        self._curves: dict[str, Curve] = {}
        self._fits: dict[str, FittedCurve] = {}
        self._bd: dict[tuple[str, str], Comparison] = {}
        self._ratios: dict[tuple[str, str, float], BytesRatio | None] = {}

    @cached_property
    def ours(self) -> list[str]:
        """Our families, the one with the fewest bytes at one point of drop first."""
        return self._by_bytes(self.results.families_of(FEATURES))

    @cached_property
    def pictures(self) -> list[str]:
        """Picture families, the one with the fewest bytes at one point of drop first."""
        return self._by_bytes(self.results.families_of(PICTURE))

    @cached_property
    def others(self) -> list[str]:
        """Families that are neither ours, pictures nor boxes."""
        return self._by_bytes(self.results.rival_families)

    @property
    def anchors(self) -> list[str]:
        """What our families are compared with: the best picture, every picture, the others."""
        best = [BEST_PICTURE] if self.pictures else []
        return [*best, *self.pictures, *self.others]

    def curve(self, name: str) -> Curve:
        """The curve of a family or of the best picture."""
        if name not in self._curves:
            self._curves[name] = named_curve(self.results.rows, name, self.results.draws)
        return self._curves[name]

    def operating_points(
        self, family: str, drops: Sequence[float] = HEADLINE_DROPS
    ) -> list[OperatingPoint]:
        """A family's bytes at some drops, beside the best picture's."""
        return [self._operating_point(family, drop) for drop in drops]

    def best_picture_at(self, drop: float) -> tuple[str, float] | None:
        """The picture family with the fewest bytes at a drop, and these bytes."""
        return best_single_picture(self.results.rows, drop)

    def bytes_at(self, name: str, drop: float) -> float | None:
        """Mean bytes per image of a family at a drop; None where it was not measured."""
        size = log_bytes_at(self.curve(name).hull, drop)
        return None if size is None else exp(size)

    def bd(self, anchor: str, test: str) -> Comparison:
        """The BD-rate of a family against another, without an interval where draws forbid one."""
        if (anchor, test) not in self._bd:
            self._bd[anchor, test] = self._compare(anchor, test)
        return self._bd[anchor, test]

    def ratio(self, anchor: str, test: str, drop: float) -> BytesRatio | None:
        """Bytes of a family by another's at a drop; None where one does not reach it."""
        key = (anchor, test, drop)
        if key not in self._ratios:
            self._ratios[key] = self._ratio(*key)
        return self._ratios[key]

    def _compare(self, anchor: str, test: str) -> Comparison:
        first, second = self._fitted(anchor), self._fitted(test)
        try:
            return Comparison(anchor, test, bd_rate(first, second, self.drops))
        except InputError as error:
            note = str(error)
        bare = [FittedCurve(replace(x.curve, draws=None), self.method) for x in (first, second)]
        try:
            return Comparison(anchor, test, bd_rate(bare[0], bare[1], self.drops), note)
        except InputError:
            return Comparison(anchor, test, None, note)

    def _ratio(self, anchor: str, test: str, drop: float) -> BytesRatio | None:
        first, second = (self.curve(name) for name in (anchor, test))
        try:
            return bytes_ratio_at_drop(first, second, drop)
        except InputError:
            # Too few draws may reach the drop, although the images as they are do.
            first, second = (replace(curve, draws=None) for curve in (first, second))
        try:
            return bytes_ratio_at_drop(first, second, drop)
        except InputError:
            return None

    def _operating_point(self, family: str, drop: float) -> OperatingPoint:
        curve = self.curve(family)
        least, most = curve.drop_range
        ratio = self.ratio(BEST_PICTURE, family, drop) if self.pictures else None
        if least <= drop <= most:
            return OperatingPoint(family, drop, self.bytes_at(family, drop), False, ratio)
        bound = exp(curve.hull[0][0]) if drop > most else None
        return OperatingPoint(family, drop, bound, bound is not None, ratio)

    def _fitted(self, name: str) -> FittedCurve:
        if name not in self._fits:
            self._fits[name] = FittedCurve(self.curve(name), self.method)
        return self._fits[name]

    def _by_bytes(self, families: Iterable[str]) -> list[str]:
        """Families by bytes at the reference drop; those that do not reach it by loss, last."""

        def rank(name: str) -> tuple[bool, float]:
            size = self.bytes_at(name, REFERENCE_DROP)
            return (size is None, self.curve(name).drop_range[0] if size is None else size)

        return sorted(families, key=rank)

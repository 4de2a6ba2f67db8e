"""How many bytes one family takes beside another at the same loss of AP.

Bjontegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33, 2001, with AP
drop in the place of PSNR, lower hulls in the place of raw points, and monotone or Akima pieces in
the place of the cubic through four points, which swings between measurements that are not smooth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np

from fpcodec.errors import InputError, MissingDependency
from fpcodec.evaluation.curves import Curve
from fpcodec.evaluation.results import Hull, log_bytes_at

Method = Literal["pchip", "akima"]
METHODS: tuple[Method, ...] = ("pchip", "akima")
Span = tuple[float, float]

MIN_COVERAGE = 0.75
"""Share of the asked interval that both curves must cover."""

MIN_USABLE_DRAWS = 0.8
"""Share of the draws that must allow the comparison, for an interval to be stated."""

DEFAULT_DROPS: Span = (0.5, 4.0)


@dataclass(frozen=True)
class BdRate:
    """Average difference in bytes at equal AP drop.

    Attributes:
        anchor: Family compared with.
        test: Family compared.
        drops_asked: Interval of AP drops asked for, in points.
        drops_used: The part of it that both curves cover, averaged over.
        method: ``pchip`` or ``akima``.
        percent: Bytes of the test family beside the anchor: -50 is half of them.
        low: 2.5 % of the usable draws lie below; None without draws.
        high: 2.5 % of the usable draws lie above; None without draws.
        draws: Bootstrap draws given; 0 without.
        draws_used: Draws in which both curves cover enough of the interval.
    """

    anchor: str
    test: str
    drops_asked: Span
    drops_used: Span
    method: str
    percent: float
    low: float | None = None
    high: float | None = None
    draws: int = 0
    draws_used: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True)
class BytesRatio:
    """Bytes of two families at one AP drop.

    Attributes:
        anchor: Family compared with.
        test: Family compared.
        drop: In points of AP.
        anchor_bytes: Mean bytes per image of the anchor.
        test_bytes: Mean bytes per image of the test family.
        ratio: The second by the first.
        low: 2.5 % of the usable draws lie below; None without draws.
        high: 2.5 % of the usable draws lie above; None without draws.
        draws: Bootstrap draws given; 0 without.
        draws_used: Draws in which both hulls reach the drop.
    """

    anchor: str
    test: str
    drop: float
    anchor_bytes: float
    test_bytes: float
    ratio: float
    low: float | None = None
    high: float | None = None
    draws: int = 0
    draws_used: int = 0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


class FittedCurve:
    """A curve with log bytes interpolated over drop, on the images as they are and per draw.

    One fit serves every comparison that the curve takes part in.

    Args:
        curve: What was measured.
        method: ``pchip`` (monotone; Fritsch and Butland, 1984) or ``akima`` (Akima, 1970).

    Raises:
        InputError: The method is unknown.
        MissingDependency: scipy is not installed.
    """

    def __init__(self, curve: Curve, method: Method = "pchip") -> None:
        self.curve = curve
        self.method = known_method(method)
        self.fit = _Fit.of(curve.hull, method)

    @cached_property
    def draw_fits(self) -> tuple[_Fit, ...]:
        """One fit per draw; empty without draws."""
        return tuple(_Fit.of(hull, self.method) for hull in self.curve.draw_hulls)


def known_method(name: str) -> Method:
    """An interpolation by name.

    Raises:
        InputError: There is no such interpolation.
    """
    for method in METHODS:
        if name == method:
            return method
    raise InputError(f"no interpolation {name!r}; use {' or '.join(METHODS)}")


@dataclass(frozen=True)
class _Fit:
    """The integral of log bytes over drop, and the drops it holds for."""

    low: float
    high: float
    integral: Any

    @classmethod
    def of(cls, hull: Hull, method: str) -> _Fit:
        if len(hull) < 2:
            return cls(math.nan, math.nan, None)
        log_bytes, drops = (np.asarray(values[::-1]) for values in zip(*hull, strict=True))
        return cls(drops[0], drops[-1], _interpolator(method, drops, log_bytes).antiderivative())

    def mean(self, low: float, high: float) -> float:
        """Average of log bytes over an interval of drops."""
        start, end = self.integral((low, high))
        return float(end - start) / (high - low)


def _interpolator(method: str, drops: Any, log_bytes: Any) -> Any:
    try:
        from scipy.interpolate import Akima1DInterpolator, PchipInterpolator
    except ImportError as error:
        raise MissingDependency(
            'BD-rates need scipy; install it with pip install "fpcodec[bench]"'
        ) from error
    # Two points leave Akima's slopes undefined: both methods are then the line between them.
    akima = method == "akima" and len(drops) > 2
    return (Akima1DInterpolator if akima else PchipInterpolator)(drops, log_bytes)


def bd_rate(anchor: FittedCurve, test: FittedCurve, drops: Span = DEFAULT_DROPS) -> BdRate:
    """Average difference in bytes over an interval of AP drops, in percent.

    With draws on both curves the interval is the central 95 % of what each draw's own hulls give;
    a draw in which they cover under 75 % of the asked interval is left out and not counted. Bytes
    are the means of the images as they are, in every draw.

    Args:
        anchor: Family compared with, fitted.
        test: Family compared, fitted by the same method.
        drops: Lowest and highest AP drop of the interval, in points.

    Raises:
        InputError: The interval is empty, the methods differ, the curves' common drops cover
            under 75 % of the interval, or under 80 % of the draws are usable.
    """
    if not (math.isfinite(drops[0]) and math.isfinite(drops[1]) and drops[0] < drops[1]):
        raise InputError(f"{drops[0]:g}:{drops[1]:g} is no interval of drops; give LOW:HIGH points")
    if anchor.method != test.method:
        raise InputError(f"curves fitted by {anchor.method} and {test.method}; fit both alike")
    used = _common(anchor.fit, test.fit, drops)
    if used is None:
        raise InputError(_too_little_in_common(anchor.curve, test.curve, drops))
    percent = _percent(anchor.fit, test.fit, used)
    pairs = _paired(anchor, test)
    values = [_percent(a, b, span) for a, b in pairs if (span := _common(a, b, drops)) is not None]
    name = f"the BD-rate of {test.curve.name} against {anchor.curve.name}"
    low, high = _central(values, len(pairs), name)
    return BdRate(
        anchor.curve.name, test.curve.name, drops, used, anchor.method, percent,
        low, high, len(pairs), len(values),
    )  # fmt: skip


def bytes_ratio_at_drop(anchor: Curve, test: Curve, drop: float = 1.0) -> BytesRatio:
    """Bytes of one family by those of another, both read off their hulls at a drop.

    Raises:
        InputError: A hull does not reach the drop, or does so in under 80 % of the draws.
    """
    sizes = [log_bytes_at(curve.hull, drop) for curve in (anchor, test)]
    for curve, size in zip((anchor, test), sizes, strict=True):
        if size is None:
            low, high = curve.drop_range
            raise InputError(
                f"{curve.name} was measured at drops of {low:.2f} to {high:.2f}, not {drop:g}; "
                "measure settings on both sides of it"
            )
    anchor_log, test_log = (size for size in sizes if size is not None)
    pairs = _same_number(anchor, test, anchor.draw_hulls, test.draw_hulls)
    logs = [(log_bytes_at(a, drop), log_bytes_at(b, drop)) for a, b in pairs]
    ratios = [math.exp(b - a) for a, b in logs if a is not None and b is not None]
    name = f"the bytes of {test.name} against {anchor.name} at a drop of {drop:g}"
    low_ratio, high_ratio = _central(ratios, len(pairs), name)
    return BytesRatio(
        anchor.name, test.name, drop, math.exp(anchor_log), math.exp(test_log),
        math.exp(test_log - anchor_log), low_ratio, high_ratio, len(pairs), len(ratios),
    )  # fmt: skip


def _common(anchor: _Fit, test: _Fit, drops: Span) -> Span | None:
    """The part of an interval that both fits cover; None where it is under the least share."""
    if anchor.integral is None or test.integral is None:
        return None
    low, high = max(anchor.low, test.low, drops[0]), min(anchor.high, test.high, drops[1])
    enough = high - low >= MIN_COVERAGE * (drops[1] - drops[0])
    return (float(low), float(high)) if enough else None


def _too_little_in_common(anchor: Curve, test: Curve, drops: Span) -> str:
    ranges = [
        f"{curve.name} covers drops of {curve.drop_range[0]:.2f} to {curve.drop_range[1]:.2f}"
        for curve in (anchor, test)
    ]
    low = max(anchor.drop_range[0], test.drop_range[0], drops[0])
    high = min(anchor.drop_range[1], test.drop_range[1], drops[1])
    share = max(high - low, 0.0) / (drops[1] - drops[0])
    return (
        f"{' and '.join(ranges)}: together {share:.0%} of the asked {drops[0]:g} to {drops[1]:g}, "
        f"below {MIN_COVERAGE:.0%}; measure more settings or ask for a narrower interval"
    )


def _percent(anchor: _Fit, test: _Fit, span: Span) -> float:
    return 100 * math.expm1(test.mean(*span) - anchor.mean(*span))


def _paired(anchor: FittedCurve, test: FittedCurve) -> list[tuple[_Fit, _Fit]]:
    return _same_number(anchor.curve, test.curve, anchor.draw_fits, test.draw_fits)


def _same_number(
    anchor: Curve, test: Curve, ours: Sequence[Any], theirs: Sequence[Any]
) -> list[tuple[Any, Any]]:
    """Pairs of the same draw; none where a curve has no draws."""
    if not ours or not theirs:
        return []
    if len(ours) != len(theirs):
        raise InputError(
            f"{anchor.name} has {len(ours)} draws and {test.name} {len(theirs)}; "
            "measure both in one run, so that draws are paired"
        )
    return list(zip(ours, theirs, strict=True))


def _central(values: Sequence[float], draws: int, name: str) -> tuple[float | None, float | None]:
    """The central 95 % of the usable draws."""
    if not draws:
        return None, None
    if len(values) < MIN_USABLE_DRAWS * draws:
        raise InputError(
            f"{name} exists in {len(values)} of {draws} draws, below {MIN_USABLE_DRAWS:.0%}; "
            "measure settings beyond the asked drops, or give --no-draws for a value alone"
        )
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)

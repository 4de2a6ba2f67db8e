"""The part of the page that draws a profile's measured rate-accuracy curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpcodec.evaluation.profile_curve import CurvePoint, ProfileCurve
from fpcodec.evaluation.report.plots import SHOWN_DROP, bytes_text
from fpcodec.evaluation.results import pareto_hull
from fpcodec.ui.markup import details, section, table, text
from fpcodec.ui.results import Result

_WIDTH, _HEIGHT = 520, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 16, 12, 46
_KINDS = {"features": "frames of this profile", "picture": "pictures of any format, best as a line",
          "boxes": "boxes alone"}  # fmt: skip
_FORMAT_NAMES = {"webp": "WebP", "jpeg": "JPEG", "avif": "AVIF", "jxl": "JPEG XL"}
_AP_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0)


def curve_part(
    curve: ProfileCurve | None, result: Result | None, measured: Mapping[str, Any]
) -> str:
    """AP over bytes as measured, with the operating point on it.

    Args:
        curve: The profile's; None where it has none.
        result: The present one; None before the first.
        measured: What the profile says of itself, for where there is no curve.
    """
    title = "Rate and accuracy of this profile"
    if curve is None:
        return section("curve", title, _absent(measured))
    here = _operating_point(curve, result)
    words = f"AP on {curve.images} images, measured in one run. {_words(curve, result, here)}"
    axes = Axes.around(curve, result, here)
    rows = [
        (_plain_name(point), f"{point.mean_bytes:,.0f}", f"{point.ap:.1f}")
        for line in curve.families.values()
        for point in line
    ]
    kinds = [kind for kind in _KINDS if any(point.kind == kind for point in curve.points)]
    legend = "".join(
        f'<li><svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">'
        f"{_mark(kind, 8, 8)}</svg>{text(_KINDS[kind])}</li>"
        for kind in kinds
    )
    content = (
        f'<figure>{_drawn(curve, axes, result, here)}</figure><ul class="legend">{legend}</ul>'
        f"<p>{text(words)}</p>"
        + details("The curve as a table", table("Measured", ("setting", "bytes", "AP"), rows))
    )
    return section("curve", title, content)


def _absent(measured: Mapping[str, Any]) -> str:
    told = (
        "<p>This profile carries no measured AP. Measure it with <code>fpcodec bench rd</code> "
        "and start the page with <code>--results DIR</code>.</p>"
    )
    held_out = measured.get("held_out")
    if not held_out:
        return told
    rows = [
        (f"{x['quality']:g}", f"{x['frame_bytes']:,.0f}", f"{x['agreement']:.3f}") for x in held_out
    ]
    head = ("quality", "bytes", "agreement (F1)")
    return told + table("On images held out of its training", head, rows)


def _operating_point(curve: ProfileCurve, result: Result | None) -> tuple[float, float] | None:
    """Mean bytes and AP of the controls; None for what was not measured."""
    if result is None or any(x.fate == "recovered" for x in result.levels):
        return None
    point = _measured(curve, result.quality)
    if point is not None:
        return point.mean_bytes, point.ap
    return curve.at_quality(result.quality)


def _measured(curve: ProfileCurve, quality: float) -> CurvePoint | None:
    """The measured point of a quality, as frames carry it: in 255 steps."""
    of_quality = (x for x in curve.frames if x.quality is not None)
    return next(
        (x for x in of_quality if round(255 * (x.quality or 0)) == round(255 * quality)), None
    )


def _plain_name(point: CurvePoint) -> str:
    """A setting in words."""
    if point.kind == "features":
        levels = point.family.partition(" ")[2].replace("+", ", ")
        return f"frame at quality {point.quality:g}" + (f" ({levels})" if levels else "")
    if point.kind == "boxes":
        return f"boxes of score {point.name.split()[-1]} or more"
    codec, _, rest = point.name.partition(" ")
    return f"{_FORMAT_NAMES.get(codec, codec)} {rest.replace(' q', ', quality ').removeprefix('q')}"


def _words(curve: ProfileCurve, result: Result | None, here: tuple[float, float] | None) -> str:
    if result is None:
        return "Choose a picture to see where it lies."
    size = f"The dotted line is this picture's {len(result.frame):,} bytes."
    if here is not None:
        drop = ""
        if curve.unsplit_ap is not None:
            # Of the rounded numbers, which are those that are shown.
            less = round(curve.unsplit_ap, 1) - round(here[1], 1)
            drop = f", {less:.1f} below unsplit"
        known = "measured" if _measured(curve, result.quality) else "interpolated"
        return (
            f"Quality {result.quality:.2f} takes {here[0]:,.0f} bytes on average, at AP "
            f"{here[1]:.1f}{drop} ({known}): the ring. {size}"
        )
    if any(x.fate == "recovered" for x in result.levels):
        return f"It is of frames with every level; with fewer the AP is another. {size}"
    return f"Quality {result.quality:.2f} lies outside of the measured ones. {size}"


@dataclass(frozen=True)
class Axes:
    """What the axes show.

    Attributes:
        bytes_range: Fewest and most bytes.
        ap_range: Lowest and highest AP, in points.
    """

    bytes_range: tuple[float, float]
    ap_range: tuple[float, float]

    @classmethod
    def around(
        cls, curve: ProfileCurve, result: Result | None, here: tuple[float, float] | None
    ) -> Axes:
        """The profile's own frames, what else loses no more than SHOWN_DROP, and the present."""
        aps = [point.ap for point in curve.points]
        top = max([*aps, curve.unsplit_ap or 0.0])
        own = [point.ap for point in curve.frames]
        low = min([max(min(aps), top - SHOWN_DROP), *own])
        sizes = [point.mean_bytes for point in curve.points if point.ap >= low]
        sizes += [] if result is None else [float(len(result.frame))]
        sizes += [] if here is None else [here[0]]
        margin = 0.06 * max(top - low, 1.0)
        return cls((min(sizes) / 1.3, max(sizes) * 1.3), (low - margin, top + margin))

    def x(self, size: float) -> float:
        """Pixels from the left, by the logarithm of bytes."""
        first, last = map(math.log, self.bytes_range)
        return _LEFT + (math.log(size) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, ap: float) -> float:
        """Pixels from the top."""
        low, high = self.ap_range
        return _TOP + (high - ap) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)

    @property
    def bytes_ticks(self) -> list[float]:
        """1, 2 and 5 of every power of ten, or the powers alone where there are many."""
        low, high = self.bytes_range
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        digits = (1, 2, 5) if high / low < 300 else (1,)
        ticks = [digit * 10.0**power for power in powers for digit in digits]
        return [tick for tick in ticks if low <= tick <= high]

    @property
    def ap_ticks(self) -> list[float]:
        """Round values, seven at most."""
        low, high = self.ap_range
        step = next((x for x in _AP_STEPS if (high - low) / x <= 7), _AP_STEPS[-1])
        return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _drawn(
    curve: ProfileCurve, axes: Axes, result: Result | None, here: tuple[float, float] | None
) -> str:
    parts = [_grid(axes)]
    if curve.unsplit_ap is not None:
        at = axes.y(curve.unsplit_ap)
        parts.append(_rule("unsplit", _LEFT, _WIDTH - _RIGHT, at, at))
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{at - 4:.1f}" text-anchor="end">'
            f"unsplit {curve.unsplit_ap:.1f}</text>"
        )
    for kind in reversed(_KINDS):
        shown = [x for x in curve.points if x.kind == kind and x.ap >= axes.ap_range[0]]
        parts.append(_line(kind, shown, axes))
        parts += [_mark(kind, axes.x(point.mean_bytes), axes.y(point.ap)) for point in shown]
    if result is not None:
        at = axes.x(len(result.frame))
        parts.append(_rule("mine", at, at, _TOP, _HEIGHT - _BOTTOM))
    if here is not None:
        x, y = axes.x(here[0]), axes.y(here[1])
        parts.append(f'<circle class="here" cx="{x:.1f}" cy="{y:.1f}" r="9"/>')
    return (
        f'<svg class="curve" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        'aria-label="AP over bytes per image; its numbers are in the table below">'
        f"{''.join(parts)}</svg>"
    )


def _grid(axes: Axes) -> str:
    parts = []
    bottom = _HEIGHT - _BOTTOM
    for size in axes.bytes_ticks:
        x = axes.x(size)
        parts.append(_rule("grid", x, x, _TOP, bottom))
        label = bytes_text(size)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="middle">{label}</text>')
    for ap in axes.ap_ticks:
        y = axes.y(ap)
        parts.append(_rule("grid", _LEFT, _WIDTH - _RIGHT, y, y))
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{ap:g}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">AP over mean bytes per image '
        "(log)</text>"
    )
    return "".join(parts)


def _line(kind: str, points: Sequence[CurvePoint], axes: Axes) -> str:
    """Through all points of a kind, or of pictures through those that no other beats."""
    pairs = [(point.mean_bytes, point.ap) for point in points]
    if kind == "picture":
        hull = pareto_hull((math.log(size), -ap) for size, ap in pairs)
        pairs = [(math.exp(size), -ap) for size, ap in hull]
    text_points = " ".join(f"{axes.x(size):.1f},{axes.y(ap):.1f}" for size, ap in sorted(pairs))
    return f'<polyline class="{kind}" points="{text_points}"/>'


def _mark(kind: str, x: float, y: float) -> str:
    if kind == "features":
        return f'<circle class="features" cx="{x:.1f}" cy="{y:.1f}" r="5"/>'
    if kind == "boxes":
        return f'<path class="boxes" d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>'
    return f'<rect class="picture" x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>'


def _rule(kind: str, x1: float, x2: float, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'

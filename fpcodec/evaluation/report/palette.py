"""Colours, markers and dashes of families: ours strong, pictures in blues and greys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpcodec.evaluation.report.source import BOXES, FEATURES, PICTURE, ResultSet

INK = "#1f2328"
GRID = "#e3e6ea"
FAINT = "#c3c9d1"
OURS = "#c8500a"
# Told apart by lightness and marker as well as by hue, for every common colour blindness.
PICTURES = ("#1b4f9c", "#3f8fd0", "#6b7480", "#0b7285", "#8aa2bd", "#3b4654")
OTHERS = ("#7b3fa0", "#2f7d4f", "#b3367a", "#6a6a00")

DARK = {
    INK: "#e6e9ed", GRID: "#333a43", FAINT: "#4c5560", OURS: "#ff9248",
    "#1b4f9c": "#7fb0ff", "#3f8fd0": "#58b7f5", "#6b7480": "#a4adb8", "#0b7285": "#4cc3d4",
    "#8aa2bd": "#8aa2bd", "#3b4654": "#c3ccd8",
    "#7b3fa0": "#cf9bf0", "#2f7d4f": "#6fce96", "#b3367a": "#f58ac1", "#6a6a00": "#d2d24a",
}  # fmt: skip
"""A colour to what stands for it on a dark page."""

_PICTURE_MARKERS = "s^Dv<>"
_OTHER_MARKERS = "PX*p"
Dash = str | tuple[float, tuple[float, ...]]
_DASHES: tuple[Dash, ...] = ("-", (0.0, (5, 2)), (0.0, (1.5, 1.5)), (0.0, (6, 2, 1.5, 2)))
MOST_OURS = len(_DASHES)


@dataclass(frozen=True)
class Style:
    """How a family is drawn.

    Attributes:
        colour: As ``#rrggbb``.
        marker: Of matplotlib.
        dash: Of matplotlib.
        width: Of the line, in points.
        labelled: Whether its name stands beside it.
    """

    colour: str
    marker: str
    dash: Dash
    width: float
    labelled: bool

    @property
    def is_faint(self) -> bool:
        """Whether it is there for completeness only."""
        return not self.labelled


_FAINT = Style(FAINT, ".", "-", 0.9, False)


def styles(results: ResultSet, ours: Sequence[str], rivals: Sequence[str]) -> dict[str, Style]:
    """A style per family.

    Args:
        results: All families.
        ours: Our families, the most important first; a few are strong.
        rivals: The others, the best first: the best of each format is labelled.
    """
    chosen = dict.fromkeys(results.families, _FAINT)
    for name, dash in zip(ours, _DASHES, strict=False):
        chosen[name] = Style(OURS, "o", dash, 2.2, True)
    pictures = iter(zip(PICTURES, _PICTURE_MARKERS, strict=True))
    others = iter(zip(OTHERS, _OTHER_MARKERS, strict=True))
    seen: set[str] = set()
    for name in rivals:
        kind = results.families[name][0].kind
        group = f"{kind} {name.split()[0]}"
        look = next(pictures if kind == PICTURE else others, None) if group not in seen else None
        seen.add(group)
        if look is not None:
            chosen[name] = Style(look[0], look[1], "-", 1.4, True)
    for name in results.families_of(BOXES):
        chosen[name] = Style(INK, "d", "-", 1.2, True)
    return chosen


def is_ours(results: ResultSet, family: str) -> bool:
    """Whether a family is one of this codec's."""
    return results.families[family][0].kind == FEATURES

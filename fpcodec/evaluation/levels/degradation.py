"""Degraded pyramids: which levels a detector needs, by shrinking them and blowing them up again.

The experiment of dbwp031/detectron2 ("FPN level degradation"): a level is resized down by a ratio
and back up, alone or with another, and AP by object scale shows who misses it. That study let the
RPN alone see the degraded levels (scope ``rpn``); a split detector degrades what its RoI heads
see too (scope ``all``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any, Protocol, cast

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.evaluation.levels.resampling import RESAMPLES, degrade
from fpcodec.pyramid import Array, Pyramid, PyramidSpec, derive

SCOPES = ("all", "rpn")
PAIRINGS = ("auto", "all", "equal", "none")
DEFAULT_RATIOS = (1.0, 2.0, 4.0, 8.0, 16.0)

MOST_HEAD_RUNS = 60_000
"""``auto`` takes every combination of a pair's ratios only if the heads run no more often."""


@dataclass(frozen=True)
class Degradation:
    """One cell of the study: a ratio per level, who sees it, and how levels are resampled.

    Attributes:
        ratios: One per level of the specification, derived levels included, finest first; 1
            leaves a level alone, 4 shrinks both its sides to a quarter.
        scope: ``all``: every part of the head sees the degraded pyramid. ``rpn``: the RPN alone;
            the RoI heads keep the original.
        resample: ``seed``: the study's own bilinear resizing both ways, half-pixel centres and
            no antialiasing, so that ratios above 2 look at the middle of each block alone.
            ``area``: means over blocks down, bilinear up.

    Raises:
        InputError: A ratio is below 1, or the scope or the resampling is unknown.
    """

    ratios: tuple[float, ...]
    scope: str = "all"
    resample: str = "seed"

    def __post_init__(self) -> None:
        check_ratios(self.ratios)
        if self.scope not in SCOPES:
            raise InputError(f"scope {self.scope!r} is not one of {', '.join(SCOPES)}")
        if self.resample not in RESAMPLES:
            raise InputError(f"resampling {self.resample!r} is not one of {', '.join(RESAMPLES)}")

    @property
    def key(self) -> str:
        """Canonical text of the three attributes: ``1,1,4,1,1 rpn seed``."""
        return f"{','.join(f'{ratio:g}' for ratio in self.ratios)} {self.kind}"

    @property
    def kind(self) -> str:
        """Scope and resampling: cells that share them make one study."""
        return f"{self.scope} {self.resample}"

    @property
    def is_reference(self) -> bool:
        """Whether every level is left alone."""
        return all(ratio == 1 for ratio in self.ratios)

    def require_levels(self, spec: PyramidSpec) -> None:
        """Check that there is a ratio for every level and none beside.

        Raises:
            InputError: There are fewer or more.
        """
        if len(self.ratios) != len(spec.names):
            raise InputError(
                f"ratio set {self.key.split()[0]} has {len(self.ratios)} ratios, this pyramid has "
                f"{len(spec.names)} levels ({', '.join(spec.names)}); give one per level, 1 to "
                "leave a level alone"
            )

    def degraded_levels(self, spec: PyramidSpec) -> tuple[str, ...]:
        """Names of the levels that are not left alone."""
        return tuple(
            name for name, ratio in zip(spec.names, self.ratios, strict=True) if ratio != 1
        )


def check_ratios(ratios: Sequence[float]) -> None:
    """Check that every ratio shrinks or does nothing.

    Raises:
        InputError: There is none, or one is not a number of at least 1.
    """
    if not ratios:
        raise InputError("no degradation ratio was given; give numbers of at least 1, as 1,2,4")
    for ratio in ratios:
        if not (math.isfinite(ratio) and ratio >= 1):
            raise InputError(
                f"degradation ratio {ratio:g} is not a number of at least 1; 1 does nothing, 4 "
                "keeps a quarter of each side"
            )


def study(
    spec: PyramidSpec,
    ratios: Sequence[float] = DEFAULT_RATIOS,
    *,
    scope: str = "all",
    resample: str = "seed",
    pairs: str = "equal",
) -> tuple[Degradation, ...]:
    """The cells of the study: nothing degraded, every level alone, every pair of levels.

    Args:
        spec: The pyramid.
        ratios: For single levels and for pairs; 1 is the first cell whether named or not.
        scope: See ``Degradation``.
        resample: See ``Degradation``.
        pairs: ``all``: both levels of a pair take every ratio. ``equal``: the same one.
            ``none``: single levels alone.

    Raises:
        InputError: A ratio, the scope, the resampling or ``pairs`` cannot be used.
    """
    check_ratios(ratios)
    if pairs not in PAIRINGS[1:]:
        raise InputError(f"pairs {pairs!r} is not one of {', '.join(PAIRINGS[1:])}")
    count = len(spec.names)
    degrading = sorted({ratio for ratio in ratios if ratio != 1})
    chosen: list[Mapping[int, float]] = [{}]
    chosen += [{level: ratio} for level in range(count) for ratio in degrading]
    couples: dict[str, list[tuple[float, float]]] = {
        "all": list(product(degrading, degrading)),
        "equal": [(ratio, ratio) for ratio in degrading],
        "none": [],
    }
    chosen += [
        {first: a, second: b}
        for first, second in combinations(range(count), 2)
        for a, b in couples[pairs]
    ]
    return tuple(
        Degradation(tuple(x.get(level, 1.0) for level in range(count)), scope, resample)
        for x in chosen
    )


def affordable_pairs(spec: PyramidSpec, ratios: Sequence[float], images: int) -> str:
    """``all`` where every combination of a pair's ratios is within ``MOST_HEAD_RUNS``."""
    cells = len(study(spec, ratios, pairs="all"))
    return "all" if cells * images <= MOST_HEAD_RUNS else "equal"


@dataclass
class DegradedPyramids:
    """Degraded versions of one image's pyramid; each level is resampled once per ratio.

    A derived level (``p6`` of Faster R-CNN) is degraded on its own, from its exact values, as in
    the study: it does not follow what happens to its source.

    Attributes:
        original: Every level of the specification.
    """

    original: Pyramid
    _levels: dict[tuple[str, float, str], Array] = field(default_factory=dict)

    @classmethod
    def of(cls, pyramid: Pyramid) -> DegradedPyramids:
        """From all coded levels as extracted."""
        return cls(derive(pyramid))

    def pyramid(self, cell: Degradation) -> Pyramid:
        """The pyramid of a cell."""
        spec = self.original.spec
        levels = {
            name: self._level(name, ratio, cell.resample)
            for name, ratio in zip(spec.names, cell.ratios, strict=True)
        }
        return Pyramid(spec, levels, self.original.geometry)

    def _level(self, name: str, ratio: float, resample: str) -> Array:
        key = (name, ratio, resample)
        if key not in self._levels:
            self._levels[key] = degrade(self.original.levels[name], ratio, resample)
        return self._levels[key]


class _RegionProposer(Protocol):
    """A detector whose RPN can see another pyramid than its RoI heads."""

    def detect(self, pyramid: Pyramid, rpn_pyramid: Pyramid | None = None) -> Detections: ...


def require_scope(detector: Detector, scope: str) -> None:
    """Check that a detector can be measured in a scope.

    Raises:
        InputError: Its RPN cannot be told apart from the rest of its head.
    """
    if scope == "rpn" and "rpn_pyramid" not in inspect.signature(detector.detect).parameters:
        raise InputError(
            "scope rpn needs a detector whose RPN can be run apart, and an ONNX head is one graph "
            "(one-stage detectors have no RPN at all): use --scope all, or a two-stage detector "
            'in torch, such as --detector "tiny?runtime=torch"'
        )


def detect_cell(detector: Detector, degraded: DegradedPyramids, cell: Degradation) -> Detections:
    """Detect on one image's pyramid, degraded as a cell says.

    Raises:
        InputError: The scope is ``rpn`` and the detector has no RPN.
    """
    pyramid = degraded.pyramid(cell)
    if cell.scope == "all":
        return detector.detect(pyramid)
    proposer = cast(_RegionProposer, detector)
    return proposer.detect(degraded.original, rpn_pyramid=pyramid)


def clamped_levels(
    spec: PyramidSpec, cells: Iterable[Degradation], sizes: Iterable[tuple[int, int]]
) -> dict[str, tuple[str, ...]]:
    """Key of each cell to the levels that its ratio would shrink below one cell somewhere.

    There the ratio in effect is the level's own side: the cell degrades less than it says.

    Args:
        spec: The pyramid.
        cells: Any.
        sizes: ``(width, height)`` of the network inputs that occur, in pixels.
    """
    least: dict[str, int] = {}
    for size in sizes:
        for name in spec.names:
            least[name] = min(*spec.shape(name, size)[1:], least.get(name, 1 << 30))
    return {cell.key: tuple(_clamped(spec, cell, least)) for cell in cells}


def _clamped(spec: PyramidSpec, cell: Degradation, least: Mapping[str, int]) -> Iterator[str]:
    for name, ratio in zip(spec.names, cell.ratios, strict=True):
        if ratio > least.get(name, 1 << 30):
            yield name


def parse_ratios(text: str) -> tuple[float, ...]:
    """Read ``1,2,4``.

    Raises:
        InputError: A part is no number of at least 1.
    """
    try:
        ratios = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"ratios {text!r} are not numbers joined by commas; give them as 1,1,4,1,1"
        ) from error
    check_ratios(ratios)
    return ratios


def to_dict(cell: Degradation) -> dict[str, Any]:
    """JSON-able form of a cell."""
    return {"ratios": list(cell.ratios), "scope": cell.scope, "resample": cell.resample}

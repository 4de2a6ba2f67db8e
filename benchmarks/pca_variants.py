"""``pca`` with one ingredient left out or replaced: the basis stays, tables are counted again.

Every variant writes ordinary frames of codec id 2 that ordinary decoders read, given its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.calibration.counting import fit_tables
from fpcodec.calibration.schedule import RESPONSE_FLOOR, quality_schedule
from fpcodec.codecs.chunked import ChunkedCodec, Quantise
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.coefficients import group_bounds
from fpcodec.codecs.pca import PcaCodec, highest_nearby
from fpcodec.detectors.base import Detector
from fpcodec.errors import InputError
from fpcodec.profile import Profile
from fpcodec.pyramid import Array, Pyramid, derive

Tensors = Mapping[str, npt.NDArray[Any]]

SINGLE_STEPS = (12.0, 0.4)
"""Step at qualities 0 and 255 where every position has the same, in a level's root mean component
deviations: about as many bytes and as much loss as the schedule's three steps at those qualities
spend."""

SEED = 0
"""Draws the qualities at which symbols are counted, the same for every variant."""

_PEAK_PYRAMIDS = 100


class WithoutStepMap(PcaCodec):
    """Every position has the same step; no map is sent."""

    def _quantise(self, name: str, features: Array, quality: int) -> QuantisedLevel:
        return self.quantise_level(name, features, None, quality)


class WithoutParents(PcaCodec):
    """No level leans on another."""

    writes_parents = False


class WithoutEndOfBlock(PcaCodec):
    """Every group is coded at every position."""

    def _quantise(self, name: str, features: Array, quality: int) -> QuantisedLevel:
        level = super()._quantise(name, features, quality)
        count = self.components[name]
        symbols = np.zeros((count, *features.shape[1:]), np.int32)
        symbols[: len(level.symbols)] = level.symbols
        depth = np.full(features.shape[1:], len(group_bounds(count)), np.int32)
        return QuantisedLevel(symbols, level.classes, depth=depth)


Maps = dict[str, Array]
MapsOf = Callable[[Pyramid], Maps]
"""From a pyramid to a map (H, W) per coded level, not negative."""


class FollowsMaps(PcaCodec):
    """``pca`` whose step map follows given maps; its frames are ordinary ones.

    Args:
        maps: Tells where to be fine.
        tensors: As ``PcaCodec``'s, but ``thresholds`` on the maps' peaks.
        like: Gives the pyramids and the recovery.
    """

    def __init__(self, maps: MapsOf, tensors: Tensors, like: ChunkedCodec) -> None:
        super().__init__(like.spec, tensors, like.recoverer)
        self._maps = maps

    def prepare(self, pyramid: Pyramid, names: Sequence[str]) -> Quantise:
        """Make the maps once; needs every coded level in the pyramid."""
        found = peaks(self._maps(pyramid))

        def quantise(quality: int, some: Sequence[str]) -> dict[str, QuantisedLevel]:
            thresholds = self.tensors["thresholds"][quality]
            return {
                name: self.quantise_level(
                    name, pyramid.levels[name],
                    np.searchsorted(thresholds, found[name]).astype(np.uint8), quality,
                )
                for name in some
            }  # fmt: skip

        return quantise


def response_of(detector: Detector) -> MapsOf:
    """S: the head's highest class score at each position."""

    def maps(pyramid: Pyramid) -> Maps:
        found = detector.response(derive(pyramid))
        return {name: found[name] for name in pyramid.spec.coded_names}

    return maps


def peaks(maps: Maps) -> Maps:
    """The logarithm of the highest value in each 3 x 3 surroundings, as a step map wants it."""
    return {
        name: highest_nearby(np.log(np.asarray(x, np.float32) + np.float32(RESPONSE_FLOOR)))
        for name, x in maps.items()
    }


def response_peaks(detector: Detector, pyramid: Pyramid) -> dict[str, Array]:
    """Per coded level the logarithm of the highest response in each 3 x 3 surroundings."""
    return peaks(response_of(detector)(pyramid))


Build = Callable[[PcaCodec, Tensors, Detector], PcaCodec]
"""From the full codec (for its pyramids and recovery), tensors and the detector to a codec."""

Adapt = Callable[[Tensors, Detector, Sequence[Pyramid]], Tensors]
"""From the full codec's tensors, the detector and training pyramids to a variant's tensors."""


def _of(kind: type[PcaCodec]) -> Build:
    def build(full: PcaCodec, tensors: Tensors, detector: Detector) -> PcaCodec:
        return kind(full.spec, tensors, full.recoverer)

    return build


_unchanged_codec = _of(PcaCodec)


def _true_response(full: PcaCodec, tensors: Tensors, detector: Detector) -> PcaCodec:
    return FollowsMaps(response_of(detector), tensors, full)


def _unchanged(tensors: Tensors, detector: Detector, pyramids: Sequence[Pyramid]) -> Tensors:
    return tensors


def _single_steps(tensors: Tensors, detector: Detector, pyramids: Sequence[Pyramid]) -> Tensors:
    steps = np.geomspace(*SINGLE_STEPS, 256, dtype=np.float32)[:, None]
    return {**tensors, "steps": steps, "thresholds": np.zeros((256, 0), np.float32)}


def _true_thresholds(tensors: Tensors, detector: Detector, pyramids: Sequence[Pyramid]) -> Tensors:
    """Values of the true response that the schedule's shares of all positions exceed."""
    _, shares = quality_schedule()
    peaks = np.concatenate([
        peak.ravel()
        for pyramid in pyramids[:_PEAK_PYRAMIDS]
        for peak in response_peaks(detector, pyramid).values()
    ])  # fmt: skip
    return {**tensors, "thresholds": np.quantile(peaks, 1 - shares).astype(np.float32)}


@dataclass(frozen=True)
class Variant:
    """One variant.

    Attributes:
        name: A label for rows.
        change: What differs from the full codec, for people.
        build: Makes its codec.
        adapt: Makes its tensors, tables apart.
        pool_contexts: Whether all contexts of a table get the same row.
    """

    name: str
    change: str
    build: Build = _unchanged_codec
    adapt: Adapt = _unchanged
    pool_contexts: bool = False

    def fit(
        self,
        full: Profile,
        detector: Detector,
        pyramids: Sequence[Pyramid],
        progress: Callable[[int, int], None] | None = None,
    ) -> Profile:
        """A profile like ``full`` with this variant's codec, its tables counted on ``pyramids``.

        Args:
            full: Of codec ``pca``.
            detector: Both halves.
            pyramids: Of training images, with every coded level.
            progress: Called with pyramids done and pyramids in all.

        Raises:
            InputError: The profile has another codec.
        """
        like = full.codec
        if not isinstance(like, PcaCodec):
            raise InputError(f"profile {full.name} has codec {like.codec_id}; calibrate one of pca")
        tensors = self.adapt(like.tensors, detector, pyramids)
        tables = fit_tables(
            self.build(like, tensors, detector), pyramids, np.random.default_rng(SEED),
            pool_contexts=self.pool_contexts, progress=progress,
        )  # fmt: skip
        codec = self.build(like, {**tensors, **tables.tensors}, detector)
        return replace(full, name=self.name, codec=codec)


VARIANTS = (
    Variant("full", "the codec as it is; its step map follows the probe"),
    Variant("no step map", "one step everywhere, none sent", _of(WithoutStepMap), _single_steps),
    Variant("true response", "the step map follows the head's response itself",
            _true_response, _true_thresholds),
    Variant("no contexts", "one row per table, whatever is near", pool_contexts=True),
    Variant("no parents", "no level leans on a coarser one", _of(WithoutParents)),
    Variant("no end of block", "every group is coded at every position", _of(WithoutEndOfBlock)),
)  # fmt: skip

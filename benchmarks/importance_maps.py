"""Where features matter, as ``importance.py`` compares it: by the head's S, ODAM, or a probe."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pca_variants import Maps, MapsOf, peaks
from torch import Tensor

from fpcodec.calibration.schedule import RESPONSE_FLOOR, quality_schedule
from fpcodec.codecs.pca import PcaCodec
from fpcodec.explain.importance import magnitude_map, odam_importance
from fpcodec.explain.odam import MapRule, odam_map
from fpcodec.explain.predictions import Predictor
from fpcodec.pyramid import Array, ImageGeometry, Pyramid, derive

Levels = Mapping[str, Tensor]

DETECTIONS = 30
"""Most detections of an image that ODAM is asked about, the best ones."""


def odam_of(
    predictor: Predictor, attributes: Sequence[str] = ("score",), rule: MapRule = odam_map
) -> MapsOf:
    """ODAM's maps of an image's detections, added."""

    def maps(pyramid: Pyramid) -> Maps:
        return odam_importance(
            predictor(derive(pyramid)), attributes=attributes, rule=rule, limit=DETECTIONS
        )

    return maps


def odam_kinds(predictor: Predictor) -> dict[str, MapsOf]:
    """ODAM of the score, and the same with what speaks against a detection."""
    return {
        "odam": odam_of(predictor),
        "odam-magnitude": odam_of(predictor, rule=magnitude_map),
    }


class Remembered:
    """Maps that are made once for each pyramid; what is kept is told by the features' bytes."""

    def __init__(self, maps: MapsOf) -> None:
        self._maps = maps
        self._known: dict[bytes, Maps] = {}

    def __call__(self, pyramid: Pyramid) -> Maps:
        """The maps of a pyramid."""
        coarsest = pyramid.levels[pyramid.spec.coded_names[-1]]
        key = hashlib.sha256(np.ascontiguousarray(coarsest).tobytes()).digest()
        if key not in self._known:
            self._known[key] = self._maps(pyramid)
        return self._known[key]


def matched_thresholds(maps: MapsOf, pyramids: Sequence[Pyramid]) -> Array:
    """Thresholds (256, classes - 1) that the schedule's shares of all positions exceed.

    So every weight has the same share of fine positions, and chooses only which.
    """
    _, shares = quality_schedule()
    values = np.concatenate([
        peak.ravel() for pyramid in pyramids for peak in peaks(maps(pyramid)).values()
    ])  # fmt: skip
    return np.asarray(np.quantile(values, 1 - shares), np.float32)


@dataclass(frozen=True)
class Uniform:
    """The same weight everywhere."""

    name: str = "uniform"

    def __call__(self, levels: Levels) -> Levels:
        """Ones."""
        return {name: torch.ones_like(x[:, :1]) for name, x in levels.items()}


@dataclass(frozen=True)
class Probed:
    """S as a ``pca`` codec's probe predicts it from the features alone."""

    codec: PcaCodec
    name: str = "probe"

    def __call__(self, levels: Levels) -> Levels:
        """Predictions, in [0, 1]."""
        return {
            name: torch.from_numpy(np.stack([
                np.exp(self.codec.response(name, image)) - RESPONSE_FLOOR for image in x.numpy()
            ]).clip(0, 1).astype(np.float32)[:, None])
            for name, x in levels.items()
        }  # fmt: skip


@dataclass(frozen=True)
class Mapped:
    """Any maps as weights of training."""

    maps: MapsOf
    codec: PcaCodec
    name: str

    def __call__(self, levels: Levels) -> Levels:
        """The maps of each image; where its content ends is not known here and not asked."""
        spec = self.codec.spec
        finest = spec.coded_names[0]
        height, width = (int(x) * spec[finest].stride for x in levels[finest].shape[-2:])
        geometry = ImageGeometry((width, height), (width, height), (width, height))
        found = [
            self.maps(Pyramid(spec, {name: x[i].numpy() for name, x in levels.items()}, geometry))
            for i in range(len(levels[finest]))
        ]
        return {
            name: torch.from_numpy(np.stack([maps[name] for maps in found])[:, None])
            for name in levels
        }

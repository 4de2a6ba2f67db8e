"""Agreement against bytes on images never trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.evaluation.agreement import total_agreement
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid, derive
from fpcodec.training.network import LearnedNetwork

QUALITIES = (0.25, 0.5, 0.75)

FRAME_OVERHEAD_BYTES = 30
"""Added to estimated code lengths: header and directory."""

Coder = Callable[[Pyramid, float], tuple[Pyramid, float]]
"""A pyramid and a quality to what the server sees, and the frame's bytes."""


@dataclass(frozen=True)
class Measured:
    """One quality.

    Attributes:
        quality: In [0, 1].
        frame_bytes: Mean of the frames.
        agreement: F1 of the detections with those on the features before coding.
    """

    quality: float
    frame_bytes: float
    agreement: float


class HeldOut:
    """Images kept apart, and what the detector finds in them uncoded.

    Args:
        detector: Its server half.
        pyramids: Before coding, every coded level.
        wanted: The same images' pyramids as the server should see them; None for the former.
    """

    def __init__(
        self,
        detector: Detector,
        pyramids: Sequence[Pyramid],
        wanted: Sequence[Pyramid] | None = None,
    ) -> None:
        self._detector, self._pyramids = detector, pyramids
        self._wanted = pyramids if wanted is None else wanted

    @cached_property
    def _references(self) -> list[Detections]:
        return [self._detector.detect(derive(pyramid)) for pyramid in self._wanted]

    def measure(self, code: Coder, qualities: Sequence[float] = QUALITIES) -> list[Measured]:
        """Code every image at every quality; nothing where there is no image."""
        if not self._pyramids:
            return []
        return [self._measure(code, quality) for quality in qualities]

    def _measure(self, code: Coder, quality: float) -> Measured:
        sizes, found = [], []
        for pyramid in self._pyramids:
            seen, frame_bytes = code(pyramid, quality)
            sizes.append(frame_bytes)
            found.append(self._detector.detect(seen))
        agreement = total_agreement(zip(self._references, found, strict=True))
        return Measured(quality, round(float(np.mean(sizes)), 1), round(agreement.f1, 4))


def network_coder(network: LearnedNetwork) -> Coder:
    """Codes with a network; bytes are the rate's estimate."""
    device = next(network.parameters()).device

    @torch.no_grad()
    def code(pyramid: Pyramid, quality: float) -> tuple[Pyramid, float]:
        features = {x: torch.from_numpy(pyramid.levels[x])[None].to(device) for x in network.names}
        present = {x: torch.ones(1, 1, 1, 1, device=device) for x in network.names}
        out, bits, _ = network(features, torch.tensor([quality], device=device), present)
        levels = {name: x[0].float().cpu().contiguous().numpy() for name, x in out.items()}
        seen = derive(Pyramid(pyramid.spec, levels, pyramid.geometry))
        return seen, float(bits) / 8 + FRAME_OVERHEAD_BYTES

    return code


def profile_coder(profile: Profile) -> Coder:
    """Codes with a profile: real frames."""
    codec = profile.codec

    def code(pyramid: Pyramid, quality: float) -> tuple[Pyramid, float]:
        frame = codec.encode(pyramid, quality)
        return codec.reconstruct([codec.decode(frame)], [pyramid.geometry])[0], len(frame)

    return code

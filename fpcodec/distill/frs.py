"""FRS: distilling a detector weighted by feature richness, as published.

Du et al., *Distilling Object Detectors with Feature Richness*, NeurIPS 2021, arXiv 2111.00674.
Richness S of a position is the teacher's highest class probability there. Two losses follow, one on
the pyramid's features and one on the class scores, both weighted by S and divided by its sum.

These are the losses of the paper for a student with a head of its own. Where the student shares the
teacher's frozen head, ``fpcodec.training.losses`` has what was found to serve better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fpcodec.errors import InputError

Maps = Sequence[Tensor]

_TINY = 1e-6


@dataclass(frozen=True)
class FrsWeights:
    """How much distillation counts beside the detector's own losses.

    Attributes:
        features: Alpha, of the feature loss of 256 channels.
        scores: Beta, of the score loss.
        warm_steps: In which both rise from nothing.
    """

    features: float
    scores: float
    warm_steps: int = 500

    def __post_init__(self) -> None:
        if min(self.features, self.scores, self.warm_steps) < 0:
            raise InputError(f"{self} has a weight below 0; use 0 to leave a loss out")

    def share(self, step: int) -> float:
        """Of the weights, at a step."""
        return 1.0 if self.warm_steps == 0 else min(1.0, step / self.warm_steps)


PUBLISHED = {
    "fasterrcnn": FrsWeights(0.002, 0.1),
    "retinanet": FrsWeights(0.005, 0.02),
    "fcos": FrsWeights(0.01, 0.05),
}
"""The weights of the paper's own runs, for 256 channels."""


def richness(logits: Maps) -> list[Tensor]:
    """S per level, (N, 1, H, W), without a gradient.

    Args:
        logits: The teacher's class scores before the sigmoid, (N, anchors * classes, H, W) per
            level; of a two-stage detector its RPN's objectness.
    """
    return [x.detach().sigmoid().amax(dim=1, keepdim=True) for x in logits]


def feature_loss(teacher: Maps, student: Maps, weights: Maps) -> Tensor:
    """Squared error summed over channels, weighted by S, divided by the sum of S; level by level.

    Args:
        teacher: Features, (N, C, H, W) per level.
        student: The student's through its adapters, of the same shapes.
        weights: S, (N, 1, H, W) per level; ones for the plain mean over positions.
    """
    parts = [
        (s * (t.detach() - x) ** 2).sum() / (s.sum() + _TINY)
        for t, x, s in zip(teacher, student, weights, strict=True)
    ]
    return torch.stack(parts).sum()


def score_loss(teacher: Maps, student: Maps, weights: Maps) -> Tensor:
    """Cross-entropy against the teacher's probabilities, weighted and divided likewise.

    Args:
        teacher: Logits, (N, K, H, W) per level.
        student: Logits of the same shapes.
        weights: S, (N, 1, H, W) per level.
    """
    parts = []
    for t, x, s in zip(teacher, student, weights, strict=True):
        # With logits: the value of the paper's form, without its overflow.
        loss = functional.binary_cross_entropy_with_logits(
            x, t.detach().sigmoid(), reduction="none"
        )
        parts.append((s * loss).sum() / (s.sum() + _TINY))
    return torch.stack(parts).sum()

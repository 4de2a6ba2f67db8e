"""What training minimises besides bytes, by the kind of loss chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fpcodec.errors import ModelError
from fpcodec.training.heads import Head
from fpcodec.training.losses import box_loss, feature_loss, region_loss, score_loss
from fpcodec.training.settings import TrainingConfig

Levels = Mapping[str, Tensor]

_RESPONSE_FLOOR, _WEIGHT_FLOOR = 1e-4, 0.02


@dataclass(frozen=True)
class Distortion:
    """What coding did to a batch.

    Attributes:
        total: Weighted sum of the parts, (N,).
        parts: Each loss by name, its mean over the batch.
        response: S of the original per coded level, (N, 1, H, W); None without a head.
    """

    total: Tensor
    parts: dict[str, Tensor]
    response: dict[str, Tensor] | None


class Importance(Protocol):
    """What the feature loss is weighted by, in place of S.

    Attributes:
        name: Tells checkpoints of different ones apart.
    """

    name: str

    def __call__(self, levels: Levels) -> Levels:
        """Weights (N, 1, H, W), not negative, of features (N, C, H, W) before coding."""


class Objective:
    """Distortion as a configuration wants it measured.

    Args:
        config: Kind and weights of the losses.
        head: The frozen head; None where the loss is ``mse``.
        scale: Per level the inverse of each channel's deviation, (1, C, 1, 1).
        importance: Weighs the features' error; None for S. The head's losses keep S.
    """

    def __init__(
        self,
        config: TrainingConfig,
        head: Head | None,
        scale: Levels,
        importance: Importance | None = None,
    ) -> None:
        self.config, self.head, self.scale = config, head, dict(scale)
        self.importance = importance

    def __call__(self, original: Levels, decoded: Levels) -> Distortion:
        """Compare features (N, C, H, W) before and after coding.

        Raises:
            ModelError: The head gives no score for a level.
        """
        if self.head is None:
            even = {name: torch.ones_like(x[:, :1]) for name, x in original.items()}
            error = feature_loss(original, decoded, even, self.scale)
            return Distortion(error, {"features": error.mean()}, None)
        with torch.no_grad():
            teacher = self.head(original)
        every = teacher.response()
        unseen = [name for name in original if name not in every]
        if unseen:
            raise ModelError(f"the detector's head gives no score for {', '.join(unseen)}; "
                             "train with --loss mse")  # fmt: skip
        response = {name: every[name] for name in original}
        weights = response if self.importance is None else self.importance(original)
        features = feature_loss(original, decoded, weights, self.scale)
        if self.config.loss == "frs-features":
            return Distortion(features, {"features": features.mean()}, response)
        student = self.head(decoded, teacher)
        scores, boxes = score_loss(teacher, student), box_loss(teacher, student)
        regions = region_loss(teacher, student)
        config = self.config
        total = config.feature_weight * features + config.box_weight * boxes
        total = total + config.head_weight * scores + config.region_weight * regions
        parts = {"features": features, "scores": scores, "boxes": boxes, "regions": regions}
        return Distortion(total, {name: x.mean() for name, x in parts.items()}, response)


def importance_loss(importance: Levels, response: Levels) -> Tensor:
    """How far importance is from log S at its highest nearby, weighted by S: a scalar."""
    total = torch.zeros(())
    for name, found in response.items():
        wanted = functional.max_pool2d(torch.log(found + _RESPONSE_FLOOR), 3, 1, 1)
        weight = found + _WEIGHT_FLOOR
        total = total + ((importance[name] - wanted) ** 2 * weight).sum() / weight.sum()
    return total

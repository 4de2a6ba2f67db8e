"""Frozen heads of one-stage torch detectors, RetinaNet's and FCOS's, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fpcodec.detectors.torch_common import TorchDetector
from fpcodec.training.heads import HeadAnswer, Levels


class DenseHead(nn.Module):
    """Class scores and box regression of every position; no second stage.

    Args:
        detector: Of one stage, in torch.
    """

    def __init__(self, detector: TorchDetector) -> None:
        super().__init__()
        self._detector = detector
        self.model: Any = detector.model  # type: ignore[attr-defined]
        self.eval()

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Scores (N, K, H, W) are per class the highest over the anchors."""
        found = self._detector.head(levels)
        return HeadAnswer(found.scores, found.boxes)


class FcosHead(DenseHead):
    """FCOS's (Tian et al., ICCV 2019), whose centerness stands beside a position's box.

    S and class scores leave centerness out, as FRS does. It ranks the boxes all the same, so it
    must not drift: as a probability it is one more box value, the last.
    """

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Boxes are (N, 5, H, W): distances to the four sides, and centerness."""
        detector: Any = self._detector
        maps = detector._complete(detector.complete_spec(levels))
        scores, boxes = {}, {}
        for level, keys in detector._cut.level_maps.items():
            found = [self._ask(maps[key]) for key in keys]
            scores[level] = torch.cat([classes for classes, _ in found], dim=1)
            boxes[level] = torch.cat([values for _, values in found], dim=1)
        return HeadAnswer(scores, boxes)

    def _ask(self, features: Tensor) -> tuple[Tensor, Tensor]:
        output = self.model.head([features])
        shape = (len(features), -1, *features.shape[-2:])
        classes, distances, centerness = (
            output[name].transpose(1, 2).reshape(shape)
            for name in ("cls_logits", "bbox_regression", "bbox_ctrness")
        )
        return classes.sigmoid(), torch.cat([distances, centerness.sigmoid()], dim=1)

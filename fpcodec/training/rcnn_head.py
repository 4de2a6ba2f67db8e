"""Frozen heads of torchvision's R-CNN models, RPN and second stage, for training."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import concat_box_prediction_layers

from fpcodec.detectors.torch_common import TorchDetector
from fpcodec.training.heads import HeadAnswer, Levels, Regions

PROPOSALS = 64
"""Best proposals of an image that the second stage is asked about."""


class RcnnHead(nn.Module):
    """RPN objectness and regression, and the box head on proposals.

    Proposals are clipped to the network's input, padding included.

    Args:
        detector: Around a ``torchvision.models.detection.FasterRCNN``.
    """

    def __init__(self, detector: TorchDetector) -> None:
        super().__init__()
        self._detector = detector
        model: Any = detector.model  # type: ignore[attr-defined]
        # The whole model: levels that the server makes itself are convolutions of its backbone.
        self.model = model
        cut: Any = getattr(detector, "_cut", None)
        self._maps: Mapping[str, Sequence[str]] = (
            {name: (name,) for name in detector.spec.names} if cut is None else cut.level_maps
        )
        self.eval()

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Ask both stages; proposals are the teacher's where one is given."""
        detector = self._detector
        features = OrderedDict(detector._complete(detector.complete_spec(levels)))
        logits, deltas = self.model.rpn.head(list(features.values()))
        size = network_size(levels, detector)
        if teacher is None or teacher.regions is None:
            proposals = self._propose(list(features.values()), logits, deltas, size)
        else:
            proposals = list(teacher.regions.proposals)
        return HeadAnswer(
            {name: x.sigmoid() for name, x in self._per_level(features, logits).items()},
            self._per_level(features, deltas),
            self._ask(features, proposals, size),
        )

    def _per_level(self, features: Mapping[str, Tensor], maps: list[Tensor]) -> dict[str, Tensor]:
        """Maps of one level side by side: MobileNet pyramids have two of stride 32."""
        named = dict(zip(features, maps, strict=True))
        return {
            level: torch.cat([named[key] for key in keys], dim=1)
            for level, keys in self._maps.items()
        }

    @torch.no_grad()
    def _propose(
        self,
        features: list[Tensor],
        logits: list[Tensor],
        deltas: list[Tensor],
        size: tuple[int, int],
    ) -> list[Tensor]:
        rpn, count = self.model.rpn, len(features[0])
        # Anchors ask the images for their sizes alone.
        blank = features[0].new_zeros(()).expand(count, 3, *size)
        images = ImageList(blank, [size] * count)
        anchors = rpn.anchor_generator(images, features)
        per_level = [level[0].numel() for level in logits]
        flat_logits, flat_deltas = concat_box_prediction_layers(list(logits), list(deltas))
        boxes = rpn.box_coder.decode(flat_deltas, anchors).view(count, -1, 4)
        proposals, _ = rpn.filter_proposals(boxes, flat_logits, images.image_sizes, per_level)
        return [found[:PROPOSALS] for found in proposals]

    def _ask(
        self, features: OrderedDict[str, Tensor], proposals: list[Tensor], size: tuple[int, int]
    ) -> Regions:
        heads = self.model.roi_heads
        pooled = heads.box_roi_pool(features, proposals, [size] * len(proposals))
        logits, boxes = heads.box_predictor(heads.box_head(pooled))
        return Regions(tuple(proposals), logits.softmax(dim=1), boxes)


def network_size(levels: Levels, detector: TorchDetector) -> tuple[int, int]:
    """``(height, width)`` in pixels of the network's input, a multiple of the finest stride."""
    name = detector.spec.coded_names[0]
    rows, columns = levels[name].shape[-2:]
    stride = detector.spec[name].stride
    return rows * stride, columns * stride

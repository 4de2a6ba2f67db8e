"""Frozen heads of detectron2's R-CNN models, RPN and second stage, for training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fpcodec.detectors.detectron2 import Detectron2Detector
from fpcodec.training.dense_head import DenseHead
from fpcodec.training.heads import Head, HeadAnswer, Levels, Regions
from fpcodec.training.rcnn_head import PROPOSALS, network_size


def open_detectron2_head(detector: Detectron2Detector) -> Head:
    """RetinaNet's dense head; for R-CNN models both stages.

    A second stage of another kind than detectron2's standard one (a cascade, class scores through
    a sigmoid) is left out: its RPN alone is what FRS distils.
    """
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads

    heads = getattr(detector.model, "roi_heads", None)
    standard = (
        isinstance(heads, StandardROIHeads)
        and type(heads.box_predictor) is FastRCNNOutputLayers
        and not heads.box_predictor.use_sigmoid_ce
    )
    return Detectron2RcnnHead(detector) if standard else DenseHead(detector)


class Detectron2RcnnHead(nn.Module):
    """RPN objectness and regression, and the box head on proposals.

    Proposals are clipped to the network's input, padding included.

    Args:
        detector: Around a ``GeneralizedRCNN`` with ``StandardROIHeads``.
    """

    def __init__(self, detector: Detectron2Detector) -> None:
        super().__init__()
        self._detector = detector
        self.model = detector.model
        self.eval()

    def forward(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Ask both stages; proposals are the teacher's where one is given."""
        detector, rpn = self._detector, self.model.proposal_generator
        features = detector._complete(detector.complete_spec(levels))
        maps = [features[name] for name in rpn.in_features]
        logits, deltas = rpn.rpn_head(maps)
        if teacher is None or teacher.regions is None:
            proposals = self._propose(maps, logits, deltas, network_size(levels, detector))
        else:
            proposals = list(teacher.regions.proposals)
        return HeadAnswer(
            {name: x.sigmoid() for name, x in zip(rpn.in_features, logits, strict=True)},
            dict(zip(rpn.in_features, deltas, strict=True)),
            self._ask(features, proposals),
        )

    @torch.no_grad()
    def _propose(
        self, maps: list[Tensor], logits: list[Tensor], deltas: list[Tensor], size: tuple[int, int]
    ) -> list[Tensor]:
        rpn: Any = self.model.proposal_generator
        box_size = rpn.anchor_generator.box_dim
        flat_logits = [x.permute(0, 2, 3, 1).flatten(1) for x in logits]
        flat_deltas = [
            x.reshape(len(x), -1, box_size, *x.shape[-2:]).permute(0, 3, 4, 1, 2).flatten(1, 3)
            for x in deltas
        ]
        anchors = rpn.anchor_generator(maps)
        found = rpn.predict_proposals(anchors, flat_logits, flat_deltas, [size] * len(maps[0]))
        return [instances.proposal_boxes.tensor[:PROPOSALS] for instances in found]

    def _ask(self, features: dict[str, Tensor], proposals: list[Tensor]) -> Regions:
        from detectron2.structures import Boxes

        heads = self.model.roi_heads
        pooled = heads.box_pooler(
            [features[name] for name in heads.box_in_features], [Boxes(x) for x in proposals]
        )
        logits, boxes = heads.box_predictor(heads.box_head(pooled))
        scores = logits.softmax(dim=1)
        classes = scores.shape[1] - 1
        # detectron2 keeps the background last and gives it no box; one box may serve all classes.
        boxes = boxes.reshape(len(boxes), -1, 4).expand(-1, classes, -1)
        boxes = torch.cat([torch.zeros_like(boxes[:, :1]), boxes], dim=1).flatten(1)
        return Regions(tuple(proposals), scores.roll(1, dims=1), boxes)

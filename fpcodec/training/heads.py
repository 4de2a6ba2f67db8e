"""Frozen heads as differentiable functions of a batch of pyramids: what training is judged by."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.errors import ModelError

if TYPE_CHECKING:
    from fpcodec.detectors.base import Detector
    from fpcodec.detectors.torch_common import TorchDetector

Levels = Mapping[str, Tensor]


@dataclass(frozen=True)
class Regions:
    """What a second stage says of proposals, the whole batch's one after the other.

    Attributes:
        proposals: Boxes in network pixels per image, (M_i, 4).
        scores: Class probabilities, background first, (M, 1 + K).
        boxes: Box values per class, (M, 4 * (1 + K)).
    """

    proposals: tuple[Tensor, ...]
    scores: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class HeadAnswer:
    """What a head says of a batch of pyramids.

    Levels that the server itself makes from coded ones (RetinaNet's ``p7``) are in it too.

    Attributes:
        scores: Level name to probabilities (N, K, H, W): of classes, or of an RPN's anchors.
        boxes: Level name to box values as the head gives them, (N, B, H, W); empty where the
            head's graph gives scores alone.
        regions: The second stage's answer; None for a one-stage detector.
    """

    scores: Levels
    boxes: Levels
    regions: Regions | None = None

    def response(self) -> dict[str, Tensor]:
        """S per level, (N, 1, H, W): the highest score of each position (Du et al., 2021)."""
        return {name: x.amax(dim=1, keepdim=True) for name, x in self.scores.items()}


class Head(Protocol):
    """A frozen head; gradients reach the features it is given.

    Images of one batch share a network size; their contents may differ in size, for nothing here
    asks where an image ends and its padding begins.
    """

    def __call__(self, levels: Levels, teacher: HeadAnswer | None = None) -> HeadAnswer:
        """Run it on a batch.

        Args:
            levels: Every coded level, (N, C, H, W).
            teacher: Where a second stage looks at proposals, it looks at this answer's.
        """


def open_head(detector: Detector, folder: Path | None = None) -> Head:
    """Open the differentiable head of a detector, as S and losses want it.

    One-stage detectors give class scores; two-stage ones their RPN's objectness, as FRS has it,
    and their second stage on the teacher's best proposals.

    Args:
        detector: Its server's half must be loaded. An ``onnx`` one of ``tiny``'s family, with the
            torch weights beside its graphs, is opened in torch, second stage and all.
        folder: Where an ``onnx`` detector's files lie; None for where it was opened from.

    Returns:
        A head that is also an ``nn.Module``: ``.to(device)`` moves it.

    Raises:
        ModelError: The head gives no scores, its graph cannot be made differentiable, or this
            kind of detector has no head that training knows.
        MissingDependency: onnx2torch is not installed.
    """
    if isinstance(detector, OnnxDetector):
        from fpcodec.training.onnx_heads import open_onnx_head

        return open_onnx_head(detector, detector._folder if folder is None else folder)
    from fpcodec.detectors.torch_common import TorchDetector

    if not isinstance(detector, TorchDetector):
        raise ModelError(
            f"{type(detector).__name__} has no head that training knows; use an onnx, "
            "torchvision, detectron2 or tiny detector, or train with --loss mse"
        )
    if detector.role == "edge":
        raise ModelError("this detector was opened as edge: it has no head; open it as 'both'")
    # The head may be moved to another device; the detector stays where it is.
    return _open_torch_head(copy.deepcopy(detector))


def _open_torch_head(detector: TorchDetector) -> Head:
    from torchvision.models.detection import FCOS, FasterRCNN

    from fpcodec.detectors.detectron2 import Detectron2Detector
    from fpcodec.training.dense_head import DenseHead, FcosHead
    from fpcodec.training.rcnn_head import RcnnHead

    if isinstance(detector, Detectron2Detector):
        from fpcodec.training.detectron2_head import open_detectron2_head

        return open_detectron2_head(detector)
    model = getattr(detector, "model", None)
    if isinstance(model, FasterRCNN):
        return RcnnHead(detector)
    return FcosHead(detector) if isinstance(model, FCOS) else DenseHead(detector)

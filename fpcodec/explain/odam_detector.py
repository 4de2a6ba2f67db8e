"""A detector whose boxes Odam-NMS selects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.detectors.decoding import DecodeConfig
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.errors import ModelError
from fpcodec.explain.candidates import Candidates, fcos_candidates, rcnn_candidates
from fpcodec.explain.odam_nms import OdamRule, best_first, likeness, odam_nms
from fpcodec.pyramid import Pyramid

_KNOWN = (
    "Odam-NMS knows tiny, torchvision's Faster R-CNN and FCOS, and ONNX models whose decode reads "
    "scores and boxes of every place"
)
_INSTEAD = "use plain nms"


@dataclass(frozen=True)
class CandidateSource:
    """A detector before its suppression.

    Attributes:
        candidates: From a pyramid that has every coded level to all that is selected from.
        iou: Overlap above which the detector drops the lower of two boxes of one class.
        most: Boxes that it keeps of an image.
    """

    candidates: Callable[[Pyramid], Candidates]
    iou: float
    most: int


def open_odam_nms(
    detector: Detector, rule: OdamRule | None = None
) -> Callable[[Pyramid], Detections]:
    """Prepare a detector's ``detect`` with Odam-NMS in place of its own suppression.

    What is threshold and limit of the detector stays: scores, overlap, most boxes of an image.

    Args:
        detector: With its server's half.
        rule: When boxes are dropped; None for the paper's.

    Raises:
        ModelError: The detector has no candidates with gradients.
        MissingDependency: torch, torchvision or onnx2torch is not installed.
    """
    source, rule = open_candidates(detector), rule or OdamRule()

    def detect(pyramid: Pyramid) -> Detections:
        found = source.candidates(pyramid)
        keep = odam_nms(
            found.boxes, found.scores, found.labels,
            likeness(score_maps(found, pyramid, rule)), source.iou, rule, source.most,
        )  # fmt: skip
        boxes = pyramid.geometry.to_image(found.boxes[keep])
        return Detections(boxes, found.scores[keep], found.labels[keep])

    return detect


def score_maps(found: Candidates, pyramid: Pyramid, rule: OdamRule) -> Any:
    """Maps of the best candidates, best first, (M, H, W), on the rule's grid."""
    width, height = pyramid.geometry.network_size
    grid = (-(-width // rule.stride), -(-height // rule.stride))
    return found.maps(best_first(found.scores, rule.candidates), grid)


def open_candidates(detector: Detector) -> CandidateSource:
    """Prepare what Odam-NMS selects from.

    Raises:
        ModelError: The detector has no candidates with gradients.
        MissingDependency: torch, torchvision or onnx2torch is not installed.
    """
    if isinstance(detector, OnnxDetector):
        return _of_onnx(detector)
    from fpcodec.detectors.torch_common import TorchDetector

    if isinstance(detector, TorchDetector):
        if detector.role == "edge":
            raise ModelError("this detector was opened for the edge alone; open it with role both")
        return _of_torch(detector)
    raise ModelError(f"{_KNOWN}; not a {type(detector).__name__}; {_INSTEAD}")


def _of_onnx(detector: OnnxDetector) -> CandidateSource:
    from fpcodec.training.onnx_heads import TORCH_FILES, LayoutHead, open_onnx_head

    config = DecodeConfig.from_dict(detector.config["decode"])
    folder = detector.folder
    if config.kind == "detections" and all((folder / name).is_file() for name in TORCH_FILES):
        from fpcodec.detectors.small_torch import SmallTorchDetector

        found = _of_torch(SmallTorchDetector.from_folder(folder))
        return CandidateSource(found.candidates, found.iou, config.max_detections)
    head = open_onnx_head(detector, folder) if detector.layout is not None else None
    if not isinstance(head, LayoutHead):
        raise ModelError(f"{_KNOWN}; a graph with decode {config.kind} suppresses boxes itself; "
                         f"{_INSTEAD}")  # fmt: skip
    from fpcodec.explain.layout_candidates import LayoutCandidates

    source = LayoutCandidates(detector, head)
    return CandidateSource(source, config.nms_iou, config.max_detections)


def _of_torch(detector: Any) -> CandidateSource:
    from torchvision.models.detection import FCOS, FasterRCNN

    from fpcodec.detectors.small_torch import SmallTorchDetector

    model = getattr(detector, "model", None)
    # Small ones clip to their whole input, torchvision to the picture in it; its labels count
    # from 1.
    whole = isinstance(detector, SmallTorchDetector)
    if isinstance(model, FasterRCNN) and not model.roi_heads.has_mask():
        heads: Any = model.roi_heads

        def of_rcnn(pyramid: Pyramid) -> Candidates:
            levels = detector._complete(detector.tensors(pyramid))
            network = pyramid.geometry.network_size
            size = network if whole else pyramid.geometry.content_size
            return rcnn_candidates(model, levels, size, network, 0 if whole else 1)

        return CandidateSource(of_rcnn, heads.nms_thresh, heads.detections_per_img)
    if isinstance(model, FCOS):

        def of_fcos(pyramid: Pyramid) -> Candidates:
            levels = list(detector._complete(detector.tensors(pyramid)).values())
            network = pyramid.geometry.network_size
            size = network if whole else pyramid.geometry.content_size
            return fcos_candidates(model, levels, size, network, background=whole)

        return CandidateSource(of_fcos, model.nms_thresh, model.detections_per_img)
    what = type(detector if model is None else model).__name__
    raise ModelError(f"{_KNOWN}, none with masks; not a {what}; {_INSTEAD}")

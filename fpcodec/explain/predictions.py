"""A detector's predictions for one image as functions of its pyramid, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector
from fpcodec.detectors.decoding import DecodeConfig, select
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import ImageGeometry, Pyramid, PyramidSpec

try:
    import torch
    from torch import Tensor
except ImportError as error:
    raise MissingDependency(
        "explanations by gradient need torch; pip install 'fpcodec[torch]', or use "
        "--method drise, which needs none"
    ) from error

_INSTEAD = "use --method drise, which asks for nothing but detections"


@dataclass(frozen=True)
class Predictions:
    """What a detector finds in one image, best first, as its own ``detect`` does.

    Attributes:
        boxes: Shape (N, 4), ``x1 y1 x2 y2`` in pixels of the original image, with gradients.
        scores: Shape (N,), in [0, 1], with gradients.
        labels: Shape (N,), int64, indices into the detector's ``labels``.
        levels: Name of each coded level to the leaf (1, C, H, W) that gradients are taken by.
            A derived level's gradient arrives at the level it derives from.
        spec: The pyramid at the cut.
        geometry: The image's geometry.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    levels: Mapping[str, Tensor]
    spec: PyramidSpec
    geometry: ImageGeometry

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def detections(self) -> Detections:
        """The same as arrays, without gradients."""
        return Detections(
            self.boxes.detach().numpy().astype(np.float32, copy=False),
            self.scores.detach().numpy().astype(np.float32, copy=False),
            self.labels.numpy().astype(np.int64, copy=False),
        )


Predictor = Callable[[Pyramid], Predictions]
"""Predicts from a pyramid that has every coded level; raises InputError where it has not."""


def open_predictor(detector: Detector) -> Predictor:
    """Prepare a detector for differentiable predictions; the work is done once.

    Boxes are selected as ``detector.detect`` selects them; the selection has no gradient. Clipping
    to the image stops no gradient here; a torch model that clips in its own code stops those of
    coordinates at the border.

    Args:
        detector: With its server's half: torchvision, detectron2, tiny, or an ``onnx`` one with
            a decode of ``detectors.layouts``, or of ``tiny``'s family with the torch weights
            beside its graphs.

    Raises:
        ModelError: The detector has no differentiable form, or was opened for the edge alone.
        MissingDependency: torch, torchvision or onnx2torch is not installed.
    """
    if isinstance(detector, OnnxDetector):
        return _open_onnx(detector)
    from fpcodec.detectors.torch_common import TorchDetector

    if not isinstance(detector, TorchDetector):
        raise ModelError(f"{type(detector).__name__} gives no gradients; {_INSTEAD}")
    if detector.role == "edge":
        raise ModelError("this detector was opened for the edge alone; open it with role 'both'")

    def predict(pyramid: Pyramid) -> Predictions:
        levels = _leaves(pyramid)
        with torch.enable_grad():
            found = detector.detect_tensors(levels, pyramid.geometry)
        return Predictions(
            _within(found["boxes"], pyramid.geometry), found["scores"], found["labels"].detach(),
            levels, pyramid.spec, pyramid.geometry,
        )  # fmt: skip

    return predict


def _open_onnx(detector: OnnxDetector) -> Predictor:
    from fpcodec.training.onnx_heads import TORCH_FILES, LayoutHead, open_onnx_head
    from fpcodec.training.torch_maths import TORCH

    config = DecodeConfig.from_dict(detector.config["decode"])
    folder = detector._folder
    if config.kind == "detections" and all((folder / name).is_file() for name in TORCH_FILES):
        from fpcodec.detectors.small_torch import SmallTorchDetector

        return _like_graph(open_predictor(SmallTorchDetector.from_folder(folder)), config)
    layout = detector.layout
    if layout is None:
        raise ModelError(
            f"a graph with decode {config.kind} selects its boxes itself, without gradients; open "
            f"the model in torch (torchvision, detectron2, or a tiny's own folder), or {_INSTEAD}"
        )
    head = open_onnx_head(detector, folder)
    if not isinstance(head, LayoutHead):
        raise ModelError(f"decode {config.kind} opened a {type(head).__name__}; {_INSTEAD}")

    def predict(pyramid: Pyramid) -> Predictions:
        # The rows are onnxruntime's choice: no tie may fall otherwise in torch.
        found = select(detector.candidates(pyramid), config)
        levels = _leaves(pyramid)
        rows, labels = torch.from_numpy(found.rows), torch.from_numpy(found.labels)
        priors = torch.from_numpy(found.priors.astype(np.float32))
        strides = torch.from_numpy(layout.strides(found.cells))
        with torch.enable_grad():
            every = head.rows(levels)
            scores = every.scores[0, rows, labels]
            boxes = layout.boxes(every.values[0, rows], priors, strides, TORCH)
            boxes = _within(_in_image(boxes, pyramid.geometry), pyramid.geometry)
        return Predictions(boxes, scores, labels, levels, pyramid.spec, pyramid.geometry)

    return predict


def _like_graph(predictor: Predictor, config: DecodeConfig) -> Predictor:
    """Keep what the graph's decoding keeps, in its order."""

    def predict(pyramid: Pyramid) -> Predictions:
        found = predictor(pyramid)
        order = found.scores.detach().argsort(descending=True, stable=True)
        order = order[found.scores.detach()[order] >= config.score_threshold]
        order = order[: config.max_detections]
        return Predictions(
            found.boxes[order], found.scores[order], found.labels[order],
            found.levels, found.spec, found.geometry,
        )  # fmt: skip

    return predict


def _leaves(pyramid: Pyramid) -> dict[str, Tensor]:
    """The coded levels as tensors of their own that gradients may be taken by."""
    missing = [name for name in pyramid.spec.coded_names if name not in pyramid.levels]
    if missing:
        raise InputError(
            f"predictions need {', '.join(missing)} too; recover the levels that were not sent"
        )
    return {
        name: torch.from_numpy(pyramid.levels[name].copy())[None].requires_grad_()
        for name in pyramid.spec.coded_names
    }


def _in_image(boxes: Tensor, geometry: ImageGeometry) -> Tensor:
    """Boxes in network pixels as boxes in the image's."""
    scale, offset = torch.tensor(geometry.scale * 2), torch.tensor(geometry.offset * 2)
    return (boxes - offset) / scale


def _within(boxes: Tensor, geometry: ImageGeometry) -> Tensor:
    """Boxes clipped to the image as ``detect`` clips them, with the gradients of the unclipped.

    An edge that lies beyond the border has its reasons too.
    """
    limit = torch.tensor(geometry.image_size * 2, dtype=boxes.dtype)
    clipped = boxes.detach().clamp(min=torch.zeros_like(limit), max=limit)
    # The difference is zero to the bit; only its gradient counts.
    return clipped + (boxes - boxes.detach())

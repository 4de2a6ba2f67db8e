"""A torchvision detector as two ONNX graphs for the ``onnx`` adapter: no torch on either side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from fpcodec.detectors.base import Image
from fpcodec.detectors.decoding import DecodeConfig
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.detectors.torch_export import trace_graph
from fpcodec.errors import ModelError
from fpcodec.files import file_sha256
from fpcodec.pyramid import ImageGeometry

if TYPE_CHECKING:
    from fpcodec.detectors.torchvision import TorchvisionDetector

EDGE_FILE = "edge.onnx"
SERVER_FILE = "server.onnx"
_RESULTS = ("boxes", "scores", "labels")
_NOISE_SCALES = (1.0, 3.0, 10.0, 30.0, 100.0)


class EdgeGraph(nn.Module):
    """Normalised input (1, 3, H, W) to the coded levels, finest first."""

    def __init__(self, detector: TorchvisionDetector) -> None:
        super().__init__()
        self.edge = detector.edge
        self._names = detector.spec.coded_names

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the edge's half for all coded levels."""
        levels = self.edge(image, self._names)
        return tuple(levels[name] for name in self._names)


class ServerGraph(nn.Module):
    """Every level of the specification to boxes in network pixels, scores, labels, responses."""

    def __init__(self, detector: TorchvisionDetector, geometry: ImageGeometry) -> None:
        super().__init__()
        self.model = detector.model
        self._detector = detector
        self._geometry = geometry

    def forward(self, *levels: Tensor) -> tuple[Tensor, ...]:
        """Detect; the responses are the highest score per position, (1, 1, H, W) per level."""
        named = dict(zip(self._detector.spec.names, levels, strict=True))
        found = self._detector.detect_in_network(named, self._geometry)
        scores = self._detector.head(named).scores
        responses = [scores[n].amax(dim=1, keepdim=True) for n in self._detector.spec.names]
        return found["boxes"], found["scores"], found["labels"], *responses


def export_onnx(
    detector: TorchvisionDetector,
    folder: Path,
    image_size: tuple[int, int],
    example: Image | None = None,
) -> dict[str, Any]:
    """Write ``edge.onnx`` and ``server.onnx`` of one fixed network size.

    An ONNX detector letterboxes every image into that size with Pillow's resampling, and fills
    with one grey, where torchvision resizes each image by its own factor and fills with the
    channel means: on images of ``image_size`` the two differ by the resampling alone.

    Args:
        detector: Both halves loaded. Not Mask R-CNN: the ``onnx`` adapter knows no masks.
        folder: Receives the graphs.
        image_size: ``(width, height)`` of the images to come, in pixels.
        example: An image with detections, (H, W, 3) uint8; None to trace the head on noise.

    Returns:
        The configuration of an ``onnx`` detector, for ``OnnxDetector.from_config``.

    Raises:
        ModelError: The detector finds masks or is half loaded, its head finds nothing to trace
            on, or torch cannot export it.
    """
    if detector.role != "both":
        raise ModelError(f"only the {detector.role} half is loaded; open it with role 'both'")
    if isinstance(detector.model, FasterRCNN) and detector.model.roi_heads.has_mask():
        raise ModelError("masks cannot be exported to ONNX; use the torch profile of this detector")
    geometry = detector.geometry(image_size)
    size = geometry.network_size
    whole = ImageGeometry(size, size, size)
    folder.mkdir(parents=True, exist_ok=True)
    spec = detector.spec
    levels = _levels_with_boxes(detector, whole, example)
    outputs = (*_RESULTS, *(f"objectness_{name}" for name in spec.names))
    image = torch.zeros(1, 3, size[1], size[0])
    _export(EdgeGraph(detector), (image,), folder / EDGE_FILE, ("image",), spec.coded_names, ())
    server = ServerGraph(detector, whole)
    _export(server, levels, folder / SERVER_FILE, spec.names, outputs, _RESULTS)
    subsets = [
        names
        for count in range(1, len(spec.coded_names) + 1)
        for names in combinations(spec.coded_names, count)
    ]
    return {
        "kind": "onnx",
        "files": {name: file_sha256(folder / name) for name in (EDGE_FILE, SERVER_FILE)},
        "input": "image",
        "tensors": {name: name for name in spec.names},
        "outputs": list(outputs),
        "spec": spec.to_dict(),
        "preprocess": _preprocess(detector, size).to_dict(),
        # The graph has thresholded and selected already.
        "decode": DecodeConfig("detections", score_threshold=0.0, max_detections=1000).to_dict(),
        "labels": list(detector.labels),
        "macs": {"edge": {",".join(names): detector.macs(names, size) for names in subsets}},
    }


def _preprocess(detector: TorchvisionDetector, size: tuple[int, int]) -> Preprocess:
    transform = detector.model.transform
    mean, std = tuple(transform.image_mean), tuple(transform.image_std)
    return Preprocess(
        size,
        value_scale=1 / 255,
        mean=mean,
        std=std,
        pad_value=round(255 * sum(mean) / len(mean)),
    )


def _levels_with_boxes(
    detector: TorchvisionDetector, geometry: ImageGeometry, example: Image | None
) -> tuple[Tensor, ...]:
    """Levels that the head finds boxes on: without any, tracing would miss whole branches."""
    for coded in _candidates(detector, geometry, example):
        with torch.inference_mode():
            levels = detector.complete_spec(coded)
            if len(detector.detect_in_network(levels, geometry)["boxes"]):
                return tuple(levels[name].clone().contiguous() for name in detector.spec.names)
    raise ModelError(
        "the head finds no box to trace on; give export_onnx an example image with detections"
    )


def _candidates(
    detector: TorchvisionDetector, geometry: ImageGeometry, example: Image | None
) -> Iterator[dict[str, Tensor]]:
    spec, size = detector.spec, geometry.network_size
    if example is not None:
        tensor, _ = _preprocess(detector, size)(example)
        with torch.inference_mode():
            yield detector.edge(torch.from_numpy(tensor), spec.coded_names)
        return
    generator = torch.Generator().manual_seed(0)
    for scale in _NOISE_SCALES:
        yield {
            name: scale * torch.randn(1, *spec.shape(name, size), generator=generator)
            for name in spec.coded_names
        }


def _export(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    input_names: Sequence[str],
    output_names: Sequence[str],
    varying: Sequence[str],
) -> None:
    temporary = path.with_suffix(".onnx.tmp")
    # Every size is fixed but the number of boxes: constants in the trace are wanted here.
    axes = {name: {0: "detections"} for name in varying}
    trace_graph(module, inputs, temporary, input_names, output_names, axes)
    os.replace(temporary, path)

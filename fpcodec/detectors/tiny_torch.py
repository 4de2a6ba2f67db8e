"""The ``tiny`` architecture as a torch detector: for gradients, and for an RPN run apart.

The shipped ``tiny`` is two ONNX graphs, which is what a split deployment wants. Studies that look
inside the head (another pyramid for the RPN than for the RoI heads) need the torch modules.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.factory import tiny_config
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.detectors.torch_common import Levels, TorchDetector, freeze
from fpcodec.errors import InputError, MissingDependency
from fpcodec.pyramid import ImageGeometry, PyramidSpec

try:
    import torch
    from torch import Tensor, nn
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.image_list import ImageList

    from fpcodec.detectors.tiny import load_tiny
except ImportError as error:
    raise MissingDependency(
        "tiny in torch needs torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error


class TinyTorchDetector(TorchDetector):
    """A Faster R-CNN around ``TinyBackbone``, cut at its pyramid; see ``TorchDetector``.

    Args:
        model: As ``tiny.load_tiny`` gives it; it is frozen in place.
        config: ``spec``, ``preprocess`` and ``labels``, as the ONNX adapter reads them: both
            adapters then prepare images alike.
        threads: CPU threads for torch, process-wide; None leaves them as they are.
    """

    def __init__(
        self, model: FasterRCNN, config: Mapping[str, Any], threads: int | None = None
    ) -> None:
        freeze(model)
        self.model: Any = model
        self._preprocess = Preprocess.from_dict(config["preprocess"])
        spec = PyramidSpec.from_dict(config["spec"])
        super().__init__(_Edge(model.backbone), spec, config["labels"], "both", threads)

    @classmethod
    def from_folder(cls, folder: Path, threads: int | None = None) -> TinyTorchDetector:
        """From ``card.json`` and ``weights.safetensors``.

        Raises:
            ModelError: A file is absent or of another network.
        """
        return cls(load_tiny(folder), tiny_config(folder), threads)

    def content_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """See the base class."""
        return self._preprocess.geometry(image_size).content_size

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        """How an image lies in the network's input, whose size is fixed.

        Raises:
            InputError: A side is out of range, or the network size is not this detector's.
        """
        if network_size is not None and tuple(network_size) != self._preprocess.size:
            raise InputError(
                f"network size {tuple(network_size)} is not this detector's {self._preprocess.size}"
            )
        return self._preprocess.geometry(image_size)

    def _network_input(self, image: Image) -> Tensor:
        return torch.from_numpy(self._preprocess(image)[0])

    def _complete(self, levels: Levels) -> dict[str, Tensor]:
        return dict(levels)

    def _dense(self, levels: Levels) -> HeadOutput:
        logits, deltas = self.model.rpn.head([levels[name] for name in self.spec.names])
        names = self.spec.names
        return HeadOutput(
            {name: x.sigmoid() for name, x in zip(names, logits, strict=True)},
            dict(zip(names, deltas, strict=True)),
        )

    def detect_tensors(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """See the base class."""
        features = self._ordered(levels)
        seen = features if rpn_levels is None else self._ordered(rpn_levels)
        width, height = geometry.network_size
        blank = features["p2"].new_zeros(()).expand(1, 3, height, width)
        proposals, _ = self.model.rpn(ImageList(blank, [(height, width)]), seen)
        found, _ = self.model.roi_heads(features, proposals, [(height, width)])
        scale = torch.tensor(geometry.scale * 2, dtype=torch.float32)
        offset = torch.tensor(geometry.offset * 2, dtype=torch.float32)
        boxes = (found[0]["boxes"] - offset) / scale
        return {"boxes": boxes, "scores": found[0]["scores"], "labels": found[0]["labels"] - 1}

    def _ordered(self, levels: Levels) -> OrderedDict[str, Tensor]:
        complete = self.complete_spec(levels)
        return OrderedDict((name, complete[name]) for name in self.spec.names)


class _Edge(nn.Module):
    """The backbone, asked by level names."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Compute a network input's (N, 3, H, W) levels; all are, those asked for are kept."""
        levels = self.backbone(image)
        return {name: levels[name] for name in names}

"""The small detectors as torch modules: for gradients, and for an RPN run apart.

The shipped ``tiny`` is two ONNX graphs, which is what a split deployment wants. Studies that look
inside the head (another pyramid for the RPN than for the RoI heads), or at other kinds of heads,
need the torch modules.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import Any

from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.detectors.torch_common import Levels, TorchDetector, freeze
from fpcodec.errors import InputError, MissingDependency
from fpcodec.pyramid import ImageGeometry, LevelSpec, PyramidSpec

try:
    import torch
    from torch import Tensor, nn
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.ssd import SSD

    from fpcodec.detectors.small_family import DensePyramid, load_small
    from fpcodec.detectors.tiny import LEVELS, STRIDES, TinyConfig
    from fpcodec.detectors.torchvision_dense import blank_images, dense_maps, detect_one_stage
except ImportError as error:
    raise MissingDependency(
        "small detectors in torch need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error


class SmallTorchDetector(TorchDetector):
    """A detector around ``TinyBackbone``, cut at its pyramid; see ``TorchDetector``.

    Args:
        model: As ``small_family.load_small`` gives it; it is frozen in place.
        config: Its input: images are prepared as for the ONNX graphs of a ``tiny``.
        threads: CPU threads for torch, process-wide; None leaves them as they are.
    """

    def __init__(self, model: nn.Module, config: TinyConfig, threads: int | None = None) -> None:
        freeze(model)
        self.model: Any = model
        self._preprocess = Preprocess(
            config.size, mean=config.mean, std=config.std, pad_value=round(config.mean[0])
        )
        backbone = self.model.get_submodule("backbone")
        spec = _specification(backbone, config.size)
        super().__init__(_Edge(backbone), spec, config.classes, "both", threads)

    @classmethod
    def from_folder(cls, folder: Path, threads: int | None = None) -> SmallTorchDetector:
        """From ``card.json`` and ``weights.safetensors``.

        Raises:
            ModelError: A file is absent or of another network.
        """
        return cls(*load_small(folder), threads)

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
        maps = [levels[name] for name in self.spec.names]
        if isinstance(self.model, FasterRCNN):
            logits, deltas = self.model.rpn.head(maps)
            dense = [(x.sigmoid(), y) for x, y in zip(logits, deltas, strict=True)]
        else:
            dense = dense_maps(self.model, maps)
            if not isinstance(self.model, SSD):  # the first class is background, never trained
                dense = [(x[:, 1:], y) for x, y in dense]
        named = dict(zip(self.spec.names, dense, strict=True))
        return HeadOutput(
            {name: scores for name, (scores, _) in named.items()},
            {name: boxes for name, (_, boxes) in named.items()},
            of_classes=not isinstance(self.model, FasterRCNN),
        )

    def detect_tensors(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """See the base class."""
        features = self._ordered(levels)
        width, height = geometry.network_size
        # Boxes may lie on the margins too: as the graphs of a tiny have it.
        sizes = geometry.network_size, geometry.network_size
        if isinstance(self.model, FasterRCNN):
            seen = features if rpn_levels is None else self._ordered(rpn_levels)
            proposals, _ = self.model.rpn(blank_images(seen["p2"], *sizes), seen)
            found = self.model.roi_heads(features, proposals, [(height, width)])[0][0]
        elif rpn_levels is not None:
            raise InputError(f"{type(self.model).__name__} has no RPN; leave rpn_pyramid out")
        else:
            found = detect_one_stage(self.model, list(features.values()), *sizes)
        scale = torch.tensor(geometry.scale * 2, dtype=torch.float32)
        offset = torch.tensor(geometry.offset * 2, dtype=torch.float32)
        boxes = (found["boxes"] - offset) / scale
        return {"boxes": boxes, "scores": found["scores"], "labels": found["labels"] - 1}

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


def _specification(backbone: nn.Module, size: tuple[int, int]) -> PyramidSpec:
    """The pyramid: all levels of a backbone of Faster R-CNN, all but the finest of another."""
    names = LEVELS[1:] if isinstance(backbone, DensePyramid) else LEVELS
    channels = next(iter(backbone(torch.zeros(1, 3, 64, 64)).values())).shape[1]
    levels = [
        LevelSpec(name, stride, channels, "p5" if name == "p6" else None)
        for name, stride in zip(LEVELS, STRIDES, strict=True)
        if name in names
    ]
    return PyramidSpec(tuple(levels), math.gcd(STRIDES[-1], *size))

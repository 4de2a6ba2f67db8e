"""Small detectors of torchvision's kinds around one backbone: what studies compare.

All four see the same pictures through ``tiny``'s residual network and are small enough to train on
a CPU. Faster R-CNN is ``tiny`` itself; the one-stage kinds start at ``p3``, for their heads run on
every position.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from fpcodec.detectors.factory import tiny_folder
from fpcodec.detectors.tiny import (
    CARD,
    CHANNELS,
    STRIDES,
    WEIGHTS,
    TinyBackbone,
    TinyConfig,
    build_tiny,
)
from fpcodec.errors import InputError, ModelError

KINDS = ("fasterrcnn", "retinanet", "fcos", "ssd")
DENSE_CHANNELS = 64
"""Of each level of the one-stage kinds."""
_GROUPS = 32
"""In which FCOS normalises its channels: it has a multiple of them at any width."""
_DENSE_LEVELS = ("p3", "p4", "p5", "p6")
_SSD_SCALES = [0.08, 0.16, 0.32, 0.6, 0.9]


class DensePyramid(nn.Module):
    """``TinyBackbone`` without its finest level.

    Args:
        width: Factor on the channels of the residual network.
        channels: Of each level.
    """

    def __init__(self, width: float, channels: int) -> None:
        super().__init__()
        self.out_channels: int | list[int] = channels
        self.body = TinyBackbone(width, channels)

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        """Map a normalised image (N, 3, H, W) to p3..p6."""
        levels = self.body(image)
        return OrderedDict((name, levels[name]) for name in _DENSE_LEVELS)


def build_small(kind: str, config: TinyConfig, width: float = 1.0) -> nn.Module:
    """Return an untrained detector of one of ``KINDS``.

    Args:
        kind: Which.
        config: Classes, input size, normalisation.
        width: Factor on all channels but the head's of Faster R-CNN.

    Raises:
        InputError: The kind is unknown.
    """
    if kind not in KINDS:
        raise InputError(f"detector {kind!r} is not one of {', '.join(KINDS)}")
    if kind == "fasterrcnn":
        found: nn.Module = build_tiny(config, width, round(CHANNELS * width))
        return found
    channels = round(DENSE_CHANNELS * width)
    if kind == "fcos":
        channels = max(_GROUPS, channels // _GROUPS * _GROUPS)
    backbone = DensePyramid(width, channels)
    common: dict[str, Any] = {
        "image_mean": list(config.mean), "image_std": list(config.std), "_skip_resize": True,
        "score_thresh": 0.05, "nms_thresh": 0.5, "detections_per_img": 100,
    }  # fmt: skip
    sides: dict[str, Any] = {"min_size": min(config.size), "max_size": max(config.size)}
    classes = 1 + len(config.classes)
    if kind == "ssd":
        boxes = DefaultBoxGenerator(
            [[2]] * len(_DENSE_LEVELS), scales=_SSD_SCALES, steps=list(STRIDES[1:])
        )
        backbone.out_channels = [channels] * len(_DENSE_LEVELS)
        found = SSD(backbone, boxes, config.size, classes, **common)
        return found
    square = kind == "fcos"
    anchors = AnchorGenerator(
        tuple((stride,) if square else _octaves(3 * stride) for stride in STRIDES[1:]),
        (((1.0,) if square else (0.5, 1.0, 2.0)),) * len(_DENSE_LEVELS),
    )
    build = FCOS if square else RetinaNet
    found = build(backbone, classes, anchor_generator=anchors, **sides, **common)
    return found


def _octaves(side: int) -> tuple[int, ...]:
    """Anchor sides that share an octave."""
    return side, round(side * 2**0.5)


def residual_network(model: nn.Module) -> TinyBackbone:
    """The network that all kinds have in common, out of one of ``build_small``."""
    backbone: Any = model.get_submodule("backbone")
    found = backbone.body if isinstance(backbone, DensePyramid) else backbone
    if not isinstance(found, TinyBackbone):
        raise ModelError(f"{type(model).__name__} is no small detector; give one of build_small")
    return found


def load_small(source: str | Path) -> tuple[nn.Module, TinyConfig]:
    """Return a trained detector in evaluation mode, and what it is for.

    Args:
        source: A folder with ``weights.safetensors`` and a ``card.json`` that names kind and
            width; or ``tiny`` or ``tiny:NAME``, which are Faster R-CNNs of width 1.

    Raises:
        ModelError: A file is absent, unreadable, or of another network.
    """
    text = str(source)
    named = text == "tiny" or text.startswith("tiny:")
    folder = tiny_folder(text.partition(":")[2]) if named else Path(source)
    config = TinyConfig.from_card(folder / CARD)
    card = json.loads((folder / CARD).read_text("utf-8"))
    try:
        model = build_small(card.get("kind", "fasterrcnn"), config, float(card.get("width", 1.0)))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError, InputError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"{folder}: not a small detector's weights ({reason}); train it"
        ) from error
    return model.eval(), config

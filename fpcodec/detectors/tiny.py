"""``tiny``: a Faster R-CNN with an FPN, small enough to train from nothing on a CPU.

It is torchvision's Faster R-CNN around a backbone of a million parameters. Its classes and input
size are those of the data it is trained on: ``TinyConfig``. The package ships trained ones as two
ONNX graphs each, cut at the pyramid, which the ``onnx`` adapter runs; this file is the same network
in torch, for training and for gradients through the frozen head.

Read it from top to bottom: configuration, backbone, pyramid, detector, the two halves, the files.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import AnchorGenerator, concat_box_prediction_layers
from torchvision.ops import MultiScaleRoIAlign

from fpcodec.data import CLASS_NAMES
from fpcodec.errors import InputError, ModelError

CHANNELS = 48
CODED_LEVELS = ("p2", "p3", "p4", "p5")
LEVELS = (*CODED_LEVELS, "p6")
STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SIZES = (12, 24, 48, 96, 192)
CARD = "card.json"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class TinyConfig:
    """What one trained ``tiny`` differs in from another.

    Attributes:
        name: Of the trained detector.
        classes: Names of its labels.
        size: ``(width, height)`` of the network input in pixels, multiples of 32.
        mean: Subtracted from RGB in 0..255, outside the ONNX graphs.
        std: Divides what is left, outside the ONNX graphs.
    """

    name: str = "tiny"
    classes: tuple[str, ...] = CLASS_NAMES
    size: tuple[int, int] = (320, 320)
    mean: tuple[float, float, float] = (112.0, 112.0, 112.0)
    std: tuple[float, float, float] = (56.0, 56.0, 56.0)

    def __post_init__(self) -> None:
        if not self.classes or any(side < 64 or side % 32 for side in self.size):
            raise InputError(
                f"{self.name}: {len(self.classes)} classes at {self.size} pixels; give at least "
                "one class, and sides that are multiples of 32 from 64 on"
            )

    @classmethod
    def from_card(cls, path: Path) -> TinyConfig:
        """Read it from a ``card.json``.

        Raises:
            ModelError: The file cannot be read.
        """
        try:
            card = json.loads(path.read_text("utf-8"))
            size, mean, std = (card["input"][key] for key in ("size", "mean", "std"))
            width, height = (size, size) if isinstance(size, int) else size
            return cls(
                str(card["name"]), tuple(map(str, card["classes"])), (int(width), int(height)),
                _three(mean), _three(std),
            )  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: not a detector's card ({error}); export it again") from error

    def to_card(self) -> dict[str, Any]:
        """Return the part of ``card.json`` that ``from_card`` reads; a square has one size."""
        width, height = self.size
        size = width if width == height else [width, height]
        shape = {"size": size, "mean": list(self.mean), "std": list(self.std)}
        return {"name": self.name, "classes": list(self.classes), "input": shape}


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = map(float, values)
    return red, green, blue


def conv_norm(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps (stride 1) or divides the size, and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al., 2016); the first may stride."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv_norm(inputs, outputs, 3, stride)
        self.second = conv_norm(outputs, outputs, 3)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        inner = functional.relu(self.first(x), inplace=True)
        return functional.relu(self.second(inner) + self.shortcut(x), inplace=True)


class TinyBackbone(nn.Module):
    """Residual network and feature pyramid (Lin et al., 2017): image to p2..p6.

    ``p6`` is ``p5[:, :, ::2, ::2]``, as in torchvision and detectron2.

    Args:
        width: Factor on the channels of the residual network.
        channels: Of each level.
    """

    def __init__(self, width: float = 1.0, channels: int = CHANNELS) -> None:
        super().__init__()
        self.out_channels = channels
        stem, c2, c3, c4, c5 = (round(width * c) for c in (16, 32, 64, 96, 128))
        self.stem = nn.Sequential(
            conv_norm(3, stem, 3, stride=2), nn.ReLU(inplace=True),
            conv_norm(stem, c2, 3, stride=2), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.stages = nn.ModuleList(
            [
                Residual(c2, c2),  # stride 4
                nn.Sequential(Residual(c2, c3, stride=2), Residual(c3, c3)),  # 8
                nn.Sequential(Residual(c3, c4, stride=2), Residual(c4, c4)),  # 16
                Residual(c4, c5, stride=2),  # 32
            ]
        )
        self.laterals = nn.ModuleList([nn.Conv2d(c, channels, 1) for c in (c2, c3, c4, c5)])
        self.outputs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1) for _ in "2345"])

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        """Map a normalised image (N, 3, H, W) to levels (N, channels, H/s, W/s), s = 4..64."""
        x = self.stem(image)
        merged = []
        for stage, lateral in zip(self.stages, self.laterals, strict=True):
            x = stage(x)
            merged.append(lateral(x))
        for fine in (2, 1, 0):
            coarse = functional.interpolate(merged[fine + 1], scale_factor=2.0, mode="nearest")
            merged[fine] = merged[fine] + coarse
        levels = [output(x) for output, x in zip(self.outputs, merged, strict=True)]
        levels.append(levels[-1][:, :, ::2, ::2])
        return OrderedDict(zip(LEVELS, levels, strict=True))


def build_tiny(
    config: TinyConfig | None = None, width: float = 1.0, channels: int = CHANNELS
) -> FasterRCNN:
    """Return the untrained detector; without a configuration the one for generated scenes.

    Those that ship have the width 1 and 48 channels; see ``TinyBackbone``.

    Its ``forward`` takes a list of (3, height, width) float32 RGB images in 0..255, as every
    torchvision detector does but for the range. Labels count from 1: 0 is background.
    """
    config = config or TinyConfig()
    pool = MultiScaleRoIAlign(
        list(CODED_LEVELS),
        output_size=7,
        sampling_ratio=2,
        canonical_scale=64,  # RoIs below 32 pixels are pooled from p2, 32..64 from p3,
        canonical_level=4,  # 64..128 from p4, larger ones from p5.
    )
    anchors = AnchorGenerator(tuple((s,) for s in ANCHOR_SIZES), ((0.5, 1.0, 2.0),) * len(LEVELS))
    hidden = 128
    return FasterRCNN(
        TinyBackbone(width, channels),
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=400, rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=200,
        rpn_fg_iou_thresh=0.6, rpn_bg_iou_thresh=0.3,
        rpn_batch_size_per_image=128,
        box_roi_pool=pool,
        box_head=TwoMLPHead(channels * 7 * 7, hidden),
        box_predictor=FastRCNNPredictor(hidden, 1 + len(config.classes)),
        box_batch_size_per_image=64,
        box_score_thresh=0.05, box_nms_thresh=0.5, box_detections_per_img=100,
        min_size=min(config.size), max_size=max(config.size),
        image_mean=list(config.mean), image_std=list(config.std),
        _skip_resize=True,
    )  # fmt: skip


class TinyEdge(nn.Module):
    """The edge's half: normalised image (N, 3, H, W) to p2, p3, p4, p5."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the coded levels, finest first."""
        levels = self.backbone(image)
        return tuple(levels[name] for name in CODED_LEVELS)


class TinyServer(nn.Module):
    """The server's half: p2..p6 of one image to boxes, scores, labels and objectness.

    Args:
        detector: Whose half it is.
        size: ``(width, height)`` of the network input in pixels.
    """

    def __init__(self, detector: FasterRCNN, size: tuple[int, int]) -> None:
        super().__init__()
        self.image_size = (size[1], size[0])
        self.rpn = detector.rpn
        self.roi_heads = detector.roi_heads

    def forward(
        self, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor, p6: Tensor
    ) -> tuple[Tensor, ...]:
        """Detect on one pyramid.

        Args:
            p2: (1, 48, H / 4, W / 4) float32; the following halve in size.
            p3: see ``p2``.
            p4: see ``p2``.
            p5: see ``p2``.
            p6: ``p5[:, :, ::2, ::2]``.

        Returns:
            boxes (N, 4) xyxy in network pixels, scores (N,), labels (N,) int64 from 0, then
            objectness (1, 1, H, W) in 0..1 per level: the RPN's highest over the anchors.
        """
        levels = dict(zip(LEVELS, (p2, p3, p4, p5, p6), strict=True))
        proposals, objectness = self.propose(levels)
        detections, _ = self.roi_heads(levels, proposals, [self.image_size])
        found = detections[0]
        responses = [logits.amax(dim=1, keepdim=True).sigmoid() for logits in objectness]
        return found["boxes"], found["scores"], found["labels"] - 1, *responses

    def propose(self, levels: Mapping[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the proposals and the objectness logits, level by level (N, anchors, H, W).

        This is torchvision's ``RegionProposalNetwork.forward``, which hides its objectness.
        """
        features = [levels[name] for name in LEVELS]
        logits, deltas = self.rpn.head(features)
        # Only the size of the image counts here.
        blank = features[0].new_zeros((features[0].shape[0], 3, *self.image_size))
        images = ImageList(blank, [self.image_size] * features[0].shape[0])
        anchors = self.rpn.anchor_generator(images, features)
        anchors_per_level = [level[0].numel() for level in logits]
        flat_logits, flat_deltas = concat_box_prediction_layers(logits, deltas)
        boxes = self.rpn.box_coder.decode(flat_deltas.detach(), anchors)
        boxes = boxes.view(len(anchors), -1, 4)
        proposals, _ = self.rpn.filter_proposals(
            boxes, flat_logits, images.image_sizes, anchors_per_level
        )
        return proposals, logits


def load_tiny(path: str | Path, config: TinyConfig | None = None) -> FasterRCNN:
    """Return the trained detector in evaluation mode.

    Args:
        path: a safetensors file, or a folder that holds ``weights.safetensors``.
        config: what it was trained for; None for what the ``card.json`` beside the weights says,
            or the generated scenes where there is none.

    Raises:
        ModelError: a file is absent, unreadable, or of another network.
    """
    file = Path(path)
    file = file / WEIGHTS if file.is_dir() else file
    card = file.with_name(CARD)
    if config is None and card.is_file():
        config = TinyConfig.from_card(card)
    detector = build_tiny(config)
    try:
        detector.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{file}: not tiny's weights ({reason}); train or reinstall it") from error
    return detector.eval()

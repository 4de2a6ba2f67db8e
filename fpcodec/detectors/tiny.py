"""``tiny``: a Faster R-CNN with an FPN, small enough to train from nothing on a CPU.

It is torchvision's Faster R-CNN around a backbone of a million parameters, for 320 x 320 pixels.
The package ships it as two ONNX graphs, cut at the pyramid, which the ``onnx`` adapter runs; this
file is the same network in torch, for training and for gradients through the frozen head.

Read it from top to bottom: backbone, pyramid, detector, the two halves, the files.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

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
from fpcodec.errors import ModelError

INPUT_SIZE = 320
CHANNELS = 48
CODED_LEVELS = ("p2", "p3", "p4", "p5")
LEVELS = (*CODED_LEVELS, "p6")
STRIDES = (4, 8, 16, 32, 64)
ANCHOR_SIZES = (12, 24, 48, 96, 192)
# Pre-processing, outside the ONNX graphs: (RGB in 0..255 - mean) / std.
IMAGE_MEAN = (112.0, 112.0, 112.0)
IMAGE_STD = (56.0, 56.0, 56.0)


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
    """

    out_channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            conv_norm(3, 16, 3, stride=2), nn.ReLU(inplace=True),
            conv_norm(16, 32, 3, stride=2), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.stages = nn.ModuleList(
            [
                Residual(32, 32),  # stride 4
                nn.Sequential(Residual(32, 64, stride=2), Residual(64, 64)),  # 8
                nn.Sequential(Residual(64, 96, stride=2), Residual(96, 96)),  # 16
                Residual(96, 128, stride=2),  # 32
            ]
        )
        self.laterals = nn.ModuleList([nn.Conv2d(c, CHANNELS, 1) for c in (32, 64, 96, 128)])
        self.outputs = nn.ModuleList([nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1) for _ in "2345"])

    def forward(self, image: Tensor) -> OrderedDict[str, Tensor]:
        """Map a normalised image (N, 3, 320, 320) to levels (N, 48, 320/s, 320/s), s = 4..64."""
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


def build_tiny() -> FasterRCNN:
    """Return the untrained detector.

    Its ``forward`` takes a list of (3, 320, 320) float32 RGB images in 0..255, as every
    torchvision detector does but for the range. Labels count from 1: 0 is background.
    """
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
        TinyBackbone(),
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=400, rpn_post_nms_top_n_train=300,
        rpn_pre_nms_top_n_test=200, rpn_post_nms_top_n_test=200,
        rpn_fg_iou_thresh=0.6, rpn_bg_iou_thresh=0.3,
        rpn_batch_size_per_image=128,
        box_roi_pool=pool,
        box_head=TwoMLPHead(CHANNELS * 7 * 7, hidden),
        box_predictor=FastRCNNPredictor(hidden, 1 + len(CLASS_NAMES)),
        box_batch_size_per_image=64,
        box_score_thresh=0.05, box_nms_thresh=0.5, box_detections_per_img=100,
        min_size=INPUT_SIZE, max_size=INPUT_SIZE,
        image_mean=list(IMAGE_MEAN), image_std=list(IMAGE_STD),
        _skip_resize=True,
    )  # fmt: skip


class TinyEdge(nn.Module):
    """The edge's half: normalised image (N, 3, 320, 320) to p2, p3, p4, p5."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.backbone = detector.backbone

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the coded levels, finest first."""
        levels = self.backbone(image)
        return tuple(levels[name] for name in CODED_LEVELS)


class TinyServer(nn.Module):
    """The server's half: p2..p6 of one image to boxes, scores, labels and objectness."""

    def __init__(self, detector: FasterRCNN) -> None:
        super().__init__()
        self.rpn = detector.rpn
        self.roi_heads = detector.roi_heads

    def forward(
        self, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor, p6: Tensor
    ) -> tuple[Tensor, ...]:
        """Detect on one pyramid.

        Args:
            p2: (1, 48, 80, 80) float32; the following halve in size.
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
        detections, _ = self.roi_heads(levels, proposals, [(INPUT_SIZE, INPUT_SIZE)])
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
        blank = features[0].new_zeros((features[0].shape[0], 3, INPUT_SIZE, INPUT_SIZE))
        images = ImageList(blank, [(INPUT_SIZE, INPUT_SIZE)] * features[0].shape[0])
        anchors = self.rpn.anchor_generator(images, features)
        anchors_per_level = [level[0].numel() for level in logits]
        flat_logits, flat_deltas = concat_box_prediction_layers(logits, deltas)
        boxes = self.rpn.box_coder.decode(flat_deltas.detach(), anchors)
        boxes = boxes.view(len(anchors), -1, 4)
        proposals, _ = self.rpn.filter_proposals(
            boxes, flat_logits, images.image_sizes, anchors_per_level
        )
        return proposals, logits


def load_tiny(path: str | Path) -> FasterRCNN:
    """Return the trained detector in evaluation mode.

    Args:
        path: a safetensors file, or a folder that holds ``weights.safetensors``.

    Raises:
        ModelError: the file is absent, unreadable, or of another network.
    """
    file = Path(path)
    file = file / "weights.safetensors" if file.is_dir() else file
    detector = build_tiny()
    try:
        detector.load_state_dict(load_file(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{file}: not tiny's weights ({reason}); train or reinstall it") from error
    return detector.eval()

"""The heads of torchvision's one-stage detectors, run on a pyramid instead of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fpcodec.errors import MissingDependency

try:
    from torch import Tensor
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.ssd import SSD
except ImportError as error:
    raise MissingDependency(
        "torchvision detectors need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error


Size = tuple[int, int]
"""Width and height in network pixels."""


def detect_one_stage(
    model: Any, features: Sequence[Tensor], network: Size, content: Size
) -> dict[str, Tensor]:
    """What RetinaNet, FCOS or SSD finds in one image.

    Args:
        model: The whole model.
        features: Maps (1, C, H, W) as its head reads them, finest first.
        network: Of the whole input.
        content: Of the picture in it, to which boxes are clipped.

    Returns:
        ``boxes`` (N, 4) in network pixels, ``scores`` (N,) and ``labels`` (N,), best first.
    """
    maps = list(features)
    images = blank_images(maps[0], network, content)
    outputs, anchors = model.head(maps), model.anchor_generator(images, maps)
    if not isinstance(model, SSD):
        sizes = _anchor_counts(model, maps)
        outputs = {name: list(values.split(sizes, dim=1)) for name, values in outputs.items()}
        anchors = [list(a.split(sizes)) for a in anchors]
    found: list[dict[str, Tensor]] = model.postprocess_detections(
        outputs, anchors, images.image_sizes
    )
    return found[0]


def dense_maps(model: Any, features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Dense scores and box regression of each feature map.

    Args:
        model: The whole model.
        features: Maps (N, C, H, W) as its head reads them, finest first.

    Returns:
        Scores (N, K, H, W) in [0, 1], of each class the highest over the anchors, and regression
        (N, 4 * anchors, H, W).
    """
    outputs = model.head(list(features))
    logits = outputs["cls_logits"]
    # SSD's classes exclude each other, and the first is background.
    scores = logits.softmax(-1)[..., 1:] if isinstance(model, SSD) else logits.sigmoid()
    sizes = _anchor_counts(model, features)
    found = []
    for x, one, deltas in zip(
        features, scores.split(sizes, 1), outputs["bbox_regression"].split(sizes, 1), strict=True
    ):
        batch, _, height, width = x.shape
        best = one.reshape(batch, height, width, -1, one.shape[-1]).amax(dim=3)
        boxes = deltas.reshape(batch, height, width, -1)
        found.append((best.permute(0, 3, 1, 2), boxes.permute(0, 3, 1, 2)))
    return found


def _anchor_counts(model: Any, features: Sequence[Tensor]) -> list[int]:
    """How many anchors each map has."""
    counts = model.anchor_generator.num_anchors_per_location()
    return [n * x.shape[-2] * x.shape[-1] for n, x in zip(counts, features, strict=True)]


def blank_images(like: Tensor, network: Size, content: Size) -> ImageList:
    """Images that hold their sizes alone: all that anchors, proposals and clipping ask for.

    Args:
        like: Any map of theirs, (N, C, H, W).
        network: Of the whole input.
        content: Of the picture in it.
    """
    width, height = network
    pixels = like.new_zeros(()).expand(like.shape[0], 3, height, width)
    return ImageList(pixels, [(content[1], content[0])] * like.shape[0])

"""Odam-Train's losses: one object's detections for the same reason, other objects' for others.

Zhao and Chan, ICLR 2023. Both compare heat maps by the cosine between them.
"""

from __future__ import annotations

from fpcodec.errors import InputError, MissingDependency

try:
    import torch
    from torch import Tensor
    from torchvision.ops import box_iou
except ImportError as error:
    raise MissingDependency("Odam-Train needs torch; pip install 'fpcodec[torch]'") from error

_LEAST = 1e-4
"""Likeness is kept so far from 0 and 1, as in the paper's code, that no logarithm is infinite."""


def likeness(maps: Tensor) -> Tensor:
    """Cosine between every two maps; 0 beside a map of zeros.

    Args:
        maps: Shape (P, H, W), not negative.

    Returns:
        Shape (P, P), in [0, 1] up to rounding.
    """
    flat = torch.nn.functional.normalize(maps.flatten(1), dim=1)
    return flat @ flat.T


def odam_losses(
    maps: Tensor, images: Tensor, objects: Tensor, ious: Tensor, boxes: Tensor
) -> Tensor:
    """Consistency and separation of a batch's positives: the mean over its images.

    Of every annotated object the positive with the highest IoU is the reference. The object's
    positives must look like it (``-log s``); the positives of other objects in the same image whose
    boxes meet the reference's must not (``-log(1 - s)``). An image's sum is divided by its number
    of terms. An object is an index *and* an image: objects of two images are never compared, nor
    taken for one, whatever their indices.

    Args:
        maps: Heat map of each positive on one grid, shape (P, H, W), not negative.
        images: Which image of the batch each is from, shape (P,), int64.
        objects: Which object of that image each is a positive of, shape (P,), int64.
        ious: IoU of each predicted box with that object's, shape (P,).
        boxes: The predicted boxes, ``x1 y1 x2 y2``, shape (P, 4); no gradient is taken.

    Returns:
        A scalar; 0 without positives.

    Raises:
        InputError: The shapes disagree.
    """
    count = len(maps)
    if maps.ndim != 3 or any(len(x) != count for x in (images, objects, ious, boxes)):
        raise InputError(
            f"maps {tuple(maps.shape)} do not go with {len(images)} images, {len(objects)} "
            f"objects, {len(ious)} IoUs and {len(boxes)} boxes; give one of each per positive"
        )
    parts = []
    for image in torch.unique(images):
        of = images == image
        parts.append(_of_image(maps[of], objects[of], ious[of], boxes[of].detach()))
    return torch.stack(parts).mean() if parts else maps.sum() * 0.0


def _of_image(maps: Tensor, objects: Tensor, ious: Tensor, boxes: Tensor) -> Tensor:
    references = torch.stack(
        [
            torch.where(objects == owner, ious, ious.new_tensor(-1.0)).argmax()
            for owner in torch.unique(objects)
        ]
    )
    alike = likeness(maps)[references].clamp(_LEAST, 1 - _LEAST)
    same = objects[references][:, None] == objects[None]
    rivals = ~same & (box_iou(boxes[references], boxes) > 0)
    total = -alike[same].log().sum() - (1 - alike[rivals]).log().sum()
    return total / max(1, int(same.sum()) + int(rivals.sum()))

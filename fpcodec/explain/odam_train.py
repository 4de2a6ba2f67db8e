"""Odam-Train: an FCOS that learns, beside its own losses, to explain objects apart.

Zhao and Chan, ICLR 2023. The gradient that a map is made of is computed in closed form, through
the class tower alone, and is a constant of the loss: what learns is the features. Group
normalisation's statistics are constants of that gradient too, so a score depends on 11 x 11 cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.explain.odam_losses import odam_losses

try:
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import conv_transpose2d, interpolate, pad
    from torchvision.models.detection import FCOS
    from torchvision.ops import box_iou
except ImportError as error:
    raise MissingDependency("Odam-Train needs torch; pip install 'fpcodec[torch]'") from error

WEIGHT = 0.5
"""Of the loss beside FCOS's own, as published."""
MOST_POSITIVES = 300
"""Of an image, those of the highest IoU, as published."""
STRIDE = 16
"""Network pixels per cell of the grid that maps are compared on, as published."""


class OdamTrained(nn.Module):
    """An FCOS with Odam-Train's losses beside its own.

    Args:
        model: torchvision's FCOS, in training mode; its weights are this module's.
        weight: Of Odam-Train's loss.

    Raises:
        ModelError: The detector is no FCOS of torchvision.
        InputError: The weight is not positive.
    """

    def __init__(self, model: nn.Module, weight: float = WEIGHT) -> None:
        super().__init__()
        if not isinstance(model, FCOS):
            raise ModelError(
                f"Odam-Train knows the class tower of torchvision's FCOS, not that of a "
                f"{type(model).__name__}; give an fcos"
            )
        if not weight > 0:
            raise InputError(f"the weight of Odam-Train is {weight}; give a number above 0")
        self.model: Any = model
        self.weight = weight

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], step: int = 0
    ) -> dict[str, Tensor]:
        """All losses of a batch, ready to be summed; ``step`` changes nothing.

        Args:
            images: As torchvision's detectors take them.
            targets: Boxes and labels.
            step: As other learners have it.
        """
        batch, wanted = self.model.transform(list(images), [dict(x) for x in targets])
        levels = list(self.model.backbone(batch.tensors).values())
        outputs = self.model.head(levels)
        anchors = self.model.anchor_generator(batch, levels)
        counts = [x.shape[2] * x.shape[3] for x in levels]
        heard = _Assignment(self.model)
        losses: dict[str, Tensor] = dict(FCOS.compute_loss(heard, wanted, outputs, anchors, counts))
        with torch.no_grad():
            boxes = self.model.box_coder.decode(outputs["bbox_regression"], torch.stack(anchors))
            picked = [
                _best(i, found, matched, target)
                for i, (found, matched, target) in enumerate(
                    zip(boxes, heard.matched, wanted, strict=True)
                )
            ]
            image, place, owner, label, iou = (torch.cat(x) for x in zip(*picked, strict=True))
        height, width = batch.tensors.shape[-2:]
        grid = (-(-height // STRIDE), -(-width // STRIDE))
        maps = class_maps(self.model.head.classification_head, levels, image, place, label, grid)
        loss = odam_losses(maps, image, owner, iou, boxes[image, place])
        losses["odam"] = self.weight * loss
        return losses


class _Assignment:
    """Stands in for an FCOS, to hear which object it gives each place to learn."""

    def __init__(self, model: Any) -> None:
        self.head, self._losses = self, model.head.compute_loss
        self.center_sampling_radius = model.center_sampling_radius
        self.matched: list[Tensor] = []

    def compute_loss(
        self, targets: Any, outputs: Any, anchors: Any, matched: list[Tensor]
    ) -> dict[str, Tensor]:
        self.matched = matched
        found: dict[str, Tensor] = self._losses(targets, outputs, anchors, matched)
        return found


def _best(
    image: int, boxes: Tensor, matched: Tensor, target: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of an image's positives those of the highest IoU: image, place, object, label, IoU."""
    places = (matched >= 0).nonzero()[:, 0]
    owners = matched[places]
    ious = box_iou(boxes[places], target["boxes"]).gather(1, owners[:, None])[:, 0]
    order = ious.argsort(descending=True)[:MOST_POSITIVES]
    places, owners, ious = places[order], owners[order], ious[order]
    return torch.full_like(places, image), places, owners, target["labels"][owners], ious


def class_maps(
    head: Any,
    levels: Sequence[Tensor],
    images: Tensor,
    places: Tensor,
    labels: Tensor,
    grid: tuple[int, int],
) -> Tensor:
    """ODAM maps of class logits of a dense head, with gradients to the levels.

    Args:
        head: A class head of torchvision's FCOS.
        levels: Pyramid of a batch, finest first, (N, C, H, W) each.
        images: Which image of the batch each logit is of, shape (P,).
        places: Its position among those of all levels, shape (P,).
        labels: Its class, shape (P,).
        grid: ``(height, width)`` to bring all maps to.

    Returns:
        Shape (P, height, width), not negative. What a weight of the sum is, is a constant.
    """
    result = levels[0].new_zeros((len(places), *grid))
    first = 0
    for level in levels:
        height, width = level.shape[-2:]
        here = ((places >= first) & (places < first + height * width)).nonzero()[:, 0]
        position = places[here] - first
        first += height * width
        if not len(here):
            continue
        rows, columns = position // width, position % width
        weights = local_gradients(head, level, images[here], rows, columns, labels[here])
        radius = weights.shape[-1] // 2
        near = _cut(level, images[here], rows, columns, radius)
        patches = (weights * near).sum(dim=1).relu()
        canvas = level.new_zeros((len(here), height + 2 * radius, width + 2 * radius))
        ys, xs = _window(rows, columns, radius)
        canvas[torch.arange(len(here))[:, None, None], ys, xs] = patches
        maps = canvas[:, None, radius : radius + height, radius : radius + width]
        resized = interpolate(maps, grid, mode="bilinear", antialias=True)
        result = result.index_put((here,), resized[:, 0])
    return result


@torch.no_grad()
def local_gradients(
    head: Any, level: Tensor, images: Tensor, rows: Tensor, columns: Tensor, labels: Tensor
) -> Tensor:
    """Gradient of class logits by the cells around them, normalisation's statistics held.

    Args:
        head: A class head of torchvision's FCOS.
        level: Shape (N, C, H, W).
        images: Of each of P logits, shape (P,).
        rows: Its row in the level, shape (P,).
        columns: Its column, shape (P,).
        labels: Its class, shape (P,).

    Returns:
        Shape (P, C, K, K) around each place, K = 3 + 2 x convolutions; 0 beyond the level.
    """
    convolutions, slopes = [], []
    values = level.detach()
    layers = list(head.conv)
    for convolution, norm, activation in zip(*(layers[i::3] for i in range(3)), strict=True):
        values = convolution(values)
        groups = values.unflatten(1, (norm.num_groups, -1)).flatten(2)
        scale = (groups.var(dim=2, correction=0) + norm.eps).rsqrt()
        scale = scale.repeat_interleave(values.shape[1] // norm.num_groups, dim=1) * norm.weight
        values = norm(values)
        slopes.append((values > 0) * scale[:, :, None, None])
        values = activation(values)
        convolutions.append(convolution.weight)
    gradient: Tensor = head.cls_logits.weight[labels]
    for weight, slope in zip(reversed(convolutions), reversed(slopes), strict=True):
        gradient = gradient * _cut(slope, images, rows, columns, gradient.shape[-1] // 2)
        gradient = conv_transpose2d(gradient, weight)
    return gradient


def _cut(values: Tensor, images: Tensor, rows: Tensor, columns: Tensor, radius: int) -> Tensor:
    """Squares around places, (P, C, K, K), zeros beyond the edges."""
    ys, xs = _window(rows, columns, radius)
    padded = pad(values, [radius] * 4).permute(0, 2, 3, 1)
    return padded[images[:, None, None], ys, xs].permute(0, 3, 1, 2)


def _window(rows: Tensor, columns: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Rows (P, K, 1) and columns (P, 1, K) of a padded grid around places of the bare one."""
    span = torch.arange(2 * radius + 1)
    return (rows[:, None] + span)[:, :, None], (columns[:, None] + span)[:, None, :]

"""What a detector finds before it suppresses, and the ODAM maps of its scores: for Odam-NMS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import MissingDependency
from fpcodec.explain.heatmaps import resize
from fpcodec.explain.odam import odam_map
from fpcodec.pyramid import Array

try:
    import torch
    from torch import Tensor
    from torchvision.ops import clip_boxes_to_image, remove_small_boxes

    from fpcodec.detectors.torchvision_dense import blank_images
except ImportError as error:
    raise MissingDependency(
        "Odam-NMS takes gradients in torch; pip install 'fpcodec[torch]', or use plain nms"
    ) from error

Indices = npt.NDArray[np.int64]
Size = tuple[int, int]

_SMALLEST_SIDE = 1e-2
"""In pixels: boxes below it are dropped, as torchvision's two-stage heads do."""


@dataclass(frozen=True)
class Candidates:
    """All boxes of one image that a detector selects from.

    Attributes:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2`` in the pixels in which the detector compares
            them: the network's.
        scores: Shape (N,), float32, in [0, 1].
        labels: Shape (N,), int64.
        maps: From indices of M boxes and a grid's ``(width, height)`` to the ODAM maps of their
            scores over the network's input, (M, height, width), float32, not negative.
    """

    boxes: Array
    scores: Array
    labels: Indices
    maps: Callable[[Indices, Size], Array]

    def __len__(self) -> int:
        return len(self.scores)


def rcnn_candidates(
    model: Any, levels: Mapping[str, Tensor], size: Size, network: Size, first_label: int = 1
) -> Candidates:
    """Of torchvision's Faster R-CNN.

    Args:
        model: Frozen, in evaluation mode.
        levels: What its heads read, (1, C, H, W).
        size: ``(width, height)`` of the picture in the network's input, to which boxes are clipped.
        network: ``(width, height)`` of the whole input.
        first_label: What labels count from: torchvision's from 1, for 0 is background.
    """
    heads = model.roi_heads
    shape = [(size[1], size[0])]
    with torch.no_grad():
        proposals = model.rpn(
            blank_images(next(iter(levels.values())), network, size), dict(levels)
        )[0][0]
        pooled = heads.box_roi_pool(dict(levels), [proposals], shape)
        logits, deltas = heads.box_predictor(heads.box_head(pooled))
        boxes = clip_boxes_to_image(heads.box_coder.decode(deltas, [proposals]), shape[0])[:, 1:]
        scores = logits.softmax(-1)[:, 1:].reshape(-1)
        classes = logits.shape[1] - 1
        boxes = boxes.reshape(-1, 4)
        kept = torch.where(scores > heads.score_thresh)[0]
        kept = kept[remove_small_boxes(boxes[kept], _SMALLEST_SIDE)]
    rows, labels = kept // classes, kept % classes

    def maps(indices: Indices, grid: Size) -> Array:
        chosen = torch.from_numpy(indices)
        whose, of_class = rows[chosen], labels[chosen]
        inside = pooled[whose].detach().requires_grad_()
        with torch.enable_grad():
            found = heads.box_predictor(heads.box_head(inside))[0].softmax(-1)
            total = found[torch.arange(len(whose)), of_class + 1].sum()
        # One box's score depends on its own pooled features alone.
        (inner,) = torch.autograd.grad(total, inside)
        result = np.zeros((len(indices), grid[1], grid[0]), np.float32)
        for i, proposal in enumerate(proposals[whose]):
            leaves = {name: x.detach().requires_grad_() for name, x in levels.items()}
            with torch.enable_grad():
                again = heads.box_roi_pool(leaves, [proposal[None]], shape)
            outer = torch.autograd.grad(again, list(leaves.values()), inner[i : i + 1],
                                        allow_unused=True)  # fmt: skip
            result[i] = _on_grid(list(leaves.values()), outer, grid)
        return result

    return Candidates(
        _floats(boxes[kept]), _floats(scores[kept]), (labels + first_label).numpy(), maps
    )


def fcos_candidates(
    model: Any, levels: Sequence[Tensor], size: Size, network: Size, background: bool = False
) -> Candidates:
    """Of torchvision's FCOS. Its maps are of class logits, as ``odam_train`` has them.

    Args:
        model: Frozen, in evaluation mode.
        levels: What its head reads, finest first, (1, C, H, W).
        size: ``(width, height)`` of the picture in the network's input, to which boxes are clipped.
        network: ``(width, height)`` of the whole input.
        background: Whether class 0 is none: such boxes are left out, and labels count from 0 after
            it.
    """
    from fpcodec.explain.odam_train import class_maps

    with torch.no_grad():
        images = blank_images(levels[0], network, size)
        found = model.head(list(levels))
        anchors = model.anchor_generator(images, list(levels))[0]
        logits = found["cls_logits"][0]
        scores = (logits.sigmoid() * found["bbox_ctrness"][0].sigmoid()).sqrt()
        kept = []
        first = 0
        for level in levels:
            last = first + level.shape[2] * level.shape[3]
            flat = scores[first:last].flatten()
            good = torch.where(flat > model.score_thresh)[0]
            best = flat[good].topk(min(len(good), model.topk_candidates)).indices
            kept.append(good[best] + first * scores.shape[1])
            first = last
        places = torch.cat(kept) // scores.shape[1]
        labels = torch.cat(kept) % scores.shape[1]
        if background:
            real = labels > 0
            places, labels = places[real], labels[real]
        boxes = model.box_coder.decode(found["bbox_regression"][0][places], anchors[places])
        boxes = clip_boxes_to_image(boxes, (size[1], size[0]))

    def maps(indices: Indices, grid: Size) -> Array:
        chosen = torch.from_numpy(indices)
        with torch.no_grad():
            result = class_maps(
                model.head.classification_head, levels, torch.zeros_like(chosen),
                places[chosen], labels[chosen], (grid[1], grid[0]),
            )  # fmt: skip
        return _floats(result)

    return Candidates(
        _floats(boxes), _floats(scores[places, labels]),
        (labels - int(background)).numpy(), maps,
    )  # fmt: skip


def _on_grid(levels: Sequence[Tensor], gradients: Sequence[Tensor | None], grid: Size) -> Array:
    """The maps of all levels together, each brought to the grid."""
    result = np.zeros((grid[1], grid[0]), np.float32)
    for level, gradient in zip(levels, gradients, strict=True):
        if gradient is not None and bool(gradient.any()):
            found = odam_map(gradient[0].numpy(), level[0].detach().numpy())
            result += resize(found, grid)
    return result


def _floats(values: Tensor) -> Array:
    return np.asarray(values.numpy(), np.float32)

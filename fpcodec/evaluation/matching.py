"""COCO's matching of detections to annotated boxes, kept per image so that it can be reweighted.

Follows pycocotools' ``COCOeval.evaluateImg`` for boxes of all areas, or of one object scale, and up
to 100 detections per image and category (Lin et al., "Microsoft COCO", ECCV 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.data.coco import CocoBox, CocoDataset
from fpcodec.detections import Detections
from fpcodec.errors import InputError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

IOU_THRESHOLDS: tuple[float, ...] = tuple(float(x) for x in np.linspace(0.5, 0.95, 10))
MAX_DETECTIONS = 100
"""Most detections of one category in one image that count: COCO's ``maxDets``."""

Areas = tuple[float, float]
"""Square pixels, from and to, both included."""

SCALE_AREAS: Mapping[str, Areas] = {
    "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)
}  # fmt: skip
"""COCO's object scales."""

_ALL_AREAS: Areas = (0.0, float("inf"))


@dataclass(frozen=True)
class CategoryMatches:
    """All detections of one category over a data set, best score first.

    Attributes:
        images: Shape (N,), int64: the position in the data set of each detection's image.
        hits: Shape (10, N), bool: the detection found a box, per IoU threshold.
        ignored: Shape (10, N), bool: it matched only a crowd region or a box of another scale, or
            is itself of another scale and matched nothing; it counts for nothing.
        truths: Shape (images,), int64: annotated boxes per image, crowds and boxes of another
            scale left out.
    """

    images: Integers
    hits: Flags
    ignored: Flags
    truths: Integers


@dataclass(frozen=True)
class Matches:
    """The matches of one set of detections: everything AP depends on.

    Attributes:
        image_count: Images in the data set.
        categories: One entry per category, in the data set's order.
    """

    image_count: int
    categories: tuple[CategoryMatches, ...]


def match_detections(
    dataset: CocoDataset,
    detections: Sequence[Detections],
    labels: Sequence[str] = (),
    areas: Areas = _ALL_AREAS,
) -> Matches:
    """Match detections to a data set's boxes, once, at ten IoU thresholds.

    Args:
        dataset: The annotated boxes.
        detections: One per image, in the data set's order; boxes in original image pixels.
        labels: The detector's label names; empty to take categories by order.
        areas: Of the objects that count, such as one of ``SCALE_AREAS``.

    Raises:
        InputError: The counts disagree, or a label index has no category.
    """
    category_ids = checked_category_ids(dataset, detections, labels)
    index_of = {category.id: i for i, category in enumerate(dataset.categories)}
    # Per label index the category's position, -1 for labels that are not scored.
    category_of = np.array([-1 if x is None else index_of[x] for x in category_ids], np.int64)
    truths = _truths_by_image(dataset, areas)
    found = [
        _match_image(image, category_of[here.labels], here, truth, areas)
        for image, (here, truth) in enumerate(zip(detections, truths, strict=True))
    ]
    return _by_category(dataset, found, _truth_counts(dataset, areas))


def checked_category_ids(
    dataset: CocoDataset, detections: Sequence[Detections], labels: Sequence[str]
) -> tuple[int | None, ...]:
    """The category id per label index, once every label index is known to have an entry.

    Raises:
        InputError: There is not one set of detections per image, or a label index is unknown.
    """
    if len(detections) != len(dataset):
        raise InputError(
            f"{len(detections)} sets of detections for {len(dataset)} images; give one per image"
        )
    category_ids = dataset.category_ids(labels)
    for found in detections:
        if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(category_ids):
            raise InputError(
                f"a detection has label {int(found.labels.max())}; {dataset.name} and the "
                f"detector know {len(category_ids)} labels"
            )
    return category_ids


def to_xywh(boxes: npt.NDArray[np.float32]) -> Floats:
    """Corners ``x1 y1 x2 y2`` to COCO's ``left top width height``, shape (N, 4), float64.

    A box whose corners are swapped has a side of zero and overlaps nothing.
    """
    corners = boxes.astype(np.float64)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    return np.concatenate([corners[:, :2], sides], axis=1)


def iou_matrix(boxes: Floats, others: Floats, crowd: Flags | None = None) -> Floats:
    """Intersection over union of ``left top width height`` boxes, shape (N, M).

    Against a crowd region it is the share of the first box that lies inside, as in COCO.
    """
    ends, other_ends = boxes[:, :2] + boxes[:, 2:], others[:, :2] + others[:, 2:]
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(ends[:, None], other_ends[None])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    areas, other_areas = np.prod(boxes[:, 2:], axis=1), np.prod(others[:, 2:], axis=1)
    union = areas[:, None] + other_areas[None] - shared
    if crowd is not None and crowd.any():
        union = np.where(crowd[None], areas[:, None], union)
    ious: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ious


@dataclass(frozen=True)
class _Truths:
    """One image's boxes, ignored ones last, as COCO's order wants."""

    boxes: Floats
    categories: Integers
    crowd: Flags
    ignored: Flags


@dataclass(frozen=True)
class _Found:
    """One image's matched detections, best score first."""

    images: Integers
    categories: Integers
    scores: Floats
    hits: Flags
    ignored: Flags


def _counts(box: CocoBox, areas: Areas) -> bool:
    return not box.crowd and areas[0] <= box.area <= areas[1]


def _truths_by_image(dataset: CocoDataset, areas: Areas) -> list[_Truths]:
    position = {image.id: i for i, image in enumerate(dataset.images)}
    index_of = {category.id: i for i, category in enumerate(dataset.categories)}
    grouped: list[list[CocoBox]] = [[] for _ in dataset.images]
    for box in sorted(dataset.boxes, key=lambda box: not _counts(box, areas)):
        grouped[position[box.image_id]].append(box)
    return [
        _Truths(
            np.array([box.bbox for box in boxes], np.float64).reshape(-1, 4),
            np.array([index_of[box.category_id] for box in boxes], np.int64),
            np.array([box.crowd for box in boxes], np.bool_),
            np.array([not _counts(box, areas) for box in boxes], np.bool_),
        )
        for boxes in grouped
    ]


def _match_image(
    image: int, categories: Integers, detections: Detections, truths: _Truths, areas: Areas
) -> _Found:
    """Match one image's detections, each within its category."""
    scores = detections.scores.astype(np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[categories[order] >= 0]
    if len(order) > MAX_DETECTIONS:
        order = order[_rank_within(categories[order]) < MAX_DETECTIONS]
    categories = categories[order]
    boxes = to_xywh(detections.boxes[order])
    ious = iou_matrix(boxes, truths.boxes, truths.crowd)
    ious[categories[:, None] != truths.categories[None]] = 0
    hits = np.zeros((len(IOU_THRESHOLDS), len(order)), np.bool_)
    ignored = np.zeros_like(hits)
    crowd, passed_over = truths.crowd.tolist(), truths.ignored.tolist()
    # Most detections overlap nothing by half: only the others can match at any threshold.
    candidates = np.flatnonzero(ious.max(axis=1, initial=0) >= IOU_THRESHOLDS[0]).tolist()
    pairs = {i: [(g, iou) for g, iou in enumerate(ious[i].tolist()) if iou] for i in candidates}
    for t, threshold in enumerate(IOU_THRESHOLDS):
        free = [True] * len(crowd)
        for i in candidates:
            best = _best_truth(pairs[i], passed_over, free, threshold)
            if best is not None:
                free[best] = crowd[best]
                (ignored if passed_over[best] else hits)[t, i] = True
    sizes = boxes[:, 2] * boxes[:, 3]
    ignored |= ~hits & ((sizes < areas[0]) | (sizes > areas[1]))
    return _Found(np.full(len(order), image), categories, scores[order], hits, ignored)


def _rank_within(groups: Integers) -> Integers:
    """How many earlier entries each entry's own group has, shape (N,)."""
    order = np.argsort(groups, kind="stable")
    _, starts, counts = np.unique(groups[order], return_index=True, return_counts=True)
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, counts)
    return ranks


def _best_truth(
    ious: Sequence[tuple[int, float]],
    ignored: Sequence[bool],
    free: Sequence[bool],
    threshold: float,
) -> int | None:
    """The free box that a detection overlaps most; an ignored one only where no other will do."""
    best, best_iou = None, min(threshold, 1 - 1e-10)
    for i, iou in ious:
        if not free[i]:
            continue
        if best is not None and ignored[i] and not ignored[best]:
            break
        if iou >= best_iou:
            best, best_iou = i, iou
    return best


def _by_category(dataset: CocoDataset, found: Sequence[_Found], truths: Integers) -> Matches:
    """Order each category's detections of all images by score; ties keep the images' order."""
    images = np.concatenate([x.images for x in found])
    categories = np.concatenate([x.categories for x in found])
    scores = np.concatenate([x.scores for x in found])
    hits = np.concatenate([x.hits for x in found], axis=1)
    ignored = np.concatenate([x.ignored for x in found], axis=1)
    order = np.lexsort((-scores, categories))
    count = len(dataset.categories)
    ends = np.searchsorted(categories[order], np.arange(count), side="right")
    return Matches(
        len(dataset),
        tuple(
            CategoryMatches(images[at], hits[:, at], ignored[:, at], own)
            for at, own in zip(np.split(order, ends[:-1]), truths, strict=True)
        ),
    )


def _truth_counts(dataset: CocoDataset, areas: Areas) -> Integers:
    """Boxes that are no crowd and of these areas, shape (categories, images)."""
    position = {image.id: i for i, image in enumerate(dataset.images)}
    index_of = {category.id: i for i, category in enumerate(dataset.categories)}
    counts = np.zeros((len(dataset.categories), len(dataset)), np.int64)
    for box in dataset.boxes:
        if _counts(box, areas):
            counts[index_of[box.category_id], position[box.image_id]] += 1
    return counts

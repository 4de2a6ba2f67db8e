"""Distortion as the head sees it: FRS's two losses (Du et al., NeurIPS 2021, arXiv 2111.00674).

The teacher is the detector on the features before coding, the student the same frozen head on the
features as decoded. Every loss comes image by image, (N,); its mean over the batch is the published
sum over a level divided by the level's sum of S.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from fpcodec.training.heads import HeadAnswer

Levels = Mapping[str, Tensor]

_TINY = 1e-6


def feature_loss(original: Levels, decoded: Levels, response: Levels, scale: Levels) -> Tensor:
    """Squared feature error in units of each channel's deviation, weighted by S.

    The mean over channels, where the paper sums, so that detectors compare.

    Args:
        original: Features (N, C, H, W).
        decoded: The same after coding.
        response: S (N, 1, H, W); ones for the plain mean squared error.
        scale: The inverse of each channel's deviation, (1, C, 1, 1).
    """
    total = torch.zeros(())
    for name, weight in response.items():
        error = ((original[name] - decoded[name]) * scale[name]) ** 2
        total = total + _share(error.mean(dim=1, keepdim=True) * weight, weight)
    return total


def score_loss(teacher: HeadAnswer, student: HeadAnswer) -> Tensor:
    """Cross-entropy of the student's class scores against the teacher's, weighted by S.

    Two departures from the paper: the teacher's own entropy is taken off, so that a perfect student
    has zero; and the weight is the higher of both responses, for where the student alone sees
    something it must be told that it errs.
    """
    total = torch.zeros(())
    sums = teacher.response()
    for name, wanted in teacher.scores.items():
        found = student.scores[name]
        weight = torch.maximum(sums[name], found.detach().amax(dim=1, keepdim=True))
        loss = _cross_entropy(found, wanted) - _cross_entropy(wanted, wanted)
        total = total + _share(loss * weight, sums[name])
    return total


def box_loss(teacher: HeadAnswer, student: HeadAnswer) -> Tensor:
    """Smooth L1 between box values as the head gives them, weighted by S."""
    total = torch.zeros(())
    sums = teacher.response()
    for name, wanted in teacher.boxes.items():
        error = functional.smooth_l1_loss(student.boxes[name], wanted, reduction="none", beta=0.1)
        total = total + _share(error * sums[name], sums[name])
    return total


def region_loss(teacher: HeadAnswer, student: HeadAnswer) -> Tensor:
    """The same two losses for a second stage, on the teacher's proposals.

    A proposal weighs as much as the teacher is sure that it holds an object. FRS leaves the second
    stage alone; here it sees coded features too, so it must be asked.
    """
    if teacher.regions is None or student.regions is None:
        return torch.zeros(())
    wanted, found = teacher.regions.scores, student.regions.scores
    weight = torch.maximum(1 - wanted[:, 0], 1 - found.detach()[:, 0])
    cross = (wanted * (wanted.clamp_min(_TINY).log() - found.clamp_min(_TINY).log())).sum(dim=1)
    best = wanted[:, 1:].argmax(dim=1) + 1
    place = (4 * best)[:, None] + torch.arange(4, device=best.device)
    boxes = functional.smooth_l1_loss(
        student.regions.boxes.gather(1, place), teacher.regions.boxes.gather(1, place),
        reduction="none", beta=0.1,
    ).sum(dim=1)  # fmt: skip
    counts = [len(x) for x in teacher.regions.proposals]
    total = (1 - wanted[:, 0]).sum() / len(counts) + _TINY
    loss = weight * cross + (1 - wanted[:, 0]) * boxes
    return torch.stack([part.sum() for part in torch.split(loss, counts)]) / total


def _share(weighted: Tensor, weight: Tensor) -> Tensor:
    """Each image's sum, divided by the batch's mean sum of weights: (N,)."""
    mean = weight.sum() / len(weight) + _TINY
    return weighted.sum(dim=(1, 2, 3)) / mean


def _cross_entropy(found: Tensor, wanted: Tensor) -> Tensor:
    found, wanted = found.clamp(_TINY, 1 - _TINY), wanted.clamp(_TINY, 1 - _TINY)
    return -(wanted * found.log() + (1 - wanted) * torch.log1p(-found))

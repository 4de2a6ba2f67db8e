"""How a training run's pace changes with its progress, and how weights are averaged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

_LEAST_PACE = 1e-3


class Length(Protocol):
    """How long a run is: some minutes, or some steps where ``minutes`` is None."""

    @property
    def steps(self) -> int:
        """Optimiser steps."""

    @property
    def minutes(self) -> float | None:
        """Of computing."""


def share_done(length: Length, step: int, seconds: float) -> float:
    """The share of a run that is done; 1 and more at its end."""
    return step / length.steps if length.minutes is None else seconds / (60 * length.minutes)


def pace(share: float, step: int, warm_steps: int) -> float:
    """Learning rate as a share of its peak: a rise in ``warm_steps``, then half a cosine."""
    warm = min(1.0, (step + 1) / max(warm_steps, 1))
    return warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, share))) + _LEAST_PACE


@torch.no_grad()
def follow(
    average: Mapping[str, Tensor], weights: Iterable[tuple[str, Tensor]], step: int, decay: float
) -> None:
    """Move averaged weights in place; they forget the start faster than their decay says."""
    kept = min(decay, (step + 1) / (step + 10))
    for name, values in weights:
        if values.is_floating_point():
            average[name].lerp_(values, 1 - kept)

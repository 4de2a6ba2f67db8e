"""Lifts in closed form: where a light edge's training starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fpcodec.distill.light_edge import LightEdge
from fpcodec.errors import ModelError


class LeastSquares:
    """Fits a light edge's lifts to what a teacher gives, in closed form: where training starts.

    Args:
        student: Is changed by ``solve``.
        ridge: Added to the normal equations, as a share of their mean diagonal.
    """

    def __init__(self, student: LightEdge, ridge: float = 1e-3) -> None:
        self._student, self._ridge = student, ridge
        self._sums: list[tuple[Tensor, Tensor] | None] = [None] * len(student.lifts)

    @torch.no_grad()
    def add(
        self, image: Tensor, levels: Mapping[str, Tensor], weights: Mapping[str, Tensor]
    ) -> None:
        """Take in a batch.

        Args:
            image: Network input, (N, 3, H, W).
            levels: The teacher's coded levels, (N, C, H, W).
            weights: Of each position, (N, 1, H, W).
        """
        maps = self._student.maps(image)
        for index, name in enumerate(self._student.names):
            inputs = self._student.resized(maps, index)
            ones = torch.ones_like(inputs[:, :1])
            x = torch.cat([inputs, ones], 1).permute(1, 0, 2, 3).flatten(1).double()
            y = levels[name].permute(1, 0, 2, 3).flatten(1).double()
            weighted = x * weights[name].permute(1, 0, 2, 3).flatten(1).double()
            found = weighted @ x.T, weighted @ y.T
            before = self._sums[index]
            self._sums[index] = found if before is None else (
                before[0] + found[0], before[1] + found[1]
            )  # fmt: skip

    @torch.no_grad()
    def solve(self) -> None:
        """Set the lifts' mixes."""
        for lift, sums in zip(self._student.lifts, self._sums, strict=True):
            if sums is None:
                raise ModelError("nothing was taken in to fit the lifts to; add a batch first")
            within, across = sums
            small = self._ridge * within.diagonal().mean()
            solved = torch.linalg.solve(within + small * torch.eye(len(within)), across).float()
            mixes: Any = lift.mixes
            start = 0
            for mix in mixes:
                count = mix.weight.shape[1]
                mix.weight.copy_(solved[start : start + count].T[:, :, None, None])
                start += count
            mixes[0].bias.copy_(solved[-1])

"""What output layouts need of torch's tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class TorchMaths:
    """``layouts.maths.Maths`` of tensors; gradients pass."""

    def floats(self, x: Tensor) -> Tensor:
        """As float32."""
        return x.float()

    def exp(self, x: Tensor) -> Tensor:
        """Exponential."""
        return x.exp()

    def at_most(self, x: Tensor, limit: float) -> Tensor:
        """Each value, or the limit where it is above."""
        return x.clamp(max=limit)

    def sigmoid(self, x: Tensor) -> Tensor:
        """Logistic function."""
        return x.sigmoid()

    def softmax(self, x: Tensor) -> Tensor:
        """Probabilities along the last axis."""
        return x.softmax(-1)

    def highest(self, x: Tensor, axis: int) -> Tensor:
        """Maximum along an axis."""
        return x.amax(dim=axis)

    def permute(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """Axes in another order."""
        return x.permute(*axes)

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Concatenation along an axis."""
        return torch.cat(list(parts), dim=axis)


TORCH = TorchMaths()

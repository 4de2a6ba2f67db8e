"""Integers of components and what they cost, in a form that training can see through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fpcodec.codecs.coefficients import group_bounds
from fpcodec.codecs.learned import ROUNDING

if TYPE_CHECKING:
    from fpcodec.training.network import NetworkConfig

NEAR = 0.8
"""Width in steps of the surroundings of a rounding decision where a magnitude has a gradient."""


class Quantised(NamedTuple):
    """One level as the coder would send it, and what training needs beside it.

    Attributes:
        size: Magnitudes of the integers (N, K, H, W), without gradients.
        lower: The lower of the two integers that each magnitude lies between or next to.
        nudge: Zero everywhere; its gradient is that of the magnitude, see ``Quantiser``.
        values: What the integers stand for (N, K, H, W), with gradients.
    """

    size: Tensor
    lower: Tensor
    nudge: Tensor
    values: Tensor


class Quantiser(nn.Module):
    """Steps and thresholds by quality, and rounding that training can see through.

    A position's step is ``base(quality, class) * gain(quality, component)``; all logarithms are
    parameters at a few anchor qualities. The class counts how many thresholds the importance
    passes. Forwards everything is as the codec does it. Backwards a magnitude moves only near a
    decision: the usual straight-through gradient of one everywhere tells the many zeros, which
    nothing would change, that finer steps help them, and they cost no bits; steps then shrink.
    """

    def __init__(self, names: Sequence[str], config: NetworkConfig) -> None:
        super().__init__()
        shape = (config.anchors, config.classes)
        counts = zip(names, config.components, strict=True)
        self.base = nn.ParameterDict({x: nn.Parameter(torch.zeros(shape)) for x in names})
        self.gain = nn.ParameterDict(
            {x: nn.Parameter(torch.zeros(config.anchors, k)) for x, k in counts}
        )
        self.threshold = nn.ParameterDict(
            {x: nn.Parameter(torch.zeros(shape[0], shape[1] - 1)) for x in names}
        )
        self.anchors = config.anchors

    def at(self, values: Tensor, quality: Tensor) -> Tensor:
        """Interpolate rows (anchors, ...) at qualities (N,) in [0, 1]: (N, ...)."""
        place = quality * (self.anchors - 1)
        low = place.floor().clamp(0, self.anchors - 2).long()
        part = (place - low).reshape(-1, *[1] * (values.ndim - 1))
        return values[low] * (1 - part) + values[low + 1] * part

    def classes(self, name: str, importance: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Class of each position, and how near the next class is.

        Returns:
            Classes (N, H, W), and the distance (N, 1, H, W) to the nearest threshold: positive
            above it.
        """
        above = importance - self.at(self.threshold[name], quality)[:, :, None, None]
        nearest = above.abs().argmin(dim=1, keepdim=True)
        return (above > 0).sum(dim=1), above.gather(1, nearest)

    def log_step(self, name: str, classes: Tensor, quality: Tensor) -> Tensor:
        """Logarithm of each position's base step, (N, 1, H, W)."""
        base = self.at(self.base[name], quality)
        flat = base.gather(1, classes.flatten(1))
        return flat.reshape(len(classes), 1, *classes.shape[1:])

    def forward(
        self, name: str, components: Tensor, log_step: Tensor, quality: Tensor
    ) -> Quantised:
        """Round the components of one level."""
        step = torch.exp(log_step + self.at(self.gain[name], quality)[:, :, None, None])
        scaled = components / step
        size = scaled.abs()
        fixed = size.detach()
        rounded = torch.floor(fixed + ROUNDING)
        lower = torch.round(fixed - (1 - ROUNDING)).clamp_min(0)
        near = (fixed - lower - (1 - ROUNDING)).abs() < NEAR / 2
        nudge = (size - fixed) * near / NEAR
        return Quantised(rounded, lower, nudge, scaled.sign() * (rounded + nudge) * step)


class Rate(nn.Module):
    """Bits of integers, as the coder's contexts would make them.

    A stand-in for the counted tables while training: zero or not, a sign, and a geometric tail.
    The odds follow the component, the class and the energy of the previous group here and around,
    which is what the contexts of the format look at.
    """

    cross: Tensor
    around: Tensor

    def __init__(self, names: Sequence[str], config: NetworkConfig) -> None:
        super().__init__()
        counts = dict(zip(names, config.components, strict=True))
        self.groups = {name: group_bounds(count) for name, count in counts.items()}

        def parameters(start: float, rows: int) -> nn.ParameterDict:
            blank = {x: torch.full((rows, count), start) for x, count in counts.items()}
            return nn.ParameterDict({x: nn.Parameter(values) for x, values in blank.items()})

        self.live_bias = parameters(-4.0, config.classes)
        self.live_slope = parameters(1.5, 1)
        self.tail_bias = parameters(-2.0, 1)
        self.tail_slope = parameters(0.5, 1)
        cross = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 8
        self.register_buffer("cross", cross[None, None])
        around = torch.tensor([[1.0, 1, 1], [1, 0, 1], [1, 1, 1]]) / 8
        self.register_buffer("around", around[None, None])

    def context(self, name: str, size: Tensor) -> Tensor:
        """What the coder has seen before each group, as a logarithm (N, K, H, W)."""
        energy = functional.conv2d(size.sum(dim=1, keepdim=True), self.around, padding=1)
        seen = []
        for start, stop in self.groups[name]:
            seen.append(energy.expand(-1, stop - start, -1, -1))
            mean = size[:, start:stop].mean(dim=1, keepdim=True)
            energy = functional.conv2d(mean, self.cross, padding=1)
        return torch.log1p(4 * torch.cat(seen, dim=1))

    def forward(self, name: str, found: Quantised, classes: Tensor, context: Tensor) -> Tensor:
        """Bits of each position, (N, H, W)."""
        bias = self.live_bias[name][classes].permute(0, 3, 1, 2)
        live = bias + self.live_slope[name][..., None, None] * context
        tail = self.tail_bias[name][..., None, None] + (
            self.tail_slope[name][..., None, None] * context
        )
        zero, more = functional.softplus(live), functional.softplus(tail)
        one = zero - live + math.log(2) + more
        further = more - tail
        nats = torch.where(found.size > 0, one + (found.size - 1) * further, zero)
        rise = torch.where(found.lower > 0, further, one - zero).detach()
        return (nats + rise * found.nudge).sum(dim=1) / math.log(2)

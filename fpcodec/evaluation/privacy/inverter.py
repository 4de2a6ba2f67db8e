"""The inverter: a small network from a pyramid to the picture at the network's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.pyramid import Pyramid, PyramidSpec


@dataclass(frozen=True)
class InverterConfig:
    """What an inverter is built of.

    Attributes:
        rates: How many kinds of pyramids it is told apart: qualities, and uncoded ones.
        levels: Level name to its channels, finest first; strides double from one to the next.
        stride: Of the finest level, in pixels: a power of two.
        pixel: Side of a recovered pixel, in pixels of the network's input: a power of two below
            the stride.
        width: Channels at the finest level.
        blocks: Residual blocks at the finest level.
    """

    rates: int
    levels: Mapping[str, int]
    stride: int = 8
    pixel: int = 2
    width: int = 96
    blocks: int = 3

    @classmethod
    def of(
        cls, spec: PyramidSpec, rates: int, *, pixel: int = 2, width: int = 96, blocks: int = 3
    ) -> InverterConfig:
        """For a detector's pyramids.

        Raises:
            InputError: The levels that are coded do not double in stride.
        """
        levels = [spec[name] for name in spec.coded_names]
        strides = [level.stride for level in levels]
        first = strides[0]
        if strides != [first << i for i in range(len(strides))] or first & (first - 1):
            raise InputError(f"strides {strides} do not double; the inverter takes such pyramids")
        if pixel < 1 or pixel & (pixel - 1) or pixel >= first:
            raise InputError(
                f"pixels of {pixel} do not divide strides of {first}; give a lower power of two"
            )
        channels = {level.name: level.channels for level in levels}
        return cls(rates, channels, first, pixel, width, blocks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form: the keywords of the constructor."""
        return asdict(self)


class Inverter(nn.Module):
    """Coarse levels are laid under finer ones, as in the pyramid; then pixels are unfolded.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: InverterConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        for name, channels in config.levels.items():
            self.register_buffer(f"mean_{name}", torch.zeros(channels))
            self.register_buffer(f"std_{name}", torch.ones(channels))
        self.laterals = nn.ModuleDict(
            {name: nn.Conv2d(channels, width, 1) for name, channels in config.levels.items()}
        )
        # Per rate a factor and an offset: how far features can be trusted differs by rate.
        self.trust = nn.ModuleDict(
            {name: nn.Embedding(config.rates, 2 * width) for name in config.levels}
        )
        for weight in self.trust.parameters():
            nn.init.zeros_(weight)
        self.merge = nn.ModuleDict({name: Block(width) for name in config.levels})
        self.body = nn.Sequential(*(Block(width) for _ in range(config.blocks)))
        steps: list[nn.Module] = []
        for _ in range((config.stride // config.pixel).bit_length() - 2):
            steps += [Unfold(width, width // 2), Block(width // 2)]
            width //= 2
        self.unfold = nn.Sequential(*steps, Unfold(width, 3))

    def forward(self, features: Mapping[str, Tensor], rate: Tensor) -> Tensor:
        """Pictures (N, 3, H / pixel, W / pixel), about [0, 1].

        Args:
            features: Level name to (N, C, h, w).
            rate: Numbers of the rates, (N,).
        """
        x: Tensor | None = None
        for name in reversed(list(self.config.levels)):
            mean, std = self.get_buffer(f"mean_{name}"), self.get_buffer(f"std_{name}")
            level = (features[name] - mean[:, None, None]) / std[:, None, None]
            lateral = self.laterals[name](level)
            factor, offset = self.trust[name](rate)[:, :, None, None].chunk(2, 1)
            lateral = lateral * (1 + factor) + offset
            if x is not None:
                lateral = lateral + functional.interpolate(x, scale_factor=2.0)
            x = self.merge[name](lateral)
        picture: Tensor = self.unfold(self.body(x))
        return picture.float() + 0.5

    def set_statistics(self, mean: Mapping[str, Tensor], std: Mapping[str, Tensor]) -> None:
        """What features are normalised by: per level and channel."""
        for name in self.config.levels:
            self.get_buffer(f"mean_{name}").copy_(mean[name])
            self.get_buffer(f"std_{name}").copy_(std[name].clamp(min=1e-3))


class Block(nn.Module):
    """Two 3x3 convolutions beside a path that changes nothing."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Shape (N, C, H, W), as it came."""
        residual: Tensor = self.second(functional.silu(self.first(self.norm(x))))
        return x + residual


class Unfold(nn.Sequential):
    """Twice the height and width."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.Conv2d(width, 4 * out, 3, padding=1), nn.PixelShuffle(2))


@torch.no_grad()
def recover(model: Inverter, pyramid: Pyramid, rate: int) -> Image:
    """The picture that a pyramid gives away, at the network's size, padding included.

    Args:
        model: Ready to run.
        pyramid: With every coded level.
        rate: Number of the rate it was sent at.
    """
    features = {x: torch.from_numpy(pyramid.levels[x])[None] for x in model.config.levels}
    picture = model(features, torch.tensor([rate]))
    whole = functional.interpolate(
        picture, scale_factor=model.config.pixel, mode="bilinear", antialias=False
    )
    return np.asarray((whole[0].permute(1, 2, 0) * 255).round().clamp(0, 255).numpy(), np.uint8)

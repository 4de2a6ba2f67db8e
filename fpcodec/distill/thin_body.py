"""A thin body: a small residual FPN that sees the whole picture."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fpcodec.detectors.small_family import load_small, residual_network
from fpcodec.detectors.tiny import CHANNELS, LEVELS, STRIDES, TinyBackbone
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import PyramidSpec

_BY_STRIDE = dict(zip(STRIDES, LEVELS, strict=True))


class ThinBody(nn.Module):
    """``tiny``'s backbone at a width; its levels are those of the pyramid with the same strides.

    Args:
        spec: The pyramid.
        width: Factor on ``tiny``'s channels.

    Raises:
        ModelError: The pyramid has a level of another stride than 4 to 64.
    """

    def __init__(self, spec: PyramidSpec, width: float) -> None:
        super().__init__()
        strides = [spec[name].stride for name in spec.coded_names]
        unknown = [stride for stride in strides if stride not in _BY_STRIDE]
        if unknown:
            raise ModelError(
                f"a thin body has no level of stride {unknown[0]}; it has "
                f"{', '.join(map(str, STRIDES))}: use the body small-picture"
            )
        self.names: Sequence[str] = [_BY_STRIDE[stride] for stride in strides]
        self.channels = round(CHANNELS * width)
        self.network = TinyBackbone(width, self.channels)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Map a network input (N, 3, H, W) to one map a level, finest first."""
        levels = self.network(image)
        return tuple(levels[name] for name in self.names)

    @torch.no_grad()
    def begin_as(self, source: str) -> None:
        """Take over what a small detector's backbone has learned.

        A wider one gives its first channels: training soon makes up for the others.

        Args:
            source: A folder of a small detector; see ``fpcodec.detectors.small_family``.

        Raises:
            ModelError: The folder holds no small detector.
            InputError: Its backbone is narrower than this body.
        """
        theirs = residual_network(load_small(source)[0]).state_dict()
        for name, values in self.network.state_dict().items():
            given = theirs[name]
            if any(x < y for x, y in zip(given.shape, values.shape, strict=True)):
                raise InputError(
                    f"{source} is narrower than the light edge ({tuple(given.shape)} instead of "
                    f"{tuple(values.shape)} at {name}); lower --macs-share or start from a wider "
                    "detector"
                )
            values.copy_(given[tuple(slice(side) for side in values.shape)])

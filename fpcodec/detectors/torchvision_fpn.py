"""Cutting torchvision's ``BackboneWithFPN`` at its levels, and putting the levels back together."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fpcodec.errors import ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec

_PROBE_SIDE = 256


class FpnEdge(nn.Module):
    """The edge's half: a network input to the levels asked for and nothing more.

    Args:
        backbone: Its body, laterals and output convolutions are used, not copied.
        maps: Level name to the positions of the FPN outputs it holds.
        top: Name of the level that a convolution makes from the body's last map, or None.
    """

    def __init__(
        self, backbone: BackboneWithFPN, maps: Mapping[str, tuple[int, ...]], top: str | None
    ) -> None:
        super().__init__()
        self.body = backbone.body
        self.laterals = backbone.fpn.inner_blocks
        self.outputs = backbone.fpn.layer_blocks
        self.top_conv = cast(nn.Module, backbone.fpn.extra_blocks.p6) if top else None
        self._maps = dict(maps)
        self._top = top

    def forward(self, image: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Compute levels of a network input (N, 3, H, W), float32."""
        bottom_up = list(self.body(image).values())
        wanted = {i for name in names if name != self._top for i in self._maps[name]}
        merged: Tensor | None = None
        found: dict[int, Tensor] = {}
        for i in range(len(bottom_up) - 1, min(wanted, default=len(bottom_up)) - 1, -1):
            lateral = self.laterals[i](bottom_up[i])
            if merged is None:
                merged = lateral
            else:
                size = lateral.shape[-2:]
                merged = lateral + functional.interpolate(merged, size=size, mode="nearest")
            if i in wanted:
                found[i] = self.outputs[i](merged)
        levels = {
            name: torch.cat([found[i] for i in self._maps[name]], dim=1)
            for name in names
            if name != self._top
        }
        if self._top is not None and self.top_conv is not None and self._top in names:
            levels[self._top] = self.top_conv(bottom_up[-1])
        return levels


class FpnCut:
    """Where a ``BackboneWithFPN`` is cut, and what the server computes from the levels.

    FPN outputs of one stride are coded as one level, their channels side by side: torchvision's
    MobileNet pyramids have two outputs of stride 32.

    Attributes:
        spec: The pyramid at the cut. Faster R-CNN's ``p6`` is derived from ``p5``. Where ``p6``
            is a convolution of ``p5`` (RetinaNet v1, FCOS) it is no level: the server runs the
            FPN's own convolution. Where it is one of the body's last map (RetinaNet v2) it is
            a coded level. ``p7`` is always the server's.
        edge: The edge's half.
        level_maps: Level name to the FPN's own names of its maps, for all the head reads.
        map_strides: The FPN's own names to strides, finest first.

    Raises:
        ModelError: The backbone has no FPN, or extra levels of an unknown kind.
    """

    def __init__(self, backbone: nn.Module, size_divisor: int) -> None:
        if not isinstance(backbone, BackboneWithFPN):
            raise ModelError(
                f"backbone {type(backbone).__name__} has no torchvision FPN to cut; "
                "use a BackboneWithFPN"
            )
        self._backbone = backbone
        self._extra = backbone.fpn.extra_blocks
        if type(self._extra) not in (LastLevelMaxPool, LastLevelP6P7):
            raise ModelError(
                f"extra FPN levels of kind {type(self._extra).__name__} cannot be split; "
                "use LastLevelMaxPool or LastLevelP6P7"
            )
        self.map_strides = _probe_strides(backbone)
        outputs = list(self.map_strides)[: len(backbone.fpn.layer_blocks)]
        self.level_maps: dict[str, tuple[str, ...]] = {}
        for key, stride in self.map_strides.items():
            name = f"p{stride.bit_length() - 1}"
            self.level_maps[name] = (*self.level_maps.get(name, ()), key)
        positions = {
            name: tuple(outputs.index(key) for key in keys)
            for name, keys in self.level_maps.items()
            if keys[0] in outputs
        }
        self._coded = tuple(positions)
        extras = [name for name in self.level_maps if name not in positions]
        self._top = extras[0] if self._reads_body else None
        self.spec = self._specification(positions, extras, size_divisor)
        self.edge = FpnEdge(backbone, positions, self._top)

    @property
    def _reads_body(self) -> bool:
        return isinstance(self._extra, LastLevelP6P7) and not self._extra.use_P5

    def _specification(
        self, positions: Mapping[str, tuple[int, ...]], extras: list[str], size_divisor: int
    ) -> PyramidSpec:
        channels = self._backbone.out_channels
        levels = [
            LevelSpec(name, self.map_strides[self.level_maps[name][0]], channels * len(maps))
            for name, maps in positions.items()
        ]
        last = levels[-1]
        if self._top is not None:
            levels.append(LevelSpec(self._top, last.stride * 2, channels))
        elif isinstance(self._extra, LastLevelMaxPool) and last.channels == channels:
            levels.append(LevelSpec(extras[0], last.stride * 2, channels, last.name))
        return PyramidSpec(tuple(levels), size_divisor)

    def head_maps(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All maps the head reads, by the FPN's names, finest first, from the levels."""
        maps: dict[str, Tensor] = {}
        for name in self._coded:
            keys = self.level_maps[name]
            maps.update(zip(keys, levels[name].chunk(len(keys), dim=1), strict=True))
        last = next(reversed(maps.values()))
        extras = [key for key in self.map_strides if key not in maps]
        if isinstance(self._extra, LastLevelP6P7):
            p6 = levels[self._top] if self._top is not None else self._extra.p6(last)
            maps.update(zip(extras, (p6, self._extra.p7(functional.relu(p6))), strict=True))
        else:
            name = self.level_maps_name(extras[0])
            maps[extras[0]] = levels[name] if name in levels else last[..., ::2, ::2]
        return maps

    def level_maps_name(self, key: str) -> str:
        """The level that holds one of the FPN's maps."""
        return next(name for name, keys in self.level_maps.items() if key in keys)

    def is_edge_tensor(self, name: str) -> bool:
        """Whether a tensor of the whole model's state belongs to the edge's half."""
        parts = ["body", "fpn.inner_blocks", "fpn.layer_blocks"]
        if self._reads_body:
            parts.append("fpn.extra_blocks.p6")
        return name.startswith(tuple(f"backbone.{part}." for part in parts))

    def drop_edge(self) -> None:
        """Free the edge's weights, for a server that never sees an image."""
        self._backbone.body = nn.Identity()
        self._backbone.fpn.inner_blocks = nn.ModuleList()
        self._backbone.fpn.layer_blocks = nn.ModuleList()
        del self.edge


def _probe_strides(backbone: BackboneWithFPN) -> dict[str, int]:
    """Strides of the FPN's maps by name, from a run on a blank image."""
    parameter = next(backbone.parameters())
    with torch.inference_mode():
        maps = backbone(parameter.new_zeros(1, 3, _PROBE_SIDE, _PROBE_SIDE))
    strides = {key: _PROBE_SIDE // value.shape[-1] for key, value in maps.items()}
    for key, stride in strides.items():
        if stride != 1 << round(math.log2(stride)):
            raise ModelError(f"FPN map {key!r} has stride {stride}, not a power of two")
    return strides

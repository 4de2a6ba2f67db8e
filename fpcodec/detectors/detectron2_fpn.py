"""Cutting detectron2's ``FPN`` at its levels, and putting the levels back together."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from fpcodec.errors import ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec


class FpnEdge(nn.Module):
    """The edge's half: a network input to the levels asked for and nothing more.

    Args:
        backbone: A detectron2 ``FPN``; its modules are used, not copied.
        top: Name of the level that a convolution makes from a bottom-up map, or None.
    """

    def __init__(self, backbone: Any, top: str | None) -> None:
        super().__init__()
        self.bottom_up = backbone.bottom_up
        # detectron2 keeps these from coarse to fine.
        self.laterals = nn.ModuleList(backbone.lateral_convs)
        self.outputs = nn.ModuleList(backbone.output_convs)
        self.top_conv = backbone.top_block.p6 if top else None
        self._top_input = backbone.top_block.in_feature if top else None
        self._inputs = tuple(reversed(backbone.in_features))
        self._names = tuple(reversed(backbone._out_features[: len(self._inputs)]))
        self._average = backbone._fuse_type == "avg"
        self._top = top

    def forward(self, image: Tensor, names: Collection[str]) -> dict[str, Tensor]:
        """Compute levels of a network input (N, 3, H, W), float32."""
        bottom_up = self.bottom_up(image)
        levels: dict[str, Tensor] = {}
        if self._top is not None and self.top_conv is not None and self._top in names:
            levels[self._top] = self.top_conv(bottom_up[self._top_input])
        merged: Tensor | None = None
        last = max((i for i, name in enumerate(self._names) if name in names), default=-1)
        for i in range(last + 1):
            lateral = self.laterals[i](bottom_up[self._inputs[i]])
            if merged is None:
                merged = lateral
            else:
                coarse = functional.interpolate(merged, scale_factor=2.0, mode="nearest")
                merged = lateral + coarse
                if self._average:
                    merged = merged / 2
            if self._names[i] in names:
                levels[self._names[i]] = self.outputs[i](merged)
        return levels


class FpnCut:
    """Where a detectron2 ``FPN`` is cut, and what the server computes from the levels.

    Attributes:
        spec: The pyramid at the cut: the FPN's levels that the heads read. ``p6`` is derived
            from ``p5`` for R-CNN models; it is a coded level where a convolution makes it from
            ``res5`` (RetinaNet), and the server's own where one makes it from ``p5``. ``p7``
            is always the server's.
        edge: The edge's half.
        names: Names of all levels the heads read, finest first.

    Raises:
        ModelError: The backbone is no FPN, or has extra levels of an unknown kind.
    """

    def __init__(self, backbone: Any, read: Collection[str]) -> None:
        from detectron2.modeling.backbone import FPN
        from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7

        if type(backbone) is not FPN or backbone.padding_constraints["square_size"]:
            raise ModelError(
                f"backbone {type(backbone).__name__} is no plain FPN and cannot be cut; use a "
                "detectron2 configuration with an FPN backbone"
            )
        block = backbone.top_block
        if block is not None and type(block) not in (LastLevelMaxPool, LastLevelP6P7):
            raise ModelError(
                f"extra FPN levels of kind {type(block).__name__} cannot be split; use "
                "LastLevelMaxPool or LastLevelP6P7"
            )
        self._block = block
        self._convolves = type(block) is LastLevelP6P7
        every = list(backbone._out_features)
        own = every[: len(backbone.in_features)]
        self._extras = every[len(own) :]
        self._source = None if block is None else str(block.in_feature)
        # Levels that only the extra block reads are coded too.
        needed = {self._source} if any(name in self._extras for name in read) else set()
        self.names = tuple(name for name in every if name in read)
        coded = [name for name in own if name in read or name in needed]
        top = None
        if self._convolves and self._source not in own and self._extras[0] in {*read, *needed}:
            top = self._extras[0]
        elif self._convolves and self._source not in own:
            raise ModelError("the heads read p7 without p6: this pyramid cannot be split")
        self._top = top
        self.spec = self._specification(backbone.output_shape(), coded, backbone.size_divisibility)
        self.edge = FpnEdge(backbone, top)

    def _specification(
        self, shapes: Mapping[str, Any], coded: list[str], size_divisor: int
    ) -> PyramidSpec:
        levels = [LevelSpec(n, int(shapes[n].stride), int(shapes[n].channels)) for n in coded]
        if self._extras and self._extras[0] in self.names:
            shape = shapes[self._extras[0]]
            if self._top is not None:
                levels.append(LevelSpec(self._top, int(shape.stride), int(shape.channels)))
            elif not self._convolves:
                levels.append(
                    LevelSpec(self._extras[0], int(shape.stride), int(shape.channels), self._source)
                )
        return PyramidSpec(tuple(levels), int(size_divisor))

    def head_maps(self, levels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All levels that the heads read, finest first, from those of the specification."""
        maps = dict(levels)
        if self._convolves:
            p6, p7 = self._extras
            if p6 not in maps:
                maps[p6] = self._block.p6(maps[cast(str, self._source)])
            maps[p7] = self._block.p7(torch.relu(maps[p6]))
        return {name: maps[name] for name in self.names}

    def is_edge_tensor(self, name: str) -> bool:
        """Whether a tensor of the whole model's state belongs to the edge's half."""
        if name.startswith("backbone.top_block."):
            return self._top is not None and name.startswith("backbone.top_block.p6.")
        return name.startswith("backbone.")

    def drop_edge(self) -> None:
        """Forget the edge's modules, for a server that never sees an image."""
        del self.edge

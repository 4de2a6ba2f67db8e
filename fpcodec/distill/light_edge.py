"""A light edge: the detector's own edge half on a smaller picture, lifted to the full pyramid.

Half the sides is a quarter of the work. A level of the small pyramid that lies on the same grid as
a level of the full one is asked for it: what was ``p4`` of the small picture becomes ``p5`` of the
large. The finest level has no such partner; it is made of the finest there is and of a feature map
from within the backbone. Weights begin as the detector's and are trained until the frozen head
cannot tell the difference; see ``fpcodec.distill.run``.

Read it from top to bottom: the network, then how it is cut out of an ONNX graph.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional

from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import PyramidSpec

Size = tuple[int, int]
"""Rows and columns."""

_LEAST_SHARE = 0.7
"""A feature map serves a level as partner from this share of its rows on: sides that are rounded to
the network's multiple are a little less than half."""


@dataclass(frozen=True)
class LightEdgeConfig:
    """What decides a light edge's shape.

    Attributes:
        size: ``(width, height)`` of the picture that the body sees, in pixels; None for the
            network's input as it is.
    """

    size: tuple[int, int] | None

    def __post_init__(self) -> None:
        if self.size is not None and min(self.size) < 32:
            raise InputError(f"a light edge of {self.size} pixels sees nothing; use 32 or more")


class Lift(nn.Module):
    """Feature maps of the small picture to one level of the full pyramid.

    Each is mixed by a 1 x 1 convolution where it lies, resized, and added; then
    ``scale * x + depthwise(silu(x))``, for levels are often what an activation left.

    Args:
        inputs: Channels of the feature maps.
        outputs: Channels of the level.
    """

    def __init__(self, inputs: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.mixes = nn.ModuleList([nn.Conv2d(c, outputs, 1, bias=i == 0)
                                    for i, c in enumerate(inputs)])  # fmt: skip
        self.scale = nn.Parameter(torch.ones(1, outputs, 1, 1))
        self.depthwise = nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs)
        nn.init.zeros_(self.depthwise.weight)
        self.depthwise.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, maps: Sequence[Tensor], size: Size) -> Tensor:
        """Map (N, C_i, H_i, W_i) to (N, outputs, *size)."""
        parts = [_resize(mix(one), size) for mix, one in zip(self.mixes, maps, strict=True)]
        x = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
        lifted: Tensor = self.scale * x + self.depthwise(functional.silu(x))
        return lifted


class LightEdge(nn.Module):
    """Network input (N, 3, H, W) to the coded levels.

    Args:
        body: Maps an input of ``config.size`` to feature maps, a tuple.
        channels: Of these maps.
        sources: For each coded level, finest first, which of them it is made of.
        spec: The pyramid.
        network_size: ``(width, height)`` of the input in pixels.
        config: Its shape.
    """

    def __init__(
        self,
        body: nn.Module,
        channels: Sequence[int],
        sources: Sequence[Sequence[int]],
        spec: PyramidSpec,
        network_size: tuple[int, int],
        config: LightEdgeConfig,
    ) -> None:
        super().__init__()
        self.body, self.config, self.names = body, config, spec.coded_names
        self.sources = [tuple(some) for some in sources]
        shapes = [spec.shape(name, network_size) for name in self.names]
        self.grids: list[Size] = [(rows, columns) for _, rows, columns in shapes]
        self.lifts = nn.ModuleList(
            [
                Lift([channels[i] for i in some], outputs)
                for some, (outputs, _, _) in zip(self.sources, shapes, strict=True)
            ]
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the coded levels, finest first."""
        maps = self.maps(image)
        return tuple(
            lift([maps[i] for i in some], grid)
            for lift, some, grid in zip(self.lifts, self.sources, self.grids, strict=True)
        )

    def maps(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the body sees in the picture, or in the small one."""
        if self.config.size is not None:
            width, height = self.config.size
            # Halved by averages first: a bilinear step alone would skip pixels.
            image = _resize(functional.avg_pool2d(image, 2), (height, width))
        found: tuple[Tensor, ...] = self.body(image)
        return found

    def resized(self, maps: Sequence[Tensor], index: int) -> Tensor:
        """The maps that a level is made of, on its grid, one after the other: (N, C, H, W)."""
        some = [_resize(maps[i], self.grids[index]) for i in self.sources[index]]
        return torch.cat(some, 1)


def cut_light_edge(
    graph: nn.Module,
    spec: PyramidSpec,
    network_size: tuple[int, int],
    config: LightEdgeConfig,
) -> LightEdge:
    """Make a light edge of an edge half.

    Args:
        graph: As onnx2torch gives it, its outputs the coded levels, finest first; it is copied.
        spec: The pyramid.
        network_size: ``(width, height)`` of its input in pixels.
        config: The light edge's shape.

    Raises:
        ModelError: The graph cannot run on the smaller picture.
    """
    if not isinstance(graph, GraphModule) or config.size is None:
        raise ModelError("a light edge is cut out of a traced graph, for a size; give both")
    body = copy.deepcopy(graph)
    for parameter in body.parameters():
        parameter.requires_grad_(True)
    sizes = _sizes(body, config.size)
    levels = list(_output_of(body).args[0])
    grids = {name: spec.shape(name, network_size)[1:] for name in spec.coded_names}
    maps: list[Any] = []
    sources = []
    names = spec.coded_names
    partners = [_partner(levels, sizes, grids[name][0]) or levels[0] for name in names]
    for index, name in enumerate(names):
        # The next coarser level's partner is there anyway, and sees further.
        chosen = list(dict.fromkeys(partners[index : index + 2]))
        if index == 0:
            chosen += _within(body, sizes, grids[name][0], chosen[0])
        sources.append([_place(maps, node) for node in chosen])
    _set_outputs(body, maps)
    channels = [sizes[node][1] for node in maps]
    return LightEdge(body, channels, sources, spec, network_size, config)


def _resize(x: Tensor, size: Size) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, size, mode="bilinear", align_corners=False)


def _sizes(body: GraphModule, size: tuple[int, int]) -> Mapping[Any, torch.Size]:
    """Shape of each node's tensor for one small picture."""
    try:
        # Its tracer prints a traceback of what is said in one line here.
        with torch.no_grad(), redirect_stderr(io.StringIO()):
            ShapeProp(body).propagate(torch.zeros(1, 3, size[1], size[0]))
    except Exception as error:  # a graph made for one size fails in any way at another
        raise ModelError(
            f"the edge half does not run on {size[0]} x {size[1]} pixels "
            f"({str(error).splitlines()[0][:100]}); choose sides that its strides divide"
        ) from error
    found = {}
    for node in body.graph.nodes:
        meta = node.meta.get("tensor_meta")
        if meta is not None and hasattr(meta, "shape") and len(meta.shape) == 4:
            found[node] = meta.shape
    return found


def _partner(levels: Sequence[Any], sizes: Mapping[Any, torch.Size], rows: int) -> Any | None:
    """The coarsest level of the small picture that is about as fine as wanted."""
    fine = [node for node in levels if sizes[node][2] >= _LEAST_SHARE * rows]
    return min(fine, key=lambda node: sizes[node][2], default=None)


def _within(body: GraphModule, sizes: Mapping[Any, torch.Size], rows: int, known: Any) -> list[Any]:
    """The last feature map on about the grid that is wanted, where the levels have none."""
    if sizes[known][2] >= _LEAST_SHARE * rows:
        return []
    fine = [
        node for node, shape in sizes.items()
        if _LEAST_SHARE * rows <= shape[2] < 2 * _LEAST_SHARE * rows and node.op != "placeholder"
    ]  # fmt: skip
    return fine[-1:]


def _place(maps: list[Any], node: Any) -> int:
    if node not in maps:
        maps.append(node)
    return maps.index(node)


def _output_of(body: GraphModule) -> Any:
    return next(node for node in body.graph.nodes if node.op == "output")


def _set_outputs(body: GraphModule, maps: Sequence[Any]) -> None:
    _output_of(body).args = (tuple(maps),)
    body.graph.eliminate_dead_code()
    body.graph.lint()
    body.recompile()
    body.delete_all_unused_submodules()

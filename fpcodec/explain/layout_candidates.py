"""What an ONNX detector finds before it suppresses, and the ODAM maps of its scores: for Odam-NMS.

In a convolutional head a cell's scores depend on the cells around it alone. So scores of cells far
enough apart are explained by one backward pass, whose result is cut at each; near ones wait for
another pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.explain.candidates import Candidates, Indices, Size
from fpcodec.explain.heatmaps import resize
from fpcodec.explain.odam import odam_map
from fpcodec.pyramid import Array, Pyramid, derive
from fpcodec.training.onnx_heads import LayoutHead
from fpcodec.training.torch_maths import TORCH

Cell = tuple[str, int, int]
"""Level, row, column."""


@dataclass(frozen=True)
class Reach:
    """What a score of one level of a head depends on.

    Attributes:
        source: The pyramid's level; that of most gradient, where the head makes the level itself.
        cells: How many of that level's cells around its own; all of them at most.
    """

    source: str
    cells: int


@dataclass(frozen=True)
class LayoutCandidates:
    """Candidates of an ONNX detector whose decode is one of ``detectors.layouts``.

    Attributes:
        detector: Whose boxes are decoded.
        head: The same head in torch.
    """

    detector: OnnxDetector
    head: LayoutHead

    def __call__(self, pyramid: Pyramid) -> Candidates:
        """All boxes above the score's threshold."""
        found = self.detector.candidates(pyramid)
        values = derive(pyramid).levels
        names = [level.name for level in self.head.layout.levels]

        def maps(indices: Indices, grid: Size) -> Array:
            cells = [(names[n], int(y), int(x)) for n, y, x in found.cells[indices]]
            leaves = {x: _leaf(values[x]) for x in pyramid.spec.names}
            rows, labels = (torch.from_numpy(x[indices]) for x in (found.rows, found.labels))
            with torch.enable_grad():
                scores = self.head.rows(leaves).scores[0, rows, labels]
            result = np.zeros((len(indices), grid[1], grid[0]), np.float32)
            for group in apart(cells, {x: reach.cells for x, reach in self.reach.items()}):
                members = torch.tensor(group)
                sources = sorted({self.reach[cells[i][0]].source for i in group})
                gradients = torch.autograd.grad(
                    scores[members].sum(), [leaves[x] for x in sources], retain_graph=True
                )
                whole = {
                    name: odam_map(x[0].numpy(), values[name])
                    for name, x in zip(sources, gradients, strict=True)
                }
                for i in group:
                    name, row, column = cells[i]
                    reach = self.reach[name]
                    result[i] = resize(_around(whole[reach.source], row, column, reach.cells), grid)
            return result

        return Candidates(found.boxes, found.scores, found.labels, maps)

    @cached_property
    def reach(self) -> dict[str, Reach]:
        """By level of the head, found on noise. Of a head that mixes levels, maps are of the own
        level alone."""
        noise = torch.Generator().manual_seed(0)
        spec, size = self.detector.spec, self.detector.network_size
        leaves = {
            name: torch.randn((1, *spec.shape(name, size)), generator=noise).requires_grad_()
            for name in spec.names
        }
        with torch.enable_grad():
            rows = self.head.layout.rows(self.head.graph(leaves), TORCH)
        found = {}
        for level, one in zip(self.head.layout.levels, rows, strict=True):
            row, column = level.height // 2, level.width // 2
            scores, _ = self.head.layout.maps(one, level, TORCH)
            gradients = torch.autograd.grad(
                scores[0, :, row, column].sum(), list(leaves.values()),
                retain_graph=True, allow_unused=True,
            )  # fmt: skip
            sums = {
                name: x[0].abs().sum(dim=0).numpy()
                for name, x in zip(leaves, gradients, strict=True) if x is not None
            }  # fmt: skip
            found[level.name] = _reach(level.name, row, column, sums)
        return found


def _reach(name: str, row: int, column: int, sums: Mapping[str, Array]) -> Reach:
    """Where the gradients of one cell's scores lie: by the pyramid's level, (H, W)."""
    if name not in sums:
        # The head makes this level itself: each of its cells waits for a pass of its own.
        source = max(sums, key=lambda x: float(sums[x].sum()))
        return Reach(source, max(sums[source].shape))
    height, width = sums[name].shape
    ys, xs = np.nonzero(sums[name])
    far = max(np.abs(ys - row).max(initial=0), np.abs(xs - column).max(initial=0))
    # What reaches an edge may reach further.
    whole = far >= min(row, column, height - 1 - row, width - 1 - column)
    return Reach(name, max(height, width) if whole else int(far))


def apart(cells: Sequence[Cell], reach: Mapping[str, int]) -> list[list[int]]:
    """Groups of cells of which no two explain each other's surroundings; greedy.

    Args:
        cells: Where scores are.
        reach: Level to how many cells around its own a score depends on.

    Returns:
        Indices of the cells of each group.
    """
    groups: list[list[int]] = []
    for i, (name, row, column) in enumerate(cells):
        for group in groups:
            near = [cells[j] for j in group if cells[j][0] == name]
            if all(max(abs(row - y), abs(column - x)) > 2 * reach[name] for _, y, x in near):
                group.append(i)
                break
        else:
            groups.append([i])
    return groups


def _around(values: Array, row: int, column: int, reach: int) -> Array:
    """A map with zeros further than ``reach`` from a cell."""
    result = np.zeros_like(values)
    part = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    result[part] = values[part]
    return result


def _leaf(values: Array) -> Tensor:
    return torch.from_numpy(values.copy())[None].requires_grad_()

"""What YOLOX finds before it suppresses, and the ODAM maps of its scores: for Odam-NMS.

A cell's scores depend on the cells around it alone. So scores of cells far enough apart are
explained by one backward pass, whose result is cut at each; near ones wait for another pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpcodec.detectors.decoding import DecodeConfig, yolox_candidates
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.explain.candidates import Candidates, Indices, Size
from fpcodec.explain.heatmaps import resize
from fpcodec.explain.odam import odam_map
from fpcodec.pyramid import Array, Pyramid, derive

Cell = tuple[str, int, int]
"""Level, row, column."""


@dataclass(frozen=True)
class YoloxCandidates:
    """Candidates of an ONNX detector with decode yolox.

    Attributes:
        detector: Whose boxes are decoded.
        config: How.
        graph: The same head in torch, from levels to the raw rows (1, A, 5 + K).
    """

    detector: OnnxDetector
    config: DecodeConfig
    graph: Any

    def __call__(self, pyramid: Pyramid) -> Candidates:
        """All boxes above the score's threshold."""
        found, rows = yolox_candidates(self.detector.head(pyramid), pyramid.spec, self.config)
        values = derive(pyramid).levels

        def maps(indices: Indices, grid: Size) -> Array:
            cells = [_cell(pyramid, int(row)) for row in rows[indices]]
            leaves = {x: _leaf(values[x]) for x in pyramid.spec.names}
            with torch.enable_grad():
                (raw,) = self.graph(leaves).values()
                chosen = raw[0, torch.from_numpy(rows[indices])]
                labels = torch.from_numpy(found.labels[indices])
                scores = chosen[:, 4] * chosen[:, 5:].gather(1, labels[:, None])[:, 0]
            result = np.zeros((len(indices), grid[1], grid[0]), np.float32)
            for group in apart(cells, self.reach):
                members = torch.tensor(group)
                names = sorted({cells[i][0] for i in group})
                gradients = torch.autograd.grad(
                    scores[members].sum(), [leaves[x] for x in names], retain_graph=True
                )
                whole = {
                    name: odam_map(x[0].numpy(), values[name])
                    for name, x in zip(names, gradients, strict=True)
                }
                for i in group:
                    name, row, column = cells[i]
                    result[i] = resize(_around(whole[name], row, column, self.reach[name]), grid)
            return result

        return Candidates(found.boxes, found.scores, found.labels, maps)

    @cached_property
    def reach(self) -> dict[str, int]:
        """How many cells around its own a score of a level depends on; all of them at most.

        Found on noise. A head that mixes levels is not YOLOX's: maps are of the own level alone.
        """
        noise = torch.Generator().manual_seed(0)
        spec, size = self.detector.spec, self.detector.network_size
        leaves = {
            name: torch.randn((1, *spec.shape(name, size)), generator=noise).requires_grad_()
            for name in spec.names
        }
        with torch.enable_grad():
            (raw,) = self.graph(leaves).values()
        found, first = {}, 0
        for name, leaf in leaves.items():
            height, width = leaf.shape[2:]
            row, column = height // 2, width // 2
            score = (raw[0, first + row * width + column, 4:]).sum()
            (gradient,) = torch.autograd.grad(score, leaf, retain_graph=True)
            ys, xs = np.nonzero(gradient[0].abs().sum(dim=0).numpy())
            far = max(np.abs(ys - row).max(initial=0), np.abs(xs - column).max(initial=0))
            # What reaches an edge may reach further.
            whole = far >= min(row, column, height - 1 - row, width - 1 - column)
            found[name] = max(height, width) if whole else int(far)
            first += height * width
        return found


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


def _cell(pyramid: Pyramid, row: int) -> Cell:
    """Where a row of the output comes from: finest level first, row by row."""
    for name in pyramid.spec.names:
        _, height, width = pyramid.spec.shape(name, pyramid.geometry.network_size)
        if row < height * width:
            return (name, *divmod(row, width))
        row -= height * width
    raise IndexError(row)


def _around(values: Array, row: int, column: int, reach: int) -> Array:
    """A map with zeros further than ``reach`` from a cell."""
    result = np.zeros_like(values)
    part = np.s_[max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
    result[part] = values[part]
    return result


def _leaf(values: Array) -> Tensor:
    return torch.from_numpy(values.copy())[None].requires_grad_()

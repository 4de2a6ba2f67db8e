"""Heads of generalised focal loss: class scores, and a distribution over each side's distance.

Li et al., NeurIPS 2020. NanoDet and PicoDet are such.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.detectors.layouts.tensors import (
    cut_rows,
    find_pairs,
    more_levels,
    read_pairs,
    shapes_of,
    total,
)
from fpcodec.errors import InputError


@dataclass(frozen=True)
class GflOptions(LayoutOptions):
    """Options of ``Gfl``.

    Attributes:
        reg_max: Largest distance of a side from the cell's point, in strides; a side has
            ``reg_max + 1`` values.
        cell_offset: Where a cell's point lies in it, in cells: 0 its corner, 0.5 its middle.
    """

    multi_label: bool = True
    clip: bool = True
    reg_max: int = 7
    cell_offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.reg_max <= 64:
            raise InputError(f"decode reg_max {self.reg_max} is not in 1..64")
        if not 0 <= self.cell_offset <= 1:
            raise InputError(f"decode cell_offset {self.cell_offset} is not in [0, 1]")


class Gfl(Layout[GflOptions]):
    """One tensor (1, A, K + 4 (reg_max + 1)), or scores and distributions apart, of all levels
    together or level by level, as rows (1, H * W, C) or as maps (1, C, H, W).

    A side lies ``s`` times the mean of its distribution from the cell's point.
    """

    Options = GflOptions

    def find(self, shapes: Shapes) -> dict[str, str]:
        """Role ``raw``, or those of ``find_pairs``."""
        width, rows = 4 * (self.options.reg_max + 1), total(self.levels)
        if "raw" in self.names or len(shapes) == 1:
            name = self.names.get("raw", next(iter(shapes)))
            if name in shapes and len(shapes[name]) == 3 and shapes[name][1] == rows \
                    and shapes[name][2] > width:  # fmt: skip
                return {"raw": name}
        else:
            found = find_pairs(self, shapes, 1, width)
            if found:
                return found
            whole = [n for n, s in shapes.items() if len(s) == 3 and s[1] == rows and s[2] > width]
            if len(whole) == 1:
                return {"raw": whole[0]}
        hint = more_levels(self, shapes)
        raise self.misfit(
            f"(1, {rows}, classes + {width}), or scores and {width} box values level by level",
            shapes, hint or "check the level tensors, reg_max and the decode option",
        )  # fmt: skip

    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Values are the four mean distances in strides: left, top, right, bottom."""
        names = self.find(shapes_of(outputs))
        if "raw" in names:
            parts = cut_rows(self, outputs[names["raw"]], 1, names["raw"])
            split = parts[0].shape[2] - 4 * (self.options.reg_max + 1)
            apart = [Rows(x[..., :split], x[..., split:]) for x in parts]
        else:
            apart = read_pairs(self, names, outputs, (1, 4 * (self.options.reg_max + 1)), maths)
        return [
            Rows(
                self.activated(maths.floats(x.scores), maths),
                self._distances(maths.floats(x.values), maths),
            )
            for x in apart
        ]

    def _distances(self, values: Any, maths: Maths) -> Any:
        bins = self.options.reg_max + 1
        chances = maths.softmax(values.reshape(*values.shape[:2], 4, bins))
        return sum(chances[..., n] * n for n in range(1, bins))

    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """See the class."""
        centre = (priors + self.options.cell_offset) * stride
        return maths.join([centre - values[:, :2] * stride, centre + values[:, 2:] * stride], 1)


class Nanodet(Gfl):
    """NanoDet-Plus: scores through the sigmoid; points at the corners of cells."""

    kind = "nanodet"

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Thresholds of its configurations."""
        return {"score_threshold": 0.05, "nms_iou": 0.6}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """BGR, normalised, stretched."""
        return {"mode": "resize", "channel_order": "bgr", "mean": [103.53, 116.28, 123.675],
                "std": [57.375, 57.12, 58.395]}  # fmt: skip


@dataclass(frozen=True)
class PicodetOptions(GflOptions):
    """As ``GflOptions``, with a cell's point in its middle."""

    cell_offset: float = 0.5
    clip: bool = False


class Picodet(Gfl):
    """PicoDet as PaddleDetection exports it without post-processing: scores through the sigmoid,
    then distributions, level by level; points in the middle of cells."""

    kind = "picodet"
    Options = PicodetOptions

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Thresholds of its configurations."""
        return {"score_threshold": 0.025, "nms_iou": 0.6}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """RGB in 0..1, normalised, stretched."""
        return {"mode": "resize", "channel_order": "rgb", "value_scale": 1 / 255,
                "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip

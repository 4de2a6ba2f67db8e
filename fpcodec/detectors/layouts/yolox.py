"""YOLOX's output: one tensor of box values, objectness and class scores, one row per cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.centred import centred_boxes
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.detectors.layouts.tensors import cut_rows, find_one, more_levels, shapes_of, total
from fpcodec.detectors.preprocess import yolox_preprocess

_MAX_LOG_SIDE = 20.0
"""exp(20) is far beyond any image and keeps float32 finite."""


@dataclass(frozen=True)
class YoloxOptions(LayoutOptions):
    """Options of ``Yolox``.

    Attributes:
        decoded: The graph has decoded its boxes: centre and sides in network pixels, as
            ``--decode_in_inference`` exports them.
    """

    decoded: bool = False


class Yolox(Layout[YoloxOptions]):
    """(1, A, 5 + K): box, objectness and class scores, both already through the sigmoid.

    Ge et al., 2021. A cell at ``(gx, gy)`` of stride ``s`` puts its box centre at ``(x + gx) s,
    (y + gy) s`` and its sides at ``exp(w) s, exp(h) s``. Each cell gives the one class that it
    scores highest, as YOLOX's own post-processing does.
    """

    kind = "yolox"
    Options = YoloxOptions

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """See ``yolox_preprocess``."""
        return {k: x for k, x in yolox_preprocess().to_dict().items() if k != "size"}

    def find(self, shapes: Shapes) -> dict[str, str]:
        """The one tensor, role ``raw``."""
        rows = total(self.levels)
        return find_one(self, shapes, 1, lambda s: s[0] == rows and s[1] >= 6)

    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Scores are objectness times class; values as they are, in strides."""
        shapes = shapes_of(outputs)
        name = self.find(shapes)["raw"]
        raw = outputs[name]
        raw = raw[None] if len(raw.shape) == 2 else raw
        shape = tuple(raw.shape)
        wanted = total(self.levels)
        if len(shape) != 3 or shape[1] != wanted or shape[2] < 6:
            given = {name: shapes[name]}
            raise self.misfit(f"(1, {wanted}, 5 + classes)", given, more_levels(self, given))
        found = []
        for level, part in zip(self.levels, cut_rows(self, raw, 1, name), strict=True):
            scores = self.with_objectness(part, maths)
            values = maths.floats(part[..., :4])
            found.append(Rows(scores, values / level.stride if self.options.decoded else values))
        return found

    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """See the class."""
        if self.options.decoded:
            return centred_boxes(values, stride, maths)
        centre = (values[:, :2] + priors) * stride
        half = maths.exp(maths.at_most(values[:, 2:], _MAX_LOG_SIDE)) * (stride / 2)
        return maths.join([centre - half, centre + half], 1)

"""YOLOv5's output, as YOLOv6 and YOLOv7 have it too: boxes decoded in the graph, and objectness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.centred import centred_boxes
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.detectors.layouts.tensors import cut_rows, find_one, more_levels, shapes_of, total


class Yolov5(Layout[LayoutOptions]):
    """(1, A, 5 + K): centre and sides in network pixels, objectness, class scores.

    Rows run level by level, within a level anchor by anchor, within an anchor cell by cell. How
    many anchors a cell has follows from A.
    """

    kind = "yolov5"
    anchors_first = True

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Overlap and boxes of its validation."""
        return {"nms_iou": 0.6, "max_detections": 300}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """RGB in 0..1, in the middle of grey."""
        return {"mode": "letterbox", "align": "center", "channel_order": "rgb",
                "value_scale": 1 / 255}  # fmt: skip

    def find(self, shapes: Shapes) -> dict[str, str]:
        """The one tensor, role ``raw``; the raw maps of older exports are left alone."""
        cells = total(self.levels)
        return find_one(self, shapes, 1, lambda s: s[0] and s[0] % cells == 0 and s[1] >= 6)

    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Scores are objectness times class; values centre and sides in strides."""
        name = self.find(shapes_of(outputs))["raw"]
        raw = outputs[name]
        shape, cells = tuple(raw.shape), total(self.levels)
        if len(shape) != 3 or not shape[1] or shape[1] % cells or shape[2] < 6:
            given = {name: shape}
            hint = next((x for n in (3, 1) if (x := more_levels(self, given, n))), "")
            if not hint and len(shape) == 3 and 5 <= shape[1] < shape[2]:
                hint = "rows on the last axis are decode=yolov8's"
            raise self.misfit(f"(1, anchors x {cells}, 5 + classes)", given, hint)
        anchors = shape[1] // cells
        return [
            Rows(self.with_objectness(part, maths), maths.floats(part[..., :4]) / x.stride)
            for x, part in zip(self.levels, cut_rows(self, raw, anchors, name), strict=True)
        ]

    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """Corners of what the graph decoded."""
        return centred_boxes(values, stride, maths)

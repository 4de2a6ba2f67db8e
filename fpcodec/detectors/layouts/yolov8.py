"""YOLOv8's output, as YOLO11 has it too: boxes decoded in the graph, no objectness."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.centred import centred_boxes
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.detectors.layouts.tensors import cut_rows, find_one, more_levels, shapes_of, total
from fpcodec.detectors.layouts.yolov5 import Yolov5


class Yolov8(Layout[LayoutOptions]):
    """(1, 4 + K, A): centre and sides in network pixels, class scores; a column per cell."""

    kind = "yolov8"

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Overlap and boxes of its validation."""
        return {"nms_iou": 0.7, "max_detections": 300}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """As YOLOv5's."""
        return Yolov5.preprocess(options)

    def find(self, shapes: Shapes) -> dict[str, str]:
        """The one tensor, role ``raw``."""
        cells = total(self.levels)
        return find_one(self, shapes, 2, lambda s: s[1] == cells and s[0] >= 5)

    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Scores as they are; values centre and sides in strides."""
        name = self.find(shapes_of(outputs))["raw"]
        raw = outputs[name]
        shape, cells = tuple(raw.shape), total(self.levels)
        if len(shape) != 3 or shape[2] != cells or shape[1] < 5:
            given = {name: shape}
            hint = more_levels(self, given)
            if not hint and len(shape) == 3 and shape[1] and shape[1] % cells == 0:
                hint = "rows on axis 1 are decode=yolov5's"
            elif not hint and len(shape) == 3 and shape[2] == 6:
                hint = "a graph that selects boxes itself: export it without NMS"
            raise self.misfit(f"(1, 4 + classes, {cells})", given, hint)
        parts = cut_rows(self, maths.permute(raw, (0, 2, 1)), 1, name)
        return [
            Rows(
                self.activated(maths.floats(part[..., 4:]), maths),
                maths.floats(part[..., :4]) / level.stride,
            )
            for level, part in zip(self.levels, parts, strict=True)
        ]

    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """Corners of what the graph decoded."""
        return centred_boxes(values, stride, maths)

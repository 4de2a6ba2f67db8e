"""Output layouts of detector families: one class each, chosen by ``decode=``."""

from __future__ import annotations

from typing import Any

from fpcodec.detectors.layouts.base import Candidates, Layout, Rows
from fpcodec.detectors.layouts.gfl import Nanodet, Picodet
from fpcodec.detectors.layouts.retinanet import Retinanet
from fpcodec.detectors.layouts.yolov5 import Yolov5
from fpcodec.detectors.layouts.yolov8 import Yolov8
from fpcodec.detectors.layouts.yolox import Yolox

__all__ = ["LAYOUTS", "Candidates", "Layout", "Rows"]

LAYOUTS: dict[str, type[Layout[Any]]] = {
    layout.kind: layout for layout in (Yolox, Nanodet, Picodet, Yolov5, Yolov8, Retinanet)
}
"""What ``decode=`` calls each."""

"""RetinaNet's output: class logits and box deltas over anchors (Lin et al., ICCV 2017)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from fpcodec.detectors.layouts.anchors import FAMILIES, level_anchors
from fpcodec.detectors.layouts.base import Layout, Rows, Shapes
from fpcodec.detectors.layouts.levels import HeadLevel, describe
from fpcodec.detectors.layouts.maths import Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.detectors.layouts.tensors import find_pairs, more_levels, read_pairs, shapes_of, total
from fpcodec.errors import InputError

_MAX_LOG_SCALE = math.log(1000 / 16)
_OCTAVE = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))


@dataclass(frozen=True)
class RetinanetOptions(LayoutOptions):
    """Options of ``Retinanet``.

    Attributes:
        anchors: Whose way of laying anchors: ``torchvision`` or ``detectron2``.
        anchor_sizes: One per level, in pixels; none for four times the stride.
        anchor_scales: Factors on a level's size.
        anchor_ratios: Height over width.
        anchor_offset: Of anchors' centres, in cells.
        delta_weights: What deltas of x, y, width and height are divided by.
        clip: As everywhere; true by default with torchvision's anchors alone.
    """

    activation: str = "sigmoid"
    multi_label: bool = True
    pre_nms: int = 1000
    clip: bool = True
    anchors: str = "torchvision"
    anchor_sizes: tuple[float, ...] = ()
    anchor_scales: tuple[float, ...] = _OCTAVE
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchor_offset: float = 0.0
    delta_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> RetinanetOptions:
        """As everywhere."""
        family = {"clip": False} if data.get("anchors") == "detectron2" else {}
        return super().read(family | dict(data))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.anchors not in FAMILIES:
            raise InputError(f"decode anchors {self.anchors!r} is not one of {', '.join(FAMILIES)}")
        if not self.anchor_scales or not self.anchor_ratios:
            raise InputError("decode anchor_scales and anchor_ratios have one value or more")
        positive = {
            "anchor_sizes": self.anchor_sizes,
            "anchor_scales": self.anchor_scales,
            "anchor_ratios": self.anchor_ratios,
            "delta_weights": self.delta_weights,
        }
        for name, values in positive.items():
            if not all(math.isfinite(x) and x > 0 for x in values):
                raise InputError(f"decode {name} {values} are not all positive")
        if not 0 <= self.anchor_offset <= 1:
            raise InputError(f"decode anchor_offset {self.anchor_offset} is not in [0, 1]")
        if len(self.delta_weights) != 4:
            raise InputError(f"decode delta_weights {self.delta_weights} are not four")


class Retinanet(Layout[RetinanetOptions]):
    """Scores and deltas of all levels together, (1, rows, K) and (1, rows, 4), or level by level,
    (1, anchors * K, H, W) and (1, anchors * 4, H, W), or (1, H * W * anchors, ..).

    Deltas move an anchor's centre by parts of its sides and scale its sides by their exponentials
    (Ren et al., 2015), at most 62.5 times.
    """

    kind = "retinanet"
    Options = RetinanetOptions

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        sizes = self.options.anchor_sizes
        if sizes and len(sizes) != len(self.levels):
            raise InputError(
                f"decode anchor_sizes has {len(sizes)} values for the levels "
                f"{describe(self.levels)}; give one per level, or strides= for the head's levels"
            )

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Those of the anchors' family."""
        most = 100 if options.get("anchors") == "detectron2" else 300
        return {"score_threshold": 0.05, "nms_iou": 0.5, "max_detections": most}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """As the anchors' family has it; grey is about zero to the network."""
        if options.get("anchors") == "detectron2":
            return {"channel_order": "bgr", "mean": [103.53, 116.28, 123.675], "pad_value": 114}
        return {"channel_order": "rgb", "value_scale": 1 / 255, "mean": [0.485, 0.456, 0.406],
                "std": [0.229, 0.224, 0.225], "pad_value": 114}  # fmt: skip

    @property
    def anchors(self) -> int:
        """Per cell."""
        return len(self.options.anchor_scales) * len(self.options.anchor_ratios)

    def find(self, shapes: Shapes) -> dict[str, str]:
        """Roles ``scores`` and ``boxes``, or such with the level's name."""
        found = find_pairs(self, shapes, self.anchors, 4)
        if found is None:
            rows = total(self.levels, self.anchors)
            raise self.misfit(
                f"scores (1, {rows}, classes) and deltas (1, {rows}, 4), {self.anchors} anchors a "
                "cell, or both level by level", shapes,
                more_levels(self, shapes, self.anchors)
                or "check the level tensors, strides, anchor_scales and anchor_ratios",
            )  # fmt: skip
        return found

    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Values are deltas as the head gives them."""
        names = self.find(shapes_of(outputs))
        return [
            Rows(self.activated(maths.floats(x.scores), maths), maths.floats(x.values))
            for x in read_pairs(self, names, outputs, (self.anchors, 4), maths)
        ]

    def priors(self, level: HeadLevel, anchors: int) -> npt.NDArray[Any]:
        """Anchors of a level."""
        place = self.levels.index(level)
        sizes = self.options.anchor_sizes or [4.0 * x.stride for x in self.levels]
        return level_anchors(
            level, self.network_size,
            [sizes[place] * scale for scale in self.options.anchor_scales],
            self.options.anchor_ratios, self.options.anchors, self.options.anchor_offset,
        )  # fmt: skip

    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """See the class."""
        x, y, w, h = self.options.delta_weights
        sides = priors[:, 2:] - priors[:, :2]
        centre = priors[:, :2] + sides * 0.5
        move = maths.join([values[:, 0:1] / x, values[:, 1:2] / y], 1)
        scale = maths.join([values[:, 2:3] / w, values[:, 3:4] / h], 1)
        centre = move * sides + centre
        half = maths.exp(maths.at_most(scale, _MAX_LOG_SCALE)) * sides * 0.5
        return maths.join([centre - half, centre + half], 1)

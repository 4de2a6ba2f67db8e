"""The controls that say how much is sent, and their reading as an operating point."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr

from fpcodec.detections import SCALES
from fpcodec.profile import Profile
from fpcodec.split import DEFAULT_QUALITY
from fpcodec.ui.operating_point import OperatingPoint

QUALITY, BUDGET = "quality", "budget"
_LEAST_BUDGET, _USUAL_BUDGET = 160, 20_000


@dataclass(frozen=True)
class Controls:
    """The controls, once they were laid out.

    Attributes:
        rate: Which of the two sliders counts.
        quality: 0 to 1.
        budget: Bytes.
        levels: One of LEVEL_CHOICES.
        scales: Object scales.
    """

    rate: gr.Radio
    quality: gr.Slider
    budget: gr.Slider
    levels: gr.Radio
    scales: gr.CheckboxGroup

    @classmethod
    def lay_out(cls, profile: Profile) -> Controls:
        """Add them to the block that is open."""
        rate = gr.Radio(
            [("Quality", QUALITY), ("Byte budget", BUDGET)], value=QUALITY, label="Set the rate by"
        )
        # Rows are shown and hidden: a slider that is itself updated would be made anew.
        with gr.Row() as quality_row:
            quality = gr.Slider(0, 1, 0.5, step=0.01, label="Quality", info="0 smallest, 1 best")
        most = largest_budget(profile.measured)
        with gr.Row(visible=False) as budget_row:
            budget = gr.Slider(
                _LEAST_BUDGET, most, 1000, step=20, label="Byte budget",
                info="longest frame; the finest levels are left out where there is no room",
            )  # fmt: skip
        for slider, low, high in ((quality, 0, 1), (budget, _LEAST_BUDGET, most)):
            # What is typed passes through values out of range; gradio would answer with an error.
            vars(slider)["preprocess"] = clamp(low, high)
        levels = gr.Radio(
            [("All", "all"), ("Auto", "auto"),
             ("For object sizes", "scales")],
            value="all", label="Levels to send",
            info="Auto: those of the object sizes that a full frame of this picture showed",
        )  # fmt: skip
        scales = gr.CheckboxGroup(
            [(_scale_label(profile, scale), scale) for scale in SCALES], value=["large"],
            label="Object sizes", visible=False,
        )  # fmt: skip
        rate.input(
            lambda chosen: [gr.update(visible=chosen == x) for x in (QUALITY, BUDGET)],
            rate, [quality_row, budget_row], show_progress="hidden", api_visibility="private",
            queue=False,
        )  # fmt: skip
        levels.input(
            lambda chosen: gr.update(visible=chosen == "scales"), levels, scales,
            show_progress="hidden", api_visibility="private", queue=False,
        )  # fmt: skip
        return cls(rate, quality, budget, levels, scales)

    @property
    def all(self) -> list[Any]:
        """In the order that ``read`` takes their values."""
        return [self.rate, self.quality, self.budget, self.levels, self.scales]

    @staticmethod
    def are_complete(rate: str, quality: float | None, budget: float | None, *_: Any) -> bool:
        """Whether the slider that counts has a value; a number field that is emptied has none."""
        return (budget if rate == BUDGET else quality) is not None

    @staticmethod
    def read(
        rate: str, quality: float | None, budget: float | None, levels: str, scales: list[str]
    ) -> OperatingPoint:
        """Their values as an operating point.

        Raises:
            InputError: They ask for nothing that can be sent.
        """
        by_budget = rate == BUDGET
        return OperatingPoint(
            None if by_budget else _value(quality, DEFAULT_QUALITY),
            int(_value(budget, _LEAST_BUDGET)) if by_budget else None,
            levels, tuple(scale for scale in SCALES if scale in scales),
        )  # fmt: skip


def _value(typed: float | None, default: float) -> float:
    return default if typed is None else float(typed)


def clamp(low: float, high: float) -> Callable[[Any], float | None]:
    """Reads what a slider sends; None for nothing."""

    def clamped(payload: Any) -> float | None:
        try:
            value = float(payload)
        except (TypeError, ValueError):
            return None
        return min(max(value, low), high) if math.isfinite(value) else None

    return clamped


def largest_budget(measured: Mapping[str, Any]) -> int:
    """A budget that no picture like the calibration's fills."""
    sizes = measured.get("mean_bytes_by_quality") or {}
    most = 2 * max((float(size) for size in sizes.values()), default=_USUAL_BUDGET / 2)
    return 1000 * max(2, math.ceil(most / 1000))


def _scale_label(profile: Profile, scale: str) -> str:
    levels = ", ".join(profile.key_levels.get(scale, profile.spec.coded_names))
    return f"{scale} ({levels})"

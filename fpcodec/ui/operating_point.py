"""What the page's controls say: how much may be sent, and which levels."""

from __future__ import annotations

from dataclasses import dataclass

from fpcodec.codecs.base import quality_byte
from fpcodec.detections import SCALES
from fpcodec.errors import InputError
from fpcodec.split import DEFAULT_QUALITY

LEVEL_CHOICES = ("all", "auto", "scales")
"""Every level; those of what was found before; those of named object scales."""


@dataclass(frozen=True)
class OperatingPoint:
    """A rate and a choice of levels.

    Attributes:
        quality: In [0, 1]; None where ``max_bytes`` decides.
        max_bytes: Longest frame, in place of a quality.
        levels: One of LEVEL_CHOICES.
        scales: Object scales, where ``levels`` is ``scales``.

    Raises:
        InputError: A value is out of range, or nothing would be sent.
    """

    quality: float | None = DEFAULT_QUALITY
    max_bytes: int | None = None
    levels: str = "all"
    scales: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.quality is None) == (self.max_bytes is None):
            raise InputError("give a quality or a byte budget, one of them")
        if self.quality is not None:
            quality_byte(self.quality)
        if self.max_bytes is not None and self.max_bytes < 1:
            raise InputError(f"a budget of {self.max_bytes} bytes holds nothing; give more")
        if self.levels not in LEVEL_CHOICES:
            raise InputError(f"levels {self.levels!r} is not one of {', '.join(LEVEL_CHOICES)}")
        if self.levels == "scales" and (not self.scales or not set(self.scales) <= set(SCALES)):
            raise InputError("no object size is chosen; tick small, medium or large")

"""What a video encoder may decide; no decoder needs to know it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fpcodec.errors import InputError


@dataclass(frozen=True)
class VideoConfig:
    """How a video encoder spends bytes.

    Attributes:
        refresh_interval: Frames from one refresh frame to the next, itself counted; 1 makes every
            frame one, 0 none but the first and those asked for.
        tolerance: Squared steps of error that one saved bit may cost. More leaves more of the
            previous frame standing.
        rise: By how much the importance must pass a threshold to raise a position's step class,
            in the importance's own units.
        fall: By how much it must fall below one to lower the class.
    """

    refresh_interval: int = 250
    tolerance: float = 0.1
    rise: float = 0.3
    fall: float = 0.6

    def __post_init__(self) -> None:
        if self.refresh_interval < 0:
            raise InputError(
                f"refresh interval {self.refresh_interval} is negative; use 0 for none"
            )
        for name in ("tolerance", "rise", "fall"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"{name} {value} is not a number of at least 0")

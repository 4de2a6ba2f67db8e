"""Which levels to send: by name, by object scale, or after what was last seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fpcodec.detections import SCALES, Detections
from fpcodec.errors import InputError

if TYPE_CHECKING:
    from fpcodec.profile import Profile


def parse_levels(text: str, profile: Profile) -> tuple[str, ...] | AutoLevels:
    """Read a choice of key levels.

    Args:
        text: ``all``; ``auto``; or names joined by commas, each a level (``p3``) or an object
            scale (``small``), which stands for the levels that calibration measured for it.
        profile: Whose levels and table.

    Returns:
        Level names finest first, or an ``AutoLevels`` that picks them frame after frame.

    Raises:
        InputError: A name is neither a level that can be sent nor a scale.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["auto"]:
        return AutoLevels(profile)
    if words == ["all"]:
        return profile.spec.coded_names
    chosen: set[str] = set()
    for word in words:
        if word in SCALES:
            chosen.update(profile.key_levels.get(word, profile.spec.coded_names))
        elif word in profile.spec.coded_names:
            chosen.add(word)
        else:
            raise InputError(
                f"levels {text!r}: {word!r} is not one of {', '.join(profile.spec.coded_names)}, "
                f"{', '.join(SCALES)}, all or auto"
            )
    if not chosen:
        raise InputError("levels is empty; name a level, a scale, all or auto")
    return tuple(name for name in profile.spec.coded_names if name in chosen)


class AutoLevels:
    """Sends the levels of the object scales that the last frames held.

    Every ``refresh``-th frame sends everything, so that an object of a scale not seen before is
    found within that many frames.

    Args:
        profile: Whose levels and key-level table.
        refresh: Frames from one full frame to the next, at least 1.
        memory: How many past answers count.
        min_score: Detections below it are not counted as seen.
    """

    def __init__(
        self, profile: Profile, refresh: int = 30, memory: int = 5, min_score: float = 0.3
    ) -> None:
        if refresh < 1 or memory < 1:
            raise InputError(f"refresh {refresh} and memory {memory} must be at least 1")
        self._profile, self._refresh = profile, refresh
        self._memory, self._min_score = memory, min_score
        self._frame = 0
        self._seen: list[tuple[str, ...]] = []

    def next(self) -> tuple[str, ...]:
        """Level names for the frame to come."""
        full = self._frame % self._refresh == 0
        self._frame += 1
        scales = {scale for seen in self._seen for scale in seen}
        if full or not scales:
            return self._profile.spec.coded_names
        return scale_levels(self._profile, [scale for scale in SCALES if scale in scales])

    def observe(self, detections: Detections) -> None:
        """Note what an answer held."""
        self._seen = [*self._seen, detections.scales(self._min_score)][-self._memory :]


def scale_levels(profile: Profile, scales: Sequence[str]) -> tuple[str, ...]:
    """Levels that the profile's table names for any of these scales, finest first."""
    chosen = parse_levels(",".join(scales), profile)
    if isinstance(chosen, AutoLevels):
        raise InputError("auto is not an object scale; use small, medium or large")
    return chosen

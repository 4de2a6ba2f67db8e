"""What ``--levels`` means, image after image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fpcodec.errors import InputError
from fpcodec.levels import AutoLevels, parse_levels

if TYPE_CHECKING:
    from fpcodec.detections import Detections
    from fpcodec.profile import Profile


def fixed_levels(text: str, profile: Profile) -> tuple[str, ...]:
    """What ``--levels`` means where no answer comes back to choose by.

    Raises:
        InputError: The text names no level or scale of the profile, or is ``auto``.
    """
    chosen = parse_levels(text, profile)
    if isinstance(chosen, AutoLevels):
        raise InputError("levels 'auto' follow a server's answers; name levels or scales here")
    return chosen


def unless_all(levels: Sequence[str], profile: Profile) -> Sequence[str] | None:
    """The levels, or None for all of them: then a byte budget may leave the finest out."""
    return None if set(levels) == set(profile.spec.coded_names) else levels


class LevelChoice:
    """Levels to send for the next image; ``auto`` learns from the answers.

    Args:
        text: As ``--levels`` takes it.
        profile: Whose levels they are.

    Raises:
        InputError: The text names no level or scale of the profile.
    """

    def __init__(self, text: str, profile: Profile) -> None:
        self._choice = parse_levels(text, profile)

    def next(self) -> tuple[str, ...]:
        """Level names to send now."""
        if isinstance(self._choice, AutoLevels):
            return self._choice.next()
        return self._choice

    def observe(self, detections: Detections) -> None:
        """Tell what was found in the last image."""
        if isinstance(self._choice, AutoLevels):
            self._choice.observe(detections)

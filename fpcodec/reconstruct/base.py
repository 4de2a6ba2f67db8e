"""The contract of everything that predicts levels which were not sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fpcodec.pyramid import Pyramid


class Recoverer(Protocol):
    """Fills the levels that are missing from pyramids."""

    def recover(self, pyramids: Sequence[Pyramid]) -> list[Pyramid]:
        """Return the pyramids with every level of their specification present.

        Levels that are there stay as they are; derived levels are computed exactly from their
        source, sent or recovered. Any subset may be missing, even all of them.

        Args:
            pyramids: A batch; the sets of missing levels may differ.
        """

"""What became of every frame: sums that add up."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Tally:
    """Counts of frames by what became of them.

    ``captured + resumed = answered + dropped + failed + spooled + open``, always.

    Attributes:
        captured: Images that the source gave, readable or not.
        resumed: Frames that an earlier run had left in the spool.
        answered: Frames with detections.
        dropped: Frames that were not sent, by reason.
        failed: Frames that could not be made or have no answer, by the error's name.
        spooled: Frames that lie in the spool now.
        sent_again: Times that a frame was sent once more, from the spool or after a loss; such a
            frame counts once above.
        sent_bytes: Bytes of all frames sent, each time.
    """

    captured: int = 0
    resumed: int = 0
    answered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    spooled: int = 0
    sent_again: int = 0
    sent_bytes: int = 0

    @property
    def open(self) -> int:
        """Frames that wait or are on their way; 0 once all is over."""
        ended = self.answered + sum(self.dropped.values()) + sum(self.failed.values())
        return self.captured + self.resumed - ended - self.spooled

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "captured": self.captured,
            "resumed": self.resumed,
            "answered": self.answered,
            "dropped": dict(sorted(self.dropped.items())),
            "failed": dict(sorted(self.failed.items())),
            "spooled": self.spooled,
            "sent_again": self.sent_again,
            "sent_bytes": self.sent_bytes,
        }

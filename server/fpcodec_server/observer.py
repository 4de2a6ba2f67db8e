"""What the server tells of itself while it works; metrics are one listener."""

from __future__ import annotations


class Observer:
    """Hears everything and does nothing: the base of those that do.

    All methods are called in the event loop's thread and must not block. Times are in seconds.
    """

    def shed(self, reason: str) -> None:
        """A request was refused or dropped: ``full``, ``deadline``, ``expired``, .."""

    def set_queue(self, items: int, bytes: int) -> None:
        """So many requests and frame bytes wait."""

    def stage(self, name: str, seconds: float) -> None:
        """One request's ``queue``, ``decode``, ``reconstruct`` or ``head`` took so long."""

    def batch_run(self, size: int, seconds: float) -> None:
        """A batch was answered."""

    def decode_error(self, kind: str) -> None:
        """A frame could not be read; ``kind`` is the error's class."""

    def worker_lost(self) -> None:
        """A worker died."""

    def stream_opened(self) -> None:
        """A streaming call began."""

    def stream_closed(self) -> None:
        """A streaming call ended."""

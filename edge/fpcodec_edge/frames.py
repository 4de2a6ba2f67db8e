"""A camera's images and frames between capture and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec_edge.sources import SourceImage


@dataclass(frozen=True)
class CapturedImage:
    """An image that awaits the encoder.

    Attributes:
        number: Counts a camera's images from 0.
        item: As the source gave it.
        captured_s: When, in monotonic seconds.
        captured_at: When, in ISO 8601 with UTC.
    """

    number: int
    item: SourceImage
    captured_s: float
    captured_at: str

    @property
    def facts(self) -> dict[str, Any]:
        """What its line says of it in any case."""
        return {
            "frame": self.number,
            "source": self.item.name,
            "time_s": round(self.item.time_s, 3),
            "captured_at": self.captured_at,
        }


@dataclass(frozen=True)
class CodedFrame:
    """An encoded frame.

    Attributes:
        data: The ``.fpc`` frame.
        facts: What its line says besides the answer, JSON-able.
        chunk_bytes: Level name to the bytes of its chunk; empty where it came from a spool.
        captured_s: When its image was made; None where it came from a spool.
        sequence: Its place in the spool; None where it is not there.
        attempts: Times that it was sent.
    """

    data: bytes
    facts: Mapping[str, Any]
    chunk_bytes: Mapping[str, int]
    captured_s: float | None
    sequence: int | None = None
    attempts: int = 0

    def delivered_bytes(self, levels_used: tuple[str, ...]) -> int | None:
        """Bytes that an answer of these levels proves to have arrived; None for all."""
        used = [size for name, size in self.chunk_bytes.items() if name in levels_used]
        return None if not used or len(used) == len(self.chunk_bytes) else sum(used)

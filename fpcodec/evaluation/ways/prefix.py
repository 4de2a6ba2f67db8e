"""Send a whole frame of which only the first bytes arrive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.codecs.base import quality_byte
from fpcodec.errors import InputError
from fpcodec.evaluation.ways.base import Outcome, Scene, Workplace, stopwatch
from fpcodec.evaluation.ways.features import level_bytes
from fpcodec.pyramid import PyramidSpec


@dataclass(frozen=True)
class PrefixWay:
    """Send a frame of all levels and answer what has arrived of it by some moment.

    Attributes:
        quality: In [0, 1].
        chunks: Chunks that arrived whole, coarsest first; with 0 the header alone is there.
        part: Share of the next chunk's bytes that arrived too, in [0, 1).
        profile: The profile's label.
    """

    quality: float
    chunks: int
    part: float = 0.0
    profile: str = "fpc"
    kind: str = "prefix"

    def __post_init__(self) -> None:
        quality_byte(self.quality)
        if self.chunks < 0 or not 0 <= self.part < 1:
            raise InputError(
                f"{self.chunks} chunks and {self.part} of the next cannot arrive; give 0 or more "
                "chunks and a share in [0, 1)"
            )

    @property
    def name(self) -> str:
        """Such as ``fpc q0.5 first 1.5 chunks``."""
        return f"{self.profile} q{self.quality:g} first {self.chunks + self.part:g} chunks"

    @property
    def family(self) -> str:
        """Such as ``fpc first 1.5 chunks``."""
        return f"{self.profile} first {self.chunks + self.part:g} chunks"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Profile, quality, and what arrives."""
        return {
            "profile": self.profile,
            "quality": self.quality,
            "chunks": self.chunks,
            "part": self.part,
        }

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Encode all levels, cut the frame, and have the beginning answered.

        ``sent_bytes`` and ``level_bytes`` are what arrived.

        Raises:
            InputError: The profile's server takes whole frames alone.
        """
        opened = workplace.profile(self.profile)
        if opened.infer_partial is None:
            raise InputError(
                f"the server of profile {self.profile!r} takes whole frames alone; measure "
                "parts of frames with a server half in this process"
            )
        times = {"extract": scene.extract_ms}
        with stopwatch(times, "encode"):
            frame = opened.codec.encode(scene.pyramid, self.quality)
        parts = arrived_bytes(frame, opened.codec.spec, self.chunks, self.part)
        received = frame[: sum(parts.values())]
        answer = opened.infer_partial(received)
        return Outcome(
            answer.detections, len(received), parts, {**times, **answer.timings_ms},
            payload_bytes=len(received) - parts["header"],
        )  # fmt: skip


def arrived_bytes(
    frame: bytes, spec: PyramidSpec, chunks: int, part: float = 0.0
) -> dict[str, int]:
    """Bytes of each level's chunk in the beginning of a frame, and of the ``header``.

    Args:
        frame: A whole frame.
        spec: Of its pyramid.
        chunks: Chunks in the beginning, coarsest first.
        part: Share of the next chunk that is in it too.
    """
    sizes = level_bytes(frame, spec)
    header = sizes.pop("header")
    out = dict(list(sizes.items())[:chunks])
    for name, size in list(sizes.items())[chunks : chunks + 1]:
        out[name] = int(part * size)
    return {**out, "header": header}

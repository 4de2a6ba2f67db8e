"""Send the pyramid as a frame; the server half detects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from fpcodec.bitstream import chunk_bytes
from fpcodec.codecs.base import quality_byte
from fpcodec.evaluation.cost import coded_symbols
from fpcodec.evaluation.ways.base import Outcome, Scene, Workplace, stopwatch
from fpcodec.pyramid import PyramidSpec


@dataclass(frozen=True)
class FeaturesWay:
    """Encode the pyramid, send the frame, let the server half detect.

    All levels are extracted once per image, so the time of ``extract`` is that of all levels
    even where fewer are sent.

    Attributes:
        quality: In [0, 1].
        levels: Levels to send, finest first; None for all.
        profile: The profile's label.
    """

    quality: float
    levels: tuple[str, ...] | None = None
    profile: str = "fpc"
    kind: str = "features"

    def __post_init__(self) -> None:
        quality_byte(self.quality)

    @property
    def name(self) -> str:
        """Such as ``fpc q0.5 p3+p4+p5``."""
        return f"{self.profile} q{self.quality:g} {'+'.join(self.levels or ('all',))}"

    @property
    def family(self) -> str:
        """Such as ``fpc p3+p4+p5``."""
        return f"{self.profile} {'+'.join(self.levels or ('all',))}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Profile, quality and levels."""
        levels = None if self.levels is None else list(self.levels)
        return {"profile": self.profile, "quality": self.quality, "levels": levels}

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Encode the scene's pyramid and have the frame answered.

        Beside the server's own stages, ``answer`` is the wall-clock time until detections
        are there.
        """
        opened = workplace.profile(self.profile)
        pyramid, times = scene.pyramid, {"extract": scene.extract_ms}
        if opened.other_edge is not None:
            times = {}
            with stopwatch(times, "extract"):
                pyramid = opened.other_edge.extract(scene.image)
        with stopwatch(times, "encode"):
            frame = opened.codec.encode(pyramid, self.quality, self.levels)
        sent = perf_counter()
        answer = opened.infer(frame)
        times |= {**answer.timings_ms, "answer": 1000 * (perf_counter() - sent)}
        parts = level_bytes(frame, opened.codec.spec)
        return Outcome(
            answer.detections, len(frame), parts, times,
            payload_bytes=len(frame) - parts["header"],
            symbols=coded_symbols(opened.codec, pyramid, self.quality, self.levels),
        )  # fmt: skip


def level_bytes(frame: bytes, spec: PyramidSpec) -> dict[str, int]:
    """Bytes of each level's chunk in a frame, coarsest first, and of the ``header``.

    Raises:
        FormatError: The bytes are not a usable frame.
    """
    sizes = chunk_bytes(frame, spec.names)
    return {**sizes, "header": len(frame) - sum(sizes.values())}

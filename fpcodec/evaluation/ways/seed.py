"""The key-level study's method: send some levels, interpolate the rest.

The study (dbwp031/detectron2, "FPN level degradation") sends p3 and p5 of p2..p6. It takes p2 from
p3 and p4 by one of three candidates: 4-1, p3 resized down (``finer``); 4-2, p5 resized up
(``coarser``); 4-3, a weighted sum of both (``mix``, whose weights are fitted here). p6, which is an
exact function of p5, is computed exactly: that is in the study's favour.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.codecs.base import Limits, quality_byte
from fpcodec.errors import InputError
from fpcodec.evaluation.cost import coded_symbols
from fpcodec.evaluation.ways.base import OpenProfile, Outcome, Scene, Workplace, stopwatch
from fpcodec.evaluation.ways.features import level_bytes
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.interpolation import CANDIDATES, InterpolationRecoverer

SEED_LEVELS = ("p3", "p5")
SEED_CANDIDATES = CANDIDATES

# The study's frames are large by design: this measures them, no server takes them.
_LIMITS = Limits(max_frame_bytes=1 << 30, max_network_pixels=1 << 26, max_elements=1 << 30)


@dataclass(frozen=True)
class SeedWay:
    """Send some levels, raw or through a profile's codec, and interpolate the others.

    Attributes:
        profile: Label of the profile: its codec (the study's is ``uniform``) and its fitted
            weights, which ``mix`` needs, and every candidate where levels differ in channels.
        levels: Levels to send, finest first.
        candidate: Of ``finer``, ``coarser`` and ``mix``.
        quality: In [0, 1] for the profile's codec; None sends float32 as it is.
    """

    profile: str = "uniform"
    levels: tuple[str, ...] = SEED_LEVELS
    candidate: str = "mix"
    quality: float | None = None
    kind: str = "seed"

    def __post_init__(self) -> None:
        if self.candidate not in CANDIDATES:
            raise InputError(f"candidate {self.candidate!r} is not one of {', '.join(CANDIDATES)}")
        if not self.levels or len(set(self.levels)) != len(self.levels):
            raise InputError(f"levels {self.levels} are none or repeat; name each once")
        if self.quality is not None:
            quality_byte(self.quality)

    @property
    def name(self) -> str:
        """Such as ``seed mix q0.5 p3+p5`` or ``seed mix raw p3+p5``."""
        form = "raw" if self.quality is None else f"q{self.quality:g}"
        return f"seed {self.candidate} {form} {'+'.join(self.levels)}"

    @property
    def family(self) -> str:
        """Such as ``seed mix``, ``seed mix raw``; other levels than SEED_LEVELS are named."""
        words = ["seed", self.candidate]
        if self.quality is None:
            words.append("raw")
        if self.levels != SEED_LEVELS:
            words.append("+".join(self.levels))
        return " ".join(words)

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Candidate, quality, levels and profile."""
        return {
            "candidate": self.candidate,
            "quality": self.quality,
            "levels": list(self.levels),
            "profile": self.profile,
        }

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Send, recover and detect.

        Raises:
            InputError: A level is unknown or derived.
        """
        opened = workplace.profile(self.profile)
        names = opened.profile.spec.coded_names
        if not set(self.levels) <= set(names):
            raise InputError(f"levels {'+'.join(self.levels)} are not among {'+'.join(names)}")
        times = {"extract": scene.extract_ms}
        if self.quality is None:
            kept, sizes, symbols = self._send_raw(scene)
            times |= {"encode": 0.0, "decode": 0.0}
        else:
            kept, sizes, symbols = self._send_coded(scene, opened, self.quality, times)
        with stopwatch(times, "decode"):
            part = Pyramid(scene.pyramid.spec, kept, scene.pyramid.geometry)
            recoverer = InterpolationRecoverer(
                part.spec, opened.profile.recovery, self.candidate
            )  # fmt: skip
            full = recoverer.recover([part])[0]
        with stopwatch(times, "head"):
            found = workplace.detector.detect(full)
        sent = sum(sizes.values())
        payload = sent - sizes.get("header", 0)
        return Outcome(found, sent, sizes, times, payload_bytes=payload, symbols=symbols)

    def _send_raw(self, scene: Scene) -> tuple[dict[str, Any], dict[str, int], int | None]:
        kept = {name: scene.pyramid.levels[name] for name in self.levels}
        return kept, {name: values.nbytes for name, values in kept.items()}, None

    def _send_coded(
        self, scene: Scene, opened: OpenProfile, quality: float, times: dict[str, float]
    ) -> tuple[dict[str, Any], dict[str, int], int | None]:
        codec, pyramid = opened.codec, scene.pyramid
        with stopwatch(times, "encode"):
            frame = codec.encode(pyramid, quality, self.levels)
        with stopwatch(times, "decode"):
            decoded = codec.decode(frame, _LIMITS)
            received = codec.reconstruct([decoded], [pyramid.geometry])[0]
        kept = {name: received.levels[name] for name in self.levels}
        symbols = coded_symbols(codec, pyramid, quality, self.levels)
        return kept, level_bytes(frame, codec.spec), symbols

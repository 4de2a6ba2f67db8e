"""Send the picture as an image file; the server runs the whole detector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.evaluation.rivals.containers import container_bytes
from fpcodec.evaluation.rivals.pictures import PictureFormat, decode_picture, detect_in_picture
from fpcodec.evaluation.ways.base import Outcome, Scene, Workplace, stopwatch


@dataclass(frozen=True)
class PictureWay:
    """Send the picture as an image file and run the whole detector on the server.

    Attributes:
        format: Codec, quality, chroma and size.
    """

    format: PictureFormat
    kind: str = "picture"

    @classmethod
    def parse(cls, text: str) -> PictureWay:
        """Read ``webp``, ``jpeg:60:444`` or ``avif:50@0.75``; see ``PictureFormat.parse``."""
        return cls(PictureFormat.parse(text))

    @property
    def name(self) -> str:
        """Such as ``webp q80``."""
        return self.format.name

    @property
    def family(self) -> str:
        """Such as ``avif 4:4:4 @0.75``."""
        return self.format.family

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Codec, quality, chroma, size and what the encoder was told."""
        chosen = self.format
        return {
            "codec": chosen.codec,
            "quality": chosen.quality,
            "chroma": chosen.chroma,
            "size": chosen.size,
            "encoder": chosen.encoder_options,
        }

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Encode, decode and detect; the resizing before is not timed."""
        chosen = self.format
        if chosen.size == "network":
            picture = scene.picture
        else:
            picture = chosen.picture(scene.image, scene.pyramid.geometry)
        times: dict[str, float] = {}
        with stopwatch(times, "encode"):
            data = chosen.encode(picture)
        with stopwatch(times, "decode"):
            received = decode_picture(data)
        with stopwatch(times, "detect"):
            found = detect_in_picture(workplace.detector, received, scene.image_size)
        payload = len(data) - container_bytes(data)
        return Outcome(found, len(data), {}, times, payload_bytes=payload)

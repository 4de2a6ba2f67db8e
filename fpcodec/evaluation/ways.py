"""Ways to get one image's detections over a link: features, the picture, or the boxes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from time import perf_counter
from typing import Any, Protocol

from fpcodec.bitstream import chunk_bytes
from fpcodec.codecs.base import Codec
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError
from fpcodec.evaluation.rivals import (
    PictureFormat,
    content_picture,
    decode_picture,
    detect_in_picture,
    pack_boxes,
    unpack_boxes,
)
from fpcodec.pyramid import Pyramid, PyramidSpec


@dataclass(frozen=True)
class Scene:
    """One image with what every way shares: its pyramid and the unsplit detections.

    Attributes:
        image: Shape (H, W, 3), uint8, RGB.
        pyramid: All coded levels, extracted once.
        unsplit: Detections without any codec.
        extract_ms: What the extraction took.
        head_ms: What the head took.
    """

    image: Image
    pyramid: Pyramid
    unsplit: Detections
    extract_ms: float
    head_ms: float

    @cached_property
    def picture(self) -> Image:
        """The picture at the network's own size, resized once for all picture formats."""
        return content_picture(self.image, self.pyramid.geometry)

    @property
    def image_size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True)
class Outcome:
    """What one way did with one image.

    Attributes:
        detections: In pixels of the original image.
        sent_bytes: Everything that went to the server, without transport headers.
        level_bytes: The part of each level, where there are levels, and of the ``header``.
        times_ms: Stage to milliseconds.
    """

    detections: Detections
    sent_bytes: int
    level_bytes: Mapping[str, int] = field(default_factory=dict)
    times_ms: Mapping[str, float] = field(default_factory=dict)


class Answer(Protocol):
    """What a server half says about one frame."""

    @property
    def detections(self) -> Detections:
        """Boxes in pixels of the original image."""

    @property
    def timings_ms(self) -> Mapping[str, float]:
        """Stage (decode, reconstruct, head) to milliseconds."""


class Way(Protocol):
    """One way at one setting."""

    @property
    def name(self) -> str:
        """Unique within a run, for people."""

    @property
    def kind(self) -> str:
        """``features``, ``picture`` or ``boxes``."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The setting, JSON-able."""

    def run(self, scene: Scene) -> Outcome:
        """Do it for one image."""


@dataclass(frozen=True)
class FeaturesWay:
    """Encode the pyramid, send the frame, let the server half detect.

    All levels are extracted once per image, so the time of ``extract`` is that of all levels
    even where fewer are sent.

    Attributes:
        codec: The profile's.
        infer: The server half: in-process or over a network.
        quality: In [0, 1].
        levels: Levels to send; None for all.
    """

    codec: Codec
    infer: Callable[[bytes], Answer]
    quality: float
    levels: tuple[str, ...] | None = None
    kind: str = "features"

    @property
    def name(self) -> str:
        """Such as ``fpc q0.5 p3+p4+p5``."""
        return f"fpc q{self.quality:g} {'+'.join(self.levels) if self.levels else 'all'}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Codec id, stream id, quality and levels."""
        levels = None if self.levels is None else list(self.levels)
        return {
            "codec_id": self.codec.codec_id,
            "stream_id": self.codec.stream_id.hex(),
            "quality": self.quality,
            "levels": levels,
        }

    def run(self, scene: Scene) -> Outcome:
        """Encode the scene's pyramid and have the frame answered.

        Beside the server's own stages, ``answer`` is all the time from sending to detections.
        """
        start = perf_counter()
        frame = self.codec.encode(scene.pyramid, self.quality, self.levels)
        encoded = perf_counter()
        answer = self.infer(frame)
        times = {
            "extract": scene.extract_ms,
            "encode": 1000 * (encoded - start),
            **answer.timings_ms,
            "answer": 1000 * (perf_counter() - encoded),
        }
        return Outcome(answer.detections, len(frame), level_bytes(frame, self.codec.spec), times)


@dataclass(frozen=True)
class PictureWay:
    """Send the picture as an image file and run the whole detector on the server."""

    detector: Detector
    format: PictureFormat
    kind: str = "picture"

    @property
    def name(self) -> str:
        """Such as ``webp q80``."""
        return f"{self.format.name} q{self.format.quality}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Format and quality."""
        return {"format": self.format.name, "quality": self.format.quality}

    def run(self, scene: Scene) -> Outcome:
        """Encode, decode and detect."""
        picture = scene.picture
        start = perf_counter()
        data = self.format.encode(picture)
        encoded = perf_counter()
        received = decode_picture(data)
        decoded = perf_counter()
        found = detect_in_picture(self.detector, received, scene.image_size)
        done = perf_counter()
        times = {
            "encode": 1000 * (encoded - start),
            "decode": 1000 * (decoded - encoded),
            "detect": 1000 * (done - decoded),
        }
        return Outcome(found, len(data), {}, times)


@dataclass(frozen=True)
class BoxesWay:
    """Run the whole detector on the edge and send its boxes."""

    min_score: float = 0.05
    kind: str = "boxes"

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise InputError(f"boxes' least score {self.min_score} is not in [0, 1]")

    @property
    def name(self) -> str:
        """Such as ``boxes 0.05``."""
        return f"boxes {self.min_score:g}"

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The least score."""
        return {"min_score": self.min_score}

    def run(self, scene: Scene) -> Outcome:
        """Pack and unpack the unsplit detections."""
        start = perf_counter()
        data = pack_boxes(scene.unsplit, scene.image_size, self.min_score)
        packed = perf_counter()
        found = unpack_boxes(data)
        times = {
            "encode": 1000 * (packed - start),
            "decode": 1000 * (perf_counter() - packed),
        }
        return Outcome(found, len(data), {}, times)


def level_bytes(frame: bytes, spec: PyramidSpec) -> dict[str, int]:
    """Bytes of each level's chunk in a frame, coarsest first, and of the ``header``.

    Raises:
        FormatError: The bytes are not a usable frame.
    """
    sizes = chunk_bytes(frame, spec.names)
    return {**sizes, "header": len(frame) - sum(sizes.values())}


def rival_ways(detector: Detector, names: Sequence[str]) -> tuple[Way, ...]:
    """Rivals by name: ``boxes``, ``boxes:0.1``, ``webp``, ``jpeg:60`` and so on.

    Raises:
        InputError: A name is unknown or its number is out of range.
    """
    return tuple(_rival(detector, name) for name in names)


def _rival(detector: Detector, name: str) -> Way:
    kind, colon, value = name.partition(":")
    if kind != "boxes":
        return PictureWay(detector, PictureFormat.parse(name))
    try:
        return BoxesWay(float(value)) if colon else BoxesWay()
    except ValueError as error:
        raise InputError(f"rival {name!r} has no usable least score; use boxes:0.05") from error

"""Everything the page computes for one picture; no web server is needed for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.bitstream import chunk_bytes, frame_quality
from fpcodec.codecs.bit_maps import bit_maps
from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import Agreement, agreement, has_counterpart
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.evaluation.rivals.boxes import pack_boxes
from fpcodec.evaluation.ways.base import Answer
from fpcodec.explain.heatmaps import normalised, to_image
from fpcodec.levels import AutoLevels, scale_levels
from fpcodec.profile import Profile
from fpcodec.pyramid import Array, ImageGeometry, Pyramid
from fpcodec.split import DEFAULT_QUALITY, ServerHalf
from fpcodec.ui.operating_point import OperatingPoint
from fpcodec.ui.rivals import MIN_SCORE, PictureFile, picture_files

if TYPE_CHECKING:
    from fpcodec.codecs.chunked import ChunkedCodec

SHOWN_SIDE = 640
"""Longer side of the pictures on the page, in pixels."""

SAME_BOX_IOU = 0.7
"""Overlap from which on a box found with gradients is the one that was asked for."""

BOXES_MIN_SCORE = 0.05
"""Boxes below are not in the packet of boxes alone, as in the benchmarks."""


@dataclass
class Subject:
    """One picture, with what no control changes.

    Attributes:
        name: For people.
        image: Shape (H, W, 3), uint8, RGB.
        pyramid: The edge's features, all coded levels.
        unsplit: What the whole detector finds.
        boxes_bytes: What its boxes alone take.
        files: Picture files of it; empty until they were made.
        seen: What a full frame's answer held, for ``auto``; None until it is needed.
    """

    name: str
    image: Image
    pyramid: Pyramid
    unsplit: Detections
    boxes_bytes: int
    files: list[PictureFile] = field(default_factory=list)
    seen: Detections | None = None

    @cached_property
    def shown(self) -> Image:
        """The picture as the page shows it: its longer side has SHOWN_SIDE pixels."""
        picture = PillowImage.fromarray(self.image)
        return np.array(picture.resize(self.geometry.image_size, PillowImage.Resampling.BICUBIC))

    @cached_property
    def scale(self) -> float:
        """Shown pixels per image pixel."""
        return float(SHOWN_SIDE / max(self.image.shape[:2]))

    @cached_property
    def geometry(self) -> ImageGeometry:
        """Of the shown picture in the network's input."""
        height, width = self.image.shape[:2]
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        return replace(self.pyramid.geometry, image_size=size)


@dataclass(frozen=True)
class LevelReport:
    """What became of one level.

    Attributes:
        name: Of the level.
        stride: Network pixels per cell.
        fate: ``sent``, ``recovered`` or ``derived``.
        source: The level that it is derived from; empty for the others.
        sent_bytes: Of its chunk; 0 where it was not sent.
        edge: Mean activation of each cell at the edge, shape (H, W); None where the edge has none.
        server: The same as the server sees it.
    """

    name: str
    stride: int
    fate: str
    source: str
    sent_bytes: int
    edge: Array | None
    server: Array


@dataclass(frozen=True)
class Reasons:
    """Why a detection is what it is, by ODAM.

    Attributes:
        level: The level it came from.
        heat: Shape (height, width) of the shown picture, in [0, 1].
        shares: Level to its part of the score's absolute gradient; they sum to one.
    """

    level: str
    heat: Array
    shares: Mapping[str, float]


@dataclass(frozen=True)
class Result:
    """One picture at one operating point.

    Attributes:
        point: The controls.
        frame: The ``.fpc`` frame.
        quality: That was asked for, or found for the budget.
        found: The split detections.
        levels: A report on every level, finest first.
        pyramid: The levels as the server has them.
        geometry: Of the shown picture.
        agreed: Agreement of the split detections with the unsplit ones.
        split_confirmed: Per split box, whether the whole detector has it too.
        unsplit_confirmed: Per unsplit box, whether the split detector has it too.
        bits: Level name to bits per position, (H, W).
        took_ms: Coding, answer, recovery and this report together.
    """

    point: OperatingPoint
    frame: bytes
    quality: float
    found: Detections
    levels: tuple[LevelReport, ...]
    pyramid: Pyramid
    geometry: ImageGeometry
    agreed: Agreement
    split_confirmed: npt.NDArray[np.bool_]
    unsplit_confirmed: npt.NDArray[np.bool_]
    bits: Mapping[str, Array]
    took_ms: float

    @property
    def header_bytes(self) -> int:
        """Bytes of the frame outside its levels."""
        return len(self.frame) - sum(level.sent_bytes for level in self.levels)

    @cached_property
    def bits_per_pixel(self) -> Array:
        """Bits per pixel of the network's input, over the shown picture, all levels added up."""
        width, height = self.geometry.image_size
        total = np.zeros((height, width), np.float32)
        for name, bits in self.bits.items():
            stride = self.pyramid.spec[name].stride
            total += to_image(bits / np.float32(stride**2), self.geometry, stride)
        return total


class Workbench:
    """A profile at work on pictures; one thread at a time may use it.

    Args:
        profile: Codec and detector, with both its halves.
        threads: Threads of the networks; None for the runtime's choice.
        infer: Takes a frame to a server half elsewhere; None for one in this process.

    Raises:
        ModelError: A half of the detector is missing.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        threads: int | None = None,
        infer: Callable[[bytes], Answer] | None = None,
    ) -> None:
        self.profile = profile
        self.detector = profile.open_detector("both", threads)
        self._codec = cast("ChunkedCodec", profile.open_codec(threads))
        self._infer = infer or ServerHalf(profile, threads=threads).infer
        self._predictor: Callable[[Pyramid], Any] | None = None

    def open(self, name: str, image: Image) -> Subject:
        """Run the whole detector on a picture; its features are kept.

        Raises:
            InputError: The picture is too large or too narrow for the detector.
        """
        pyramid = self.detector.extract(image)
        unsplit = self.detector.detect(pyramid)
        packed = pack_boxes(unsplit, pyramid.geometry.image_size, BOXES_MIN_SCORE)
        return Subject(name, image, pyramid, unsplit, len(packed))

    def compare(self, subject: Subject) -> Iterator[int]:
        """Make the subject's picture files, one at a time; yields how many there are."""
        if subject.files:
            return
        files: list[PictureFile] = []
        for file in picture_files(
            self.detector, subject.image, subject.pyramid.geometry, subject.unsplit
        ):
            files.append(file)
            yield len(files)
        subject.files = files

    def run(self, subject: Subject, point: OperatingPoint) -> Result:
        """Code the kept features at an operating point, and see what the server makes of them.

        Raises:
            InputError: The budget is below the smallest frame.
            TransportError: A server elsewhere gave no answer.
        """
        start = time.perf_counter()
        levels = self._levels(subject, point)
        frame = self._codec.encode(
            subject.pyramid, point.quality, levels, max_bytes=point.max_bytes
        )
        answer = self._infer(frame)
        decoded = self._codec.decode(frame)
        (pyramid,) = self._codec.reconstruct([decoded], [subject.pyramid.geometry])
        sizes = chunk_bytes(frame, self.profile.spec.names)
        found = answer.detections
        return Result(
            point, frame, frame_quality(frame) / 255, found,
            tuple(_report(x, subject.pyramid, pyramid, sizes) for x in self.profile.spec.names),
            pyramid, subject.geometry,
            agreement(subject.unsplit, found, min_score=MIN_SCORE),
            has_counterpart(found, subject.unsplit, min_score=MIN_SCORE),
            has_counterpart(subject.unsplit, found, min_score=MIN_SCORE),
            bit_maps(self._codec, frame, decoded), 1e3 * (time.perf_counter() - start),
        )  # fmt: skip

    def explain(self, subject: Subject, pyramid: Pyramid, box: npt.NDArray[np.float32]) -> Reasons:
        """ODAM's map of one detection.

        Args:
            subject: The picture.
            pyramid: That the detection was made from: the edge's, or the server's.
            box: Of the detection, ``x1 y1 x2 y2`` in image pixels.

        Raises:
            MissingDependency: torch is not installed.
            ModelError: The detector has no gradients.
            InputError: There is no such detection.
        """
        from fpcodec.explain.odam import explain
        from fpcodec.explain.predictions import open_predictor

        if self._predictor is None:
            self._predictor = open_predictor(self.detector)
        predictions = self._predictor(pyramid)
        overlaps = iou_matrix(to_xywh(box[None]), to_xywh(predictions.detections.boxes))
        if not overlaps.size or overlaps.max() < SAME_BOX_IOU:
            raise InputError("this detection is not there any more; choose another")
        found = explain(predictions, int(overlaps.argmax()))
        heat = normalised(to_image(found.combined(), subject.geometry, found.stride))
        return Reasons(found.level, heat, found.shares)

    def _levels(self, subject: Subject, point: OperatingPoint) -> tuple[str, ...] | None:
        """None for all: then a budget may leave the finest out."""
        if point.levels == "scales":
            return scale_levels(self.profile, point.scales)
        if point.levels == "all":
            return None
        if subject.seen is None:
            full = self._codec.encode(subject.pyramid, DEFAULT_QUALITY)
            subject.seen = self._infer(full).detections
        auto = AutoLevels(self.profile)
        auto.next()
        auto.observe(subject.seen)
        return auto.next()


def _report(name: str, edge: Pyramid, server: Pyramid, sizes: Mapping[str, int]) -> LevelReport:
    level, extracted = server.spec[name], edge.levels.get(name)
    return LevelReport(
        name,
        level.stride,
        "sent" if name in sizes else "derived" if level.derived_from else "recovered",
        level.derived_from or "",
        sizes.get(name, 0),
        None if extracted is None else _activation(extracted),
        _activation(server.levels[name]),
    )


def _activation(features: Array) -> Array:
    """How much goes on in each cell: the channels' mean magnitude, shape (H, W)."""
    return np.asarray(np.abs(features).mean(axis=0), np.float32)

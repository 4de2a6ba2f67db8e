"""Everything the page computes for one picture; no web server is needed for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fpcodec.bitstream import chunk_bytes, frame_quality
from fpcodec.codecs.bit_maps import bit_maps
from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import agreement, has_counterpart
from fpcodec.evaluation.matching import iou_matrix, to_xywh
from fpcodec.evaluation.rivals.boxes import pack_boxes
from fpcodec.evaluation.ways.base import Answer
from fpcodec.explain.heatmaps import normalised, to_image
from fpcodec.levels import AutoLevels, scale_levels
from fpcodec.profile import Profile
from fpcodec.pyramid import Array, Pyramid
from fpcodec.split import DEFAULT_QUALITY, ServerHalf
from fpcodec.ui.operating_point import OperatingPoint
from fpcodec.ui.results import LevelReport, Reasons, Result, Subject
from fpcodec.ui.rivals import BOXES_MIN_SCORE, MIN_SCORE, PictureFile, picture_files

if TYPE_CHECKING:
    from fpcodec.codecs.chunked import ChunkedCodec

SAME_BOX_IOU = 0.7
"""Overlap from which on a box found with gradients is the one that was asked for."""


class Workbench:
    """A profile at work on pictures; comparing and explaining may each have a thread.

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

        A budget below the smallest frame gives that frame.

        Raises:
            TransportError: A server elsewhere gave no answer.
        """
        start = time.perf_counter()
        frame = self._encode(subject, point)
        answer = self._infer(frame)
        decoded = self._codec.decode(frame)
        (pyramid,) = self._codec.reconstruct([decoded], [subject.pyramid.geometry])
        sizes = chunk_bytes(frame, self.profile.spec.names)
        found = answer.detections
        return Result(
            frame, frame_quality(frame) / 255, found,
            tuple(_report(x, subject.pyramid, pyramid, sizes) for x in self.profile.spec.names),
            pyramid, subject.geometry,
            agreement(subject.unsplit, found, min_score=MIN_SCORE),
            has_counterpart(found, subject.unsplit, min_score=MIN_SCORE),
            has_counterpart(subject.unsplit, found, min_score=MIN_SCORE),
            bit_maps(self._codec, frame, decoded), 1e3 * (time.perf_counter() - start),
        )  # fmt: skip

    def explain(self, subject: Subject, pyramid: Pyramid, found: Detections, i: int) -> Reasons:
        """ODAM's map of one detection.

        Args:
            subject: The picture.
            pyramid: That the detections were made from: the edge's, or the server's.
            found: All that were made from it.
            i: Which of them.

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
        again = predictions.detections
        overlaps = iou_matrix(to_xywh(found.boxes[i : i + 1]), to_xywh(again.boxes))[0]
        overlaps = overlaps * (again.labels == found.labels[i])
        if not overlaps.size or overlaps.max() < SAME_BOX_IOU:
            raise InputError("gradients find no such detection; choose another")
        explanation = explain(predictions, int(overlaps.argmax()))
        heat = to_image(explanation.combined(), subject.geometry, explanation.stride)
        return Reasons(explanation.level, normalised(heat))

    def _encode(self, subject: Subject, point: OperatingPoint) -> bytes:
        levels = self._levels(subject, point)
        if point.max_bytes is not None:
            smallest = self._codec.encode(
                subject.pyramid, 0.0,
                self.profile.spec.coded_names[-1:] if levels is None else levels,
            )  # fmt: skip
            if len(smallest) >= point.max_bytes:
                return smallest
        return self._codec.encode(subject.pyramid, point.quality, levels, max_bytes=point.max_bytes)

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

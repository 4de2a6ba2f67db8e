"""The other ways of sending one picture, at several qualities, for the page's bar chart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import MissingDependency
from fpcodec.evaluation.agreement import agreement
from fpcodec.evaluation.rivals.pictures import PictureFormat, decode_picture, detect_in_picture
from fpcodec.pyramid import ImageGeometry

FORMATS = {
    "webp": (10, 35, 60, 85),
    "jpeg": (20, 45, 70, 90),
    "avif": (30, 45, 60, 75),
}
"""Picture codec to the qualities that are tried, from few bytes to many."""

FILES = sum(map(len, FORMATS.values()))

MIN_SCORE = 0.3
"""Boxes below are neither drawn nor counted."""

BOXES_MIN_SCORE = 0.05
"""Boxes below are not in the packet of boxes alone, as in the benchmarks."""


@dataclass(frozen=True)
class PictureFile:
    """One picture file of the subject.

    Attributes:
        name: Such as ``webp q60``.
        codec: A key of FORMATS.
        sent_bytes: Of the file.
        f1: Agreement of what is found in it with what the whole detector finds in the picture.
    """

    name: str
    codec: str
    sent_bytes: int
    f1: float


@dataclass(frozen=True)
class Rival:
    """The file of a picture codec that stands beside a frame.

    Attributes:
        file: The smallest that agrees as well as the frame, or else the one that agrees best.
        is_equal: Whether it agrees as well.
    """

    file: PictureFile
    is_equal: bool


def picture_files(
    detector: Detector, image: Image, geometry: ImageGeometry, unsplit: Detections
) -> Iterator[PictureFile]:
    """Code a picture at the network's input size, and run the whole detector on each file.

    Codecs that this Pillow lacks are left out.

    Args:
        detector: With both halves.
        image: Shape (H, W, 3), uint8, RGB.
        geometry: The detector's for this image.
        unsplit: What the whole detector finds in it.
    """
    for codec, qualities in FORMATS.items():
        for quality in qualities:
            chosen = PictureFormat(codec, quality)
            try:
                data = chosen.encode(chosen.picture(image, geometry))
            except MissingDependency:
                break
            found = detect_in_picture(detector, decode_picture(data), geometry.image_size)
            f1 = agreement(unsplit, found, min_score=MIN_SCORE).f1
            yield PictureFile(chosen.name, codec, len(data), f1)


def choose_rivals(files: Sequence[PictureFile], f1: float) -> list[Rival]:
    """One file per picture codec, to be compared with a frame of this agreement."""
    chosen = []
    for codec in dict.fromkeys(file.codec for file in files):
        of_codec = [file for file in files if file.codec == codec]
        equal = [file for file in of_codec if file.f1 >= f1]
        if equal:
            chosen.append(Rival(min(equal, key=lambda x: x.sent_bytes), True))
        else:
            chosen.append(Rival(max(of_codec, key=lambda x: (x.f1, -x.sent_bytes)), False))
    return chosen

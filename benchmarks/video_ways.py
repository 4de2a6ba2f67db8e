"""The ways to send a clip that ``video_coding`` compares: each gives bytes and detections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fpcodec.codecs.base import Codec, Decoded
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.video_coding import load_av
from fpcodec.evaluation.rivals.video_stream import StreamSetting, decode_stream, encode_stream
from fpcodec.pyramid import Pyramid
from fpcodec.video import VideoConfig, VideoDecoder, VideoEncoder

_BATCH = 8


@dataclass(frozen=True)
class Clip:
    """What every way starts from.

    Attributes:
        name: Of the file.
        rate: Frames per second.
        pictures: At the network's content size, shape (H, W, 3), uint8, RGB.
        pyramids: Of the original pictures.
        wanted: The unsplit detector's detections of the original pictures.
        width: Of the original pictures.
    """

    name: str
    rate: float
    pictures: Sequence[Image]
    pyramids: Sequence[Pyramid]
    wanted: Sequence[Detections]
    width: int

    def every(self, step: int) -> Clip:
        """The clip at a lower rate."""
        return Clip(
            self.name, self.rate / step, self.pictures[::step], self.pyramids[::step],
            self.wanted[::step], self.width,
        )  # fmt: skip


def load_clip(path: Path, detector: Detector, limit: int) -> Clip:
    """Decode a clip's first frames and run the unsplit detector on them.

    Raises:
        InputError: The file is no clip.
    """
    pictures, pyramids, wanted, width = [], [], [], 0
    rate, frames = _frames(path)
    for index, frame in enumerate(frames):
        if index >= limit:
            break
        pyramid = detector.extract(frame)
        size = pyramid.geometry.content_size
        pyramids.append(pyramid)
        wanted.append(detector.detect(pyramid))
        pictures.append(_resized(frame, size))
        width = frame.shape[1]
    if not pictures:
        raise InputError(f"{path} holds no pictures; give a video file")
    return Clip(path.stem, rate, pictures, pyramids, wanted, width)


def _frames(path: Path) -> tuple[float, Iterator[Image]]:
    av = load_av()
    try:
        container = av.open(str(path))
        stream = container.streams.video[0]
    except (OSError, av.error.FFmpegError, IndexError) as error:
        raise InputError(f"{path} cannot be read as a video: {error}") from error
    rate = float(stream.average_rate or Fraction(25))
    return rate, (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))


def _resized(picture: Image, size: tuple[int, int]) -> Image:
    if (picture.shape[1], picture.shape[0]) == size:
        return picture
    image = PillowImage.fromarray(picture)
    return np.asarray(image.resize(size, PillowImage.Resampling.BILINEAR))


def frame_by_frame(
    clip: Clip, codec: Codec, detector: Detector, quality: float
) -> tuple[list[int], list[Detections]]:
    """Every picture a frame of its own."""
    frames = [codec.encode(pyramid, quality) for pyramid in clip.pyramids]
    decoded = [codec.decode(frame) for frame in frames]
    return [len(frame) for frame in frames], _detect(clip, codec, detector, decoded)


def video_mode(
    clip: Clip, codec: Codec, detector: Detector, quality: float, config: VideoConfig
) -> tuple[list[int], list[Detections]]:
    """Inter frames between refresh frames."""
    encoder, decoder = VideoEncoder(codec, config), VideoDecoder(codec)
    frames = [encoder.encode(pyramid, quality) for pyramid in clip.pyramids]
    decoded = [decoder.decode(frame) for frame in frames]
    return [len(frame) for frame in frames], _detect(clip, codec, detector, decoded)


def _detect(
    clip: Clip, codec: Codec, detector: Detector, decoded: Sequence[Decoded]
) -> list[Detections]:
    out: list[Detections] = []
    for start in range(0, len(decoded), _BATCH):
        part = decoded[start : start + _BATCH]
        geometries = [x.geometry for x in clip.pyramids[start : start + _BATCH]]
        out += [detector.detect(pyramid) for pyramid in codec.reconstruct(part, geometries)]
    return out


def video_coder(
    clip: Clip, detector: Detector, setting: StreamSetting, scale: float
) -> tuple[list[int], list[Detections]]:
    """Pictures at the network's size, or a share of it, through a video coder."""
    height, width = clip.pictures[0].shape[:2]
    size = (_even(width * scale), _even(height * scale))
    packets = encode_stream((_resized(picture, size) for picture in clip.pictures), setting)
    found = []
    for picture in decode_stream(packets, setting):
        one = detector.detect(detector.extract(picture))
        found.append(_scaled(one, clip.width / size[0]))
    return [len(packet) for packet in packets], found


def _even(side: float) -> int:
    return 2 * round(side / 2)


def _scaled(detections: Detections, factor: float) -> Detections:
    """Detections in pixels of the original picture."""
    boxes: Any = detections.boxes * np.float32(factor)
    return Detections(np.asarray(boxes, np.float32), detections.scores, detections.labels)

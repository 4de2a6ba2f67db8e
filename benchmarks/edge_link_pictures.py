"""The rival on the same link: a camera that sends WebP, and a server that runs the whole detector.

Everything but the frame is the product's own: stream, rate control, queue, server. The picture is
sent at the network's input size, as everywhere in these benchmarks.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fpcodec.detectors.base import Detector, Image
from fpcodec.errors import FpcodecError, InputError, Truncated
from fpcodec.evaluation.rivals.pictures import (
    PictureFormat,
    content_picture,
    decode_picture,
    detect_in_picture,
)
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.split import EncodedFrame, ServerAnswer
from fpcodec_server.halves import Halves

_SIZE = struct.Struct("<HH")
"""Before the picture: the original image's width and height, which boxes are in."""


class PictureEncoder:
    """Makes WebP of images, at a quality or within a number of bytes.

    Args:
        detector: Says how large the network's input is.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector, self._last = detector, 50
        self._no_pyramid = Pyramid(detector.spec, {}, detector.geometry((1, 1)))

    def encode(
        self,
        image: Image,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> EncodedFrame:
        """See ``FrameEncoder.encode``; a budget is searched with real files."""
        start_s = time.perf_counter()
        height, width = image.shape[:2]
        picture = content_picture(image, self._detector.geometry((width, height)))
        if max_bytes is not None:
            best, found = self._within(picture, max_bytes - _SIZE.size)
            self._last = best
        else:
            best, found = self._at(picture, round(100 * (quality or 0.0)))
        data = _SIZE.pack(width, height) + found
        encode_ms = 1000 * (time.perf_counter() - start_s)
        sizes, times = {"picture": len(data)}, {"encode": encode_ms}
        return EncodedFrame(data, sizes, times, self._no_pyramid, best / 100)

    def _within(self, picture: Image, max_bytes: int) -> tuple[int, bytes]:
        """The best quality that fits; a few files, as images of a camera resemble each other."""
        low, high, found = -1, 101, b""
        quality, step = self._last, 1
        while high - low > 1:
            data = self._at(picture, quality)[1]
            if len(data) <= max_bytes:
                low, found = quality, data
            else:
                high = quality
            # Away from the last quality in growing steps, until it lies between two.
            if low < 0:
                quality, step = max(high - step, 0), 2 * step
            elif high > 100:
                quality, step = min(low + step, 100), 2 * step
            else:
                quality = (low + high) // 2
        if low < 0:
            self._last = 0
            raise InputError(f"{max_bytes} bytes are below the smallest picture")
        return low, found

    def _at(self, picture: Image, quality: int) -> tuple[int, bytes]:
        return quality, PictureFormat("webp", quality).encode(picture)


class PictureHalf:
    """The server's half of the rival: a WebP file to detections.

    Args:
        detector: Both halves.
    """

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def infer_batch(
        self,
        frames: Sequence[bytes],
        partial: Sequence[bool],
        checkpoints: Sequence[Callable[[], None]],
    ) -> list[ServerAnswer | FpcodecError]:
        """See ``InferenceHalf.infer_batch``."""
        return [self._infer(frame) for frame in frames]

    def _infer(self, frame: bytes) -> ServerAnswer | FpcodecError:
        start_s = time.perf_counter()
        try:
            size = _SIZE.unpack_from(frame)
            picture = decode_picture(frame[_SIZE.size :])
        except (struct.error, FpcodecError) as error:
            return Truncated(f"{len(frame)} bytes are no picture ({error}); send it again")
        decoded_s = time.perf_counter()
        found = detect_in_picture(self._detector, picture, (size[0], size[1]))
        done_s = time.perf_counter()
        times = {
            "decode": 1000 * (decoded_s - start_s),
            "reconstruct": 0.0,
            "head": 1000 * (done_s - decoded_s),
        }
        return ServerAnswer(found, ("picture",), (), {}, times)


@dataclass(frozen=True)
class LoadPictureHalves:
    """What the rival's server runs, made where its worker is.

    Attributes:
        profile: Folder of the profile whose detector is used.
        threads: Threads of the network.
    """

    profile: Path
    threads: int

    def __call__(self) -> Halves:
        """Load the whole detector."""
        profile = Profile.load(self.profile)
        half = PictureHalf(profile.open_detector("both", self.threads))
        return Halves({profile.stream_id: half})

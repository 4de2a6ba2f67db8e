"""The two halves of one detection: image to frame on the edge, frame to detections behind it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fpcodec.bitstream import chunk_bytes
from fpcodec.codecs.base import Limits
from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid

DEFAULT_QUALITY = 0.5
"""In [0, 1], where neither a quality nor a budget is given."""


@dataclass(frozen=True)
class EncodedFrame:
    """What the edge sends for one image.

    Attributes:
        data: The ``.fpc`` frame.
        chunk_bytes: Level name to the bytes of its chunk.
        timings_ms: ``extract`` and ``encode``.
        pyramid: The features before coding, with the levels that were extracted.
    """

    data: bytes
    chunk_bytes: Mapping[str, int]
    timings_ms: Mapping[str, float]
    pyramid: Pyramid


@dataclass(frozen=True)
class ServerAnswer:
    """What the server makes of one frame.

    Attributes:
        detections: In pixels of the original image.
        levels_used: Levels decoded from the frame, finest first.
        levels_recovered: Levels predicted or derived, finest first.
        levels_ignored: Level name to the reason why its chunk was not used.
        timings_ms: ``decode``, ``reconstruct`` and ``head``.
    """

    detections: Detections
    levels_used: tuple[str, ...]
    levels_recovered: tuple[str, ...]
    levels_ignored: Mapping[str, str]
    timings_ms: Mapping[str, float]


class EdgeHalf:
    """Backbone, pyramid and encoder.

    Args:
        profile: The codec and its detector.
        threads: Threads of the network; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.
    """

    def __init__(
        self, profile: Profile, *, threads: int | None = None, providers: Sequence[str] = ()
    ) -> None:
        self.profile = profile
        self.detector = profile.open_detector("edge", threads, providers)
        self.codec = profile.open_codec(threads, providers)

    def encode(
        self,
        image: Image,
        *,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        max_bytes: int | None = None,
    ) -> EncodedFrame:
        """Turn one image into a frame.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            quality: In [0, 1]; None for 0.5, or for what ``max_bytes`` has room for.
            levels: Key levels; None for all. Only what they need is computed.
            max_bytes: Longest frame, in place of a quality.

        Raises:
            InputError: The image, the quality, a level or the budget cannot be used.
        """
        if quality is None and max_bytes is None:
            quality = DEFAULT_QUALITY
        start = time.perf_counter()
        pyramid = self.detector.extract(image, levels)
        extracted = time.perf_counter()
        data = self.codec.encode(pyramid, quality, levels, max_bytes=max_bytes)
        done = time.perf_counter()
        coarsest_first = chunk_bytes(data, self.profile.spec.names)
        sizes = dict(reversed(coarsest_first.items()))
        timings = {"extract": 1e3 * (extracted - start), "encode": 1e3 * (done - extracted)}
        return EncodedFrame(data, sizes, timings, pyramid)


class ServerHalf:
    """Decoder, recovery and head.

    Args:
        profile: The codec and its detector.
        threads: Threads of the network; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.
        limits: What frames may declare.
        clock: Seconds for ``timings_ms``; ``time.process_time`` leaves out what other processes
            take.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        threads: int | None = None,
        providers: Sequence[str] = (),
        limits: Limits | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.profile, self.limits, self._clock = profile, limits or Limits(), clock
        self.detector = profile.open_detector("server", threads, providers)
        self.codec = profile.open_codec(threads, providers)

    def infer(
        self,
        frame: bytes,
        checkpoint: Callable[[], None] | None = None,
        *,
        partial: bool = False,
    ) -> ServerAnswer:
        """Turn one frame into detections.

        Args:
            frame: The bytes of one ``.fpc`` frame.
            checkpoint: Called between stages; what it raises ends the work, so that nothing is
                spent on an answer which nobody waits for any more.
            partial: Take a frame whose last chunks have not arrived, or whose chunks are damaged:
                what arrived with its chain of parents is used, the rest recovered, and
                ``levels_ignored`` says why. The frame's header must be whole.

        Raises:
            FormatError: The bytes are not a usable frame.
            ProfileMismatch: They were made with another profile.
            InputError: The detector does not take a network input of the declared size.
        """
        check = checkpoint or _go_on
        start = self._clock()
        codec = self.codec
        # A frame that the detector cannot take must not cost its decoding.
        header = codec.header(frame, self.limits, partial=partial)
        geometry = self.detector.geometry(header.image_size, header.network_size)
        decoded = codec.decode(frame, self.limits, partial=partial)
        at_decoded = self._clock()
        check()
        pyramid = codec.reconstruct([decoded], [geometry])[0]
        at_reconstructed = self._clock()
        check()
        detections = self.detector.detect(pyramid)
        done = self._clock()
        used = tuple(name for name in codec.spec.names if name in decoded.symbols)
        return ServerAnswer(
            detections,
            used,
            tuple(name for name in codec.spec.names if name not in used),
            decoded.ignored,
            {
                "decode": 1e3 * (at_decoded - start),
                "reconstruct": 1e3 * (at_reconstructed - at_decoded),
                "head": 1e3 * (done - at_reconstructed),
            },
        )


def _go_on() -> None:
    """The checkpoint of a caller that has none."""

"""The two halves of one detection: image to frame on the edge, frame to detections behind it."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fpcodec.bitstream import chunk_bytes, frame_quality
from fpcodec.codecs.base import Decoded, Limits
from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError
from fpcodec.profile import Profile
from fpcodec.pyramid import ImageGeometry, Pyramid

if TYPE_CHECKING:
    from fpcodec.explain.odam_nms import OdamRule

DEFAULT_QUALITY = 0.5
"""In [0, 1], where neither a quality nor a budget is given."""


@dataclass(frozen=True)
class EncodedFrame:
    """What the edge sends for one image.

    Attributes:
        data: The ``.fpc`` frame.
        chunk_bytes: Level name to the bytes of its chunk; empty for an inter frame, which has none.
        timings_ms: ``extract`` and ``encode``.
        pyramid: The features before coding, with the levels that were extracted.
        quality: That was asked for, or found for a budget, in [0, 1].
    """

    data: bytes
    chunk_bytes: Mapping[str, int]
    timings_ms: Mapping[str, float]
    pyramid: Pyramid
    quality: float


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
        data = self._code(pyramid, quality, levels, max_bytes)
        done = time.perf_counter()
        timings = {"extract": 1e3 * (extracted - start), "encode": 1e3 * (done - extracted)}
        coarsest_first, coded_quality = self._described(data)
        sizes = dict(reversed(coarsest_first.items()))
        return EncodedFrame(data, sizes, timings, pyramid, coded_quality)

    def _code(
        self,
        pyramid: Pyramid,
        quality: float | None,
        levels: Sequence[str] | None,
        max_bytes: int | None,
    ) -> bytes:
        """The frame of a pyramid."""
        return self.codec.encode(pyramid, quality, levels, max_bytes=max_bytes)

    def _described(self, data: bytes) -> tuple[dict[str, int], float]:
        """Bytes of a frame's chunks, coarsest first, and its quality."""
        return chunk_bytes(data, self.profile.spec.names), frame_quality(data) / 255


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
        self._select: Callable[[Pyramid], Detections] = self.detector.detect

    def with_odam_nms(self, rule: OdamRule | None = None) -> ServerHalf:
        """The same half, whose boxes Odam-NMS selects; both share their networks.

        Args:
            rule: When boxes are dropped; None for the paper's thresholds.

        Raises:
            ModelError: The detector has no candidates with gradients.
            MissingDependency: torch is not installed, or what makes the head differentiable.
        """
        from fpcodec.explain.odam_detector import open_odam_nms

        other = copy.copy(self)
        other._select = open_odam_nms(self.detector, rule)
        return other

    def infer(self, frame: bytes, *, partial: bool = False) -> ServerAnswer:
        """Turn one frame into detections.

        Args:
            frame: The bytes of one ``.fpc`` frame.
            partial: Take a frame whose last chunks have not arrived, or whose chunks are damaged:
                what arrived with its chain of parents is used, the rest recovered, and
                ``levels_ignored`` says why. The frame's header must be whole.

        Raises:
            FormatError: The bytes are not a usable frame.
            ProfileMismatch: They were made with another profile.
            InputError: The detector does not take a network input of the declared size.
        """
        answer = self.infer_batch([frame], [partial], [_go_on])[0]
        if isinstance(answer, FpcodecError):
            raise answer
        return answer

    def infer_batch(
        self,
        frames: Sequence[bytes | Decoded],
        partial: Sequence[bool],
        checkpoints: Sequence[Callable[[], None]],
    ) -> list[ServerAnswer | FpcodecError]:
        """Turn several frames into detections: those of one network size are rebuilt together.

        Args:
            frames: The bytes of each ``.fpc`` frame; or its integers, as a ``VideoDecoder`` gives
                them.
            partial: As for ``infer``, for each frame.
            checkpoints: One for each frame, called between stages; what it raises ends that
                frame's work, so that nothing is spent on an answer which nobody waits for any more.

        Returns:
            For each frame an answer, whose times are its share of what was done together, or
            what ``infer`` would raise.
        """
        answers: list[ServerAnswer | FpcodecError | None] = [None] * len(frames)
        ready: dict[tuple[int, int], list[_Ready]] = {}
        for index, frame in enumerate(frames):
            item = self._decode(index, frame, partial[index], checkpoints[index])
            if isinstance(item, FpcodecError):
                answers[index] = item
            else:
                ready.setdefault(item.geometry.network_size, []).append(item)
        for group in ready.values():
            for index, answer in self._detect(group, checkpoints):
                answers[index] = answer
        return cast("list[ServerAnswer | FpcodecError]", answers)

    def _decode(
        self, index: int, frame: bytes | Decoded, partial: bool, check: Callable[[], None]
    ) -> _Ready | FpcodecError:
        start = self._clock()
        try:
            if isinstance(frame, Decoded):
                decoded = frame
                geometry = self.detector.geometry(frame.image_size, frame.network_size)
            else:
                # A frame that the detector cannot take must not cost its decoding.
                header = self.codec.header(frame, self.limits, partial=partial)
                geometry = self.detector.geometry(header.image_size, header.network_size)
                decoded = self.codec.decode(frame, self.limits, partial=partial)
            check()
        except FpcodecError as error:
            return error
        return _Ready(index, geometry, decoded, 1e3 * (self._clock() - start))

    def _detect(
        self, group: Sequence[_Ready], checkpoints: Sequence[Callable[[], None]]
    ) -> Iterator[tuple[int, ServerAnswer | FpcodecError]]:
        start = self._clock()
        try:
            pyramids = self.codec.reconstruct(
                [x.decoded for x in group], [x.geometry for x in group]
            )
        except FpcodecError as error:
            yield from ((item.index, error) for item in group)
            return
        each_ms = 1e3 * (self._clock() - start) / len(group)
        for item, pyramid in zip(group, pyramids, strict=True):
            start = self._clock()
            try:
                checkpoints[item.index]()
                detections = self._select(pyramid)
            except FpcodecError as error:
                yield item.index, error
                continue
            names, decoded = self.codec.spec.names, item.decoded
            used = tuple(name for name in names if name in decoded.symbols)
            yield (
                item.index,
                ServerAnswer(
                    detections,
                    used,
                    tuple(name for name in names if name not in used),
                    decoded.ignored,
                    {
                        "decode": item.decode_ms,
                        "reconstruct": each_ms,
                        "head": 1e3 * (self._clock() - start),
                    },
                ),
            )


@dataclass(frozen=True)
class _Ready:
    """A decoded frame of a batch."""

    index: int
    geometry: ImageGeometry
    decoded: Decoded
    decode_ms: float


def _go_on() -> None:
    """The checkpoint of a caller that has none."""

"""The contract that every codec keeps, and what decoding yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_IMAGE_PIXELS, ImageGeometry, Pyramid, PyramidSpec

if TYPE_CHECKING:
    from fpcodec.bitstream import Frame

Integers = npt.NDArray[np.int32]
ClassMap = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What a receiver accepts; checked before anything is allocated.

    Attributes:
        max_frame_bytes: Longest frame.
        max_image_pixels: Most pixels of the original image.
        max_network_pixels: Most pixels of the network input.
        max_elements: Most feature values in the pyramid that the frame declares.
    """

    max_frame_bytes: int = 4 * 1024 * 1024
    max_image_pixels: int = MAX_IMAGE_PIXELS
    max_network_pixels: int = 4_000_000
    max_elements: int = 32_000_000


@dataclass(frozen=True)
class Decoded:
    """The integers of one frame: exact on every machine.

    Attributes:
        codec_id: The frame's codec.
        quality: 0..255 as on the wire.
        image_size: ``(width, height)`` of the original image in pixels.
        network_size: ``(width, height)`` of the network input in pixels.
        symbols: Level name to quantised values, shape (K, H, W), int32.
        step_maps: Level name to step classes, shape (H, W), uint8; absent where none was sent.
        parents: Level name to the level its contexts used, or None.
        ignored: Level name to the reason why a chunk that arrived was not decoded.
    """

    codec_id: int
    quality: int
    image_size: tuple[int, int]
    network_size: tuple[int, int]
    symbols: Mapping[str, Integers]
    step_maps: Mapping[str, ClassMap] = field(default_factory=dict)
    parents: Mapping[str, str | None] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)


class Codec(Protocol):
    """A frozen byte format for pyramids, and the floating-point work on both its sides."""

    @property
    def codec_id(self) -> int:
        """The number in the frame: names a byte format for ever."""

    @property
    def stream_id(self) -> bytes:
        """Identity of what both sides must share to decode: 32 bytes."""

    @property
    def tensors(self) -> Mapping[str, npt.NDArray[Any]]:
        """Everything the codec was built from; the same tensors give the same codec."""

    @property
    def spec(self) -> PyramidSpec:
        """The pyramids this codec was fitted to."""

    def encode(
        self,
        pyramid: Pyramid,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> bytes:
        """Code the key levels of a pyramid as one ``.fpc`` frame.

        Give a quality, or the longest frame that may come out. A budget of 200 bytes or more is
        filled to within 3 %, in whole bytes (or a 32-bit word per chunk), wherever it lies between
        the smallest frame and the largest; in a smaller one, words are too coarse for that.

        Args:
            pyramid: Holds at least the levels to send.
            quality: In [0, 1]; more is more bytes. Neighbouring qualities of a nearly empty
                frame may differ by a few bytes the other way.
            levels: Level names to send; None for every coded level that the pyramid holds, less
                the finest ones that a budget has no room for.
            max_bytes: Most bytes of the frame; it finds the quality.

        Raises:
            InputError: A level is absent, derived, or holds NaN or infinity; the quality is out
                of range; the budget is below the smallest frame; quality and budget are both
                given, or neither.
        """

    def blank_frame(self, geometry: ImageGeometry) -> bytes:
        """A frame of every coded level, all zeros: no network and no features are needed."""

    def header(self, frame: bytes, limits: Limits | None = None, *, partial: bool = False) -> Frame:
        """Parse a frame and check all that can be checked without decoding it.

        Args:
            frame: The bytes of one frame.
            limits: What this receiver accepts; None for the defaults.
            partial: Accept lost or damaged chunks, marking them; the header must be whole.

        Raises:
            FormatError: The bytes are not a usable frame; the subclass says why.
            ProfileMismatch: The frame was made with other tables.
        """

    def decode(
        self, frame: bytes, limits: Limits | None = None, *, partial: bool = False
    ) -> Decoded:
        """Read a frame back to integers, exactly.

        Args:
            frame: The bytes of one frame.
            limits: What this receiver accepts; None for the defaults.
            partial: Decode what arrived with its chain of parents, and report the rest in
                ``Decoded.ignored``, where chunks are lost or damaged.

        Raises:
            FormatError: The bytes are not a usable frame; the subclass says why.
            ProfileMismatch: The frame was made with other tables.
        """

    def reconstruct(
        self, decoded: Sequence[Decoded], geometries: Sequence[ImageGeometry]
    ) -> list[Pyramid]:
        """Turn integers into pyramids with every level present (floating-point, batched).

        Args:
            decoded: Frames of one network size.
            geometries: One per frame.
        """


def quality_byte(quality: float) -> int:
    """The wire's 0..255 for a quality in [0, 1].

    Raises:
        InputError: The quality is not a number in [0, 1].
    """
    if not 0.0 <= quality <= 1.0:
        raise InputError(f"quality {quality} is not in [0, 1]; 0 is the smallest frame, 1 the best")
    return round(quality * 255)

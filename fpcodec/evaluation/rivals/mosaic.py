"""Feature pyramids as one still picture: the naive baseline of feature coding.

As in CompressAI-Vision, every channel of a level is a tile, tiles of a level stand in a grid, and
the grids of all levels are stacked into one 10-bit frame of a common width. The finest level's grid
is as square as its number of channels allows and sets that width; coarser levels take as many tiles
a row as fit.

CompressAI-Vision clips to one range a data set. Here every level of every image brings its own
least and greatest value, two float32 that count as sent bytes: that needs no calibration, clips
nothing, and costs 24 bytes for three levels.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError, InvalidField, LimitExceeded, Truncated
from fpcodec.pyramid import MAX_SIDE, Array, PyramidSpec

BITS = 10
MOST = 2**BITS - 1
"""Greatest value of a frame."""

GRAIN = 8
"""Frame sides are multiples of this many values, which every video coder takes."""

LEAST_SIDE = 64
"""Shortest frame side: AV1's largest block."""

MAX_FRAME_VALUES = 64_000_000

Frame = npt.NDArray[np.uint16]

_SIZES = struct.Struct("<4H")
_RANGE = struct.Struct("<2f")


@dataclass(frozen=True)
class Tiling:
    """Where one level's tiles stand.

    Attributes:
        name: The level.
        shape: (C, H, W) of the level.
        columns: Tiles in a row.
        top: First row of values in the frame.
    """

    name: str
    shape: tuple[int, int, int]
    columns: int
    top: int

    @property
    def rows(self) -> int:
        """Rows of tiles; the last may be partly empty."""
        return -(-self.shape[0] // self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in values."""
        return self.rows * self.shape[1], self.columns * self.shape[2]

    @property
    def bottom(self) -> int:
        """The row of values after the last."""
        return self.top + self.size[0]


@dataclass(frozen=True)
class MosaicLayout:
    """The frame that the levels of a pyramid make.

    Attributes:
        tilings: One per level, from the top.
        size: (height, width) of the frame in values.
    """

    tilings: tuple[Tiling, ...]
    size: tuple[int, int]

    @classmethod
    def of(
        cls, spec: PyramidSpec, network_size: tuple[int, int], levels: Sequence[str]
    ) -> MosaicLayout:
        """Lay out levels.

        Args:
            spec: The pyramids.
            network_size: ``(width, height)`` of the network input in pixels.
            levels: Names, finest first.

        Raises:
            InputError: There is no level, one is unknown, or the frame is too large.
        """
        shapes = [(name, spec.shape(name, network_size)) for name in levels]
        if not shapes:
            raise InputError("a mosaic needs at least one level; name some")
        channels, _, cell_width = shapes[0][1]
        width = max(_square_columns(channels) * cell_width, *(shape[2] for _, shape in shapes))
        tilings: list[Tiling] = []
        top = 0
        for name, shape in shapes:
            tilings.append(Tiling(name, shape, min(width // shape[2], shape[0]), top))
            top = tilings[-1].bottom
        size = _padded(top), _padded(width)
        if size[0] * size[1] > MAX_FRAME_VALUES:
            raise InputError(f"a mosaic of {size[1]}x{size[0]} is above {MAX_FRAME_VALUES:,} values"
                             "; use a smaller network input")  # fmt: skip
        return cls(tuple(tilings), size)


def tile(levels: Mapping[str, Array], layout: MosaicLayout) -> tuple[Frame, list[Array]]:
    """Quantise levels to BITS bits and tile them.

    Args:
        levels: Level name to features, shape (C, H, W), float32, finite.
        layout: For these shapes.

    Returns:
        The frame, shape ``layout.size``, uint16 in 0..MOST, and per level its range, shape (2,),
        float32. What no tile covers holds the mean of the level above it: flat areas are cheap.
    """
    frame = np.zeros(layout.size, np.uint16)
    ranges = []
    for tiling in layout.tilings:
        values = levels[tiling.name]
        low, high = np.float32(values.min()), np.float32(values.max())
        ranges.append(np.array([low, high], np.float32))
        step = (np.float64(high) - low) / MOST
        symbols = np.rint((values - np.float64(low)) / step if step > 0 else values * 0.0)
        tiles = np.full((tiling.columns * tiling.rows, *tiling.shape[1:]), round(symbols.mean()))
        tiles[: len(symbols)] = symbols
        height, width = tiling.size
        grid = tiles.reshape(tiling.rows, tiling.columns, *tiling.shape[1:]).transpose(0, 2, 1, 3)
        frame[tiling.top :] = round(symbols.mean())
        frame[tiling.top : tiling.bottom, :width] = grid.reshape(height, width)
    return frame, ranges


def untile(frame: Frame, ranges: Sequence[Array], layout: MosaicLayout) -> dict[str, Array]:
    """Levels from a frame; with an unchanged frame exact within half a step of each range.

    Args:
        frame: Shape ``layout.size``, values above MOST count as MOST.
        ranges: As ``tile`` returned them.
        layout: The same.

    Returns:
        Level name to features, shape (C, H, W), float32.

    Raises:
        InputError: The frame has another size.
    """
    if frame.shape != layout.size:
        raise InputError(f"mosaic has shape {frame.shape}; these levels make {layout.size}")
    levels = {}
    for tiling, (low, high) in zip(layout.tilings, ranges, strict=True):
        channels, cell_height, cell_width = tiling.shape
        width = tiling.size[1]
        grid = frame[tiling.top : tiling.bottom, :width].reshape(
            tiling.rows, cell_height, tiling.columns, cell_width
        )
        tiles = grid.transpose(0, 2, 1, 3).reshape(-1, cell_height, cell_width)[:channels]
        step = (np.float64(high) - low) / MOST
        levels[tiling.name] = np.asarray(np.minimum(tiles, MOST) * step + low, np.float32)
    return levels


def write_header(
    image_size: tuple[int, int], network_size: tuple[int, int], ranges: Sequence[Array]
) -> bytes:
    """What a receiver must know beside the coded frame: 8 bytes, and 8 a level."""
    sizes = _SIZES.pack(*image_size, *network_size)
    return sizes + b"".join(_RANGE.pack(*values) for values in ranges)


def read_header(
    data: bytes, levels: int
) -> tuple[tuple[int, int], tuple[int, int], list[Array], bytes]:
    """Read ``write_header``'s bytes: image size, network size, ranges, and what follows.

    Raises:
        FormatError: The bytes end too early, or a field is out of range.
    """
    length = _SIZES.size + levels * _RANGE.size
    if len(data) < length:
        raise Truncated(f"mosaic of {len(data)} bytes has no header of {length}; send it again")
    sizes = _SIZES.unpack_from(data)
    if min(sizes) < 1:
        raise InvalidField(f"mosaic declares sides {sizes}; the least is 1")
    if max(sizes) > MAX_SIDE:
        raise LimitExceeded(f"mosaic declares sides {sizes}; the limit is {MAX_SIDE}")
    ranges = [
        np.array(_RANGE.unpack_from(data, _SIZES.size + i * _RANGE.size), np.float32)
        for i in range(levels)
    ]
    if not all(np.isfinite(x).all() and x[0] <= x[1] for x in ranges):
        raise InvalidField("mosaic declares a range that is not finite and ordered; send it again")
    width, height, network_width, network_height = sizes
    return (width, height), (network_width, network_height), ranges, data[length:]


def _square_columns(channels: int) -> int:
    """The divisor of the number of channels nearest above its root."""
    root = int(np.ceil(np.sqrt(channels)))
    return next(x for x in range(root, channels + 1) if channels % x == 0)


def _padded(side: int) -> int:
    return max(LEAST_SIDE, -(-side // GRAIN) * GRAIN)

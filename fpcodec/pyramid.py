"""Pyramids: the feature levels of one image, their specification, their image's geometry."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import InputError

Array = npt.NDArray[np.float32]

MAX_LEVELS = 8
"""Most levels a pyramid may have: the frame's directory has eight bits for them."""

MAX_SIDE = 16_383
"""Longest image or network side in pixels: two bytes of the frame's variable-length integers."""

MAX_IMAGE_PIXELS = 64_000_000
"""Largest image that is read, prepared or declared in a frame, unless told otherwise."""

_LEVEL_NAME = re.compile(r"[a-z][0-9]{1,2}")


@dataclass(frozen=True)
class LevelSpec:
    """One level of a feature pyramid.

    Attributes:
        name: A letter and a number, ``p3`` for stride 8 as detectron2 names it.
        stride: Input pixels per cell. A level has ``ceil(side / stride)`` cells a side.
        channels: Feature channels.
        derived_from: The level this one is an exact function of, or None. A derived level is
            computed on the server and never sent: the only rule is ``source[:, ::2, ::2]``,
            the ``p6`` of Faster R-CNN.
    """

    name: str
    stride: int
    channels: int
    derived_from: str | None = None

    def __post_init__(self) -> None:
        if not _LEVEL_NAME.fullmatch(self.name):
            raise InputError(f"level name {self.name!r} is not a letter and a number; use p3")
        if not 1 <= self.stride <= 1024:
            raise InputError(f"level {self.name}: stride {self.stride} is not in 1..1024")
        if not 1 <= self.channels <= 4096:
            raise InputError(f"level {self.name}: {self.channels} channels is not in 1..4096")


@dataclass(frozen=True)
class PyramidSpec:
    """The levels of a pyramid, finest first.

    Attributes:
        levels: Level specifications ordered by growing stride.
        size_divisor: Network input sides are multiples of this many pixels.
    """

    levels: tuple[LevelSpec, ...]
    size_divisor: int = 32

    def __post_init__(self) -> None:
        if not 1 <= len(self.levels) <= MAX_LEVELS:
            raise InputError(f"a pyramid has 1 to {MAX_LEVELS} levels, not {len(self.levels)}")
        names = self.names
        if len(set(names)) != len(names):
            raise InputError(f"level names repeat: {', '.join(names)}; give each its own")
        strides = [level.stride for level in self.levels]
        if strides != sorted(set(strides)):
            raise InputError(f"strides {strides} do not grow; order levels from fine to coarse")
        if not 1 <= self.size_divisor <= 1024:
            raise InputError(f"size divisor {self.size_divisor} is not in 1..1024")
        for level in self.levels:
            if level.derived_from is None:
                continue
            source = next((x for x in self.levels if x.name == level.derived_from), None)
            if source is None or source.derived_from is not None:
                raise InputError(f"level {level.name} derives from {level.derived_from!r}, "
                                 "which is not a level of its own")  # fmt: skip
            if (source.stride * 2, source.channels) != (level.stride, level.channels):
                raise InputError(f"level {level.name} cannot be {source.name}[:, ::2, ::2]: "
                                 "stride must double and channels agree")  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        """Level names, finest first."""
        return tuple(level.name for level in self.levels)

    @property
    def coded_names(self) -> tuple[str, ...]:
        """Names of the levels that may be sent: all but the derived ones."""
        return tuple(level.name for level in self.levels if level.derived_from is None)

    def __getitem__(self, name: str) -> LevelSpec:
        for level in self.levels:
            if level.name == name:
                return level
        raise InputError(f"no level {name!r}; this pyramid has {', '.join(self.names)}")

    def index(self, name: str) -> int:
        """Position of a level, 0 for the finest."""
        return self.levels.index(self[name])

    def shape(self, name: str, network_size: tuple[int, int]) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of a level for a network input of ``(width, height)`` pixels."""
        level = self[name]
        width, height = network_size
        return level.channels, -(-height // level.stride), -(-width // level.stride)

    def elements(self, network_size: tuple[int, int], names: Iterable[str] | None = None) -> int:
        """Number of values in the named levels; None for all, derived ones included."""
        chosen = self.names if names is None else names
        return sum(int(np.prod(self.shape(name, network_size))) for name in chosen)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return {
            "size_divisor": self.size_divisor,
            "levels": [
                {"name": x.name, "stride": x.stride, "channels": x.channels,
                 "derived_from": x.derived_from}
                for x in self.levels
            ],
        }  # fmt: skip

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PyramidSpec:
        """Read the form that ``to_dict`` writes.

        Raises:
            InputError: A key is missing or a value is out of range.
        """
        try:
            levels = tuple(LevelSpec(**level) for level in data["levels"])
            return cls(levels, int(data["size_divisor"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"pyramid specification is incomplete: {error}") from error


@dataclass(frozen=True)
class ImageGeometry:
    """How an image was laid into the network's input.

    Attributes:
        image_size: ``(width, height)`` of the original image in pixels.
        network_size: ``(width, height)`` of the network input, padding included.
        content_size: ``(width, height)`` that the resized image takes within it.
        offset: ``(left, top)`` padding in network pixels.
    """

    image_size: tuple[int, int]
    network_size: tuple[int, int]
    content_size: tuple[int, int]
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for what in ("image_size", "network_size", "content_size"):
            if not all(1 <= side <= MAX_SIDE for side in getattr(self, what)):
                raise InputError(f"{what} {getattr(self, what)} has a side outside 1..{MAX_SIDE}")
        ends = [o + c for o, c in zip(self.offset, self.content_size, strict=True)]
        if min(self.offset) < 0 or any(
            end > side for end, side in zip(ends, self.network_size, strict=True)
        ):
            raise InputError(
                f"content {self.content_size} at {self.offset} leaves {self.network_size}"
            )

    @property
    def scale(self) -> tuple[float, float]:
        """Network pixels per image pixel along x and y."""
        return (
            self.content_size[0] / self.image_size[0],
            self.content_size[1] / self.image_size[1],
        )

    def to_image(self, boxes: Array) -> Array:
        """Map boxes from network pixels to image pixels, clipped to the image.

        Args:
            boxes: Shape (N, 4), float32, ``x1 y1 x2 y2`` in network pixels.
        """
        offset = np.asarray(self.offset * 2, np.float32)
        scale = np.asarray(self.scale * 2, np.float32)
        limit = np.asarray(self.image_size * 2, np.float32)
        return np.asarray(np.clip((boxes - offset) / scale, 0, limit), np.float32)


@dataclass(frozen=True)
class Pyramid:
    """The feature levels of one image.

    Attributes:
        spec: What levels there may be.
        levels: Level name to features, shape (C, H, W), float32. May hold only some levels.
        geometry: The image the features came from.
    """

    spec: PyramidSpec
    levels: Mapping[str, Array]
    geometry: ImageGeometry

    def __post_init__(self) -> None:
        for name, values in self.levels.items():
            expected = self.spec.shape(name, self.geometry.network_size)
            if values.shape != expected:
                raise InputError(
                    f"level {name} has shape {values.shape}; "
                    f"a {self.geometry.network_size} input gives {expected}"
                )
            if values.dtype != np.float32:
                raise InputError(f"level {name} is {values.dtype}; features are float32")

    def require_finite(self) -> None:
        """Check every level for NaN and infinity.

        Raises:
            InputError: A level holds a value that cannot be coded; the message names it.
        """
        for name, values in self.levels.items():
            # A finite sum proves every value finite, without a mask of the level's size.
            with np.errstate(invalid="ignore", over="ignore"):
                total = values.sum()
            bad = 0 if np.isfinite(total) else int(values.size - np.isfinite(values).sum())
            if bad:
                raise InputError(
                    f"level {name} holds {bad} NaN or infinite values; check the detector's "
                    "input and weights"
                )

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the specification's levels that are not here, finest first."""
        return tuple(name for name in self.spec.names if name not in self.levels)

    @property
    def raw_bytes(self) -> int:
        """Bytes of the full pyramid as fp32, derived levels included."""
        return 4 * self.spec.elements(self.geometry.network_size)


def derive(pyramid: Pyramid) -> Pyramid:
    """Add every derived level whose source is present: exact, and free on the wire."""
    levels = dict(pyramid.levels)
    for level in pyramid.spec.levels:
        if level.derived_from in levels and level.name not in levels:
            levels[level.name] = np.ascontiguousarray(levels[level.derived_from][:, ::2, ::2])
    return Pyramid(pyramid.spec, levels, pyramid.geometry)

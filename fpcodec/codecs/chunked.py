"""What all codecs share: from pyramids to frames and back, around their quantisers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fpcodec.bitstream import Frame
from fpcodec.codecs.base import ClassMap, Decoded, Integers, Limits, quality_byte
from fpcodec.codecs.budget import fit_budget
from fpcodec.codecs.chunks import ChunkCoder, QuantisedLevel, select_levels
from fpcodec.codecs.coefficients import STEP_CLASSES
from fpcodec.codecs.identity import stream_id
from fpcodec.codecs.latents import Latents
from fpcodec.codecs.tables import CodecTables
from fpcodec.entropy import Backend
from fpcodec.errors import InputError
from fpcodec.pyramid import Array, ImageGeometry, Pyramid, PyramidSpec
from fpcodec.reconstruct.base import Recoverer

Tensors = Mapping[str, npt.NDArray[Any]]
Quantise = Callable[[int, Sequence[str]], dict[str, QuantisedLevel]]
"""Wire quality and level names to the integers of one pyramid."""


def level_by_level(
    quantise: Callable[[str, Array, int], QuantisedLevel], pyramid: Pyramid
) -> Quantise:
    """``ChunkedCodec.prepare`` of a codec that does nothing before it knows the quality."""
    return lambda quality, some: {
        name: quantise(name, pyramid.levels[name], quality) for name in some
    }


class ChunkedCodec(ABC):
    """A codec whose chunks are levels of quantised components.

    Args:
        spec: The pyramids.
        tensors: What the subclass needs, and ``tables.*``.
        recoverer: Fills the levels that were not sent.
        backend: The entropy coder; None for the fastest installed.

    Raises:
        ProfileError: A tensor is missing or misshapen.
    """

    codec_id: ClassVar[int]
    edge_only: ClassVar[tuple[str, ...]] = ()
    """Last parts of the names of tensors that a decoder does without."""
    quality_step: ClassVar[int] = 1
    """Qualities ``n * quality_step`` to the next such one, itself left out, give the same integers:
    a byte budget need try only one of them. Divides 256."""
    writes_parents: ClassVar[bool] = True
    """Whether ``encode`` lets a level lean on the next coarser one."""

    def __init__(
        self,
        spec: PyramidSpec,
        tensors: Tensors,
        recoverer: Recoverer,
        backend: Backend | None = None,
    ) -> None:
        self.spec, self.tensors, self.recoverer = spec, dict(tensors), recoverer
        self.backend = backend
        self._check()

    @abstractmethod
    def _check(self) -> None:
        """Raise ProfileError where a tensor is missing or misshapen."""

    @property
    @abstractmethod
    def components(self) -> dict[str, int]:
        """Components coded per coded level."""

    @property
    def step_classes(self) -> int:
        """Step classes that a map may hold."""
        return STEP_CLASSES

    @abstractmethod
    def _dequantise(
        self, name: str, symbols: Integers, classes: ClassMap | None, quality: int
    ) -> Array:
        """Features (C, H, W) of one level's integers."""

    @cached_property
    def stream_id(self) -> bytes:
        """Identity of what both sides must share; see ``Codec.stream_id``."""
        return stream_id(self.codec_id, self.spec, self.tensors, edge_only=self.edge_only)

    @cached_property
    def coder(self) -> ChunkCoder:
        """Integers to bytes and back."""
        tables = CodecTables({k: v for k, v in self.tensors.items() if k.startswith("tables.")})
        tables.check(self.components)
        return ChunkCoder(
            self.codec_id, self.spec, self.components, tables, self.stream_id, self.step_classes
        )

    @abstractmethod
    def prepare(self, pyramid: Pyramid, names: Sequence[str]) -> Quantise:
        """Do once for the named levels what no quality changes; the rest is what is returned."""

    @abstractmethod
    def latents(self, pyramid: Pyramid, names: Sequence[str]) -> Latents:
        """What ``prepare`` quantises, for encoders that decide for themselves what to write."""

    @abstractmethod
    def steps(self, name: str, quality: int) -> Array:
        """What one means of each class and component: shape (classes, K), float32, above 0."""

    @abstractmethod
    def thresholds(self, name: str, quality: int) -> Array:
        """Importance from which on a position is of class 1, 2, ...: shape (classes - 1,)."""

    def quantise(
        self, pyramid: Pyramid, quality: int, names: Sequence[str]
    ) -> dict[str, QuantisedLevel]:
        """Integers of the named levels at a wire quality."""
        return self.prepare(pyramid, names)(quality, names)

    def encode(
        self,
        pyramid: Pyramid,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> bytes:
        """Code the key levels as one frame; see ``Codec.encode``."""
        if (quality is None) == (max_bytes is None):
            raise InputError(
                "give a quality in [0, 1] or max_bytes, the longest frame; one of them"
            )
        names = select_levels(self.spec, levels, pyramid.levels)
        Pyramid(self.spec, {x: pyramid.levels[x] for x in names}, pyramid.geometry).require_finite()
        if max_bytes is not None:
            return fit_budget(self, pyramid, names, max_bytes, may_drop=levels is None)
        wire = quality_byte(0.0 if quality is None else quality)
        return self.write(self.quantise(pyramid, wire, names), wire, pyramid.geometry)

    def write(
        self, quantised: Mapping[str, QuantisedLevel], quality: int, geometry: ImageGeometry
    ) -> bytes:
        """Code integers as one frame.

        Args:
            quantised: By level name.
            quality: 0..255 as on the wire.
            geometry: Of the pyramid.
        """
        return self.coder.write(
            quantised, quality, geometry.image_size, geometry.network_size, self.backend,
            parents=self.writes_parents,
        )  # fmt: skip

    def blank_frame(self, geometry: ImageGeometry) -> bytes:
        """A frame of every coded level, all zeros: no network and no features are needed."""
        blank = {}
        for name, count in self.components.items():
            _, height, width = self.spec.shape(name, geometry.network_size)
            blank[name] = QuantisedLevel(np.zeros((count, height, width), np.int32))
        return self.write(blank, 0, geometry)

    def header(self, frame: bytes, limits: Limits | None = None, *, partial: bool = False) -> Frame:
        """Parse and check a frame without decoding it; see ``Codec.header``."""
        return self.coder.header(frame, limits, partial=partial)

    def decode(
        self, frame: bytes, limits: Limits | None = None, *, partial: bool = False
    ) -> Decoded:
        """Read a frame back to integers, exactly; see ``Codec.decode``."""
        return self.coder.read(frame, limits, partial=partial, backend=self.backend)

    def reconstruct(
        self, decoded: Sequence[Decoded], geometries: Sequence[ImageGeometry]
    ) -> list[Pyramid]:
        """Turn integers into full pyramids; see ``Codec.reconstruct``."""
        pyramids = []
        for frame, geometry in zip(decoded, geometries, strict=True):
            levels = {
                name: np.asarray(
                    self._dequantise(name, symbols, frame.step_maps.get(name), frame.quality),
                    np.float32,
                )
                for name, symbols in frame.symbols.items()
            }
            pyramids.append(Pyramid(self.spec, levels, geometry))
        return self.recoverer.recover(pyramids)

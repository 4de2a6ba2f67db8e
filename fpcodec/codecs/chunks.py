"""Frames of coded levels: what ``uniform`` and ``pca`` share between integers and bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fpcodec.bitstream import STREAM_PREFIX_BYTES, Chunk, Frame, read_frame, write_frame
from fpcodec.codecs.base import ClassMap, Decoded, Integers, Limits
from fpcodec.codecs.coefficients import STEP_CLASSES, LevelPlanes, code_level, group_bounds
from fpcodec.codecs.tables import CodecTables, TableSet
from fpcodec.entropy import (
    Backend,
    Contexts,
    SymbolCoder,
    SymbolMeter,
    SymbolReader,
    Symbols,
    SymbolWriter,
    Table,
    default_backend,
)
from fpcodec.errors import (
    InputError,
    InvalidField,
    LimitExceeded,
    ProfileMismatch,
    UnknownCodec,
)
from fpcodec.pyramid import PyramidSpec

CODEC_NAMES = {1: "uniform", 2: "pca", 3: "learned"}
"""Codec ids that name a byte format; an id is never used again for another."""


@dataclass(frozen=True)
class QuantisedLevel:
    """What an encoder decided for one level.

    Attributes:
        symbols: Shape (K, H, W), int32; or only the first groups of components, where all
            others are zero.
        classes: Step classes, shape (H, W), or None for no step map.
        components: K; None where ``symbols`` holds all of them.
        depth: Groups to code per position, shape (H, W), int32; None to end with the last group
            that holds a value.
    """

    symbols: Integers
    classes: ClassMap | None = None
    components: int | None = None
    depth: Integers | None = None


@dataclass(frozen=True)
class ChunkEstimate:
    """What a chunk costs by its tables.

    Attributes:
        size_bytes: The ideal code length rounded up to the coder's 32-bit words. A real chunk is
            rarely a word longer; it is shorter where it would end in zero bytes, which are not
            stored.
        group_bits: Per group the bits of each position that has it, in raster order, escapes not
            included.
    """

    size_bytes: int
    group_bits: tuple[npt.NDArray[np.float64], ...]


class _GroupMeter(SymbolMeter):
    """A meter that keeps what each position of each group costs."""

    def __init__(self, components: int, tables: TableSet) -> None:
        super().__init__()
        self.group_bits: list[npt.NDArray[np.float64]] = []
        self._bounds = group_bounds(components)
        self._groups = {id(table) for name, table in tables.items() if name.startswith("group")}

    def code(self, table: Table, contexts: Contexts, symbols: Symbols | None) -> Symbols:
        """Add the cost of these symbols."""
        if symbols is None or id(table) not in self._groups:
            return super().code(table, contexts, symbols)
        # Groups are coded in order, each in one pass, component by component.
        start, stop = self._bounds[len(self.group_bits)]
        bits = table.symbol_bits(contexts, symbols).reshape(stop - start, -1)
        self.group_bits.append(bits.sum(axis=0))
        self.bits += float(bits.sum())
        self.symbols += len(symbols)
        return symbols


@dataclass(frozen=True)
class ChunkCoder:
    """Turns quantised levels into a frame and back.

    Attributes:
        codec_id: The byte format.
        spec: The pyramids.
        components: Components coded per level.
        tables: The profile's tables.
        stream_id: Identity of the profile; its first bytes go into every frame.
        step_classes: Step classes that the profile has steps for.
    """

    codec_id: int
    spec: PyramidSpec
    components: Mapping[str, int]
    tables: CodecTables
    stream_id: bytes
    step_classes: int = STEP_CLASSES

    @property
    def _stream_prefix(self) -> bytes:
        return self.stream_id[:STREAM_PREFIX_BYTES]

    def write(
        self,
        levels: Mapping[str, QuantisedLevel],
        quality: int,
        image_size: tuple[int, int],
        network_size: tuple[int, int],
        backend: Backend | None = None,
        *,
        parents: bool = True,
    ) -> bytes:
        """Code levels as one frame, each with the nearest coarser one as its parent, or none."""
        backend = backend or default_backend()
        chunks: list[Chunk] = []
        parent: LevelPlanes | None = None
        for name in order_levels(self.spec, levels):
            level, writer = levels[name], SymbolWriter(backend)
            tables = self.tables.get(name, parent is not None, quality)
            planes = code_quantised(writer, tables, level, parent)
            chunks.append(Chunk(self.spec.index(name), parent is not None,
                                level.classes is not None, writer.finish()))  # fmt: skip
            parent = planes if parents else None
        frame = Frame(
            self.codec_id, self._stream_prefix, quality, image_size, network_size, tuple(chunks)
        )
        return write_frame(frame)

    def estimate(
        self, levels: Mapping[str, QuantisedLevel], quality: int, *, parents: bool = True
    ) -> dict[str, ChunkEstimate]:
        """What each chunk that ``write`` would make costs, coarsest first, without coding it."""
        out = {}
        parent: LevelPlanes | None = None
        for name in order_levels(self.spec, levels):
            tables = self.tables.get(name, parent is not None, quality)
            meter = _GroupMeter(self.components[name], tables)
            planes = code_quantised(meter, tables, levels[name], parent)
            out[name] = ChunkEstimate(4 * math.ceil(meter.bits / 32), tuple(meter.group_bits))
            parent = planes if parents else None
        return out

    def read(
        self,
        data: bytes,
        limits: Limits | None = None,
        *,
        partial: bool = False,
        backend: Backend | None = None,
    ) -> Decoded:
        """Read a frame back to integers.

        Raises:
            FormatError: The bytes are not a usable frame.
            ProfileMismatch: They were made with another profile.
        """
        frame = self.header(data, limits, partial=partial)
        backend = backend or default_backend()
        symbols: dict[str, Integers] = {}
        maps: dict[str, ClassMap] = {}
        parents: dict[str, str | None] = {}
        ignored: dict[str, str] = {}
        planes: dict[int, LevelPlanes] = {}
        for chunk in frame.chunks:
            name, above = self.spec.names[chunk.level], frame.parent_of(chunk)
            if chunk.data is None:
                ignored[name] = chunk.problem
                continue
            if above is not None and above.level not in planes:
                ignored[name] = f"its parent {self.spec.names[above.level]} did not arrive"
                continue
            reader = SymbolReader(chunk.data, backend)
            _, height, width = self.spec.shape(name, frame.network_size)
            code = code_level(
                reader,
                self.tables.get(name, chunk.has_parent, frame.quality),
                (self.components[name], height, width),
                has_map=chunk.has_map,
                parent=planes[above.level] if above is not None else None,
            )
            reader.finish()
            if code.classes is not None and code.classes.max(initial=0) >= self.step_classes:
                raise InvalidField(
                    f"the step map of {name} holds class {code.classes.max()}; "
                    f"this profile has {self.step_classes}"
                )
            planes[chunk.level] = code.planes
            symbols[name] = code.symbols
            parents[name] = None if above is None else self.spec.names[above.level]
            if code.classes is not None:
                maps[name] = code.classes.astype(np.uint8)
        return Decoded(frame.codec_id, frame.quality, frame.image_size, frame.network_size,
                       symbols, maps, parents, ignored)  # fmt: skip

    def header(self, data: bytes, limits: Limits | None = None, *, partial: bool = False) -> Frame:
        """Parse a frame and check everything that can be checked without decoding it.

        Raises:
            FormatError: The bytes are not a usable frame.
            ProfileMismatch: They were made with another profile.
        """
        limits = limits or Limits()
        frame = read_frame(data, limits, partial=partial)
        self._check(frame, limits)
        return frame

    def _check(self, frame: Frame, limits: Limits) -> None:
        if frame.codec_id not in CODEC_NAMES:
            known = ", ".join(f"{number} ({name})" for number, name in CODEC_NAMES.items())
            raise UnknownCodec(f"codec id {frame.codec_id} is unknown; this release has {known}")
        if (frame.codec_id, frame.stream_prefix) != (
            self.codec_id,
            self._stream_prefix,
        ):
            raise ProfileMismatch(
                f"the frame is of stream {frame.stream_prefix.hex()} (codec {frame.codec_id}), "
                f"this profile is stream {self._stream_prefix.hex()} (codec {self.codec_id}); "
                "use the same profile on both sides (-p PROFILE; fpcodec profiles list has "
                "their streams)"
            )
        for chunk in frame.chunks:
            name = self.spec.names[chunk.level] if chunk.level < len(self.spec.levels) else ""
            if name not in self.components:
                raise InvalidField(f"chunk {chunk.level} is not a coded level of this profile")
        elements = self.spec.elements(frame.network_size)
        if elements > limits.max_elements:
            raise LimitExceeded(
                f"frame declares {elements} feature values, above the limit of "
                f"{limits.max_elements}; use a smaller input or raise the limit"
            )


def order_levels(spec: PyramidSpec, names: Sequence[str] | Mapping[str, object]) -> list[str]:
    """Level names coarsest first, as a frame stores them."""
    return sorted(names, key=spec.index, reverse=True)


def select_levels(
    spec: PyramidSpec, levels: Sequence[str] | None, present: Mapping[str, object]
) -> tuple[str, ...]:
    """Which levels to send: those named, or every coded level that is present.

    Raises:
        InputError: A level is unknown, derived or absent.
    """
    if levels is None:
        return tuple(name for name in spec.coded_names if name in present)
    for name in levels:
        if spec[name].derived_from is not None:
            raise InputError(f"level {name} is derived from {spec[name].derived_from} on the "
                             f"server; send {spec[name].derived_from} instead")  # fmt: skip
        if name not in present:
            raise InputError(f"level {name} was not extracted; extract it before encoding")
    return tuple(name for name in spec.coded_names if name in levels)


def code_quantised(
    coder: SymbolCoder, tables: TableSet, level: QuantisedLevel, parent: LevelPlanes | None
) -> LevelPlanes:
    """Code one quantised level; returns what finer levels may look at."""
    classes = None if level.classes is None else level.classes.astype(np.int32)
    count, height, width = level.symbols.shape
    code = code_level(
        coder,
        tables,
        (level.components or count, height, width),
        has_map=classes is not None,
        parent=parent,
        symbols=level.symbols,
        classes=classes,
        depth=level.depth,
    )
    return code.planes


def count_frame(
    coder: SymbolCoder,
    tables: Callable[[str, bool, int], TableSet],
    *,
    spec: PyramidSpec,
    levels: Mapping[str, QuantisedLevel],
    quality: int,
    parents: bool,
) -> None:
    """Run a frame's symbols through a counter or meter, with or without parents."""
    parent: LevelPlanes | None = None
    for name in order_levels(spec, levels):
        used = parent if parents else None
        parent = code_quantised(coder, tables(name, used is not None, quality), levels[name], used)

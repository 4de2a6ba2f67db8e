"""The state that both ends of a video stream keep, and how a frame moves it on.

Everything in it is integers that were decoded, so that both ends agree to the bit. A state is never
changed: a frame gives the next one, and a damaged frame gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from fpcodec.codecs.base import Decoded, Integers, Limits
from fpcodec.codecs.chunks import ChunkCoder, order_levels
from fpcodec.codecs.coefficients import Plane
from fpcodec.entropy import Backend, SymbolCoder, SymbolReader, SymbolWriter, default_backend
from fpcodec.errors import InvalidField, LimitExceeded, NeedsRefresh
from fpcodec.video.adaptive import AdaptiveTable, LearningCoder, first_tables
from fpcodec.video.frame import (
    RATIO_ONE,
    InterFrame,
    LevelChange,
    QualityChange,
    read_inter,
    stream_checksum,
    take_levels,
    take_quality,
    write_inter,
)
from fpcodec.video.residuals import LARGEST_INTEGER, LevelState, code_changes


@dataclass(frozen=True)
class StreamState:
    """What a frame leans on.

    Attributes:
        coder: The codec's; it has the levels and the identity.
        quality: 0..255.
        image_size: ``(width, height)`` of the original image in pixels.
        network_size: ``(width, height)`` of the network input in pixels.
        levels: Level name to its state, coarsest first.
        tables: What the inter frames since the refresh have taught.
        checksum: CRC-32 of all frames since the refresh, it included.
        frames: How many these are.
    """

    coder: ChunkCoder
    quality: int
    image_size: tuple[int, int]
    network_size: tuple[int, int]
    levels: Mapping[str, LevelState]
    tables: Mapping[str, AdaptiveTable]
    checksum: int
    frames: int = 1

    @classmethod
    def of_refresh(cls, coder: ChunkCoder, decoded: Decoded, data: bytes) -> StreamState:
        """The state after a refresh frame."""
        levels = {}
        for name in order_levels(coder.spec, decoded.symbols):
            classes = decoded.step_maps.get(name)
            plane = None if classes is None else classes.astype(np.int32)
            levels[name] = _frozen(LevelState.still(decoded.symbols[name], plane))
        return cls(
            coder, decoded.quality, decoded.image_size, decoded.network_size, levels,
            first_tables(max(coder.components.values())), stream_checksum(data),
        )  # fmt: skip

    def classes_of(self, level: LevelState) -> int:
        """How many step classes a level may have."""
        return 1 if level.classes is None else self.coder.step_classes

    def with_levels(self, change: LevelChange) -> StreamState:
        """The state with other levels: new ones are zeros.

        Raises:
            InvalidField: A level is not one that the profile codes.
        """
        names = self.coder.spec.names
        if change.present >> len(names):
            raise InvalidField(f"levels {change.present:#x} are more than the profile's")
        levels = {}
        for index in range(len(names) - 1, -1, -1):
            name = names[index]
            if not change.present >> index & 1:
                continue
            if name not in self.coder.components:
                raise InvalidField(f"level {name} is not a coded level of this profile")
            has_map = bool(change.maps >> index & 1)
            level = self.levels.get(name)
            if level is None or (level.classes is not None) != has_map:
                level = self.blank(name, has_map)
            levels[name] = level
        return replace(self, levels=levels)

    def blank(self, name: str, has_map: bool) -> LevelState:
        """A level of zeros."""
        _, height, width = self.coder.spec.shape(name, self.network_size)
        symbols = np.zeros((self.coder.components[name], height, width), np.int32)
        return LevelState.still(symbols, np.zeros((height, width), np.int32) if has_map else None)

    def with_quality(self, change: QualityChange) -> StreamState:
        """The state at another quality: integers by the ratio of old steps to new ones."""
        levels = {
            name: replace(level, symbols=_rescale(level, ratios))
            for (name, level), ratios in zip(self.levels.items(), change.ratios, strict=True)
        }
        return replace(self, quality=change.quality, levels=levels)

    def level_change(self, levels: Mapping[str, LevelState]) -> LevelChange | None:
        """What makes this state hold the levels given; None where it does."""
        index = self.coder.spec.index
        before, after = (
            LevelChange(
                sum(1 << index(name) for name in some),
                sum(1 << index(x) for x, level in some.items() if level.classes is not None),
            )
            for some in (self.levels, levels)
        )
        return None if before == after else after

    def code(
        self, coder: SymbolCoder, target: Mapping[str, LevelState] | None
    ) -> tuple[dict[str, LevelState], dict[str, AdaptiveTable]]:
        """Code all levels in the direction of ``coder``.

        Args:
            coder: Writes, reads or measures.
            target: The levels after the frame, coarsest first; None when reading.

        Returns:
            The levels and the tables after the frame.

        Raises:
            InvalidField: Bytes that no encoder writes.
        """
        learning = LearningCoder(coder, self.tables)
        levels: dict[str, LevelState] = {}
        above: Plane | None = None
        for name, level in self.levels.items():
            after = code_changes(learning, level, above, None if target is None else target[name])
            if (
                after.classes is not None
                and after.classes.max(initial=0) >= self.coder.step_classes
            ):
                raise InvalidField(
                    f"level {name} holds step class {after.classes.max()}; this profile has "
                    f"{self.coder.step_classes}"
                )
            levels[name], above = _frozen(after), after.activity
        return levels, learning.learned()

    def write(
        self,
        target: Mapping[str, LevelState],
        quality: QualityChange | None,
        backend: Backend | None = None,
    ) -> tuple[bytes, StreamState]:
        """Code a frame that leads from this state to another.

        Args:
            target: The levels after the frame, coarsest first.
            quality: How the quality changes before, or None.
            backend: The entropy coder; None for the fastest installed.

        Returns:
            The frame, and the state after it.
        """
        levels, start = self.level_change(target), self
        if levels is not None:
            start = start.with_levels(levels)
        if quality is not None:
            start = start.with_quality(quality)
        writer = SymbolWriter(backend or default_backend())
        after, tables = start.code(writer, target)
        data = write_inter(self.checksum, levels, quality, writer.finish())
        return data, start._moved(data, after, tables)

    def read(
        self, data: bytes, limits: Limits | None = None, backend: Backend | None = None
    ) -> StreamState:
        """The state after an inter frame.

        Raises:
            FormatError: The bytes are not a usable inter frame.
            NeedsRefresh: The frame leans on another state.
        """
        limits = limits or Limits()
        frame = read_inter(data, limits)
        if frame.reference != self.checksum:
            raise NeedsRefresh(
                f"the frame leans on stream state {frame.reference:08x}, this decoder is at "
                f"{self.checksum:08x}, frame {self.frames} since the refresh; send a refresh frame"
            )
        self._check(limits)
        start, coded = self._changed(frame)
        reader = SymbolReader(coded, backend or default_backend())
        levels, tables = start.code(reader, None)
        reader.finish()
        return start._moved(data, levels, tables)

    def _changed(self, frame: InterFrame) -> tuple[StreamState, bytes]:
        state, data = self, frame.data
        if frame.changes_levels:
            levels, data = take_levels(data)
            state = state.with_levels(levels)
        if frame.changes_quality:
            counts = [state.classes_of(level) for level in state.levels.values()]
            quality, data = take_quality(data, counts)
            state = state.with_quality(quality)
        return state, data

    def _check(self, limits: Limits) -> None:
        """Hold the stream to this call's limits, which may be others than the refresh's."""
        for what, size, limit in (
            ("image", self.image_size, limits.max_image_pixels),
            ("network input", self.network_size, limits.max_network_pixels),
        ):
            if size[0] * size[1] > limit:
                raise LimitExceeded(f"{what} of {size[0]}x{size[1]} pixels is above the limit of "
                                    f"{limit}; scale it down or raise the limit")  # fmt: skip
        elements = self.coder.spec.elements(self.network_size)
        if elements > limits.max_elements:
            raise LimitExceeded(f"stream of {elements} feature values is above the limit of "
                                f"{limits.max_elements}; use a smaller input or raise the "
                                "limit")  # fmt: skip

    def _moved(
        self, data: bytes, levels: dict[str, LevelState], tables: dict[str, AdaptiveTable]
    ) -> StreamState:
        checksum = stream_checksum(data, self.checksum)
        return replace(
            self, levels=levels, tables=tables, checksum=checksum, frames=self.frames + 1
        )

    def decoded(self) -> Decoded:
        """The integers as a frame of its own would give them."""
        names = list(self.levels)
        return Decoded(
            self.coder.codec_id,
            self.quality,
            self.image_size,
            self.network_size,
            {name: level.symbols for name, level in self.levels.items()},
            {
                name: level.classes.astype(np.uint8)
                for name, level in self.levels.items()
                if level.classes is not None
            },
            dict(zip(names, [None, *names], strict=False)),
        )


def _rescale(level: LevelState, ratios: tuple[int, ...]) -> Integers:
    """Integers times a ratio by step class, halves away from zero."""
    by_class = np.array(ratios, np.int64)
    ratio = by_class[0] if level.classes is None else by_class[level.classes]
    size = (np.abs(level.symbols.astype(np.int64)) * ratio + RATIO_ONE // 2) // RATIO_ONE
    size = np.minimum(size, LARGEST_INTEGER)
    return np.where(level.symbols < 0, -size, size).astype(np.int32)


def _frozen(level: LevelState) -> LevelState:
    """The level, its arrays read-only: they are handed out, and the next frame leans on them."""
    for array in (level.symbols, level.classes, level.activity):
        if array is not None:
            array.setflags(write=False)
    return level

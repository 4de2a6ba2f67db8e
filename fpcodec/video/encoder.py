"""The sending end of a video stream: pyramids in, frames out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fpcodec.bitstream import MAX_CHUNK_BYTES
from fpcodec.codecs.base import Codec, Limits, quality_byte
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import order_levels, select_levels
from fpcodec.codecs.latents import Latents
from fpcodec.entropy import SymbolMeter
from fpcodec.errors import InputError
from fpcodec.pyramid import MAX_SIDE, Pyramid
from fpcodec.video.config import VideoConfig
from fpcodec.video.decisions import LevelGoal, decide
from fpcodec.video.decoder import require_chunked
from fpcodec.video.frame import HEADER_BYTES, RATIO_ONE, QualityChange
from fpcodec.video.residuals import LevelState
from fpcodec.video.stream import StreamState

_OWN = Limits(MAX_CHUNK_BYTES, MAX_SIDE**2, MAX_SIDE**2, 1 << 40)
"""For frames of one's own: no receiver's limits apply."""

_CLIMB = 8
"""How far a frame may raise the wire quality above the one before."""

_ROOM = 0.7
"""A frame that fills less of its budget than this is tried at a better quality."""

_STRICTER = 2.0
"""By how much the tolerance grows where a frame is too long."""

_LEAST_STRICT = 0.05
_MOST_STRICT = 6  # times, at the lowest quality
_HALVINGS = 5


@dataclass(frozen=True)
class _Plan:
    """A frame that may be written.

    Attributes:
        start: The state that its integers are changed from.
        change: The quality change before it, or None.
        target: The levels after it.
        size_bytes: About how long it is.
    """

    start: StreamState
    change: QualityChange | None
    target: Mapping[str, LevelState]
    size_bytes: int


class VideoEncoder:
    """Encodes one stream.

    The first frame is a refresh frame, which is an ordinary frame of version 1; others lean on the
    one before. It is not for several threads at once.

    Args:
        codec: Any of the codecs.
        config: How bytes are spent; None for the defaults.

    Raises:
        InputError: The codec has no inter frames.
    """

    def __init__(self, codec: Codec, config: VideoConfig | None = None) -> None:
        self._codec: ChunkedCodec = require_chunked(codec)
        self._config = config or VideoConfig()
        self._state: StreamState | None = None

    @property
    def quality(self) -> float:
        """The last frame's, in [0, 1]; 0 before any."""
        return 0.0 if self._state is None else self._state.quality / 255

    def request_refresh(self) -> None:
        """Make the next frame a refresh frame: the receiver said ``NeedsRefresh``."""
        self._state = None

    def encode(
        self,
        pyramid: Pyramid,
        quality: float | None = None,
        levels: Sequence[str] | None = None,
        *,
        max_bytes: int | None = None,
    ) -> bytes:
        """Code the next pyramid of the stream.

        A budget bounds every frame. A refresh frame fills it as ``Codec.encode`` does; an inter
        frame that needs less raises the quality little by little, one that needs more leaves more
        of the previous frame standing, or lowers it.

        Args:
            pyramid: Holds at least the levels to send.
            quality: In [0, 1].
            levels: Level names to send; None for every coded level that the pyramid holds.
            max_bytes: Most bytes of the frame, in place of a quality.

        Raises:
            InputError: A level is absent, derived, or holds NaN or infinity; the quality is out
                of range; the budget is below the smallest frame; quality and budget are both
                given, or neither. The stream stays where it was.
        """
        if (quality is None) == (max_bytes is None):
            raise InputError(
                "give a quality in [0, 1] or max_bytes, the longest frame; one of them"
            )
        names = select_levels(self._codec.spec, levels, pyramid.levels)
        Pyramid(
            pyramid.spec, {x: pyramid.levels[x] for x in names}, pyramid.geometry
        ).require_finite()
        state = self._state
        if state is None or self._is_due(state) or not _same_sizes(state, pyramid):
            return self._refresh(pyramid, quality, levels, max_bytes)
        latents = self._codec.latents(pyramid, names)
        start = _with_levels(state, order_levels(self._codec.spec, names), latents)
        goals = _Goals(self._codec, self._config, start, latents)
        if max_bytes is None:
            plan = goals.plan(quality_byte(quality or 0.0), self._config.tolerance)
            data, self._state = self._write(plan)
            return data
        return self._fit(goals, max_bytes)

    def _is_due(self, state: StreamState) -> bool:
        return bool(self._config.refresh_interval) and state.frames >= self._config.refresh_interval

    def _refresh(
        self,
        pyramid: Pyramid,
        quality: float | None,
        levels: Sequence[str] | None,
        max_bytes: int | None,
    ) -> bytes:
        data = self._codec.encode(pyramid, quality, levels, max_bytes=max_bytes)
        decoded = self._codec.decode(data, _OWN)
        self._state = StreamState.of_refresh(self._codec.coder, decoded, data)
        return data

    def _write(self, plan: _Plan) -> tuple[bytes, StreamState]:
        if self._state is None:
            raise InputError("nothing was sent that a frame could lean on; send a refresh frame")
        return self._state.write(plan.target, plan.change, self._codec.backend)

    def _fit(self, goals: _Goals, max_bytes: int) -> bytes:
        """Code the best frame within a budget."""
        for plan in goals.within(max_bytes):
            data, state = self._write(plan)
            if len(data) <= max_bytes:
                self._state = state
                return data
        raise InputError(f"max_bytes {max_bytes} is below the smallest inter frame; use "
                         f"{HEADER_BYTES + 16} or more")  # fmt: skip


class _Goals:
    """One pyramid against one state, at any quality and tolerance.

    Args:
        codec: Has the steps.
        config: How bytes are spent.
        start: The state, with the levels to send.
        latents: What is to be sent.
    """

    def __init__(
        self, codec: ChunkedCodec, config: VideoConfig, start: StreamState, latents: Latents
    ) -> None:
        self._codec, self._config, self._start, self._latents = codec, config, start, latents
        self._known: dict[int, tuple[StreamState, QualityChange | None, dict[str, LevelGoal]]] = {}

    def plan(self, quality: int, tolerance: float) -> _Plan:
        """The frame of a wire quality."""
        if quality not in self._known:
            self._known[quality] = self._measure(quality)
        start, change, goals = self._known[quality]
        target = {name: decide(goal, tolerance) for name, goal in goals.items()}
        meter = SymbolMeter()
        start.code(meter, target)
        size = HEADER_BYTES + 4 * math.ceil(meter.bits / 32)
        if change is not None:
            size += 1 + sum(len(x) for x in change.ratios)
        return _Plan(start, change, target, size)

    def within(self, max_bytes: int) -> Iterator[_Plan]:
        """Frames that should fit, best first; the last one changes nothing."""
        now, tolerance = self._start.quality, self._config.tolerance
        plan = self.plan(now, tolerance)
        if plan.size_bytes <= max_bytes:
            if plan.size_bytes < _ROOM * max_bytes and now < 255:
                better = self.plan(min(now + _CLIMB, 255), tolerance)
                if better.size_bytes <= max_bytes:
                    yield better
            yield plan
        # A little less care costs less than coarser steps; much less costs more.
        plan = self.plan(now, _STRICTER * tolerance)
        if plan.size_bytes <= max_bytes:
            yield plan
        yield from self._coarser(max_bytes, _STRICTER * tolerance)
        for times in range(1, _MOST_STRICT + 1):
            plan = self.plan(0, max(tolerance, _LEAST_STRICT) * _STRICTER ** (1 + times))
            if plan.size_bytes <= max_bytes:
                yield plan
        yield self._still()

    def _coarser(self, max_bytes: int, tolerance: float) -> Iterator[_Plan]:
        """The best quality found below the present one at which a frame fits."""
        low, high, best = 0, self._start.quality, None
        for _ in range(_HALVINGS):
            if low >= high:
                break
            middle = (low + high) // 2
            plan = self.plan(middle, tolerance)
            if plan.size_bytes <= max_bytes:
                low, best = middle + 1, plan
            else:
                high = middle
        if best is not None:
            yield best

    def _still(self) -> _Plan:
        """The frame that leaves everything as it stands."""
        target = {name: level for name, level in self._start.levels.items()}
        return _Plan(self._start, None, target, HEADER_BYTES)

    def _measure(
        self, quality: int
    ) -> tuple[StreamState, QualityChange | None, dict[str, LevelGoal]]:
        start, change = self._start, None
        if quality != start.quality:
            change = QualityChange(quality, tuple(
                self._ratios(name, level, quality) for name, level in start.levels.items()
            ))  # fmt: skip
            start = start.with_quality(change)
        goals = {}
        for name, level in start.levels.items():
            goals[name] = LevelGoal.of(
                level,
                self._latents.components[name],
                self._codec.steps(name, quality),
                self._latents.importance.get(name),
                self._codec.thresholds(name, quality),
                self._config,
            )
        return start, change, goals

    def _ratios(self, name: str, level: LevelState, quality: int) -> tuple[int, ...]:
        """Old steps by new ones per class, in units of 1/32."""
        old = self._codec.steps(name, self._start.quality)
        new = self._codec.steps(name, quality)
        ratio = np.median(old / new, axis=1)[: self._start.classes_of(level)]
        return tuple(int(x) for x in np.clip(np.rint(RATIO_ONE * ratio), 0, 255))


def _same_sizes(state: StreamState, pyramid: Pyramid) -> bool:
    geometry = pyramid.geometry
    return (state.image_size, state.network_size) == (geometry.image_size, geometry.network_size)


def _with_levels(state: StreamState, names: Sequence[str], latents: Latents) -> StreamState:
    """The state with the levels to send, coarsest first: zeros for what it does not have."""
    levels = {}
    for name in names:
        level = state.levels.get(name)
        levels[name] = state.blank(name, name in latents.importance) if level is None else level
    return replace(state, levels=levels)

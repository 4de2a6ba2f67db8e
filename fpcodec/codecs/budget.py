"""The best frame that a byte budget has room for, found from the tables.

Bytes grow with quality, so the search is over qualities first; what the last step of quality
would overshoot is trimmed (``trimming``). Frames are measured with the tables, not coded; only the
last is written, and another where its length is not the one that was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fpcodec.bitstream import frame_bytes
from fpcodec.codecs.chunks import ChunkEstimate, QuantisedLevel, order_levels
from fpcodec.codecs.trimming import Trimmer
from fpcodec.errors import InputError
from fpcodec.pyramid import Pyramid

if TYPE_CHECKING:
    from fpcodec.codecs.chunked import ChunkedCodec, Quantise

FILLED = 0.98
"""A frame of this share of its budget is not improved on."""

MOST_MEASURED = 14
"""Frames that are measured at most for one budget."""

_FOR_QUALITY = 6  # of these; the rest is for trimming
_ATTEMPTS = 3  # at writing


def fit_budget(
    codec: ChunkedCodec, pyramid: Pyramid, names: Sequence[str], max_bytes: int, *, may_drop: bool
) -> bytes:
    """Code a pyramid in at most so many bytes.

    Args:
        codec: Quantises and writes; what its analysis costs is paid once.
        pyramid: Holds the levels.
        names: Levels to send.
        max_bytes: Longest frame.
        may_drop: Whether the finest levels may be left out where there is no room for them.

    Raises:
        InputError: The budget is below the smallest frame.
    """
    search = BudgetSearch(codec, codec.prepare(pyramid, names), pyramid)
    ordered = order_levels(codec.spec, names)
    least = min(1, len(ordered)) if may_drop else len(ordered)
    best, target = b"", max_bytes
    for _ in range(_ATTEMPTS):
        found = search.run(ordered, least, target)
        if found is None:
            break
        data = codec.write(found.levels, found.quality, pyramid.geometry)
        if len(best) < len(data) <= max_bytes:
            best = data
        off = found.size_bytes - len(data)
        if not off or FILLED * max_bytes <= len(data) <= max_bytes:
            break
        # A chunk of next to nothing is shorter than its words, any may be one longer.
        target = max_bytes + off
    if best:
        return best
    data = codec.write(search.quantise(0, ordered[:least]), 0, pyramid.geometry)
    if len(data) > max_bytes:
        remedy = "raise the budget" if may_drop else "raise the budget or let levels be left out"
        raise InputError(
            f"max_bytes {max_bytes} is below the smallest frame of this image, {len(data)} bytes "
            f"({'+'.join(ordered[:least]) or 'no level'} at quality 0); {remedy}"
        )
    return data


@dataclass(frozen=True)
class Trial:
    """A frame that was measured.

    Attributes:
        levels: What it codes.
        quality: 0..255.
        chunks: What each level costs, coarsest first.
        size_bytes: Of the frame.
    """

    levels: Mapping[str, QuantisedLevel]
    quality: int
    chunks: Mapping[str, ChunkEstimate]
    size_bytes: int


@dataclass
class _Trimmed:
    """A frame that is too long, and what was measured of it with parts left out.

    Attributes:
        whole: The frame.
        trimmer: Leaves parts out.
        known: Number of parts left out to what remains.
    """

    whole: Trial
    trimmer: Trimmer
    known: dict[int, Trial]

    @classmethod
    def of(cls, whole: Trial) -> _Trimmed:
        bits = {name: chunk.group_bits for name, chunk in whole.chunks.items()}
        return cls(whole, Trimmer(whole.levels, bits), {0: whole})

    def bracket(self, target: int) -> tuple[tuple[int, float], tuple[int, float]]:
        """Parts and bytes of the nearest known frames that do not fit and do."""
        sizes = {count: trial.size_bytes for count, trial in self.known.items()}
        few = max(count for count, size in sizes.items() if size > target)
        many = min((x for x in sizes if x > few), default=self.trimmer.parts)
        return (few, sizes[few]), (many, sizes.get(many, 0.0))


@dataclass
class BudgetSearch:
    """Measures frames of one pyramid, none of them twice.

    Attributes:
        codec: Has the tables.
        quantise: Integers by quality.
        pyramid: Whose frames they are.
        measured: Frames measured so far.
    """

    codec: ChunkedCodec
    quantise: Quantise
    pyramid: Pyramid
    measured: int = 0
    _known: dict[tuple[int, int], Trial] = field(default_factory=dict)
    _trimmed: dict[int, _Trimmed] = field(default_factory=dict)

    def run(self, ordered: Sequence[str], least: int, target: int) -> Trial | None:
        """Find the best frame within a target.

        Args:
            ordered: Levels to send, coarsest first.
            least: How many of them must be sent.
            target: Most bytes.

        Returns:
            The frame, or None where the smallest one is too long.
        """
        # A chunk does not depend on finer ones, so one measurement tells the size of each set.
        lowest = self._measure(ordered, 0)
        first = {
            n: {name: lowest.chunks[name] for name in ordered[:n]}
            for n in range(least, len(ordered) + 1)
        }
        sizes = {n: self._frame_bytes(chunks) for n, chunks in first.items()}
        count = max((n for n, size in sizes.items() if size <= target), default=None)
        if count is None:
            return None
        some = {name: lowest.levels[name] for name in ordered[:count]}
        self._known[count, 0] = Trial(some, lowest.quality, first[count], sizes[count])
        best, above = self._raise_quality(ordered[:count], target)
        if above is None and count < len(ordered):
            above = self._measure(ordered[: count + 1], 0)
        if above is None or best.size_bytes >= FILLED * target:
            return best
        filled = self._trim(above, target)
        return filled if filled is not None and filled.size_bytes > best.size_bytes else best

    def _raise_quality(self, names: Sequence[str], target: int) -> tuple[Trial, Trial | None]:
        """The best quality that fits, and the next, which does not; None where all fit."""
        highest = self._measure(names, 256 // self.codec.quality_step - 1)
        if highest.size_bytes <= target:
            return highest, None
        wanted = math.log((1 + FILLED) / 2 * target)
        halve = False
        while True:
            low, high = self._bracket(len(names), target)
            places = [x.quality // self.codec.quality_step for x in (low, high)]
            close = places[1] - places[0] == 1 or low.size_bytes >= FILLED * target
            if close or self.measured >= _FOR_QUALITY:
                return low, high
            sizes = [math.log(x.size_bytes) for x in (low, high)]
            ends = list(zip(places, sizes, strict=True))
            trial = self._measure(names, _between(ends[0], ends[1], wanted, halve=halve))
            # Where a guess has moved an end but a little, or on a plateau, guessing creeps.
            halve = not halve or trial.size_bytes in (low.size_bytes, high.size_bytes)

    def _bracket(self, count: int, target: int) -> tuple[Trial, Trial]:
        """The best quality known to fit, and the lowest above it known not to."""
        known = sorted(
            (trial for (n, _), trial in self._known.items() if n == count), key=lambda x: x.quality
        )
        at = max(i for i, trial in enumerate(known) if trial.size_bytes <= target)
        return known[at], known[at + 1]

    def _trim(self, above: Trial, target: int) -> Trial | None:
        """What fits of a frame that is too long, its least important parts left out."""
        if id(above) not in self._trimmed:
            self._trimmed[id(above)] = _Trimmed.of(above)
        trimmed = self._trimmed[id(above)]
        saved = trimmed.trimmer.saved_bits
        wanted = (1 + FILLED) / 2 * target
        (few, over), (many, under) = trimmed.bracket(target)
        over, under = over - wanted, under - wanted
        while many - few > 1 and self.measured < MOST_MEASURED:
            aim = saved[few] + over / (over - under) * (saved[many] - saved[few])
            count = int(np.clip(np.searchsorted(saved, aim), few + 1, many - 1))
            trial = self._meter(trimmed.trimmer.drop(count), above.quality)
            trimmed.known[count] = trial
            # The Illinois rule: an end that stays is taken for half as far away.
            if trial.size_bytes > target:
                few, over, under = count, trial.size_bytes - wanted, under / 2
            else:
                many, over, under = count, over / 2, trial.size_bytes - wanted
                if trial.size_bytes >= FILLED * target:
                    break
        return trimmed.known.get(many)

    def _measure(self, names: Sequence[str], place: int) -> Trial:
        """Measure at a place among the qualities that differ."""
        key = (len(names), place)
        if key not in self._known:
            quality = (place + 1) * self.codec.quality_step - 1
            self._known[key] = self._meter(self.quantise(quality, names), quality)
        return self._known[key]

    def _meter(self, levels: Mapping[str, QuantisedLevel], quality: int) -> Trial:
        self.measured += 1
        parents = self.codec.writes_parents
        chunks = self.codec.coder.estimate(levels, quality, parents=parents)
        return Trial(levels, quality, chunks, self._frame_bytes(chunks))

    def _frame_bytes(self, chunks: Mapping[str, ChunkEstimate]) -> int:
        geometry, lengths = self.pyramid.geometry, [x.size_bytes for x in chunks.values()]
        return frame_bytes(geometry.image_size, geometry.network_size, lengths)


def _between(low: tuple[int, float], high: tuple[int, float], wanted: float, *, halve: bool) -> int:
    """A place strictly between two, where a value is to be expected, or half way."""
    share = 0.5 if halve else (wanted - low[1]) / (high[1] - low[1])
    place = round(low[0] + share * (high[0] - low[0]))
    return min(max(place, low[0] + 1), high[0] - 1)

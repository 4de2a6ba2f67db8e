"""A frame of at most so many bytes: never over, hardly under, found without running networks."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from core_kit import golden_learned, kit_profile, make_pyramid
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.bitstream import frame_bytes, read_frame
from fpcodec.codecs.budget import MOST_MEASURED, BudgetSearch
from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.codecs.trimming import Trimmer
from fpcodec.errors import InputError
from fpcodec.pyramid import ImageGeometry, Pyramid

KINDS = ("uniform", "pca", "learned")
NETWORK = (384, 256)
GEOMETRY = ImageGeometry((640, 427), NETWORK, NETWORK)
LEVELS = (None, ("p3",), ("p3", "p5"), ("p3", "p4", "p5"))
WORD_BYTES = 4
NEARLY_EMPTY_BYTES = 200  # a dozen words of header and chunks: 3 % of it is less than one
each_kind = pytest.mark.parametrize("kind", KINDS)


def codec_of(kind: str) -> ChunkedCodec:
    codec = (golden_learned() if kind == "learned" else kit_profile(kind)).codec
    assert isinstance(codec, ChunkedCodec)
    return codec


@cache
def pyramid_of(kind: str, seed: int = 1) -> Pyramid:
    return make_pyramid(seed, codec_of(kind).spec, GEOMETRY)


def range_of(kind: str, levels: tuple[str, ...] | None, seed: int = 1) -> tuple[int, int]:
    """Bytes of the smallest and the largest frame."""
    codec, pyramid = codec_of(kind), pyramid_of(kind, seed)
    least = codec.encode(pyramid, 0.0, ("p5",) if levels is None else levels)
    return len(least), len(codec.encode(pyramid, 1.0, levels))


def is_filled(data: bytes, budget: int) -> bool:
    """Whether a frame is as near its budget as the coder's words allow."""
    if budget < NEARLY_EMPTY_BYTES:
        return True
    chunks = max(1, len(read_frame(data).chunks))
    return budget - WORD_BYTES * chunks <= len(data) or int(0.97 * budget) <= len(data)


@given(st.sampled_from(KINDS), st.sampled_from(LEVELS), st.integers(1, 4), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_budget_is_never_exceeded_and_nearly_used_up(kind, levels, seed, share):
    codec, pyramid = codec_of(kind), pyramid_of(kind, seed)
    least, most = range_of(kind, levels, seed)
    # As frames grow geometrically, so do the budgets that are tried.
    budget = round(least * (most / least) ** share)
    data = codec.encode(pyramid, levels=levels, max_bytes=budget)
    assert len(data) <= budget
    assert is_filled(data, budget), (len(data), budget)
    decoded = codec.decode(data)
    if levels is not None:
        assert set(decoded.symbols) == set(levels)
    assert codec.reconstruct([decoded], [GEOMETRY])[0].missing == ()


@each_kind
def test_room_for_everything_gives_the_best_frame(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    best = codec.encode(pyramid, 1.0)
    for budget in (len(best), len(best) + 1, 10**9):
        assert codec.encode(pyramid, max_bytes=budget) == best


@each_kind
def test_the_smallest_frame_fits_its_own_length(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    for levels in LEVELS[1:]:
        least = codec.encode(pyramid, 0.0, levels)
        found = codec.encode(pyramid, levels=levels, max_bytes=len(least))
        assert len(found) <= len(least)


@each_kind
@pytest.mark.parametrize("levels", LEVELS)
def test_below_the_smallest_frame_is_an_error_that_names_it(kind, levels):
    least, _ = range_of(kind, levels)
    for budget in (least - 1, 10, 1, 0, -5):
        with pytest.raises(InputError, match=rf"max_bytes {budget} .* {least} bytes .*raise"):
            codec_of(kind).encode(pyramid_of(kind), levels=levels, max_bytes=budget)


@each_kind
def test_small_budgets_drop_the_finest_levels_first(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    names = ("p5", "p4", "p3")
    bounds = [len(codec.encode(pyramid, 0.0, names[:count])) for count in (1, 2, 3)]
    for count in (1, 2):
        data = codec.encode(pyramid, max_bytes=bounds[count] - 1)
        sent = [codec.spec.names[chunk.level] for chunk in read_frame(data).chunks]
        assert tuple(sent) in (names[:count], names[: count + 1])
        assert is_filled(data, bounds[count] - 1)
    assert len(read_frame(codec.encode(pyramid, max_bytes=2 * bounds[2])).chunks) == 3


@each_kind
def test_named_levels_are_never_dropped(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    coarse = len(codec.encode(pyramid, 0.0, ("p5",)))
    with pytest.raises(InputError, match="let levels be left out"):
        codec.encode(pyramid, levels=("p3", "p4", "p5"), max_bytes=coarse)
    assert codec.encode(pyramid, levels=(), max_bytes=40) == codec.encode(pyramid, 1.0, ())


@each_kind
def test_the_tables_are_asked_less_than_fifteen_times(kind, monkeypatch):
    counts: list[int] = []
    run = BudgetSearch.run

    def counted(self, *args):
        try:
            return run(self, *args)
        finally:
            counts.append(self.measured)

    monkeypatch.setattr(BudgetSearch, "run", counted)
    least, most = range_of(kind, None)
    for budget in np.geomspace(least, most, 30).astype(int):
        codec_of(kind).encode(pyramid_of(kind), max_bytes=int(budget))
    assert max(counts) <= MOST_MEASURED < 15


def test_the_network_runs_once(monkeypatch):
    runs = []
    analyse = LearnedCodec.analyse
    monkeypatch.setattr(
        LearnedCodec, "analyse", lambda *args: runs.append(args[2]) or analyse(*args)
    )
    codec_of("learned").encode(pyramid_of("learned"), max_bytes=300)
    assert runs == [("p3", "p4", "p5")]


@each_kind
def test_estimates_are_the_written_lengths_to_a_word(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    for quality in range(0, 256, 15):
        levels = codec.quantise(pyramid, quality, codec.spec.coded_names)
        frame = read_frame(codec.write(levels, quality, GEOMETRY))
        guessed = codec.coder.estimate(levels, quality)
        for chunk in frame.chunks:
            off = guessed[codec.spec.names[chunk.level]].size_bytes - len(chunk.data)
            assert -WORD_BYTES <= off <= WORD_BYTES
        lengths = [len(chunk.data) for chunk in frame.chunks]
        total = frame_bytes(frame.image_size, frame.network_size, lengths)
        assert total == len(codec.write(levels, quality, GEOMETRY))


@each_kind
def test_a_quality_or_a_budget_and_not_both(kind):
    codec, pyramid = codec_of(kind), pyramid_of(kind)
    for options in ({}, {"quality": 0.5, "max_bytes": 1000}):
        with pytest.raises(InputError, match="one of them"):
            codec.encode(pyramid, **options)


@each_kind
def test_a_level_with_nan_is_refused_within_a_budget_too(kind):
    full = make_pyramid(9, codec_of(kind).spec, GEOMETRY)
    full.levels["p3"][0, 0, 0] = np.nan
    with pytest.raises(InputError, match="level p3"):
        codec_of(kind).encode(full, max_bytes=500)


def levels_of(seed: int) -> dict[str, QuantisedLevel]:
    rng = np.random.default_rng(seed)
    return {
        name: QuantisedLevel(
            np.rint(rng.laplace(0, 1.5, (6, *size))).astype(np.int32),
            rng.integers(0, 3, size).astype(np.uint8) if name == "p3" else None,
        )
        for name, size in (("p3", (5, 7)), ("p4", (3, 4)))
    }


@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_trimming_only_ever_takes_away(seed, one, other):
    levels = levels_of(seed)
    trimmer = Trimmer(levels)
    few, many = sorted((round(one * trimmer.parts), round(other * trimmer.parts)))
    less, least = trimmer.drop(few), trimmer.drop(many)
    for name, level in levels.items():
        for before, after in ((level, less[name]), (less[name], least[name])):
            kept = after.symbols != 0
            np.testing.assert_array_equal(after.symbols[kept], before.symbols[kept])
            assert np.count_nonzero(before.symbols) >= np.count_nonzero(kept)
            if before.classes is not None:
                assert (after.classes <= before.classes).all()
        assert (level.classes is None) == (least[name].classes is None)


def test_trimming_takes_the_least_important_positions_and_their_last_groups_first():
    levels = levels_of(3)
    trimmer = Trimmer(levels)
    whole, part = levels["p3"], trimmer.drop(trimmer.parts // 3)["p3"]
    changed = (whole.symbols != part.symbols).any(axis=0)
    assert changed.any()
    assert not changed[whole.classes == whole.classes.max()].any()
    for row, column in np.argwhere(changed):
        gone = np.flatnonzero(whole.symbols[:, row, column] != part.symbols[:, row, column])
        assert not part.symbols[gone[0] :, row, column].any()


def test_trimming_everything_leaves_nothing():
    trimmer = Trimmer(levels_of(4))
    np.testing.assert_array_equal(trimmer.drop(0)["p3"].symbols, levels_of(4)["p3"].symbols)
    for level in trimmer.drop(trimmer.parts).values():
        assert not level.symbols.any()
        assert level.classes is None or not level.classes.any()

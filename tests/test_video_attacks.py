"""Hostile inter frames: every byte string gives integers or a typed error, and bounded work."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from capped_child import read_capped
from core_kit import SPEC, backends, kit_profile
from hypothesis import given, settings
from hypothesis import strategies as st
from video_kit import clip, same_integers

from fpcodec.errors import (
    BadMagic,
    ChecksumMismatch,
    FormatError,
    InvalidField,
    NeedsRefresh,
    Truncated,
    UnsupportedVersion,
)
from fpcodec.video import VideoDecoder, VideoEncoder
from fpcodec.video.frame import LevelChange, QualityChange, write_inter
from fpcodec.video.residuals import LARGEST_INTEGER, LevelState
from fpcodec.video.stream import StreamState


@cache
def honest() -> tuple[StreamState, bytes]:
    """A state after some frames, and the frame that follows."""
    encoder, decoder = (
        VideoEncoder(kit_profile("pca").codec),
        VideoDecoder(kit_profile("pca").codec),
    )
    frames = [encoder.encode(x, 0.8) for x in clip(4)]
    for frame in frames[:-1]:
        decoder.decode(frame)
    return decoder._state, frames[-1]


def sealed(body: bytes, levels=None, quality=None, state: StreamState | None = None) -> bytes:
    return write_inter((state or honest()[0]).checksum, levels, quality, body)


def test_every_single_bit_flip_is_found():
    state, data = honest()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError):
            state.read(bytes(damaged))
    state.read(data)


def test_every_truncation_is_found():
    state, data = honest()
    for length in range(len(data)):
        with pytest.raises(Truncated if length < 11 else ChecksumMismatch):
            state.read(data[:length])


def test_bytes_that_follow_are_found():
    state, data = honest()
    for more in (b"\0", b"\1" * 12, b"\0" * 8 + b"\1"):
        with pytest.raises(ChecksumMismatch):
            state.read(data + more)
        with pytest.raises(InvalidField):
            state.read(sealed(data[11:] + more))


def test_the_wrong_beginning_is_named():
    state, data = honest()
    with pytest.raises(BadMagic):
        state.read(b"GIF" + data[3:])
    with pytest.raises(UnsupportedVersion):
        state.read(b"FPC\1" + data[4:])


def test_a_flag_of_the_future_is_refused():
    import binascii

    state, data = honest()
    head = data[:4] + b"\4" + data[5:9]
    check = binascii.crc_hqx(data[11:], binascii.crc_hqx(head, 0xFFFF)).to_bytes(2, "little")
    with pytest.raises(InvalidField, match="flags"):
        state.read(head + check + data[11:])


def test_another_reference_is_told_from_damage():
    _, data = honest()
    with pytest.raises(NeedsRefresh):
        honest()[0].read(write_inter(honest()[0].checksum ^ 1, None, None, data[11:]))


@pytest.mark.parametrize("present", [8, 9, 16, 128, 255])
def test_levels_that_are_not_coded_are_refused(present):
    with pytest.raises(InvalidField, match="level"):
        honest()[0].read(sealed(b"", LevelChange(present, 0)))


def test_a_map_without_its_level_is_refused():
    with pytest.raises(InvalidField, match="step classes"):
        honest()[0].read(sealed(b"", LevelChange(1, 2)))


def test_changes_that_end_early_are_refused():
    state, _ = honest()
    levels, quality = LevelChange(7, 7), QualityChange(9, ((32, 32, 32),) * 3)
    whole = sealed(b"", levels, quality)
    for length in range(11, len(whole)):
        body = whole[11:length]
        with pytest.raises(Truncated):
            state.read(_with_flags(body, 3))


def _with_flags(body: bytes, flags: int) -> bytes:
    """A sealed frame whose flags promise more than the body holds."""
    import binascii

    head = b"FPC\2" + bytes([flags]) + honest()[0].checksum.to_bytes(4, "little")
    check = binascii.crc_hqx(body, binascii.crc_hqx(head, 0xFFFF)).to_bytes(2, "little")
    return head + check + body


def test_integers_cannot_grow_without_end():
    coder = honest()[0].coder
    _, height, width = SPEC.shape("p5", (96, 64))
    shape = (coder.components["p5"], height, width)
    top = LevelState.still(np.full(shape, LARGEST_INTEGER, np.int32), None)
    state = StreamState(coder, 9, (9, 9), (96, 64), {"p5": top}, honest()[0].tables, 0)
    more = {"p5": LevelState.still(top.symbols + 1, None)}
    with pytest.raises(InvalidField, match="exceeds"):
        state.write(more, None)
    for _ in range(5):
        state = state.with_quality(QualityChange(9, ((255,),)))
        assert np.abs(state.levels["p5"].symbols).max() == LARGEST_INTEGER


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_random_bytes(junk):
    state, data = honest()
    for frame in (junk, b"FPC\2" + junk, data[:11] + junk):
        with pytest.raises((FormatError, NeedsRefresh)):
            state.read(frame)


@given(st.binary(max_size=120), st.none() | st.tuples(st.integers(0, 7), st.integers(0, 7)),
       st.integers(0, 255), st.booleans(), st.integers(0, 255))  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_random_changes_behind_right_checksums(body, present, quality, requantised, ratio):
    state, _ = honest()
    levels = None
    if present is not None:
        levels = LevelChange(present[0], present[0] & present[1])
    changed = state if levels is None else state.with_levels(levels)
    change = None
    if requantised:
        change = QualityChange(
            quality, tuple((ratio,) * state.classes_of(x) for x in changed.levels.values())
        )
    outcomes: list[object] = []
    for backend in backends():
        try:
            after = state.read(sealed(body, levels, change), backend=backend)
        except FormatError as error:
            outcomes.append(type(error))
        else:
            outcomes.append(after.decoded())
            for name, level in after.levels.items():
                assert level.symbols.shape[1:] == SPEC.shape(name, (96, 64))[1:]
                assert np.abs(level.symbols).max(initial=0) <= LARGEST_INTEGER
    for outcome in outcomes[1:]:
        if isinstance(outcomes[0], type):
            assert outcome is outcomes[0]
        else:
            assert same_integers(outcome, outcomes[0])


def test_what_hostile_streams_decode_to_can_be_reconstructed():
    profile = kit_profile("pca")
    pyramid = clip(1)[0]
    state = StreamState.of_refresh(
        profile.codec.coder, profile.codec.decode(profile.codec.encode(pyramid, 1.0)), b""
    )
    for _ in range(9):
        ratios = tuple((255,) * state.classes_of(x) for x in state.levels.values())
        state = state.with_quality(QualityChange(0, ratios))
    rebuilt = profile.codec.reconstruct([state.decoded()], [pyramid.geometry])[0]
    assert all(np.isfinite(values).all() for values in rebuilt.levels.values())


CHILD = """
from core_kit import random_coder
from fpcodec.bitstream import Chunk, Frame, write_frame
from fpcodec.video.frame import write_inter, LevelChange, QualityChange
from fpcodec.video.stream import StreamState

coder = random_coder(2)
chunks = tuple(Chunk(x, x < 2, True, b"") for x in (2, 1, 0))
refresh = write_frame(Frame(2, coder.stream_id[:6], 100, (9, 9), (2000, 2000), chunks))
state = StreamState.of_refresh(coder, coder.read(refresh), refresh)
frame = lambda body, *changes: write_inter(state.checksum, *(changes or (None, None)), body)
cases = {
    "empty": frame(b""),
    "noise": frame(b"\\xff\\xfe\\xfd" * 40),
    "long": frame(b"\\x01" * (5 << 20)),
    "much": frame(bytes(range(1, 256)) * 4000),
    "changes": frame(b"\\x80" * 99, LevelChange(7, 7), QualityChange(9, ((255,) * 4,) * 3)),
}
read = lambda name, data: state.read(data)
"""


def test_hostile_frames_cost_little_memory_and_time(repository: Path):
    found = read_capped(repository, CHILD)
    assert found["long"][0] == "LimitExceeded"
    for name, (said, grown, seconds) in found.items():
        assert said in ("InvalidField", "decoded", "LimitExceeded"), name
        assert grown < 300 << 20, name
        assert seconds < 20, name

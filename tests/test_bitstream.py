"""The frame around the chunks: fields, overhead, truncation, damage."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.bitstream import Chunk, Frame, checksum, read_frame, write_frame
from fpcodec.codecs.base import Limits
from fpcodec.errors import (
    BadMagic,
    ChecksumMismatch,
    FormatError,
    InputError,
    InvalidField,
    LimitExceeded,
    Truncated,
    UnsupportedVersion,
)

WIDE = Limits(1 << 30, 1 << 30, 1 << 30)
FRAME = Frame(
    codec_id=2,
    stream_prefix=b"abcdef",
    quality=128,
    image_size=(640, 427),
    network_size=(416, 415),
    chunks=(
        Chunk(4, False, True, b"coarsest"),
        Chunk(2, True, True, b"middle one"),
        Chunk(0, True, False, b"x" * 200),
    ),
)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    side = st.one_of(st.integers(1, 16383), st.integers(1, 511).map(lambda n: 32 * n))
    levels = sorted(draw(st.sets(st.integers(0, 7))), reverse=True)
    chunks = []
    for number, level in enumerate(levels):
        data = draw(st.one_of(st.binary(max_size=20), st.integers(0, 20000).map(bytes)))
        chunks.append(Chunk(level, number > 0 and draw(st.booleans()), draw(st.booleans()), data))
    return Frame(
        draw(st.integers(0, 255)),
        draw(st.binary(min_size=6, max_size=6)),
        draw(st.integers(0, 255)),
        (draw(side), draw(side)),
        (draw(side), draw(side)),
        tuple(chunks),
    )


@given(frames())
@settings(max_examples=200, deadline=None)
def test_a_frame_reads_back_field_by_field(frame):
    data = write_frame(frame)
    assert read_frame(data, WIDE) == frame
    assert read_frame(data, WIDE, partial=True) == frame
    assert write_frame(read_frame(data, WIDE)) == data
    assert frame.overhead_bytes == len(data) - sum(len(x.data) for x in frame.chunks)


@given(frames(), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_any_prefix_of_any_frame_is_truncated(frame, draw):
    data = write_frame(frame)
    with pytest.raises(Truncated):
        read_frame(data[: draw % len(data)], WIDE)


@pytest.mark.parametrize("length", [0, 1, 127, 128, 16383, 16384, (1 << 21) - 1])
@pytest.mark.parametrize("side", [1, 32, 4095, 16383])
def test_five_chunks_cost_at_most_48_bytes(length, side):
    chunks = tuple(Chunk(x, x < 4, True, b"\1" * length) for x in (4, 3, 2, 1, 0))
    frame = Frame(2, b"abcdef", 255, (side, side), (2016, 2016), chunks)
    data = write_frame(frame)
    assert len(data) - 5 * length <= 48
    assert frame.overhead_bytes <= 48
    assert read_frame(data, WIDE) == frame


def test_one_chunk_of_a_photograph_costs_little():
    frame = dataclasses.replace(FRAME, chunks=FRAME.chunks[:1], network_size=(640, 640))
    assert frame.overhead_bytes == 26


def test_every_prefix_is_truncated_and_nothing_else():
    data = write_frame(FRAME)
    for length in range(len(data)):
        with pytest.raises(Truncated):
            read_frame(data[:length])


def test_every_single_bit_flip_is_found():
    data = write_frame(FRAME)
    header = FRAME.overhead_bytes
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError) as caught:
            read_frame(bytes(damaged))
        if bit < 24:
            assert caught.type is BadMagic
        elif bit < 32:
            assert caught.type is UnsupportedVersion
        elif bit < 15 * 8 or bit >= 8 * header:
            # A changed `present` byte moves the header's end, where a length may run out.
            assert caught.type is ChecksumMismatch or bit // 8 == 12


def test_every_single_byte_value_is_found():
    data = write_frame(FRAME)
    for position in range(FRAME.overhead_bytes + 8):
        for value in set(range(256)) - {data[position]}:
            damaged = data[:position] + bytes([value]) + data[position + 1 :]
            with pytest.raises(FormatError):
                read_frame(damaged)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
@settings(max_examples=400, deadline=None)
def test_random_bytes_give_a_typed_error(junk, real_start, partial):
    start = write_frame(FRAME)[:15] if real_start else b""
    with pytest.raises(FormatError):
        read_frame(start + junk, partial=partial)


def seal(header: bytes, body: bytes = b"") -> bytes:
    return header + checksum(header) + body


START = b"FPC\x01\x02abcdef\x80"
SIZES = b"\x0a\x0a\x02\x02"


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        (b"", Truncated, "empty"),
        (b"F", Truncated, "ends after 1"),
        (b"FQ", BadMagic, "FQ"),
        (b"\xff\xd8\xff\xe0 a JPEG file", BadMagic, "not an .fpc"),
        (b"FPC\x02", UnsupportedVersion, "version 2"),
        (b"FPC\x01", Truncated, "header"),
        (seal(START + b"\0\0\0" + SIZES, b"!"), InvalidField, "1 bytes follow"),
        (seal(START + b"\1\2\0" + SIZES + b"\0\xff\xff"), InvalidField, "does not list"),
        (seal(START + b"\1\0\2" + SIZES + b"\0\xff\xff"), InvalidField, "does not list"),
        (seal(START + b"\1\1\0" + SIZES + b"\0\xff\xff"), InvalidField, "no coarser"),
        (seal(START + b"\0\0\0\x8a\0\x0a\2\2"), InvalidField, "longer than it need be"),
        (seal(START + b"\0\0\0\xff\xff\xff\xff\xff\1\x0a\2\2"), InvalidField, "five bytes"),
        (seal(START + b"\0\0\0\0\x0a\2\2"), InvalidField, "outside"),
        (seal(START + b"\0\0\0\x0a\x0a\0\2"), InvalidField, "outside"),
        (seal(START + b"\0\0\0\x0a\x0a\1\2"), InvalidField, "outside"),
        (seal(START + b"\0\0\0\x80\x80\1\x0a\2\2"), InvalidField, "outside"),
        (seal(START + b"\0\0\0\x0a\x0a\x80\x08\2"), InvalidField, "outside"),
        (seal(START + b"\0\0\0\xff\x7f\xff\x7f\2\2"), LimitExceeded, "image of 16383x16383"),
        (seal(START + b"\0\0\0\1\1\xff\xff\1\xff\xff\1"), LimitExceeded, "input of 16383x16383"),
        (seal(START + b"\1\0\0" + SIZES + b"\xff\xff\xff\xff\x7f\0\0"), Truncated, "0 of 343597"),
        (seal(START + b"\1\0\0" + SIZES + b"\3\xff\xff", b"abc"), ChecksumMismatch, "chunk 0"),
    ],
)  # fmt: skip
def test_each_broken_field_has_its_error(data, error, words):
    with pytest.raises(error, match=words) as caught:
        read_frame(data)
    assert caught.type is error
    assert "\n" not in str(caught.value)


def test_a_frame_above_the_limit_is_refused_unread():
    data = write_frame(FRAME)
    with pytest.raises(LimitExceeded, match="lower the quality"):
        read_frame(data, Limits(max_frame_bytes=len(data) - 1))
    assert read_frame(data, Limits(max_frame_bytes=len(data))) == FRAME


@pytest.mark.parametrize("field", ["max_image_pixels", "max_network_pixels"])
def test_pixel_limits_hold_to_the_pixel(field):
    size = FRAME.image_size if field == "max_image_pixels" else FRAME.network_size
    pixels = size[0] * size[1]
    assert read_frame(write_frame(FRAME), Limits(**{field: pixels})) == FRAME
    with pytest.raises(LimitExceeded):
        read_frame(write_frame(FRAME), Limits(**{field: pixels - 1}))


@pytest.mark.parametrize(("code", "side"), [(b"\x02", 32), (b"\x41", 32), (b"\x43", 33)])
def test_both_spellings_of_a_network_side_are_read(code, side):
    frame = read_frame(seal(START + b"\0\0\0\x0a\x0a" + code + b"\x7e"))
    assert frame.network_size == (side, 2016)


def test_a_frame_without_chunks_is_a_frame():
    frame = dataclasses.replace(FRAME, chunks=())
    assert read_frame(write_frame(frame)) == frame


@pytest.mark.parametrize("cut", [1, 199, 200, 201, 209, 217, 218])
def test_a_partial_frame_keeps_what_arrived(cut):
    data = write_frame(FRAME)
    frame = read_frame(data[: len(data) - cut], partial=True)
    lengths = [0 if x.data is None else len(x.data) for x in frame.chunks]
    whole = [8, 10, 200]
    left = sum(whole) - cut
    assert lengths == [n if sum(whole[: i + 1]) <= left else 0 for i, n in enumerate(whole)]
    for chunk in frame.chunks:
        assert (chunk.data is None) == bool(chunk.problem)
    lost = next(chunk for chunk in frame.chunks if chunk.data is None)
    assert f"chunk {lost.level} has" in lost.problem


def test_a_partial_frame_marks_a_damaged_chunk_and_keeps_the_others():
    data = bytearray(write_frame(FRAME))
    data[FRAME.overhead_bytes + 10] ^= 4
    frame = read_frame(bytes(data), partial=True)
    assert [chunk.data is None for chunk in frame.chunks] == [False, True, False]
    assert "checksum of chunk 2" in frame.chunks[1].problem


def test_a_partial_frame_needs_its_whole_header():
    data = write_frame(FRAME)
    for length in range(FRAME.overhead_bytes):
        with pytest.raises(Truncated):
            read_frame(data[:length], partial=True)


def test_the_parent_is_the_nearest_coarser_chunk():
    coarse, middle, fine = FRAME.chunks
    assert FRAME.parent_of(fine) is middle
    assert FRAME.parent_of(middle) is coarse
    assert FRAME.parent_of(coarse) is None


@pytest.mark.parametrize(
    "change",
    [
        {"chunks": FRAME.chunks[::-1]},
        {"chunks": FRAME.chunks[:1] * 2},
        {"chunks": (Chunk(8, False, False, b"x"),)},
        {"chunks": (Chunk(-1, False, False, b"x"),)},
        {"chunks": (Chunk(3, True, False, b"x"),)},
        {"codec_id": 256},
        {"quality": 256},
        {"quality": -1},
        {"stream_prefix": b"abcde"},
        {"image_size": (0, 5)},
        {"image_size": (5, 16384)},
        {"network_size": (-32, 32)},
        {"network_size": (32, 16384)},
    ],
)
def test_a_frame_that_could_not_be_read_is_not_written(change):
    with pytest.raises(InputError):
        write_frame(dataclasses.replace(FRAME, **change))

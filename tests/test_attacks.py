"""Hostile bytes: any of them gives a result or a typed error, in bounded memory."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from capped_child import read_capped
from core_kit import IMAGE, NETWORK, SPEC, backends, kit_profile, make_pyramid, random_coder
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.bitstream import Chunk, Frame, checksum, read_frame, write_frame
from fpcodec.codecs.base import Decoded, Limits
from fpcodec.codecs.chunks import ChunkCoder, QuantisedLevel
from fpcodec.errors import (
    FormatError,
    InvalidField,
    LimitExceeded,
    ProfileError,
    ProfileMismatch,
    Truncated,
    UnknownCodec,
)

BACKENDS = backends()


@cache
def coder() -> ChunkCoder:
    return random_coder(2)


@cache
def honest() -> tuple[bytes, Decoded]:
    rng = np.random.default_rng(0)
    levels = {}
    for name in SPEC.coded_names:
        shape = SPEC.shape(name, NETWORK)
        symbols = np.rint(rng.laplace(0, 3, shape)).astype(np.int32)
        symbols[0, 0, 0] = 5000
        levels[name] = QuantisedLevel(symbols, rng.integers(0, 4, shape[1:]).astype(np.uint8))
    data = coder().write(levels, 100, IMAGE, NETWORK)
    return data, coder().read(data)


def hostile(chunks: list[Chunk], **changes) -> bytes:
    """A frame with right checksums around any chunks."""
    frame = Frame(2, coder().stream_id[:6], 100, IMAGE, NETWORK, tuple(chunks))
    return write_frame(dataclasses.replace(frame, **changes))


def same(a: Decoded, b: Decoded) -> bool:
    return (
        a.symbols.keys() == b.symbols.keys()
        and a.step_maps.keys() == b.step_maps.keys()
        and all(np.array_equal(a.symbols[x], b.symbols[x]) for x in a.symbols)
        and all(np.array_equal(a.step_maps[x], b.step_maps[x]) for x in a.step_maps)
        and (a.quality, a.image_size, a.network_size) == (b.quality, b.image_size, b.network_size)
    )


def test_every_single_bit_flip_of_a_whole_frame_is_found():
    data, _ = honest()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, ProfileError)):
            coder().read(bytes(damaged))


def test_every_truncation_of_a_whole_frame_is_found():
    data, _ = honest()
    for length in range(len(data)):
        with pytest.raises(Truncated):
            coder().read(data[:length])


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_random_bytes(junk):
    for data in (junk, honest()[0][:15] + junk):
        for partial in (False, True):
            with pytest.raises(FormatError):
                coder().read(data, partial=partial)


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_random_chunks_behind_right_checksums(data):
    levels = sorted(data.draw(st.sets(st.integers(0, 7))), reverse=True)
    chunks = []
    for number, level in enumerate(levels):
        body = data.draw(st.one_of(st.binary(max_size=80), st.integers(0, 40).map(b"\xff".__mul__)))
        parent = number > 0 and data.draw(st.booleans())
        chunks.append(Chunk(level, parent, data.draw(st.booleans()), body))
    frame = hostile(chunks, quality=data.draw(st.integers(0, 255)))
    outcomes: list[Decoded | type] = []
    for backend in BACKENDS:
        try:
            outcomes.append(coder().read(frame, backend=backend))
        except FormatError as error:
            outcomes.append(type(error))
    for outcome in outcomes[1:]:
        if isinstance(outcomes[0], Decoded):
            assert isinstance(outcome, Decoded)
            assert same(outcomes[0], outcome)
        else:
            assert outcome is outcomes[0]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_damage_behind_right_checksums(seed):
    """The attacker changes what is coded and seals it again: other integers or InvalidField."""
    rng = np.random.default_rng(seed)
    frame = read_frame(honest()[0])
    index = int(rng.integers(len(frame.chunks)))
    body = bytearray(frame.chunks[index].data)
    for _ in range(int(rng.integers(1, 4))):
        body[rng.integers(len(body))] ^= 1 << int(rng.integers(8))
    kept = body[: rng.integers(len(body) + 1)] if rng.random() < 0.3 else body
    chunks = list(frame.chunks)
    chunks[index] = dataclasses.replace(chunks[index], data=bytes(kept))
    try:
        decoded = coder().read(hostile(chunks))
    except InvalidField:
        return
    for name, symbols in decoded.symbols.items():
        assert symbols.shape == SPEC.shape(name, NETWORK)


def test_what_hostile_chunks_decode_to_can_be_reconstructed():
    profile = kit_profile("pca")
    pyramid = make_pyramid(3)
    real = profile.codec.decode(profile.codec.encode(pyramid, 1.0))
    top = {x: np.full_like(s, (1 << 22) + 30) for x, s in real.symbols.items()}
    rebuilt = profile.codec.reconstruct(
        [dataclasses.replace(real, symbols=top)], [pyramid.geometry]
    )[0]
    for values in rebuilt.levels.values():
        assert np.isfinite(values).all()


@pytest.mark.parametrize("level", [3, 4, 7])
def test_a_chunk_of_a_level_that_is_not_coded_is_refused(level):
    with pytest.raises(InvalidField, match=f"chunk {level}"):
        coder().read(hostile([Chunk(level, False, False, b"")]))


@pytest.mark.parametrize("codec_id", [0, 4, 255])
def test_an_unknown_codec_is_named(codec_id):
    with pytest.raises(UnknownCodec, match=f"codec id {codec_id}"):
        coder().read(hostile([], codec_id=codec_id))


@pytest.mark.parametrize(
    "changes", [{"codec_id": 1}, {"codec_id": 3}, {"stream_prefix": b"\0\1\2\3\4\6"}]
)
def test_another_profiles_frame_is_refused(changes):
    with pytest.raises(ProfileMismatch, match="same profile on both sides"):
        coder().read(hostile([], **changes))


def test_a_frame_of_the_same_detector_with_another_codec_is_refused():
    frame = kit_profile("uniform").codec.encode(make_pyramid(1), 0.5)
    with pytest.raises(ProfileMismatch):
        kit_profile("pca").codec.decode(frame)


def test_a_chunk_that_used_a_parent_cannot_pass_for_one_that_did_not():
    data, _ = honest()
    frame = read_frame(data)
    alone = dataclasses.replace(frame.chunks[2], has_parent=True)
    with pytest.raises(FormatError):
        coder().read(_sealed_without_check(dataclasses.replace(frame, chunks=(alone,))))


def _sealed_without_check(frame: Frame) -> bytes:
    """The bytes of a frame whose coarsest chunk claims a parent, which no writer makes."""
    chunk = dataclasses.replace(frame.chunks[0], has_parent=False)
    whole = write_frame(dataclasses.replace(frame, chunks=(chunk,)))
    header = bytearray(whole[: len(whole) - len(chunk.data) - 2])
    header[13] = 1 << chunk.level
    return bytes(header) + checksum(bytes(header)) + chunk.data


def test_losing_the_end_keeps_the_coarse_levels():
    data, whole = honest()
    frame = read_frame(data)
    length = len(data) - len(frame.chunks[-1].data)
    for cut in (1, 2, len(frame.chunks[-1].data)):
        part = coder().read(data[:-cut], partial=True)
        assert set(part.symbols) == {"p5", "p4"}
        assert set(part.ignored) == {"p3"}
        assert "bytes" in part.ignored["p3"]
        for name in part.symbols:
            np.testing.assert_array_equal(part.symbols[name], whole.symbols[name])
    part = coder().read(data[: length - 1], partial=True)
    assert set(part.symbols) == {"p5"}
    assert set(part.ignored) == {"p3", "p4"}


def test_losing_a_parent_loses_what_leans_on_it_and_nothing_else():
    data, whole = honest()
    frame = read_frame(data)
    for victim, lost in ((0, {"p5", "p4", "p3"}), (1, {"p4", "p3"}), (2, {"p3"})):
        at = len(data) - sum(len(chunk.data) for chunk in frame.chunks[victim:])
        damaged = bytearray(data)
        damaged[at] ^= 1
        part = coder().read(bytes(damaged), partial=True)
        assert set(part.ignored) == lost
        assert set(part.symbols) == set(SPEC.coded_names) - lost
        for name, symbols in part.symbols.items():
            np.testing.assert_array_equal(symbols, whole.symbols[name])
        for name in lost - {SPEC.names[frame.chunks[victim].level]}:
            assert "parent" in part.ignored[name]


def test_chunks_without_a_parent_decode_without_their_neighbours():
    data, whole = honest()
    frame = read_frame(data)
    coarse = frame.chunks[0]
    lone = coder().write({"p3": QuantisedLevel(whole.symbols["p3"])}, 100, IMAGE, NETWORK)
    mixed = bytearray(hostile([coarse, read_frame(lone).chunks[0]]))
    mixed[-len(read_frame(lone).chunks[0].data) - 1] ^= 1  # the last byte of the coarse chunk
    part = coder().read(bytes(mixed), partial=True)
    assert set(part.ignored) == {"p5"}
    np.testing.assert_array_equal(part.symbols["p3"], whole.symbols["p3"])


def test_element_limit_holds_to_the_value():
    data, whole = honest()
    elements = SPEC.elements(NETWORK)
    assert same(coder().read(data, Limits(max_elements=elements)), whole)
    with pytest.raises(LimitExceeded, match=str(elements)):
        coder().read(data, Limits(max_elements=elements - 1))


CHILD = """
from core_kit import random_coder, SPEC
from fpcodec.bitstream import Chunk, Frame, write_frame
from fpcodec.codecs.base import Limits

coder = random_coder(2)
chunks = tuple(Chunk(x, x < 2, True, b"\\xff\\xfe\\xfd" * 40) for x in (2, 1, 0))
frame = lambda image, network, chunks=chunks: write_frame(
    Frame(2, coder.stream_id[:6], 100, image, network, chunks))
cases = {
    "image": frame((16383, 16383), (32, 32)),
    "network": frame((9, 9), (16383, 16383)),
    "both": frame((16383, 16383), (16383, 16383)),
    "long": frame((9, 9), (16383, 1), chunks),
    "elements": frame((9, 9), (2000, 2000)),
    "bytes": frame((9, 9), (32, 32), (Chunk(0, False, False, b"\\x01" * (5 << 20)),)),
    "largest": frame((9, 9), (2000, 2000), chunks),
    "empty": frame((9, 9), (2000, 2000), tuple(Chunk(x, x < 2, True, b"") for x in (2, 1, 0))),
}
few = Limits(max_elements=600_000)
read = lambda name, data: coder.read(data, few if name == "elements" else Limits())
"""


def test_declared_sizes_cost_no_memory(repository: Path):
    found = read_capped(repository, CHILD)
    for name in ("image", "network", "both", "elements", "bytes"):
        said, grown, seconds = found[name]
        assert said == "LimitExceeded", name
        assert grown < 8 << 20, name
        assert seconds < 0.5, name
    for name in ("long", "largest", "empty"):
        said, grown, seconds = found[name]
        assert said in ("InvalidField", "decoded"), name
        assert grown < 300 << 20, name
        assert seconds < 20, name

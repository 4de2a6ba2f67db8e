"""Frames of which only the beginning arrived: they are answered, and the way says what came."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from core_kit import IMAGE, NETWORK, FakeDetector, golden_learned, kit_profile

from fpcodec.bitstream import chunk_bytes
from fpcodec.errors import ChecksumMismatch, FormatError, InputError, Truncated
from fpcodec.evaluation.ways import OpenProfile, PrefixWay, Scene, Workplace
from fpcodec.evaluation.ways.prefix import arrived_bytes
from fpcodec.profile import Profile
from fpcodec.split import ServerHalf


def open_profile(codec: str) -> Profile:
    return golden_learned() if codec == "learned" else kit_profile(codec)


@pytest.fixture(params=["pca", "learned"])
def profile(request: Any, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """A profile whose detector needs no model."""
    found = open_profile(request.param)
    detector = FakeDetector(found.spec, NETWORK)
    monkeypatch.setattr(Profile, "open_detector", lambda *_, **__: detector)
    return found


def scene_of(profile: Profile) -> Scene:
    image = np.random.default_rng(3).integers(0, 256, (IMAGE[1], IMAGE[0], 3), np.uint8)
    return Scene.of(FakeDetector(profile.spec, NETWORK), image)


def test_no_beginning_of_a_frame_is_refused_once_its_header_is_there(profile) -> None:
    server = ServerHalf(profile, threads=1)
    frame = profile.codec.encode(scene_of(profile).pyramid, 0.5)
    sizes = chunk_bytes(frame, profile.spec.names)
    header = len(frame) - sum(sizes.values())
    for length in range(header):
        with pytest.raises(Truncated):
            server.infer(frame[:length], partial=True)
    ends = header + np.cumsum(list(sizes.values()))
    for length in range(header, len(frame) + 1):
        answer = server.infer(frame[:length], partial=True)
        arrived = [name for name, end in zip(sizes, ends, strict=True) if end <= length]
        assert set(answer.levels_used) == set(arrived)
        assert set(answer.levels_ignored) == set(sizes) - set(arrived)
        assert set(answer.levels_used) | set(answer.levels_recovered) == set(profile.spec.names)


def test_a_whole_frame_is_answered_alike_and_a_part_only_where_asked_for(profile) -> None:
    server = ServerHalf(profile, threads=1)
    frame = profile.codec.encode(scene_of(profile).pyramid, 0.5)
    whole, again = server.infer(frame), server.infer(frame, partial=True)
    np.testing.assert_array_equal(whole.detections.boxes, again.detections.boxes)
    with pytest.raises(Truncated):
        server.infer(frame[:-1])


def test_a_damaged_chunk_costs_itself_and_what_leans_on_it(profile) -> None:
    server = ServerHalf(profile, threads=1)
    frame = bytearray(profile.codec.encode(scene_of(profile).pyramid, 0.8))
    sizes = chunk_bytes(bytes(frame), profile.spec.names)
    frame[len(frame) - sizes["p3"] - sizes["p4"]] ^= 1
    with pytest.raises(ChecksumMismatch):
        server.infer(bytes(frame))
    answer = server.infer(bytes(frame), partial=True)
    assert answer.levels_used == ("p5",)
    assert "checksum" in answer.levels_ignored["p4"]
    assert "parent" in answer.levels_ignored["p3"]


def test_junk_is_a_typed_error_though_parts_are_welcome(profile) -> None:
    with pytest.raises(FormatError):
        ServerHalf(profile, threads=1).infer(b"junk" * 20, partial=True)


@pytest.mark.parametrize(("chunks", "part"), [(0, 0.0), (1, 0.0), (1, 0.5), (2, 0.25), (3, 0.0)])
def test_the_way_counts_what_arrived(profile, chunks: int, part: float) -> None:
    scene = scene_of(profile)
    workplace = Workplace(FakeDetector(profile.spec), {"fpc": OpenProfile.locally(profile)})
    outcome = PrefixWay(0.5, chunks, part).run(scene, workplace)
    frame = profile.codec.encode(scene.pyramid, 0.5)
    sizes = chunk_bytes(frame, profile.spec.names)
    coarsest_first = list(sizes)
    assert coarsest_first == ["p5", "p4", "p3"]
    expected = {name: sizes[name] for name in coarsest_first[:chunks]}
    if chunks < 3:
        expected[coarsest_first[chunks]] = int(part * sizes[coarsest_first[chunks]])
    header = len(frame) - sum(sizes.values())
    assert outcome.level_bytes == {**expected, "header": header}
    assert outcome.sent_bytes == header + sum(expected.values())
    assert outcome.payload_bytes == sum(expected.values())
    assert {"extract", "encode", "decode", "reconstruct", "head"} <= set(outcome.times_ms)


def test_beginnings_grow_to_the_whole_frame() -> None:
    profile = kit_profile("pca")
    frame = profile.codec.encode(scene_of(profile).pyramid, 0.5)
    cuts = [(count, part) for count in range(4) for part in (0.0, 0.5)]
    lengths = [sum(arrived_bytes(frame, profile.spec, *cut).values()) for cut in cuts]
    assert lengths == sorted(lengths)
    assert lengths[-1] == len(frame)


def test_a_server_that_takes_whole_frames_alone_is_named() -> None:
    profile = kit_profile("pca")
    workplace = Workplace(FakeDetector(), {"fpc": OpenProfile(profile, lambda _: None)})  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="whole frames alone"):
        PrefixWay(0.5, 1).run(scene_of(profile), workplace)


def test_names_say_what_arrived() -> None:
    way = PrefixWay(0.4, 1, 0.5)
    assert (way.name, way.family) == ("fpc q0.4 first 1.5 chunks", "fpc first 1.5 chunks")
    assert way.parameters == {"profile": "fpc", "quality": 0.4, "chunks": 1, "part": 0.5}


@pytest.mark.parametrize("wrong", [(1.5, 1, 0.0), (0.5, -1, 0.0), (0.5, 1, 1.0), (0.5, 1, -0.1)])
def test_settings_that_make_no_sense_are_refused(wrong: tuple[float, int, float]) -> None:
    with pytest.raises(InputError):
        PrefixWay(*wrong)

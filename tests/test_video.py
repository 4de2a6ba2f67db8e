"""Video streams: what leans on what, exactly, in order, and never without its reference."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from core_kit import golden_learned, kit_profile
from hypothesis import given, settings
from hypothesis import strategies as st
from make_golden import GEOMETRY as GOLDEN_GEOMETRY
from make_golden import SPEC as GOLDEN_SPEC
from video_kit import clip, same_integers

from fpcodec.codecs.base import Codec, Decoded, Limits
from fpcodec.errors import FormatError, InputError, LimitExceeded, NeedsRefresh
from fpcodec.pyramid import ImageGeometry, Pyramid
from fpcodec.video import VideoConfig, VideoDecoder, VideoEncoder
from fpcodec.video.frame import HEADER_BYTES, is_inter

KINDS = ("uniform", "pca", "learned")


@pytest.fixture(scope="module", params=KINDS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return (
        golden_learned().codec if request.param == "learned" else kit_profile(request.param).codec
    )


def clip_for(codec: Codec, count: int, seed: int = 0) -> list[Pyramid]:
    if codec.spec == GOLDEN_SPEC:
        return clip(count, seed, GOLDEN_SPEC, GOLDEN_GEOMETRY)
    return clip(count, seed)


def state_of(encoder: VideoEncoder) -> Decoded:
    return encoder._state.decoded()


def test_both_ends_hold_the_same_integers_after_every_frame(codec):
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    for number, pyramid in enumerate(clip_for(codec, 8)):
        frame = encoder.encode(pyramid, 0.7)
        assert is_inter(frame) == (number > 0)
        assert same_integers(decoder.decode(frame), state_of(encoder))
        assert decoder.frames == number + 1


def test_a_refresh_frame_is_an_ordinary_frame(codec):
    pyramid = clip_for(codec, 1)[0]
    frame = VideoEncoder(codec).encode(pyramid, 0.5)
    assert frame == codec.encode(pyramid, 0.5)
    assert same_integers(VideoDecoder(codec).decode(frame), codec.decode(frame))


def test_what_stands_still_costs_next_to_nothing(codec):
    pyramid = clip_for(codec, 1)[0]
    encoder = VideoEncoder(codec)
    first = encoder.encode(pyramid, 0.9)
    later = [encoder.encode(pyramid, 0.9) for _ in range(5)]
    assert max(map(len, later[1:])) <= HEADER_BYTES + 12 < len(first)


def test_inter_frames_are_shorter_and_as_good(codec):
    pyramids = clip_for(codec, 10)
    encoder, decoder = VideoEncoder(codec, VideoConfig(tolerance=0.02)), VideoDecoder(codec)
    sizes, errors = np.zeros((10, 2)), np.zeros((10, 2))
    for number, pyramid in enumerate(pyramids):
        alone, frame = codec.encode(pyramid, 0.8), encoder.encode(pyramid, 0.8)
        sizes[number] = len(alone), len(frame)
        for way, decoded in enumerate((codec.decode(alone), decoder.decode(frame))):
            rebuilt = codec.reconstruct([decoded], [pyramid.geometry])[0]
            errors[number, way] = sum(
                float(((rebuilt.levels[x] - pyramid.levels[x]) ** 2).sum()) for x in decoded.symbols
            )
    assert sizes[1:, 1].mean() < 0.8 * sizes[1:, 0].mean()
    assert errors[1:, 1].mean() < 1.3 * errors[1:, 0].mean()


def test_a_lost_frame_needs_a_refresh_and_recovers(codec):
    pyramids = clip_for(codec, 6)
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    frames = [encoder.encode(x, 0.6) for x in pyramids[:4]]
    decoder.decode(frames[0])
    for frame in frames[2:]:
        with pytest.raises(NeedsRefresh, match="send a refresh frame"):
            decoder.decode(frame)
    decoder.decode(frames[1])  # late rather than lost: it is the next after all
    with pytest.raises(NeedsRefresh):
        decoder.decode(frames[3])
    encoder.request_refresh()
    refresh = encoder.encode(pyramids[4], 0.6)
    assert not is_inter(refresh)
    decoder.decode(refresh)
    last = decoder.decode(encoder.encode(pyramids[5], 0.6))
    assert same_integers(last, state_of(encoder))


def test_a_frame_twice_or_in_another_order_is_refused_and_harms_nothing(codec):
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    frames = [encoder.encode(x, 0.6) for x in clip_for(codec, 5)]
    decoder.decode(frames[0])
    decoder.decode(frames[1])
    for wrong in (frames[1], frames[3], frames[4]):
        with pytest.raises(NeedsRefresh):
            decoder.decode(wrong)
    for frame in frames[2:]:
        decoder.decode(frame)
    assert same_integers(decoder.decode(frames[0]), codec.decode(frames[0]))


def test_an_inter_frame_first_of_all_needs_a_refresh(codec):
    encoder = VideoEncoder(codec)
    frames = [encoder.encode(x, 0.6) for x in clip_for(codec, 2)]
    with pytest.raises(NeedsRefresh, match="before any other"):
        VideoDecoder(codec).decode(frames[1])


def test_another_streams_frame_is_refused(codec):
    one, two = VideoEncoder(codec), VideoEncoder(codec)
    decoder = VideoDecoder(codec)
    pyramids = clip_for(codec, 2), clip_for(codec, 2, seed=40)
    decoder.decode(one.encode(pyramids[0][0], 0.6))
    two.encode(pyramids[1][0], 0.6)
    with pytest.raises(NeedsRefresh):
        decoder.decode(two.encode(pyramids[1][1], 0.6))


def test_quality_and_levels_may_change_between_frames(codec):
    pyramids = clip_for(codec, 12)
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    names = codec.spec.coded_names
    plans = [(0.3, None), (0.9, None), (0.9, names[:1]), (0.2, names[1:]), (1.0, ()), (0.0, None)]
    for number, pyramid in enumerate(pyramids):
        quality, levels = plans[number % len(plans)]
        frame = encoder.encode(pyramid, quality, levels)
        assert is_inter(frame) == (number > 0)
        decoded = decoder.decode(frame)
        assert set(decoded.symbols) == set(names if levels is None else levels)
        assert decoded.quality == round(255 * quality)
        assert same_integers(decoded, state_of(encoder))
        codec.reconstruct([decoded], [pyramid.geometry])


def test_a_higher_quality_comes_nearer(codec):
    pyramid = clip_for(codec, 1)[0]
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    errors = []
    for quality in (0.1, 0.5, 1.0):
        decoded = decoder.decode(encoder.encode(pyramid, quality))
        rebuilt = codec.reconstruct([decoded], [pyramid.geometry])[0]
        errors.append(sum(
            float(((rebuilt.levels[x] - pyramid.levels[x]) ** 2).sum()) for x in decoded.symbols
        ))  # fmt: skip
    assert errors[0] > errors[1] > errors[2]


def test_another_image_size_is_a_refresh():
    codec = kit_profile("pca").codec
    encoder = VideoEncoder(codec)
    pyramid = clip(1)[0]
    encoder.encode(pyramid, 0.5)
    other = dataclasses.replace(
        pyramid, geometry=ImageGeometry((60, 40), pyramid.geometry.network_size, (96, 64))
    )
    assert not is_inter(encoder.encode(other, 0.5))


@pytest.mark.parametrize(("interval", "refreshes"), [(0, [0]), (1, [0, 1, 2, 3, 4, 5, 6]),
                                                     (3, [0, 3, 6])])  # fmt: skip
def test_refresh_frames_come_at_their_interval(interval, refreshes):
    codec = kit_profile("pca").codec
    encoder = VideoEncoder(codec, VideoConfig(refresh_interval=interval))
    frames = [encoder.encode(x, 0.5) for x in clip(7)]
    assert [n for n, frame in enumerate(frames) if not is_inter(frame)] == refreshes


@pytest.mark.parametrize("budget", [60, 120, 300, 5000])
def test_no_frame_is_longer_than_its_budget(codec, budget):
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    for pyramid in clip_for(codec, 12):
        try:
            frame = encoder.encode(pyramid, max_bytes=budget)
        except InputError as error:
            assert "below the smallest frame" in str(error)  # noqa: PT017
            return
        assert len(frame) <= budget
        assert same_integers(decoder.decode(frame), state_of(encoder))


def test_a_still_scene_climbs_to_the_best_quality_its_budget_has_room_for():
    codec = kit_profile("pca").codec
    encoder = VideoEncoder(codec)
    pyramid = clip(1)[0]
    frames = [encoder.encode(pyramid, max_bytes=250) for _ in range(40)]
    assert max(map(len, frames)) <= 250
    assert encoder._state.quality > 200


def test_a_budget_below_every_frame_is_refused_and_the_stream_goes_on():
    codec = kit_profile("pca").codec
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    first, second = clip(2)
    decoder.decode(encoder.encode(first, 0.5))
    with pytest.raises(InputError, match="max_bytes 5 "):
        encoder.encode(second, max_bytes=5)
    decoder.decode(encoder.encode(second, 0.5))


@pytest.mark.parametrize("arguments", [{}, {"quality": 0.5, "max_bytes": 900}])
def test_a_quality_or_a_budget_is_wanted(arguments):
    with pytest.raises(InputError, match="one of them"):
        VideoEncoder(kit_profile("pca").codec).encode(clip(1)[0], **arguments)


def test_features_that_cannot_be_coded_are_refused_and_the_stream_goes_on():
    codec = kit_profile("pca").codec
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    first, second = clip(2)
    decoder.decode(encoder.encode(first, 0.5))
    for bad in (np.nan, np.inf):
        levels = {name: x.copy() for name, x in second.levels.items()}
        levels["p4"][0, 0, 0] = bad
        with pytest.raises(InputError, match="p4"):
            encoder.encode(dataclasses.replace(second, levels=levels), 0.5)
    decoder.decode(encoder.encode(second, 0.5))


def test_enormous_features_stay_integers(codec):
    pyramid = clip_for(codec, 1)[0]
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    for factor in (1.0, 1e30, -1e30, 3e5, 0.0):
        levels = {x: (v * np.float32(factor)).astype(np.float32) for x, v in pyramid.levels.items()}
        with np.errstate(over="ignore", invalid="ignore"):
            frame = encoder.encode(dataclasses.replace(pyramid, levels=levels), 1.0)
        assert same_integers(decoder.decode(frame), state_of(encoder))


@pytest.mark.parametrize(
    "arguments",
    [{"refresh_interval": -1}, {"tolerance": -0.1}, {"rise": float("nan")}, {"fall": np.inf}],
)
def test_a_config_that_means_nothing_is_refused(arguments):
    with pytest.raises(InputError, match=next(iter(arguments)).split("_")[0]):
        VideoConfig(**arguments)


def test_a_codec_without_integers_of_its_own_is_refused():
    for kind in (VideoEncoder, VideoDecoder):
        with pytest.raises(InputError, match="no inter frames"):
            kind(object())


def test_limits_hold_for_inter_frames_too():
    codec = kit_profile("pca").codec
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    frames = [encoder.encode(x, 0.7) for x in clip(2)]
    decoder.decode(frames[0])
    for limits in (
        Limits(max_frame_bytes=len(frames[1]) - 1), Limits(max_image_pixels=99),
        Limits(max_network_pixels=99), Limits(max_elements=99),
    ):  # fmt: skip
        with pytest.raises(LimitExceeded):
            decoder.decode(frames[1], limits)
    decoder.decode(frames[1])


def test_what_is_handed_out_cannot_be_written_to():
    codec = kit_profile("pca").codec
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    for pyramid in clip(2):
        decoded = decoder.decode(encoder.encode(pyramid, 0.7))
        with pytest.raises(ValueError, match="read-only"):
            decoded.symbols["p3"][0, 0, 0] = 1


@given(st.lists(st.sampled_from(["arrives", "is lost", "comes twice", "comes late"]), max_size=14),
       st.integers(0, 99))  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_on_a_bad_link_every_answer_is_right_and_the_stream_recovers(fates, seed):
    codec = kit_profile("pca").codec
    encoder, decoder = VideoEncoder(codec, VideoConfig(refresh_interval=6)), VideoDecoder(codec)
    late: list[bytes] = []
    sent = {}
    for fate, pyramid in zip(
        [*fates, "arrives", "arrives"], clip(len(fates) + 2, seed), strict=True
    ):
        frame = encoder.encode(pyramid, 0.6)
        sent[frame] = state_of(encoder)
        if fate == "comes late":
            late.append(frame)
        arriving = [] if fate in ("is lost", "comes late") else [frame, *late]
        if fate == "comes twice":
            arriving.append(frame)
        for one in arriving:
            try:
                assert same_integers(decoder.decode(one), sent[one])
            except NeedsRefresh:
                encoder.request_refresh()
            if one in late:
                late.remove(one)
    if fates:
        encoder.request_refresh()
        last = decoder.decode(encoder.encode(clip(1, seed)[0], 0.6))
        assert same_integers(last, state_of(encoder))


def test_states_are_never_changed_by_the_frames_that_lean_on_them():
    codec = kit_profile("pca").codec
    encoder = VideoEncoder(codec)
    pyramids = clip(3)
    encoder.encode(pyramids[0], 0.8)
    before = encoder._state
    digest = {x: v.symbols.copy() for x, v in before.levels.items()}
    frame = encoder.encode(pyramids[1], 0.8)
    for name, level in before.levels.items():
        np.testing.assert_array_equal(level.symbols, digest[name])
    again = before.read(frame)
    assert same_integers(again.decoded(), before.read(frame).decoded())


def test_every_error_of_an_inter_frame_is_typed(codec):
    encoder, decoder = VideoEncoder(codec), VideoDecoder(codec)
    frames = [encoder.encode(x, 0.6) for x in clip_for(codec, 2)]
    decoder.decode(frames[0])
    for bad in (b"", b"F", b"FPC", b"FPC\2", b"FPC\3" + frames[1][4:], b"GIF" + frames[1][3:]):
        with pytest.raises(FormatError):
            decoder.decode(bad)
    decoder.decode(frames[1])

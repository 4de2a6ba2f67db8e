"""The learned codec on its golden profile: no torch, no training, everything else."""

from __future__ import annotations

import dataclasses
import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from core_kit import backends, golden_learned, make_pyramid, unpack_golden
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.bitstream import Chunk, read_frame, write_frame
from fpcodec.codecs.base import Decoded
from fpcodec.codecs.chunks import QuantisedLevel
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.codecs.learned import ANALYSIS_HASH, ROUNDING, LearnedCodec
from fpcodec.errors import (
    FormatError,
    InputError,
    InvalidField,
    ModelError,
    ProfileError,
    Truncated,
)
from fpcodec.evaluation.cost import analysis_macs, coded_symbols, synthesis_macs
from fpcodec.profile import Profile, make_codec
from fpcodec.profile_folder import MANIFEST, TENSORS
from fpcodec.pyramid import ImageGeometry, Pyramid
from fpcodec.reconstruct.interpolation import InterpolationRecoverer
from fpcodec.reconstruct.learned import LearnedRecoverer

PROFILE = golden_learned()
CODEC = PROFILE.codec
SPEC = PROFILE.spec
NETWORK = (96, 64)
GEOMETRY = ImageGeometry((120, 80), NETWORK, NETWORK)
SUBSETS = [x for n in range(4) for x in combinations(SPEC.coded_names, n)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The golden profile, for a test to break."""
    target = tmp_path / "profile"
    target.mkdir()
    return unpack_golden("learned", target)


def pyramid_of(seed: int, geometry: ImageGeometry = GEOMETRY) -> Pyramid:
    return make_pyramid(seed, SPEC, geometry)


def rebuild(frame: bytes, geometry: ImageGeometry = GEOMETRY, **options) -> Pyramid:
    return CODEC.reconstruct([CODEC.decode(frame, **options)], [geometry])[0]


def error_of(found: Pyramid, wanted: Pyramid, name: str) -> float:
    error = ((found.levels[name] - wanted.levels[name]) ** 2).mean()
    return float(np.sqrt(error / wanted.levels[name].var()))


def assert_whole(pyramid: Pyramid, size: tuple[int, int] = NETWORK) -> None:
    assert pyramid.missing == ()
    for name in SPEC.names:
        assert pyramid.levels[name].shape == SPEC.shape(name, size)
        assert pyramid.levels[name].dtype == np.float32
        assert np.isfinite(pyramid.levels[name]).all()
    np.testing.assert_array_equal(pyramid.levels["p6"], pyramid.levels["p5"][:, ::2, ::2])


@given(st.integers(0, 2**31), st.integers(0, 255), st.sampled_from(SUBSETS))
@settings(max_examples=30, deadline=None)
def test_integers_survive_exactly(seed, quality, levels):
    pyramid = pyramid_of(seed)
    quantised = CODEC.quantise(pyramid, quality, levels)
    frame = CODEC.encode(pyramid, quality / 255, levels)
    decoded = CODEC.decode(frame)
    assert (decoded.codec_id, decoded.quality) == (3, quality)
    assert set(decoded.symbols) == set(levels)
    for name in levels:
        known = quantised[name].symbols
        assert decoded.symbols[name].shape[0] == CODEC.components[name]
        np.testing.assert_array_equal(decoded.symbols[name][: len(known)], known)
        assert not decoded.symbols[name][len(known) :].any()
        np.testing.assert_array_equal(decoded.step_maps[name], quantised[name].classes)
    assert_whole(rebuild(frame))


def test_integers_are_components_over_steps_that_follow_importance():
    latents = CODEC.analyse(pyramid_of(2), ["p3"])
    quality = 255
    level = CODEC.quantise_latents(latents, quality, ["p3"])["p3"]
    tensors = {x: CODEC.tensors[f"p3.{x}"][quality] for x in ("steps", "gains", "thresholds")}
    importance = latents.importance["p3"]
    classes = sum((importance > x).astype(int) for x in tensors["thresholds"])
    assert set(classes.ravel()) == {0, 1, 2}, "every class, or little is tested"
    np.testing.assert_array_equal(level.classes, classes)
    step = tensors["steps"][classes] * tensors["gains"][:, None, None]
    size = np.floor(np.abs(latents.components["p3"]) / step + np.float32(ROUNDING))
    wanted = (np.sign(latents.components["p3"]) * size).astype(np.int32)
    np.testing.assert_array_equal(level.symbols, wanted[: len(level.symbols)])
    assert not wanted[len(level.symbols) :].any()


def test_every_quality_of_one_image_takes_one_run_of_the_network(monkeypatch):
    runs = []
    analyse = LearnedCodec.analyse
    monkeypatch.setattr(
        LearnedCodec, "analyse", lambda *args: runs.append(args[2]) or analyse(*args)
    )
    quantise = CODEC.prepare(pyramid_of(2), ("p3", "p5"))
    for quality in (0, 100, 255):
        assert set(quantise(quality, ["p5"])) == {"p5"}
    assert runs == [("p3", "p5")]


def test_levels_that_are_not_sent_are_neither_needed_nor_looked_at():
    full = pyramid_of(3)
    part = Pyramid(SPEC, {"p4": full.levels["p4"]}, GEOMETRY)
    expected = CODEC.encode(full, 0.7, ["p4"])
    assert CODEC.encode(part, 0.7) == expected
    full.levels["p3"][:] = np.nan
    assert CODEC.encode(full, 0.7, ["p4"]) == expected
    with pytest.raises(InputError, match="level p3"):
        CODEC.encode(full, 0.7)


@pytest.mark.parametrize("levels", SUBSETS, ids=lambda x: "+".join(x) or "none")
def test_any_subset_of_levels_gives_every_level(levels):
    frame = CODEC.encode(pyramid_of(4), 0.8, levels)
    assert tuple(CODEC.decode(frame).symbols) == levels[::-1]
    assert_whole(rebuild(frame))


def test_the_best_quality_is_closer_than_the_least_and_closer_than_recovery():
    pyramid = pyramid_of(5)
    best, least = (rebuild(CODEC.encode(pyramid, x)) for x in (1.0, 0.0))
    absent = rebuild(CODEC.encode(pyramid, 1.0, ["p4", "p5"]))
    for name in SPEC.coded_names:
        assert error_of(best, pyramid, name) < error_of(least, pyramid, name)
    assert error_of(best, pyramid, "p3") < error_of(absent, pyramid, "p3")


def test_a_batch_is_rebuilt_as_each_frame_alone_whatever_its_size_and_levels():
    sizes = [NETWORK, (64, 96), NETWORK, (97, 61)]
    geometries = [ImageGeometry((50, 50), size, size) for size in sizes]
    subsets = (None, ("p3",), ("p4", "p5"), ())
    decoded = [
        CODEC.decode(CODEC.encode(pyramid_of(6 + i, geometry), 0.9, levels))
        for i, (geometry, levels) in enumerate(zip(geometries, subsets, strict=True))
    ]
    together = CODEC.reconstruct(decoded, geometries)
    for found, frame, geometry in zip(together, decoded, geometries, strict=True):
        assert_whole(found, geometry.network_size)
        alone = CODEC.reconstruct([frame], [geometry])[0]
        for name in SPEC.names:
            np.testing.assert_allclose(found.levels[name], alone.levels[name], atol=1e-5)
    assert CODEC.reconstruct([], []) == []


def test_batches_are_cut_where_they_would_grow_large(monkeypatch):
    frames = [CODEC.decode(CODEC.encode(pyramid_of(seed), 0.5)) for seed in range(5)]
    whole = CODEC.reconstruct(frames, [GEOMETRY] * 5)
    monkeypatch.setattr("fpcodec.reconstruct.learned.BATCH_ELEMENTS", 2 * SPEC.elements(NETWORK))
    for one, other in zip(whole, CODEC.reconstruct(frames, [GEOMETRY] * 5), strict=True):
        np.testing.assert_allclose(one.levels["p5"], other.levels["p5"], atol=1e-5)


@pytest.mark.parametrize("scale", [1e6, 1e12, 1e30, 1e38])
def test_features_far_beyond_training_are_coded(scale):
    far = {
        x: np.clip(v * scale, -3e38, 3e38).astype(np.float32)
        for x, v in ((x, v.astype(np.float64)) for x, v in pyramid_of(7).levels.items())
    }
    frame = CODEC.encode(Pyramid(SPEC, far, GEOMETRY), 0.9)
    assert set(CODEC.decode(frame).symbols) == set(SPEC.coded_names)


def test_frames_do_not_depend_on_the_entropy_coder():
    frames = {
        LearnedCodec(SPEC, CODEC.tensors, CODEC.graphs, backend).encode(pyramid_of(8), 0.6)
        for backend in backends()
    }
    assert len(frames) == 1


def test_a_step_class_without_a_step_is_an_error():
    levels = CODEC.quantise(pyramid_of(9), 128, ["p3"])
    classes = np.full_like(levels["p3"].classes, CODEC.step_classes)
    levels["p3"] = QuantisedLevel(levels["p3"].symbols, classes, levels["p3"].components)
    with pytest.raises(InvalidField, match=f"p3 holds class {CODEC.step_classes}"):
        CODEC.decode(CODEC.write(levels, 128, GEOMETRY))


FRAME = CODEC.encode(pyramid_of(10), 1.0)


def test_every_truncation_is_found_and_what_is_whole_still_serves():
    frame = read_frame(FRAME)
    header = frame.overhead_bytes
    ends = np.cumsum([header] + [len(chunk.data) for chunk in frame.chunks])
    for length in range(len(FRAME)):
        with pytest.raises(Truncated):
            CODEC.decode(FRAME[:length])
        if length >= header:
            part = CODEC.decode(FRAME[:length], partial=True)
            whole = int((ends[1:] <= length).sum())
            assert list(part.symbols) == ["p5", "p4", "p3"][:whole]
            assert set(part.ignored) == set(SPEC.coded_names) - set(part.symbols)
            if length in ends or length == header:
                assert_whole(CODEC.reconstruct([part], [GEOMETRY])[0])


def test_every_bit_flip_is_found():
    for bit in range(8 * len(FRAME)):
        damaged = bytearray(FRAME)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((FormatError, ProfileError)):
            CODEC.decode(bytes(damaged))


def test_any_chunks_that_arrive_with_their_parents_are_used():
    frame = read_frame(FRAME)
    for lost in SUBSETS:
        data = bytearray(FRAME)
        at = frame.overhead_bytes
        for chunk in frame.chunks:
            assert chunk.data
            if SPEC.names[chunk.level] in lost:
                data[at] ^= 255
            at += len(chunk.data)
        part = CODEC.decode(bytes(data), partial=True)
        coarsest_lost = max((SPEC.index(x) for x in lost), default=-1)
        expected = {x for x in SPEC.coded_names if SPEC.index(x) > coarsest_lost}
        assert set(part.symbols) == expected
        assert_whole(CODEC.reconstruct([part], [GEOMETRY])[0])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_hostile_chunks_behind_right_checksums_are_decoded_or_refused(data):
    frame = read_frame(FRAME)
    chunks = []
    for chunk in frame.chunks:
        body = data.draw(st.one_of(st.binary(max_size=60), st.just(chunk.data)))
        chunks.append(Chunk(chunk.level, chunk.has_parent, data.draw(st.booleans()), body))
    sealed = write_frame(dataclasses.replace(frame, chunks=tuple(chunks)))
    try:
        decoded = CODEC.decode(sealed)
    except FormatError:
        return
    assert_whole(CODEC.reconstruct([decoded], [GEOMETRY])[0])


def test_the_largest_integers_give_finite_features():
    whole = CODEC.decode(FRAME)
    top = {x: np.full_like(s, (1 << 22) + 30) for x, s in whole.symbols.items()}
    extreme: Decoded = dataclasses.replace(whole, symbols=top)
    assert_whole(CODEC.reconstruct([extreme], [GEOMETRY])[0])


def test_recovery_fills_what_is_missing_and_leaves_the_rest():
    full = pyramid_of(11)
    recoverer = CODEC.recoverer
    assert isinstance(recoverer, LearnedRecoverer)
    parts = [Pyramid(SPEC, {x: full.levels[x] for x in names}, GEOMETRY) for names in SUBSETS]
    for names, found in zip(SUBSETS, recoverer.recover(parts), strict=True):
        assert_whole(found)
        for name in names:
            assert found.levels[name] is full.levels[name]
    fine, none = (recoverer.recover([parts[SUBSETS.index(x)]])[0] for x in (("p3", "p5"), ()))
    assert (fine.levels["p4"] != none.levels["p4"]).any(), "the others are looked at"


def test_recovery_needs_no_levels_that_are_derived():
    full = pyramid_of(12)
    part = Pyramid(SPEC, {"p6": full.levels["p6"]}, GEOMETRY)
    found = CODEC.recoverer.recover([part])[0]
    np.testing.assert_array_equal(found.levels["p6"], full.levels["p6"])
    assert found.missing == ()


def test_interpolation_can_be_compared_with_it():
    full = pyramid_of(13)
    part = Pyramid(SPEC, {x: full.levels[x] for x in ("p3", "p5")}, GEOMETRY)
    assert InterpolationRecoverer(SPEC, PROFILE.recovery).recover([part])[0].missing == ()


def test_the_stream_covers_all_that_decoding_needs_and_the_analysis():
    for name, values in CODEC.tensors.items():
        if name.startswith("tables.") and name != "tables.p4.depth":
            continue
        if name == ANALYSIS_HASH:
            changed = values[::-1].copy()
        elif name.endswith("thresholds"):
            changed = values + np.float32(1)
        else:
            changed = values * values.dtype.type(2)
        other = LearnedCodec(SPEC, {**CODEC.tensors, name: changed}, CODEC.graphs)
        assert (other.stream_id == CODEC.stream_id) == name.endswith("thresholds"), name


def test_a_better_synthesis_keeps_the_stream(folder):
    (folder / SYNTHESIS_FILE).write_bytes((folder / SYNTHESIS_FILE).read_bytes() + b"\0")
    assert LearnedCodec(SPEC, CODEC.tensors, folder).stream_id == CODEC.stream_id


@pytest.mark.parametrize("key", ["p4.steps", "p4.gains", "p4.thresholds", ANALYSIS_HASH])
@pytest.mark.parametrize("damage", ["missing", "shape", "values"])
def test_a_damaged_tensor_is_refused(key, damage):
    tensors = dict(CODEC.tensors)
    if damage == "missing":
        del tensors[key]
    elif damage == "shape":
        tensors[key] = tensors[key][:-1]
    else:
        tensors[key] = np.full(tensors[key].shape, np.nan, np.float32)
    if (key, damage) == (ANALYSIS_HASH, "missing"):
        assert LearnedCodec(SPEC, tensors, CODEC.graphs).stream_id == CODEC.stream_id
        return
    with pytest.raises(ProfileError, match=r"p4|sha256"):
        make_codec(3, SPEC, tensors, {}, CODEC.graphs)


def test_thresholds_must_rise():
    key = "p3.thresholds"
    with pytest.raises(ProfileError, match="p3"):
        LearnedCodec(SPEC, {**CODEC.tensors, key: CODEC.tensors[key][:, ::-1]}, CODEC.graphs)


def test_a_learned_codec_without_graphs_is_a_typed_error():
    with pytest.raises(ProfileError, match="graphs"):
        make_codec(3, SPEC, CODEC.tensors, {})


def test_an_edge_does_without_the_synthesis(folder):
    (folder / SYNTHESIS_FILE).unlink()
    edge = Profile.load(folder).codec
    assert edge.encode(pyramid_of(14), 0.5) == CODEC.encode(pyramid_of(14), 0.5)
    with pytest.raises(ProfileError, match=r"synthesis\.onnx is missing.*cannot reconstruct"):
        edge.reconstruct([edge.decode(FRAME)], [GEOMETRY])


def test_a_server_does_without_the_analysis(folder):
    (folder / ANALYSIS_FILE).unlink()
    server = Profile.load(folder).codec
    assert server.stream_id == CODEC.stream_id
    assert_whole(server.reconstruct([server.decode(FRAME)], [GEOMETRY])[0])
    assert_whole(server.reconstruct([server.decode(server.blank_frame(GEOMETRY))], [GEOMETRY])[0])
    with pytest.raises(ProfileError, match=r"analysis\.onnx is missing.*cannot encode"):
        server.encode(pyramid_of(14), 0.5)


@pytest.mark.parametrize("name", [ANALYSIS_FILE, SYNTHESIS_FILE])
def test_a_changed_graph_is_found_and_named(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    codec = Profile.load(folder).codec
    with pytest.raises(ProfileError, match=name):
        codec.reconstruct([codec.decode(codec.encode(pyramid_of(1), 0.5))], [GEOMETRY])


def test_graphs_of_another_pyramid_are_a_typed_error(folder):
    shutil.copyfile(folder / SYNTHESIS_FILE, folder / ANALYSIS_FILE)
    tensors = {k: v for k, v in CODEC.tensors.items() if k != ANALYSIS_HASH}
    with pytest.raises(ProfileError, match="another pyramid"):
        LearnedCodec(SPEC, tensors, folder).encode(pyramid_of(1), 0.5)
    (folder / ANALYSIS_FILE).write_bytes(b"no graph")
    with pytest.raises(ModelError, match="cannot load"):
        LearnedCodec(SPEC, tensors, folder).encode(pyramid_of(1), 0.5)


def test_a_profile_reads_back_as_it_was_saved(tmp_path):
    again = PROFILE.save(tmp_path / "copy")
    assert {x.name for x in (tmp_path / "copy").iterdir()} == {
        MANIFEST, TENSORS, ANALYSIS_FILE, SYNTHESIS_FILE,
    }  # fmt: skip
    assert again.stream_id == PROFILE.stream_id
    assert again.codec.encode(pyramid_of(15), 0.5) == CODEC.encode(pyramid_of(15), 0.5)
    again.verify()


def test_a_codec_brings_its_graphs_into_a_profile_of_another_folder(tmp_path):
    loose = dataclasses.replace(PROFILE, path=None)
    saved = loose.save(tmp_path / "profile")
    assert (tmp_path / "profile" / ANALYSIS_FILE).is_file()
    assert saved.stream_id == PROFILE.stream_id


@pytest.mark.parametrize("threads", [1, 2, None])
def test_threads_do_not_change_the_integers(threads):
    codec = PROFILE.open_codec(threads)
    assert codec.graphs.threads == threads
    assert codec.encode(pyramid_of(16), 0.5) == CODEC.encode(pyramid_of(16), 0.5)


def test_an_execution_provider_that_is_not_there_is_a_typed_error():
    codec = PROFILE.open_codec(1, ["NoSuchProvider"])
    with pytest.raises(ModelError, match="NoSuchProvider"):
        codec.encode(pyramid_of(16), 0.5)


def test_costs_are_those_of_the_convolutions():
    pyramid = pyramid_of(17)
    each = [analysis_macs(CODEC, pyramid, [name]) for name in SPEC.coded_names]
    assert analysis_macs(CODEC, pyramid) == sum(each)
    for name, found in zip(SPEC.coded_names, each, strict=True):
        channels, height, width = SPEC.shape(name, NETWORK)
        count, hidden = CODEC.components[name], 4
        # Basis, probe on features and their magnitudes, then the path beside the basis.
        macs = channels * count + 2 * channels + hidden * (channels + 25 + count + 1)
        assert found == height * width * macs
    assert synthesis_macs(CODEC, pyramid) > 0
    wide = pyramid_of(17, ImageGeometry((9, 9), (192, 64), (192, 64)))
    assert synthesis_macs(CODEC, wide) == 2 * synthesis_macs(CODEC, pyramid)
    assert coded_symbols(CODEC, pyramid, 0.9) > coded_symbols(CODEC, pyramid, 0.9, ["p3"])

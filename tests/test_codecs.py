"""Both codecs end to end on the kit: features to bytes to features."""

from __future__ import annotations

import dataclasses
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from core_kit import (
    GEOMETRY,
    NETWORK,
    SPEC,
    FakeDetector,
    backends,
    kit_profile,
    make_pyramid,
    write_images,
)

from fpcodec.bitstream import read_frame
from fpcodec.calibration import calibrate
from fpcodec.calibration.findings import Findings, findings_line
from fpcodec.codecs.base import Codec, quality_byte
from fpcodec.codecs.chunks import CODEC_NAMES, QuantisedLevel
from fpcodec.codecs.coefficients import STEP_CLASSES
from fpcodec.codecs.pca import PcaCodec
from fpcodec.codecs.uniform import UniformCodec, bits_of
from fpcodec.detections import Detections
from fpcodec.errors import InputError, InvalidField, ModelError, ProfileError
from fpcodec.profile import make_codec
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec

CODECS = ("pca", "uniform")
SUBSETS = [x for n in range(4) for x in combinations(SPEC.coded_names, n)]


@pytest.fixture(scope="module", params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return kit_profile(request.param).codec


def distance(a: Pyramid, b: Pyramid, name: str) -> float:
    error = ((a.levels[name] - b.levels[name]) ** 2).mean()
    return float(np.sqrt(error / b.levels[name].var()))


def through(codec: Codec, pyramid: Pyramid, quality: float, levels=None) -> Pyramid:
    decoded = codec.decode(codec.encode(pyramid, quality, levels))
    return codec.reconstruct([decoded], [pyramid.geometry])[0]


def test_integers_survive_exactly(codec):
    pyramid = make_pyramid(100)
    for quality in (0, 60, 128, 255):
        quantised = codec.quantise(pyramid, quality, SPEC.coded_names)
        decoded = codec.decode(codec.encode(pyramid, quality / 255))
        assert (decoded.codec_id, decoded.quality) == (codec.codec_id, quality)
        assert (decoded.image_size, decoded.network_size) == (
            GEOMETRY.image_size,
            GEOMETRY.network_size,
        )
        for name in SPEC.coded_names:
            known = quantised[name].symbols
            np.testing.assert_array_equal(decoded.symbols[name][: len(known)], known)
            assert not decoded.symbols[name][len(known) :].any()
            if quantised[name].classes is None:
                assert name not in decoded.step_maps
            else:
                np.testing.assert_array_equal(decoded.step_maps[name], quantised[name].classes)
        assert decoded.parents == {"p5": None, "p4": "p5", "p3": "p4"}
        assert decoded.ignored == {}


def test_the_best_quality_is_close_and_the_least_is_not(codec):
    pyramid = make_pyramid(101)
    errors = {q: [distance(through(codec, pyramid, q), pyramid, x) for x in SPEC.coded_names]
              for q in (0.0, 0.5, 1.0)}  # fmt: skip
    assert max(errors[1.0]) < 0.2
    assert all(best < middle for best, middle in zip(errors[1.0], errors[0.5], strict=True))
    assert sum(errors[0.5]) < sum(errors[0.0])


@pytest.mark.parametrize("levels", SUBSETS, ids=lambda x: "+".join(x) or "none")
def test_any_subset_of_levels_gives_every_level(codec, levels):
    pyramid = make_pyramid(102)
    frame = codec.encode(pyramid, 0.7, levels)
    assert tuple(codec.decode(frame).symbols) == levels[::-1]
    rebuilt = codec.reconstruct([codec.decode(frame)], [pyramid.geometry])[0]
    assert rebuilt.missing == ()
    for name in SPEC.names:
        assert rebuilt.levels[name].shape == SPEC.shape(name, NETWORK)
        assert rebuilt.levels[name].dtype == np.float32
        assert np.isfinite(rebuilt.levels[name]).all()
    np.testing.assert_array_equal(rebuilt.levels["p6"], rebuilt.levels["p5"][:, ::2, ::2])


def test_fewer_levels_are_fewer_bytes(codec):
    pyramid = make_pyramid(103)
    for levels in SUBSETS[1:]:
        for fewer in (x for x in SUBSETS if set(x) < set(levels)):
            assert len(codec.encode(pyramid, 0.8, fewer)) < len(codec.encode(pyramid, 0.8, levels))


def test_levels_may_be_named_in_any_order_and_twice(codec):
    pyramid = make_pyramid(103)
    expected = codec.encode(pyramid, 0.5, ("p3", "p5"))
    assert codec.encode(pyramid, 0.5, ("p5", "p3", "p5")) == expected


def test_a_pyramid_that_holds_some_levels_sends_those(codec):
    full = make_pyramid(104)
    part = Pyramid(SPEC, {"p4": full.levels["p4"], "p6": full.levels["p6"]}, GEOMETRY)
    assert codec.encode(part, 0.5) == codec.encode(full, 0.5, ["p4"])


def test_frames_do_not_depend_on_the_backend(codec):
    pyramid = make_pyramid(105)
    frames = set()
    for backend in backends():
        own = type(codec)(SPEC, codec.tensors, codec.recoverer, backend)
        frames.add(own.encode(pyramid, 0.6))
        assert own.decode(own.encode(pyramid, 0.6)).symbols.keys() == set(SPEC.coded_names)
    assert len(frames) == 1


def test_a_batch_is_rebuilt_as_each_frame_alone(codec):
    pyramids = [make_pyramid(seed) for seed in (106, 107, 108)]
    decoded = [
        codec.decode(codec.encode(pyramid, q, levels))
        for pyramid, q, levels in zip(
            pyramids, (0.2, 0.9, 0.5), (None, ("p3",), ("p4", "p5")), strict=True
        )
    ]
    geometries = [pyramid.geometry for pyramid in pyramids]
    together = codec.reconstruct(decoded, geometries)
    for index, (frame, geometry) in enumerate(zip(decoded, geometries, strict=True)):
        alone = codec.reconstruct([frame], [geometry])[0]
        for name in SPEC.names:
            np.testing.assert_array_equal(together[index].levels[name], alone.levels[name])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_cannot_be_coded_name_their_level(codec, value):
    pyramid = make_pyramid(109)
    pyramid.levels["p4"][3, 2, 1] = value
    with pytest.raises(InputError, match="level p4"):
        codec.encode(pyramid, 0.5)
    assert codec.encode(pyramid, 0.5, ["p3"]), "a level that is not sent may hold anything"


@pytest.mark.parametrize("scale", [1e6, 1e12, 1e30])
def test_features_far_beyond_calibration_are_coded_with_their_sign(codec, scale):
    pyramid = make_pyramid(109)
    far = Pyramid(SPEC, {x: v * np.float32(scale) for x, v in pyramid.levels.items()}, GEOMETRY)
    decoded = codec.decode(codec.encode(far, 1.0))
    own = codec.decode(codec.encode(pyramid, 1.0))
    for name, symbols in decoded.symbols.items():
        strong = np.abs(own.symbols[name]) > 1
        assert (np.sign(symbols[strong]) == np.sign(own.symbols[name][strong])).mean() > 0.9


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (["p6"], "derived from p5"),
        (["p9"], "no level 'p9'"),
        (["p3", "p4"], "p4 was not extracted"),
    ],
)
def test_levels_that_cannot_be_sent_are_refused(codec, levels, words):
    pyramid = make_pyramid(110)
    part = Pyramid(SPEC, {"p3": pyramid.levels["p3"]}, GEOMETRY)
    with pytest.raises(InputError, match=words):
        codec.encode(part, 0.5, levels)


@pytest.mark.parametrize("quality", [-0.001, 1.001, float("nan"), float("inf")])
def test_a_quality_out_of_range_is_refused(codec, quality):
    with pytest.raises(InputError, match="not in"):
        codec.encode(make_pyramid(110), quality)


def test_quality_on_the_wire():
    assert [quality_byte(x) for x in (0, 0.25, 0.5, 1)] == [0, 64, 128, 255]
    assert [bits_of(x) for x in (0, 31, 32, 255)] == [2, 2, 3, 9]


def sizes(codec: Codec, pyramid: Pyramid, step: int) -> np.ndarray:
    return np.array([len(codec.encode(pyramid, q / 255)) for q in range(0, 256, step)])


def test_more_bits_are_never_fewer_bytes():
    for seed in range(200, 206):
        found = sizes(kit_profile("uniform").codec, make_pyramid(seed), 32)
        assert (np.diff(found) > 0).all()


def test_neighbouring_qualities_share_their_steps():
    codec, pyramid = kit_profile("pca").codec, make_pyramid(111)
    for quality in (0, 100, 252):
        found = [codec.quantise(pyramid, quality + i, ["p3"])["p3"] for i in range(4)]
        for other in found[1:]:
            np.testing.assert_array_equal(found[0].symbols, other.symbols)
            np.testing.assert_array_equal(found[0].classes, other.classes)


def test_more_quality_never_makes_a_value_smaller_or_its_step_coarser():
    codec, pyramid = kit_profile("pca").codec, make_pyramid(112)
    last = codec.quantise(pyramid, 0, SPEC.coded_names)
    for quality in range(4, 256, 4):
        now = codec.quantise(pyramid, quality, SPEC.coded_names)
        for name in SPEC.coded_names:
            assert (now[name].classes >= last[name].classes).all()
            before = np.abs(last[name].symbols)
            assert len(now[name].symbols) >= len(before)
            assert (np.abs(now[name].symbols[: len(before)]) >= before).all()
        last = now


def test_pca_spends_its_bits_where_the_head_responds():
    codec, detector = kit_profile("pca").codec, FakeDetector()
    pyramid = make_pyramid(113)
    response = detector.response(pyramid)["p3"]
    classes = codec.step_map("p3", pyramid.levels["p3"], 128)
    strong = response > np.quantile(response, 0.8)
    weak = response < np.quantile(response, 0.2)
    assert classes[strong].mean() > classes[weak].mean() + 0.5
    error = ((through(codec, pyramid, 128 / 255).levels["p3"] - pyramid.levels["p3"]) ** 2).mean(0)
    assert error[strong].mean() < error[weak].mean()


def test_a_step_class_without_a_step_is_an_error():
    codec, pyramid = kit_profile("pca").codec, make_pyramid(114)
    levels = codec.quantise(pyramid, 128, SPEC.coded_names)
    assert codec.step_classes < STEP_CLASSES
    level = levels["p3"]
    classes = level.classes.copy()
    classes[0, 0] = codec.step_classes
    levels["p3"] = QuantisedLevel(level.symbols, classes, level.components)
    frame = codec.coder.write(levels, 128, GEOMETRY.image_size, GEOMETRY.network_size)
    with pytest.raises(InvalidField, match=f"p3 holds class {codec.step_classes}"):
        codec.decode(frame)


def test_levels_of_one_cell_are_coded(tmp_path):
    spec = PyramidSpec((LevelSpec("p5", 32, 8), LevelSpec("p6", 64, 8)))
    images = write_images(tmp_path / "images", 4)
    for kind in CODECS:
        detector = FakeDetector(spec, (64, 64))
        profile = calibrate(detector, images, tmp_path / kind, codec=kind, key_level_seconds=0.1)
        geometry = ImageGeometry((5, 5), (32, 32), (32, 32))
        pyramid = make_pyramid(3, spec, geometry)
        assert pyramid.levels["p5"].shape == pyramid.levels["p6"].shape == (8, 1, 1)
        for levels in (None, ("p5",), ("p6",)):
            rebuilt = through(profile.codec, pyramid, 1.0, levels)
            assert rebuilt.missing == ()


def test_network_sizes_other_than_calibrations_work(codec):
    for size in ((32, 32), (416, 32), (97, 61)):
        geometry = ImageGeometry((50, 50), size, size)
        pyramid = make_pyramid(4, SPEC, geometry)
        rebuilt = through(codec, pyramid, 1.0)
        assert rebuilt.geometry.network_size == size
        for name in SPEC.coded_names:
            assert rebuilt.levels[name].shape == SPEC.shape(name, size)


def test_frames_carry_the_codec_and_the_profile(codec):
    frame = read_frame(codec.encode(make_pyramid(5), 0.5))
    assert CODEC_NAMES[frame.codec_id] in ("pca", "uniform")
    assert frame.stream_prefix == codec.stream_id[:6]
    assert [chunk.has_map for chunk in frame.chunks] == [codec.codec_id == 2] * 3


@pytest.mark.parametrize("kind", CODECS)
def test_the_same_seed_gives_the_same_profile(tmp_path, kind):
    images = write_images(tmp_path / "images", 3)
    first, second, other = (
        calibrate(FakeDetector(), images, tmp_path / f"{kind}{index}", codec=kind, seed=seed,
                  key_level_seconds=0.1)
        for index, seed in enumerate((1, 1, 2))
    )  # fmt: skip
    assert first.stream_id == second.stream_id
    # What uniform codes does not depend on the positions and qualities that the seed draws.
    assert (first.stream_id != other.stream_id) == (kind == "pca")


def test_calibration_says_what_it_cannot_use(tmp_path):
    images = write_images(tmp_path / "images", 1)
    with pytest.raises(InputError, match="one of pca, uniform"):
        calibrate(FakeDetector(), images, tmp_path / "x", codec="zip")
    with pytest.raises(InputError, match="at least one image"):
        calibrate(FakeDetector(), [], tmp_path / "x")
    (tmp_path / "bad.jpg").write_text("no pixels")
    with pytest.raises(InputError, match=r"bad\.jpg"):
        calibrate(FakeDetector(), [tmp_path / "bad.jpg"], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_calibration_refuses_scores_that_a_wrong_decoder_gives(tmp_path):
    class Raw(FakeDetector):
        def detect(self, pyramid):
            return Detections(
                np.ones((1, 4), np.float32), np.full(1, 2.97, np.float32), np.zeros(1, int)
            )

    with pytest.raises(ModelError, match=r"scores 2\.97.*decode="):
        calibrate(Raw(), write_images(tmp_path / "images", 1), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_calibration_that_finds_nothing_says_so():
    findings = Findings(["bowl"])
    findings.add(
        Detections(np.ones((1, 4), np.float32), np.full(1, 0.2, np.float32), np.zeros(1, int))
    )
    assert (
        "nothing scores 0.3 or more in the first 1 images (the best is bowl 0.20)"
        in findings_line(findings.facts())
    )


def test_calibration_tells_its_progress(tmp_path):
    seen: list[tuple[int, int]] = []
    images = write_images(tmp_path / "images", 3)
    calibrate(FakeDetector(), images, tmp_path / "x", key_level_seconds=0.1,
              progress=lambda done, total: seen.append((done, total)))  # fmt: skip
    assert seen == sorted(seen)
    assert seen[-1] == (6, 6)


@pytest.mark.parametrize("kind", CODECS)
def test_a_codec_without_a_tensor_is_refused(kind):
    codec = kit_profile(kind).codec
    for missing in [x for x in codec.tensors if x.startswith("p4") or "." not in x]:
        tensors = {k: v for k, v in codec.tensors.items() if k != missing}
        with pytest.raises(ProfileError):
            make_codec(codec.codec_id, SPEC, tensors, kit_profile(kind).recovery)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("damage", ["missing", "shape", "counts"])
def test_damaged_tables_are_refused_before_they_are_used(kind, damage):
    codec = kit_profile(kind).codec
    tensors = dict(codec.tensors)
    if damage == "missing":
        del tensors["tables.p4.depth"]
    elif damage == "shape":
        tensors["tables.p4.depth"] = tensors["tables.p4.depth"][..., :-1]
    else:
        tensors["tables.p4.depth"] = tensors["tables.p4.depth"] * 0
    with pytest.raises(ProfileError, match=r"p4"):
        make_codec(codec.codec_id, SPEC, tensors, kit_profile(kind).recovery).encode(
            make_pyramid(1), 0.5
        )


def test_an_unknown_codec_id_of_a_profile_is_refused():
    with pytest.raises(ProfileError, match="codec id 9"):
        make_codec(9, SPEC, {}, {})


def test_the_probe_is_no_part_of_the_stream_but_the_tables_are():
    codec = kit_profile("pca").codec
    assert isinstance(codec, PcaCodec)
    for name, values in codec.tensors.items():
        changed = {**codec.tensors, name: values[::-1] + values.dtype.type(1)}
        other = PcaCodec(SPEC, changed, codec.recoverer)
        edge_only = name.endswith((".probe", ".reach")) or name == "thresholds"
        assert (other.stream_id == codec.stream_id) == edge_only, name


def test_the_stream_covers_codec_and_specification():
    codec = kit_profile("uniform").codec
    assert isinstance(codec, UniformCodec)
    wider = dataclasses.replace(SPEC, size_divisor=64)
    assert UniformCodec(wider, codec.tensors, codec.recoverer).stream_id != codec.stream_id
    assert len(codec.stream_id) == 32


@pytest.fixture(scope="module")
def photographs(repository: Path, shared_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A YOLOX-nano profile from a few COCO photographs, and pyramids of five others."""
    from fpcodec.detectors.factory import open_detector
    from fpcodec.images import load_image

    model = shared_folder / "models" / "yolox_nano.onnx"
    train = sorted((shared_folder / "data" / "coco" / "train").rglob("*.jpg"))[:12]
    val = sorted((shared_folder / "data" / "coco" / "val").rglob("*.jpg"))[:5]
    if not (model.is_file() and train and val):
        pytest.skip("needs YOLOX-nano and COCO photographs in ../shared")
    folder = tmp_path_factory.mktemp("yolox")
    detector = open_detector(
        f"onnx:{model}?p3=input.471&p4=input.531&p5=input.591&decode=yolox", threads=1
    )
    profile = calibrate(detector, train, folder / "profile", key_level_seconds=0.1)
    return profile, [detector.extract(load_image(path)) for path in val]


@pytest.mark.slow
def test_more_quality_is_never_fewer_bytes_on_photographs(photographs):
    profile, pyramids = photographs
    for pyramid in pyramids:
        found = sizes(profile.codec, pyramid, 4)
        assert (np.diff(found) >= 0).all(), found.tolist()


def test_more_quality_is_never_fewer_bytes_beyond_a_word_a_chunk():
    # Chunks end on 32-bit words: in frames of a dozen words, a step up may end each a word earlier.
    for seed in range(200, 206):
        found = sizes(kit_profile("pca").codec, make_pyramid(seed), 4)
        assert (np.diff(found) >= -4 * 3).all(), found.tolist()
        assert found[-1] > 2 * found[0], found.tolist()

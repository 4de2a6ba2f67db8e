"""Odam-NMS: the rule's properties, and what detectors give it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpcodec.detectors.decoding import batched_nms
from fpcodec.errors import InputError, ModelError
from fpcodec.explain.odam_nms import OdamRule, best_first, likeness, odam_nms

OFF = OdamRule(-np.inf, np.inf)
COUNT = st.integers(0, 25)
SEED = st.integers(0, 2**32 - 1)


def crowd(seed: int, count: int, classes: int = 3) -> tuple[Any, Any, Any]:
    """Boxes of which many overlap, with ties among the scores."""
    rng = np.random.default_rng(seed)
    corner, side = rng.uniform(0, 40, (count, 2)), rng.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    scores = rng.integers(0, 8, count).astype(np.float32) / 8
    return boxes, scores, rng.integers(0, classes, count)


@given(SEED, COUNT, st.integers(0, 25), st.floats(0, 1), st.one_of(st.none(), st.integers(0, 9)))
def test_without_thresholds_it_is_plain_nms(
    seed: int, count: int, mapped: int, iou: float, most: int | None
) -> None:
    boxes, scores, labels = crowd(seed, count)
    mapped = min(mapped, count)
    alike = likeness(np.random.default_rng(seed).uniform(0, 1, (mapped, 4, 5)).astype(np.float32))
    kept = odam_nms(boxes, scores, labels, alike, iou, OFF, most)
    np.testing.assert_array_equal(kept, batched_nms(boxes, scores, labels, iou, most))


@given(SEED, COUNT, st.floats(0, 1))
def test_identical_maps_leave_one_box_of_each_class(seed: int, count: int, iou: float) -> None:
    boxes, scores, labels = crowd(seed, count)
    alike = likeness(np.ones((count, 3, 3), np.float32))
    kept = odam_nms(boxes, scores, labels, alike, iou, OdamRule())
    assert sorted(labels[kept]) == sorted(set(labels))
    assert all(scores[i] == scores[labels == labels[i]].max() for i in kept)


@given(SEED, COUNT, st.floats(0, 1))
def test_orthogonal_maps_leave_every_box(seed: int, count: int, iou: float) -> None:
    boxes, scores, labels = crowd(seed, count)
    alike = likeness(np.eye(count, dtype=np.float32).reshape(count, 1, count))
    kept = odam_nms(boxes, scores, labels, alike, iou, OdamRule())
    np.testing.assert_array_equal(kept, best_first(scores, count))


def test_an_overlap_and_a_distance_are_overruled_by_the_maps() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10], [2, 0, 12, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.zeros(4, np.int64)
    maps = np.zeros((4, 1, 3), np.float32)
    # The second looks elsewhere than the first; the third, far away, where the first looks. The
    # fourth is the second again.
    maps[[0, 2], 0, 0] = maps[[1, 3], 0, 1] = 1
    kept = odam_nms(boxes, scores, labels, likeness(maps), 0.5, OdamRule())
    assert kept.tolist() == [0, 1]
    # Where only the first has a map, overlap alone judges.
    kept = odam_nms(boxes, scores, labels, likeness(maps[:1]), 0.5, OdamRule())
    assert kept.tolist() == [0, 2]


@given(SEED, st.integers(1, 8), st.floats(1e-30, 1e30))
def test_likeness_is_a_cosine(seed: int, count: int, scale: float) -> None:
    maps = np.random.default_rng(seed).uniform(0, 1, (count, 3, 4)).astype(np.float32)
    maps[0] = 0
    found = likeness((maps * np.float32(scale)).astype(np.float32))
    assert (found[0] == 0).all()
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()
    np.testing.assert_allclose(np.diag(found)[1:], 1, rtol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [{"low": 0.9}, {"high": float("nan")}, {"candidates": 0}, {"candidates": 301}, {"stride": 0}],
)
def test_a_rule_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="odam"):
        OdamRule(**wrong)


def test_a_likeness_of_too_many_boxes_is_refused() -> None:
    boxes, scores, labels = crowd(0, 2)
    with pytest.raises(InputError, match="2 boxes"):
        odam_nms(boxes, scores, labels, np.eye(3, dtype=np.float32), 0.5, OFF)


# What follows needs gradients.


@pytest.fixture
def opened() -> Callable[..., Any]:
    pytest.importorskip("torchvision", reason="needs the torch extra")
    from fpcodec.explain.odam_detector import open_odam_nms

    return open_odam_nms


@pytest.fixture(scope="module")
def scene() -> Any:
    from fpcodec.data.scenes import CROWDED, generate_scene

    return generate_scene(7, CROWDED).image


def assert_same(found: Any, own: Any, atol: float) -> None:
    assert len(found) == len(own) > 0
    np.testing.assert_array_equal(found.labels, own.labels)
    np.testing.assert_allclose(found.boxes, own.boxes, atol=atol)
    np.testing.assert_allclose(found.scores, own.scores, atol=1e-5)


def test_tiny_without_thresholds_detects_what_it_detects(opened: Any, scene: Any) -> None:
    from fpcodec.detectors.factory import open_detector

    detector = open_detector("tiny", threads=1)
    pyramid = detector.extract(scene)
    assert_same(opened(detector, OFF)(pyramid), detector.detect(pyramid), 2e-3)


def test_maps_of_tiny_are_those_that_explain_gives(scene: Any) -> None:
    pytest.importorskip("torchvision", reason="needs the torch extra")
    from fpcodec.detectors.factory import open_detector
    from fpcodec.explain.heatmaps import resize
    from fpcodec.explain.odam import explain
    from fpcodec.explain.odam_detector import open_candidates
    from fpcodec.explain.predictions import open_predictor

    detector = open_detector("tiny", threads=1)
    pyramid = detector.extract(scene)
    found = open_candidates(detector).candidates(pyramid)
    predicted = open_predictor(detector)(pyramid)
    # The best of all candidates is the best detection.
    (own,) = found.maps(best_first(found.scores, 1), (20, 20))
    wanted = resize(explain(predicted, 0, ["score"]).maps["score"], (20, 20))
    assert own.max() > 0
    np.testing.assert_allclose(own, wanted, atol=1e-4 * wanted.max())


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fcos_resnet18_fpn"])
def test_torchvision_without_thresholds_detects_what_it_detects(
    name: str, opened: Any, scene: Any
) -> None:
    from fpcodec.detectors.factory import open_detector

    options = "num_classes=3&min_size=160&max_size=300"
    options += "&score_thresh=0.005" if name.startswith("fcos") else "&rpn_post_nms_top_n_test=40"
    detector = open_detector(f"torchvision:{name}?{options}")
    pyramid = detector.extract(np.ascontiguousarray(scene[:200, :280]))
    assert_same(opened(detector, OFF)(pyramid), detector.detect(pyramid), 2e-3)
    assert len(opened(detector, OdamRule(candidates=20))(pyramid)) > 0


def toy_yolox(tmp_path: Path) -> Any:
    pytest.importorskip("onnx2torch", reason="needs the torch extra")
    from onnx_kit import LEVELS, SIDE, write_model

    from fpcodec.detectors.decoding import DecodeConfig
    from fpcodec.detectors.onnx_build import build_onnx
    from fpcodec.detectors.preprocess import Preprocess

    return build_onnx(
        write_model(tmp_path / "toy.onnx"), LEVELS, DecodeConfig("yolox", max_detections=20),
        Preprocess((SIDE, SIDE), std=(128.0, 128.0, 128.0)), threads=1, work_dir=tmp_path / "cut",
    )  # fmt: skip


def test_yolox_without_thresholds_detects_the_same_bits(
    tmp_path: Path, opened: Any, scene: Any
) -> None:
    detector = toy_yolox(tmp_path)
    pyramid = detector.extract(scene)
    found, own = opened(detector, OFF)(pyramid), detector.detect(pyramid)
    assert len(own) > 0
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(found, name), getattr(own, name))


def test_maps_that_share_a_backward_pass_are_those_of_passes_of_their_own(
    tmp_path: Path, scene: Any
) -> None:
    detector = toy_yolox(tmp_path)
    from fpcodec.explain.layout_candidates import apart
    from fpcodec.explain.odam_detector import open_candidates

    source: Any = open_candidates(detector).candidates
    found = source(detector.extract(scene))
    chosen = best_first(found.scores, 12)
    together = found.maps(chosen, (8, 8))
    alone = np.concatenate([found.maps(chosen[i : i + 1], (8, 8)) for i in range(len(chosen))])
    assert together.max() > 0
    np.testing.assert_allclose(together, alone, atol=1e-5 * together.max())
    groups = apart([("a", 0, 0), ("a", 0, 2), ("a", 0, 3), ("b", 0, 0)], {"a": 1, "b": 9})
    assert groups == [[0, 2, 3], [1]]


def test_a_detector_without_candidates_is_refused(opened: Any) -> None:
    from explain_kit import FakeDetector

    from fpcodec.detectors.factory import open_detector

    with pytest.raises(ModelError, match="plain nms"):
        opened(FakeDetector())
    with pytest.raises(ModelError, match="none with masks"):
        opened(open_detector("torchvision:retinanet_resnet18_fpn?num_classes=3"))

"""Raw outputs to boxes: suppression, YOLOX's grid, graphs that select boxes themselves."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.detections import Detections
from fpcodec.detectors import decoding
from fpcodec.detectors.decoding import DecodeConfig
from fpcodec.detectors.head_decoder import HeadDecoder
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import LevelSpec, PyramidSpec

SPEC = PyramidSpec((LevelSpec("p3", 8, 4), LevelSpec("p4", 16, 4)), 16)
SIZE = (32, 16)  # p3: 2 rows of 4 cells, p4: 1 row of 2


def random_boxes(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(1, 40, (count, 2))], axis=1)
    scores = random.permutation(count).astype(np.float32) / max(1, count)
    return boxes.astype(np.float32), scores, random.integers(0, 3, count)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(0, 120), st.sampled_from([0.0, 0.3, 0.5, 0.65, 1.0]))
def test_suppression_agrees_with_torchvision(seed: int, count: int, iou: float) -> None:
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("torchvision.ops")
    boxes, scores, labels = random_boxes(seed, count)
    wanted = ops.batched_nms(
        torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(labels), iou
    )
    assert decoding.batched_nms(boxes, scores, labels, iou).tolist() == wanted.tolist()


def test_an_early_stop_keeps_the_same_best_boxes() -> None:
    boxes, scores, labels = random_boxes(5, 200)
    every = decoding.batched_nms(boxes, scores, labels, 0.5)
    assert (
        decoding.batched_nms(boxes, scores, labels, 0.5, max_kept=7).tolist() == every[:7].tolist()
    )


def test_only_boxes_of_one_class_suppress_each_other() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10]], np.float32)
    scores = np.array([0.5, 0.9, 0.7], np.float32)
    assert decoding.batched_nms(boxes, scores, np.array([0, 0, 1]), 0.5).tolist() == [1, 2]


def yolox_rows() -> np.ndarray:
    """Silence but for p3's cell (2, 1), class 1, and p4's cell (1, 0), class 0."""
    rows = np.zeros((1, 10, 7), np.float32)
    rows[0, 6] = [0.5, 0.25, np.log(2), np.log(3), 0.8, 0.1, 0.5]
    rows[0, 9] = [0.5, 0.5, 0, 0, 0.5, 1.0, 0.2]
    return rows


def test_yolox_cells_become_boxes() -> None:
    decoder = HeadDecoder(DecodeConfig("yolox", score_threshold=0.1), SPEC, SIZE)
    found = decoder.detections({"output": yolox_rows()})
    np.testing.assert_allclose(found.scores, [0.5, 0.4], rtol=1e-6)
    assert found.labels.tolist() == [0, 1]
    # p3: centre ((2 + .5) 8, (1 + .25) 8) = (20, 10), sides (16, 24)
    np.testing.assert_allclose(found.boxes, [[16, 0, 32, 16], [12, -2, 28, 22]], atol=1e-5)


def test_yolox_head_has_scores_and_boxes_per_level() -> None:
    head = HeadDecoder(DecodeConfig("yolox"), SPEC, SIZE).head({"output": yolox_rows()})
    assert head.scores["p3"].shape == (2, 2, 4)
    assert head.boxes["p4"].shape == (4, 1, 2)
    assert head.scores["p3"][1, 1, 2] == pytest.approx(0.4)
    assert head.scores["p3"].sum() == pytest.approx(0.4 + 0.08)


def test_yolox_without_objects_finds_nothing() -> None:
    found = HeadDecoder(DecodeConfig("yolox"), SPEC, SIZE).detections(
        {"output": np.zeros((1, 10, 7), np.float32)}
    )
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)


def test_wild_box_sizes_stay_finite() -> None:
    rows = yolox_rows()
    rows[0, 6, 2:4] = 500
    found = HeadDecoder(DecodeConfig("yolox"), SPEC, SIZE).detections({"output": rows})
    assert np.isfinite(found.boxes).all()


@pytest.mark.parametrize("shape", [(1, 9, 7), (2, 10, 7), (1, 10, 5), (10,)])
def test_another_detectors_output_is_not_taken_for_yolox(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="decode=yolox wants"):
        HeadDecoder(DecodeConfig("yolox"), SPEC, SIZE).head({"output": np.zeros(shape, np.float32)})


def graph_outputs() -> dict[str, np.ndarray]:
    return {
        "boxes": np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 0, 4, 4]], np.float32),
        "scores": np.array([0.3, 0.9, 0.001], np.float32),
        "labels": np.array([1, 2, 1], np.int64),
    }


def test_boxes_that_the_graph_selected_come_best_first() -> None:
    config = DecodeConfig("detections", score_threshold=0.05, label_offset=1)
    found = HeadDecoder(config, SPEC, SIZE).detections(graph_outputs())
    np.testing.assert_allclose(found.scores, [0.9, 0.3])
    assert found.labels.tolist() == [1, 0]
    assert found.boxes[0].tolist() == [8, 0, 16, 8]


def test_objectness_outputs_are_the_response() -> None:
    outputs = graph_outputs()
    outputs["objectness_p3"] = np.full((1, 1, 2, 4), 0.25, np.float32)
    outputs["p4_map"] = np.full((1, 3, 1, 2), 0.75, np.float32)
    config = DecodeConfig("detections", outputs={"objectness_p4": "p4_map"})
    head = HeadDecoder(config, SPEC, SIZE).head(outputs)
    assert head.scores["p3"].shape == (1, 2, 4)
    assert head.scores["p4"].shape == (3, 1, 2)
    assert (head.scores["p4"] == 0.75).all()


def test_without_objectness_boxes_are_rasterised() -> None:
    head = HeadDecoder(DecodeConfig("detections"), SPEC, SIZE).head(graph_outputs())
    np.testing.assert_allclose(head.scores["p3"], [[[0.3, 0.9, 0, 0], [0, 0, 0, 0]]])
    np.testing.assert_allclose(head.scores["p4"], [[[0.9, 0]]])


def test_boxes_beyond_the_image_do_not_break_the_raster() -> None:
    boxes = np.array([[-50, -50, 1e9, 4], [np.nan, 0, np.inf, 8]], np.float32)
    found = Detections(boxes, np.array([0.5, 0.4], np.float32), np.zeros(2, np.int64))
    raster = decoding.rasterise(found, SPEC, SIZE)
    assert (raster["p3"][0] == 0.5).all()


def test_an_absent_output_is_named_with_those_there_are() -> None:
    outputs = graph_outputs()
    del outputs["scores"]
    with pytest.raises(ModelError, match=r"'scores'.*boxes, labels"):
        HeadDecoder(DecodeConfig("detections"), SPEC, SIZE).detections(outputs)


def test_outputs_that_disagree_are_refused() -> None:
    outputs = graph_outputs() | {"labels": np.zeros(2, np.int64)}
    with pytest.raises(ModelError, match="disagree"):
        HeadDecoder(DecodeConfig("detections"), SPEC, SIZE).detections(outputs)


@pytest.fixture
def user_module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("a_users_module")
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    return module


def test_a_users_function_decodes(user_module: ModuleType) -> None:
    def decode(
        outputs: dict[str, np.ndarray], spec: PyramidSpec, size: tuple[int, int]
    ) -> Detections:
        box = np.array([[0, 0, size[0] / 2, spec["p3"].stride]], np.float32)
        return Detections(box, outputs["best"], np.array([4]))

    user_module.decode = decode  # type: ignore[attr-defined]
    decoder = HeadDecoder(DecodeConfig("a_users_module:decode"), SPEC, SIZE)
    outputs = {"best": np.array([0.5], np.float32)}
    assert decoder.detections(outputs).boxes.tolist() == [[0, 0, 16, 8]]
    np.testing.assert_allclose(decoder.head(outputs).scores["p3"][0], [[0.5, 0.5, 0, 0], [0] * 4])


def test_a_users_failure_is_a_model_error(user_module: ModuleType) -> None:
    user_module.decode = lambda *_: 1 // 0  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"a_users_module:decode failed: ZeroDivisionError"):
        HeadDecoder(DecodeConfig("a_users_module:decode"), SPEC, SIZE).detections({})
    user_module.decode = lambda *_: []  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="returned a list"):
        HeadDecoder(DecodeConfig("a_users_module:decode"), SPEC, SIZE).detections({})


@pytest.mark.parametrize("reference", ["no_such_module_here:f", "json:no_such_function"])
def test_a_decoder_that_is_not_there_is_a_model_error(reference: str) -> None:
    with pytest.raises(ModelError, match="cannot be imported"):
        HeadDecoder(DecodeConfig(reference), SPEC, SIZE)


def test_configurations_survive_json() -> None:
    config = DecodeConfig("detections", 0.2, 0.5, 10, {"boxes": "b"}, 1)
    assert DecodeConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    "data",
    [
        {"kind": "ssd"},
        {"kind": "yolox", "nms_iou": 2},
        {"kind": "yolox", "max_detections": 0},
        {"kind": "yolox", "colour": 1},
        {},
    ],
)
def test_configurations_are_checked(data: dict[str, object]) -> None:
    with pytest.raises(InputError):
        DecodeConfig.from_dict(data)

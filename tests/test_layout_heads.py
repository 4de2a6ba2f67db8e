"""Output layouts in torch: heads for training, predictions with gradients, Odam-NMS's maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")
pytest.importorskip("onnx2torch", reason="needs the torch extra")

from head_kit import (  # noqa: E402
    assert_batch_is_its_images,
    assert_close,
    assert_frozen,
    assert_gradients_reach_every_level,
    batch,
)
from layout_kit import OPTIONS, spec_of, write_layout  # noqa: E402

from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.explain.odam import explain  # noqa: E402
from fpcodec.explain.odam_detector import open_candidates, open_odam_nms  # noqa: E402
from fpcodec.explain.odam_nms import best_first  # noqa: E402
from fpcodec.explain.predictions import open_predictor  # noqa: E402
from fpcodec.training.heads import open_head  # noqa: E402
from fpcodec.training.losses import box_loss, score_loss  # noqa: E402
from fpcodec.training.onnx_heads import LayoutHead  # noqa: E402

IMAGES = [np.ascontiguousarray(generate_scene(seed).image[:128, :120]) for seed in (3, 4)]


@pytest.fixture(scope="module", params=OPTIONS)
def detector(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    model = write_layout(tmp_path_factory.mktemp("model") / "toy.onnx", request.param)
    return open_detector(spec_of(model, request.param), threads=1)


def test_head_is_the_detectors_in_any_batch(detector: Any) -> None:
    head = open_head(detector)
    assert isinstance(head, LayoutHead)
    pyramids = [detector.extract(image) for image in IMAGES]
    levels = batch(pyramids)
    answer = head(levels)
    for i, pyramid in enumerate(pyramids):
        own = detector.head(pyramid)
        for name in detector.spec.names:
            assert_close(answer.scores[name][i], own.scores[name])
            assert_close(answer.boxes[name][i], own.boxes[name])
    assert_frozen(head)
    assert_batch_is_its_images(head, levels)
    assert_gradients_reach_every_level(head, levels)
    other = head({name: x * 0.9 for name, x in levels.items()})
    for loss in (score_loss, box_loss):
        assert (loss(answer, other) > 0).all()
        assert loss(answer, answer).tolist() == pytest.approx([0, 0], abs=1e-6)


def test_predictions_are_the_detections_and_lie_on_one_level(detector: Any) -> None:
    pyramid = detector.extract(IMAGES[0])
    own = detector.detect(pyramid)
    found = open_predictor(detector)(pyramid)
    assert len(found) == len(own) > 3
    np.testing.assert_array_equal(found.labels.numpy(), own.labels)
    np.testing.assert_allclose(found.detections.boxes, own.boxes, rtol=1e-4, atol=5e-3)
    np.testing.assert_allclose(found.detections.scores, own.scores, rtol=1e-4, atol=1e-5)
    explanation = explain(found, 0)
    assert explanation.shares[explanation.level] == pytest.approx(1)
    assert explanation.maps["score"].any()
    assert any(explanation.maps[side].any() for side in ("x1", "y1", "x2", "y2"))


def test_odam_nms_takes_its_candidates(detector: Any) -> None:
    pyramid = detector.extract(IMAGES[0])
    source: Any = open_candidates(detector).candidates
    found = source(pyramid)
    maps = found.maps(best_first(found.scores, 6), (8, 8))
    assert maps.shape[1:] == (8, 8)
    assert maps.max() > 0
    assert source.reach["p3"].cells == 0, "the head has 1x1 convolutions"
    kept = open_odam_nms(detector)(pyramid)
    assert 0 < len(kept) <= len(found)

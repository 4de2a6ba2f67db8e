"""Small detectors of every kind, cut at their pyramids."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from safetensors.torch import save_file  # noqa: E402

from fpcodec.detectors.small_family import KINDS, build_small  # noqa: E402
from fpcodec.detectors.small_torch import SmallTorchDetector  # noqa: E402
from fpcodec.detectors.tiny import TinyConfig  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.evaluation.levels.detector_source import DetectorSource  # noqa: E402
from fpcodec.explain.class_slice import class_slice  # noqa: E402
from fpcodec.explain.predictions import open_predictor  # noqa: E402

CONFIG = TinyConfig("small", ("a", "b", "c"), (96, 64), mean=(90.0, 100.0, 110.0))
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> Any:
    """Untrained, with scores that differ; whatever they are, the best boxes are kept."""
    torch.manual_seed(0)
    model = build_small(request.param, CONFIG, 0.5).eval()
    keep = model.roi_heads if request.param == "fasterrcnn" else model
    keep.score_thresh = 0.0
    return model


def test_both_halves_find_what_the_whole_finds(model: Any) -> None:
    with torch.no_grad():
        wanted = model([torch.from_numpy(IMAGE).permute(2, 0, 1).float()])[0]
    detector = SmallTorchDetector(model, CONFIG)
    found = detector.detect(detector.extract(IMAGE))
    assert len(found.scores) == len(wanted["scores"]) > 0
    np.testing.assert_allclose(found.scores, wanted["scores"].numpy(), atol=1e-5)
    np.testing.assert_allclose(found.boxes, wanted["boxes"].numpy(), atol=1e-2)
    assert np.array_equal(found.labels, wanted["labels"].numpy() - 1)


def test_the_response_lies_on_the_levels(model: Any) -> None:
    detector = SmallTorchDetector(model, CONFIG)
    response = detector.response(detector.extract(IMAGE))
    assert tuple(response) == detector.spec.names
    for name, values in response.items():
        assert values.shape == detector.spec.shape(name, CONFIG.size)[1:]
        assert 0 <= values.min() <= values.max() <= 1


def test_only_one_stage_kinds_have_a_class_slice(model: Any) -> None:
    detector = SmallTorchDetector(model, CONFIG)
    pyramid = detector.extract(IMAGE)
    if type(model).__name__ == "FasterRCNN":
        # It has as many anchors a place as there are classes.
        assert {len(x) for x in detector.head(pyramid).scores.values()} == {len(CONFIG.classes)}
        with pytest.raises(ModelError, match="scores objectness"):
            class_slice(detector, pyramid, [0])
    else:
        assert class_slice(detector, pyramid, [0, 2]).shape == (2, 64, 96)


def test_predictions_have_gradients(model: Any) -> None:
    detector = SmallTorchDetector(model, CONFIG)
    found = open_predictor(detector)(detector.extract(IMAGE))
    found.scores[0].backward()
    reached = [name for name, x in found.levels.items() if x.grad is not None and x.grad.any()]
    assert reached


def test_only_two_stage_kinds_take_a_pyramid_for_the_rpn(model: Any) -> None:
    detector = SmallTorchDetector(model, CONFIG)
    pyramid = detector.extract(IMAGE)
    if type(model).__name__ == "FasterRCNN":
        assert len(detector.detect(pyramid, pyramid)) == len(detector.detect(pyramid))
    else:
        with pytest.raises(InputError, match="has no RPN"):
            detector.detect(pyramid, pyramid)


def test_a_trained_one_is_opened_by_its_folder(model: Any, tmp_path: Path) -> None:
    kind = {"FasterRCNN": "fasterrcnn"}.get(type(model).__name__, type(model).__name__.lower())
    weights = {name: x.contiguous() for name, x in model.state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    card = {**CONFIG.to_card(), "kind": kind, "width": 0.5}
    (tmp_path / "card.json").write_text(json.dumps(card))
    detector = DetectorSource(None, f"tiny:{tmp_path}?runtime=torch").open()
    ours = SmallTorchDetector(model, CONFIG).extract(IMAGE)
    found = detector.extract(IMAGE)
    assert all(np.array_equal(found.levels[name], ours.levels[name]) for name in ours.levels)

"""Differentiable predictions of every adapter, and ODAM's maps of them."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from onnx_kit import LEVELS, SIDE, write_model  # noqa: E402

from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detectors.decoding import DecodeConfig  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.detectors.onnx import OnnxDetector  # noqa: E402
from fpcodec.detectors.onnx_build import build_onnx  # noqa: E402
from fpcodec.detectors.preprocess import Preprocess  # noqa: E402
from fpcodec.detectors.small_torch import SmallTorchDetector  # noqa: E402
from fpcodec.embedded import embedded_folder  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.explain.heatmaps import normalised  # noqa: E402
from fpcodec.explain.odam import (  # noqa: E402
    ATTRIBUTES,
    Explanation,
    explain,
    grad_cam_map,
    gradients,
    odam_map,
    smoothed,
)
from fpcodec.explain.predictions import Predictions, open_predictor  # noqa: E402
from fpcodec.images import load_image  # noqa: E402
from fpcodec.pyramid import ImageGeometry, LevelSpec, PyramidSpec  # noqa: E402

SMALL = {"num_classes": "3", "min_size": "160", "max_size": "300"}
# Untrained one-stage heads score about 0.01 everywhere.
ONE_STAGE = {**SMALL, "score_thresh": "0.005", "detections_per_img": "50"}
TORCHVISION = {
    "fasterrcnn_resnet18_fpn": {**SMALL, "rpn_post_nms_top_n_test": "40"},
    "retinanet_resnet18_fpn": ONE_STAGE,
    "fcos_resnet18_fpn": ONE_STAGE,
}
DETECTRON2 = ("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml",
              "COCO-Detection/retinanet_R_50_FPN_3x.yaml")  # fmt: skip
IMAGE = np.ascontiguousarray(generate_scene(3).image[:200, :280])


def toy_yolox(tmp_path: Path) -> OnnxDetector:
    """Three levels, random weights, boxes enough."""
    pytest.importorskip("onnx2torch", reason="needs the torch extra")
    model = write_model(tmp_path / "toy.onnx")
    return build_onnx(
        model, LEVELS, DecodeConfig("yolox", max_detections=20),
        # Small values: random heads saturate on bytes, and what is flat has no gradient.
        Preprocess((SIDE, SIDE), std=(128.0, 128.0, 128.0)), threads=1, work_dir=tmp_path / "cut",
    )  # fmt: skip


def assert_predicts_what_the_detector_detects(detector: Any, image: np.ndarray) -> Predictions:
    pyramid = detector.extract(image)
    own = detector.detect(pyramid)
    found = open_predictor(detector)(pyramid)
    assert len(found) == len(own) > 0
    np.testing.assert_array_equal(found.labels.numpy(), own.labels)
    plain = found.detections
    np.testing.assert_allclose(plain.boxes, own.boxes, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(plain.scores, own.scores, rtol=1e-4, atol=1e-5)
    assert tuple(found.levels) == detector.spec.coded_names
    return found


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_predicts_with_gradients_on_one_level(name: str) -> None:
    detector = open_detector(f"torchvision:{name}?" + query(TORCHVISION[name]), threads=1)
    found = assert_predicts_what_the_detector_detects(detector, IMAGE)
    for index in (0, len(found) - 1):
        explanation = explain(found, index)
        assert explanation.shares[explanation.level] == pytest.approx(1)
        assert set(explanation.maps) == set(ATTRIBUTES)


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is None, reason="needs detectron2")
@pytest.mark.detectron2
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
@pytest.mark.parametrize("name", DETECTRON2)
def test_detectron2_predicts_with_gradients_on_one_level(name: str) -> None:
    options = {**SMALL, "score_thresh": "0.005", "MODEL.RESNETS.DEPTH": "18",
               "MODEL.RESNETS.RES2_OUT_CHANNELS": "64", "MODEL.RESNETS.NORM": "BN",
               "MODEL.RPN.POST_NMS_TOPK_TEST": "100"}  # fmt: skip
    detector = open_detector(f"detectron2:{name}?" + query(options), threads=1)
    found = assert_predicts_what_the_detector_detects(detector, IMAGE)
    explanation = explain(found, 0)
    assert explanation.shares[explanation.level] == pytest.approx(1)


def query(options: dict[str, str]) -> str:
    return "&".join(f"{key}={value}" for key, value in options.items())


def test_tiny_in_torch_and_as_a_graph_predict_alike() -> None:
    found = assert_predicts_what_the_detector_detects(open_detector("tiny", threads=1), IMAGE)
    folder = embedded_folder("tiny")
    in_torch = SmallTorchDetector.from_folder(folder)
    again = assert_predicts_what_the_detector_detects(in_torch, IMAGE)
    assert len(again) >= len(found)
    explanation = explain(found, 0)
    assert explanation.shares[explanation.level] == pytest.approx(1)
    assert_peak_is_on_the_box(explanation, found, 0)


def test_yolox_predicts_with_gradients_on_one_level(tmp_path: Path) -> None:
    found = assert_predicts_what_the_detector_detects(toy_yolox(tmp_path), IMAGE)
    levels = set()
    for index in range(len(found)):
        explanation = explain(found, index)
        shares = sorted(explanation.shares.values())
        assert shares[-1] == 1
        assert not any(shares[:-1])
        levels.add(explanation.level)
    assert len(levels) > 1


def test_yolox_nano_points_at_what_it_found(shared_folder: Path) -> None:
    pytest.importorskip("onnx2torch", reason="needs the torch extra")
    model = shared_folder / "models" / "yolox_nano.onnx"
    spec = f"onnx:{model}?p3=input.471&p4=input.531&p5=input.591&decode=yolox"
    detector = open_detector(spec, threads=1)
    image = load_image(shared_folder / "data" / "coco" / "val" / "000000001761.jpg")
    found = assert_predicts_what_the_detector_detects(detector, image)
    for index in range(2):
        explanation = explain(found, index)
        assert explanation.level == "p4"
        assert_peak_is_on_the_box(explanation, found, index)


def assert_peak_is_on_the_box(explanation: Explanation, found: Predictions, index: int) -> None:
    shown = explanation.on_image()
    assert shown.shape == found.geometry.image_size[::-1]
    assert (shown.min(), shown.max()) == (0, 1)
    y, x = np.unravel_index(int(shown.argmax()), shown.shape)
    x1, y1, x2, y2 = found.boxes[index].tolist()
    assert x1 < x < x2
    assert y1 < y < y2


def test_coordinates_at_the_border_keep_their_gradients(tmp_path: Path) -> None:
    found = assert_predicts_what_the_detector_detects(toy_yolox(tmp_path), IMAGE)
    clipped = torch.nonzero(found.boxes[:, 0] == 0)[:, 0]
    assert len(clipped)
    maps = explain(found, int(clipped[0])).maps
    assert maps["x1"].any() or maps["x2"].any()


def test_what_gives_no_gradients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="drise"):
        open_predictor(object())  # type: ignore[arg-type]
    for name in ("edge.onnx", "server.onnx", "card.json"):
        shutil.copy(embedded_folder("tiny") / name, tmp_path / name)
    detector = open_detector(f"tiny:{tmp_path}", threads=1)
    with pytest.raises(ModelError, match="drise"):
        open_predictor(detector)


def test_missing_level_is_named() -> None:
    detector = open_detector("tiny", threads=1)
    pyramid = detector.extract(IMAGE, ["p3", "p4"])
    with pytest.raises(InputError, match="p2, p5"):
        open_predictor(detector)(pyramid)


def linear(weights: dict[str, np.ndarray], levels: dict[str, np.ndarray]) -> Predictions:
    """One detection whose score and coordinates are weighted sums of the features."""
    spec = PyramidSpec((LevelSpec("p3", 8, 3), LevelSpec("p4", 16, 3)))
    geometry = ImageGeometry((64, 64), (64, 64), (64, 64))
    leaves = {n: torch.from_numpy(x)[None].requires_grad_() for n, x in levels.items()}
    score = sum((torch.from_numpy(weights[n]) * leaves[n][0]).sum() for n in weights)
    boxes = torch.stack([score * k for k in (1, -1, 2, -2)])[None]
    return Predictions(
        boxes, score[None], torch.zeros(1, dtype=torch.int64), leaves, spec, geometry
    )


@pytest.fixture
def arrays() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)

    def draw() -> dict[str, np.ndarray]:
        return {"p3": rng.normal(size=(3, 8, 8)).astype(np.float32),
                "p4": rng.normal(size=(3, 4, 4)).astype(np.float32)}  # fmt: skip

    return draw(), draw()


def test_linear_head_is_explained_by_weight_times_feature(arrays) -> None:
    weights, levels = arrays
    found = linear(weights, levels)
    explanation = explain(found, 0)
    assert explanation.level == "p3"
    product = (weights["p3"] * levels["p3"]).sum(axis=0)
    expected = {"score": product, "x1": product, "y1": -product, "x2": 2 * product,
                "y2": -2 * product}  # fmt: skip
    for attribute, values in expected.items():
        # The rectifier comes after the channels' sum.
        np.testing.assert_allclose(
            explanation.maps[attribute], np.maximum(values, 0), rtol=1e-5, atol=1e-6
        )
    combined = np.maximum(normalised(np.maximum(product, 0)), normalised(np.maximum(-product, 0)))
    np.testing.assert_allclose(explanation.combined(), combined, atol=1e-6)
    of_score = explain(found, 0, ["score"], rule=grad_cam_map)
    mean = np.einsum("c,chw->hw", weights["p3"].mean(axis=(1, 2)), levels["p3"])
    np.testing.assert_allclose(of_score.maps["score"], np.maximum(mean, 0), rtol=1e-4, atol=1e-6)


def test_level_is_the_one_with_most_gradient(arrays) -> None:
    weights, levels = arrays
    found = explain(linear({"p3": weights["p3"] * 0.01, "p4": weights["p4"]}, levels), 0)
    assert found.level == "p4"
    assert found.stride == 16
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.on_image().shape == (64, 64)


def test_smoothing_is_a_gaussian_per_channel(arrays) -> None:
    scipy_ndimage = pytest.importorskip("scipy.ndimage")
    gradient = arrays[0]["p3"]
    expected = scipy_ndimage.gaussian_filter(
        gradient.astype(np.float64), (0, 1.5, 1.5), mode="constant", radius=(0, 5, 5)
    )
    np.testing.assert_allclose(smoothed(gradient, 1.5), expected, atol=1e-6)
    assert smoothed(gradient, 0) is gradient
    weights, levels = arrays
    explanation = explain(linear(weights, levels), 0, sigma=1.5)
    assert explanation.sigma == 1.5
    np.testing.assert_allclose(
        explanation.maps["score"], odam_map(smoothed(weights["p3"], 1.5), levels["p3"]), rtol=1e-5
    )


def test_bad_requests_are_named(arrays) -> None:
    found = linear(*arrays)
    with pytest.raises(InputError, match="detection 1"):
        explain(found, 1)
    with pytest.raises(InputError, match="width"):
        explain(found, 0, ["width"])
    with pytest.raises(InputError, match="none"):
        explain(found, 0, [])
    with pytest.raises(InputError, match="sigma"):
        explain(found, 0, sigma=-1)
    with pytest.raises(InputError, match="x2"):
        explain(found, 0, ["score"]).on_image(["x2"])


def test_score_map_is_hirescams(tmp_path: Path) -> None:
    """The same algebra in another's code: grad-cam's HiResCAM on the same scalar."""
    grad_cam = pytest.importorskip("pytorch_grad_cam", reason="needs grad-cam")
    detector = toy_yolox(tmp_path)
    predictor = open_predictor(detector)
    pyramid = detector.extract(IMAGE)
    found = predictor(pyramid)
    from fpcodec.training.onnx_heads import open_onnx_head

    graph = open_onnx_head(detector, tmp_path / "cut").graph
    for index in range(3):
        explanation = explain(found, index, ["score"])
        level = explanation.level

        class OneLevel(torch.nn.Module):
            """The head as a function of one level, seen through a layer that does nothing."""

            def __init__(self, level: str) -> None:
                super().__init__()
                self.graph, self.level, self.seen = graph, level, torch.nn.Identity()

            def forward(self, features: torch.Tensor) -> torch.Tensor:
                given = {n: torch.from_numpy(x)[None] for n, x in pyramid.levels.items()}
                (raw,) = self.graph({**given, self.level: self.seen(features)}).values()
                return raw

        score = float(found.scores[index].detach())
        label = int(found.labels[index])

        def target(raw: torch.Tensor, label: int = label, score: float = score) -> torch.Tensor:
            scores = raw[:, 4] * raw[:, 5 + label]
            return scores[(scores - score).abs().argmin()]

        model = OneLevel(level)
        features = torch.from_numpy(pyramid.levels[level])[None].requires_grad_()
        with grad_cam.HiResCAM(model=model, target_layers=[model.seen]) as cam:
            other = cam(input_tensor=features, targets=[target])[0]
        np.testing.assert_allclose(other, normalised(explanation.maps["score"]), atol=1e-5)


def test_gradients_name_every_level(arrays) -> None:
    found = gradients(linear({"p4": arrays[0]["p4"]}, arrays[1]), 0, "y1")
    assert not found["p3"].any()
    np.testing.assert_array_equal(found["p4"], -arrays[0]["p4"])


def test_predictions_of_nothing_are_empty(tmp_path: Path) -> None:
    detector = toy_yolox(tmp_path)
    strict = OnnxDetector(
        {**detector.config, "decode": {**detector.config["decode"], "score_threshold": 1.0}},
        tmp_path / "cut",
    )
    found = open_predictor(strict)(strict.extract(IMAGE))
    assert len(found) == len(found.detections) == 0

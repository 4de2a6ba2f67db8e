"""RetinaNet's raw head outputs against torchvision's and detectron2's own post-processing."""

from __future__ import annotations

import importlib.util
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")
pytest.importorskip("onnx", reason="cutting a graph needs the onnx package")

from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detections import Detections  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.detectors.layouts.anchors import level_anchors  # noqa: E402
from fpcodec.detectors.layouts.levels import HeadLevel, head_levels  # noqa: E402
from fpcodec.detectors.onnx import OnnxDetector  # noqa: E402
from fpcodec.detectors.onnx_levels import outline  # noqa: E402
from fpcodec.errors import ModelError  # noqa: E402
from fpcodec.pyramid import LevelSpec, PyramidSpec  # noqa: E402

WIDTH, HEIGHT, CLASSES = 160, 96, 5
IMAGE = np.ascontiguousarray(generate_scene(3).image[40 : 40 + HEIGHT, 20 : 20 + WIDTH])


class Raw(torch.nn.Module):
    """A RetinaNet without its own selection of boxes."""

    def __init__(self, model: Any, level_by_level: bool) -> None:
        super().__init__()
        self.model, self.level_by_level = model, level_by_level

    def forward(self, image: Any) -> tuple[Any, ...]:
        features = list(self.model.backbone(image).values())
        if not self.level_by_level:
            found = self.model.head(features)
            return found["cls_logits"], found["bbox_regression"]
        each = [self.model.head([x]) for x in features]
        return tuple(x[name] for x in each for name in ("cls_logits", "bbox_regression"))


@pytest.fixture(scope="module")
def retinanet() -> Any:
    """Untrained, but with scores and boxes that differ."""
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(0)
    layers = {
        f"c{n}": torch.nn.Sequential(
            torch.nn.Conv2d(a, b, 3, 2 if n > 2 else 4, 1), torch.nn.ReLU()
        )
        for n, a, b in ((2, 3, 8), (3, 8, 16), (4, 16, 24), (5, 24, 32))
    }
    backbone = BackboneWithFPN(
        torch.nn.Sequential(OrderedDict(layers)), {f"c{n}": str(n) for n in (3, 4, 5)},
        [16, 24, 32], 16, LastLevelP6P7(16, 16),
    )  # fmt: skip
    model = RetinaNet(backbone, CLASSES, min_size=HEIGHT, max_size=WIDTH).eval()
    for layer, deviation in (
        (model.head.classification_head.cls_logits, 0.4),
        (model.head.regression_head.bbox_reg, 0.1),
    ):
        torch.nn.init.normal_(layer.weight, std=deviation)
    torch.nn.init.constant_(model.head.classification_head.cls_logits.bias, -2)
    for block in (*model.head.classification_head.conv, *model.head.regression_head.conv):
        torch.nn.init.kaiming_normal_(block[0].weight)
    return model


def exported(model: Any, path: Path, level_by_level: bool = False) -> Path:
    outputs = ["cls_logits", "bbox_regression"]
    if level_by_level:
        outputs = [f"{name}_{n}" for n in range(3, 8) for name in outputs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is the older exporter
        torch.onnx.export(
            Raw(model, level_by_level).eval(), (torch.zeros(1, 3, HEIGHT, WIDTH),), str(path),
            dynamo=False, input_names=["image"], output_names=outputs,
        )  # fmt: skip
    return path


def cut_at(path: Path, strides: tuple[int, ...]) -> str:
    """The outputs of the pyramid: the nearest tensors before the head."""
    levels = [f"p{stride.bit_length() - 1}" for stride in strides]
    found = outline(path).levels
    return "&".join(f"{level}={found[level][0].name}" for level in levels)


@pytest.fixture(scope="module")
def model(retinanet: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(retinanet, tmp_path_factory.mktemp("retinanet") / "retinanet.onnx")


def torchvisions(model: Any) -> Detections:
    with torch.no_grad():
        found = model([torch.from_numpy(IMAGE).permute(2, 0, 1) / 255])[0]
    return Detections(*(found[name].numpy() for name in ("boxes", "scores", "labels")))


def assert_same(found: Detections, wanted: Detections) -> None:
    assert len(found) == len(wanted) > 20
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(found.labels, wanted.labels)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("cut", [(8, 16, 32), (8, 16, 32, 64, 128)])
def test_torchvisions_boxes_from_its_raw_outputs(
    retinanet: Any, model: Path, cut: tuple[int, ...]
) -> None:
    spec = f"onnx:{model}?{cut_at(model, cut)}&decode=retinanet&strides=8,16,32,64,128"
    detector = open_detector(spec, threads=1)
    assert isinstance(detector, OnnxDetector)
    assert detector.network_size == (WIDTH, HEIGHT)
    pyramid = detector.extract(IMAGE)
    assert_same(detector.detect(pyramid), torchvisions(retinanet))
    assert set(detector.candidates(pyramid).cells[:, 0]) == set(range(5)), "boxes on all levels"
    head = detector.head(pyramid)
    assert tuple(head.scores) == ("p3", "p4", "p5", "p6", "p7")
    assert head.scores["p6"].shape == (CLASSES, 2, 3)
    assert head.boxes["p7"].shape == (36, 1, 2)
    assert tuple(detector.response(pyramid)) == detector.spec.names
    assert len(detector.spec.names) == len(cut)


def test_level_by_level(retinanet: Any, tmp_path: Path) -> None:
    path = exported(retinanet, tmp_path / "levels.onnx", level_by_level=True)
    spec = f"onnx:{path}?{cut_at(path, (8, 16, 32))}&decode=retinanet&strides=8,16,32,64,128"
    detector = open_detector(spec, threads=1)
    assert_same(detector.detect(detector.extract(IMAGE)), torchvisions(retinanet))


def test_levels_that_the_head_makes_must_be_said(model: Path) -> None:
    with pytest.raises(ModelError, match=r"9 anchors a cell.*strides=8,16,32,64,128"):
        open_detector(f"onnx:{model}?{cut_at(model, (8, 16, 32))}&decode=retinanet")


def test_explained_trained_and_suppressed_by_maps(model: Path) -> None:
    """Levels that the head makes itself answer through those they are made from."""
    pytest.importorskip("onnx2torch", reason="needs the torch extra")
    from head_kit import assert_close, assert_gradients_reach_every_level, batch

    from fpcodec.explain.odam import explain
    from fpcodec.explain.odam_detector import open_candidates
    from fpcodec.explain.predictions import open_predictor
    from fpcodec.training.heads import open_head

    spec = f"onnx:{model}?{cut_at(model, (8, 16, 32))}&decode=retinanet&max_detections=20"
    detector: Any = open_detector(f"{spec}&strides=8,16,32,64,128", threads=1)
    pyramid = detector.extract(IMAGE)
    head, own = open_head(detector), detector.head(pyramid)
    answer = head(batch([pyramid, pyramid]))
    for name in ("p3", "p6", "p7"):
        assert_close(answer.scores[name][1], own.scores[name])
        assert_close(answer.boxes[name][1], own.boxes[name])
    assert_gradients_reach_every_level(head, batch([pyramid, pyramid]))
    predictions, found = open_predictor(detector)(pyramid), detector.detect(pyramid)
    np.testing.assert_allclose(predictions.detections.boxes, found.boxes, rtol=1e-4, atol=5e-3)
    assert explain(predictions, 0).level in pyramid.spec.names
    source: Any = open_candidates(detector).candidates
    assert source.reach["p7"].source == "p5"
    candidates = source(pyramid)
    level = detector.candidates(pyramid).cells[:, 0]
    one_of_each = np.asarray([np.flatnonzero(level == n)[0] for n in np.unique(level)])
    assert len(one_of_each) >= 4
    maps = candidates.maps(one_of_each, (10, 6))
    assert (maps.reshape(len(maps), -1).max(axis=1) > 0).any()


@pytest.mark.parametrize("size", [(160, 96), (1056, 800)])
def test_anchors_are_torchvisions(size: tuple[int, int]) -> None:
    from torchvision.models.detection.image_list import ImageList
    from torchvision.models.detection.retinanet import _default_anchorgen

    strides = (8, 16, 32, 64, 128)
    spec = PyramidSpec(tuple(LevelSpec(f"p{n}", s, 1) for n, s in enumerate(strides, 3)))
    levels = head_levels(spec, size)
    images = ImageList(torch.zeros(1, 3, size[1], size[0]), [(size[1], size[0])])
    maps = [torch.zeros(1, 1, x.height, x.width) for x in levels]
    wanted = _default_anchorgen()(images, maps)[0].numpy()
    np.testing.assert_array_equal(anchors(levels, size, "torchvision"), wanted)


def anchors(levels: tuple[HeadLevel, ...], size: tuple[int, int], family: str) -> np.ndarray:
    scales = (1, 2 ** (1 / 3), 2 ** (2 / 3))
    return np.concatenate([
        level_anchors(x, size, [4 * x.stride * s for s in scales], (0.5, 1, 2), family)
        for x in levels
    ])  # fmt: skip


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is None, reason="needs detectron2")
@pytest.mark.detectron2
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
def test_boxes_of_raw_maps_are_detectron2s(tmp_path: Path) -> None:
    """detectron2's own anchors, decoding and selection, on the outputs of one ONNX model."""
    from detectron2.layers import ShapeSpec
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from detectron2.modeling.box_regression import Box2BoxTransform
    from detectron2.modeling.meta_arch.retinanet import RetinaNet, permute_to_N_HWA_K
    from detectron2.structures import ImageList
    from layout_kit import spec_of, write_layout
    from onnx_kit import CHANNELS, CLASSES, SIDE

    spec = spec_of(write_layout(tmp_path / "toy.onnx", "retinanet"), "retinanet")
    detector: Any = open_detector(spec, threads=1)
    pyramid = detector.extract(np.ascontiguousarray(IMAGE[:SIDE, :SIDE]))
    outputs = detector._run_server(pyramid)
    raw = {x: [torch.from_numpy(outputs[f"{x}_{n}"]) for n in (3, 4, 5)]
           for x in ("logits", "deltas")}  # fmt: skip
    strides = [8, 16, 32]
    generator = DefaultAnchorGenerator(
        sizes=[[4 * s * 2 ** (i / 3) for i in range(3)] for s in strides],
        aspect_ratios=[[0.5, 1.0, 2.0]], strides=strides, offset=0.0,
    )  # fmt: skip
    model = RetinaNet(
        backbone=_Levels(
            {f"p{n}": ShapeSpec(CHANNELS, stride=s) for n, s in enumerate(strides, 3)}
        ),
        head=torch.nn.Identity(), head_in_features=["p3", "p4", "p5"],
        anchor_generator=generator, box2box_transform=Box2BoxTransform((1, 1, 1, 1)),
        anchor_matcher=None, num_classes=CLASSES, test_score_thresh=0.4, test_topk_candidates=1000,
        test_nms_thresh=0.5, max_detections_per_image=40,
        pixel_mean=[0, 0, 0], pixel_std=[1, 1, 1],
    )  # fmt: skip
    predictions = [[permute_to_N_HWA_K(x, k) for x in raw[name]]
                   for name, k in (("logits", CLASSES), ("deltas", 4))]  # fmt: skip
    images = ImageList(torch.zeros(1, 3, SIDE, SIDE), [(SIDE, SIDE)])
    anchor_boxes = generator(raw["logits"])
    theirs = model.inference_single_image(
        anchor_boxes, [x[0].sigmoid_() for x in predictions[0]], [x[0] for x in predictions[1]],
        images.image_sizes[0],
    )  # fmt: skip
    levels = detector.layout.levels
    np.testing.assert_allclose(
        anchors(levels, (SIDE, SIDE), "detectron2"), torch.cat([x.tensor for x in anchor_boxes]),
        rtol=1e-6, atol=1e-5,
    )  # fmt: skip
    found = detector.detect(pyramid)
    assert len(found) == len(theirs) > 5
    np.testing.assert_allclose(found.scores, theirs.scores, rtol=1e-5)
    np.testing.assert_array_equal(found.labels, theirs.pred_classes)
    boxes = theirs.pred_boxes
    boxes.clip((SIDE, SIDE))
    np.testing.assert_allclose(found.boxes, boxes.tensor, rtol=1e-4, atol=5e-3)


class _Levels(torch.nn.Module):
    """A backbone of which nothing but its shapes is asked."""

    def __init__(self, shapes: dict[str, Any]) -> None:
        super().__init__()
        self._shapes = shapes

    def output_shape(self) -> dict[str, Any]:
        return self._shapes

"""Frozen heads: what training sees is what the detector says, and gradients pass through it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

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
    assert_says_what_the_detector_says,
    batch,
    picture,
    pyramids,
)

from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detectors.detectron2 import Detectron2Detector  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.detectors.torchvision import TorchvisionDetector  # noqa: E402
from fpcodec.errors import ModelError  # noqa: E402
from fpcodec.training.heads import open_head  # noqa: E402

SMALL = {"num_classes": "3", "min_size": "96", "max_size": "160"}
RPN = {**SMALL, "rpn_pre_nms_top_n_test": "60", "rpn_post_nms_top_n_test": "40"}
TORCHVISION = {
    "retinanet_resnet18_fpn": SMALL,
    "retinanet_resnet50_fpn_v2": SMALL,
    "fcos_resnet18_fpn": SMALL,
    "fasterrcnn_resnet18_fpn": RPN,
    "maskrcnn_resnet18_fpn": RPN,
    # Two maps of one stride are one coded level.
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"num_classes": "3", "rpn_score_thresh": "0"},
}
FASTER_RCNN = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
RETINANET = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
DETECTRON2 = {
    "MODEL.RESNETS.DEPTH": "18",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "64",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "60",
    "num_classes": "3",
    "min_size": "96",
    "max_size": "160",
}


@pytest.fixture(scope="module", params=TORCHVISION)
def torchvision_detector(request: pytest.FixtureRequest) -> TorchvisionDetector:
    return TorchvisionDetector.from_spec(request.param, TORCHVISION[request.param])


def test_torchvision_heads_are_the_detectors(torchvision_detector) -> None:
    head = open_head(torchvision_detector)
    levels = batch(pyramids(torchvision_detector))
    assert_frozen(head)
    assert_says_what_the_detector_says(head, torchvision_detector)
    assert_batch_is_its_images(head, levels)
    assert_gradients_reach_every_level(head, levels)


def test_fcos_centerness_is_the_last_box_value() -> None:
    detector = TorchvisionDetector.from_spec("fcos_resnet18_fpn", SMALL)
    levels = batch(pyramids(detector)[:1])
    answer = open_head(detector)(levels)
    maps = detector._complete(levels)
    centerness = detector.model.head(list(maps.values()))["bbox_ctrness"].sigmoid()[0, :, 0]
    flat = torch.cat([x[0, 4].flatten() for x in answer.boxes.values()])
    assert all(x.shape[1] == 5 for x in answer.boxes.values())
    assert_close(flat, centerness)


@pytest.mark.parametrize("name", ["tiny", "bccd"])
def test_embedded_detectors_are_opened_in_torch(name) -> None:
    detector = open_detector(f"tiny:{name}", threads=1)
    head = open_head(detector)
    found = [detector.extract(generate_scene(seed).image) for seed in (3, 4)]
    with torch.no_grad():
        answer = head(batch(found))
    response = answer.response()
    for i, pyramid in enumerate(found):
        for level, values in detector.response(pyramid).items():
            assert_close(response[level][i, 0], values)
    assert_frozen(head)
    assert_batch_is_its_images(head, batch(found))
    assert_gradients_reach_every_level(head, batch(found))


def test_second_stage_says_what_is_detected() -> None:
    detector = open_detector("tiny:", threads=1)
    pyramid = detector.extract(generate_scene(5).image)
    with torch.no_grad():
        regions = open_head(detector)(batch([pyramid])).regions
    detections = detector.detect(pyramid)
    assert len(detections) >= 3
    for score, label in zip(detections.scores[:3], detections.labels[:3], strict=True):
        # The graph has no label for the background.
        nearest = (regions.scores[:, 1 + int(label)] - float(score)).abs().min()
        assert nearest < 1e-4


def test_student_is_asked_about_the_teachers_proposals() -> None:
    detector = open_detector("tiny:", threads=1)
    head = open_head(detector)
    levels = batch([detector.extract(generate_scene(seed).image) for seed in (5, 6)])
    with torch.no_grad():
        teacher = head(levels)
        none = tuple(x[:0] for x in teacher.regions.proposals)
        asked = head({n: 0 * x for n, x in levels.items()}, teacher)
        unasked = head(levels, replace(teacher, regions=replace(teacher.regions, proposals=none)))
    for found, wanted in zip(asked.regions.proposals, teacher.regions.proposals, strict=True):
        assert torch.equal(found, wanted)
    assert len(unasked.regions.scores) == 0


def test_edge_alone_has_no_head(tmp_path) -> None:
    detector = TorchvisionDetector.from_spec("retinanet_resnet18_fpn", SMALL)
    config = detector.export(tmp_path)
    edge = TorchvisionDetector.from_config(config, tmp_path, "edge")
    with pytest.raises(ModelError, match="opened as edge"):
        open_head(edge)
    server = TorchvisionDetector.from_config(config, tmp_path, "server")
    levels = batch(pyramids(detector))
    assert_close(open_head(server)(levels).scores["p3"], open_head(detector)(levels).scores["p3"])


def test_detector_stays_where_it_is_when_the_head_moves() -> None:
    detector = TorchvisionDetector.from_spec("fasterrcnn_resnet18_fpn", RPN)
    pyramid = detector.extract(picture(150, 97))
    before = detector.detect(pyramid)
    head = open_head(detector).to(torch.float64)
    answer = head({name: x.double() for name, x in batch([pyramid]).items()})
    assert answer.scores["p3"].dtype == torch.float64
    np.testing.assert_array_equal(detector.detect(pyramid).scores, before.scores)


def test_detector_of_an_unknown_kind_is_an_error() -> None:
    class Other:
        spec = None

    with pytest.raises(ModelError, match="Other has no head"):
        open_head(Other())  # type: ignore[arg-type]


@pytest.mark.detectron2
@pytest.mark.skipif(
    importlib.util.find_spec("detectron2") is None, reason="detectron2 is not installed"
)
@pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")
class TestWithDetectron2:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            (FASTER_RCNN, {}),
            (FASTER_RCNN, {"MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "True"}),
            (FASTER_RCNN, {"MODEL.ROI_HEADS.NAME": "CascadeROIHeads",
                           "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": "True"}),
            (RETINANET, {}),
        ],
    )  # fmt: skip
    def test_heads_are_the_detectors(self, name, options) -> None:
        detector = Detectron2Detector.from_spec(name, {**DETECTRON2, **options})
        head = open_head(detector)
        levels = batch(pyramids(detector))
        assert_frozen(head)
        assert_says_what_the_detector_says(head, detector)
        assert_batch_is_its_images(head, levels)
        assert_gradients_reach_every_level(head, levels)

    def test_second_stage_says_what_is_detected(self) -> None:
        options = {**DETECTRON2, "score_thresh": "0.0"}
        detector = Detectron2Detector.from_spec(FASTER_RCNN, options)
        pyramid = detector.extract(picture(160, 96))
        with torch.no_grad():
            regions = open_head(detector)(batch([pyramid])).regions
        detections = detector.detect(pyramid)
        assert len(detections) >= 3
        assert regions.scores.shape[1] == 4
        assert_close(regions.scores.sum(dim=1), np.ones(len(regions.scores), np.float32))
        for score, label in zip(detections.scores[:3], detections.labels[:3], strict=True):
            assert (regions.scores[:, 1 + int(label)] - float(score)).abs().min() < 1e-4

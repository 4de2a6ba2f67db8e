"""The detectron2 adapter: the two halves together are the unsplit detector."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from fpcodec.detectors.detectron2 import Detectron2Detector  # noqa: E402
from fpcodec.errors import InputError, MissingDependency, ModelError  # noqa: E402
from fpcodec.pyramid import Pyramid  # noqa: E402

HAVE_DETECTRON2 = importlib.util.find_spec("detectron2") is not None
needs_detectron2 = [
    pytest.mark.detectron2,
    pytest.mark.skipif(not HAVE_DETECTRON2, reason="detectron2 is not installed"),
    # detectron2 calls torch as older releases wanted it.
    pytest.mark.filterwarnings("ignore:torch.meshgrid:UserWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning"),
]

FASTER_RCNN = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
MASK_RCNN = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml"
RETINANET = "COCO-Detection/retinanet_R_50_FPN_3x.yaml"
OPTIONS = {
    "MODEL.RESNETS.DEPTH": "18",
    "MODEL.RESNETS.RES2_OUT_CHANNELS": "64",
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "100",
    "num_classes": "3",
    "min_size": "160",
    "max_size": "300",
}
MODELS = {
    FASTER_RCNN: OPTIONS,
    MASK_RCNN: OPTIONS,
    # An untrained one-stage head scores about 0.01 everywhere.
    RETINANET: {**OPTIONS, "score_thresh": "0.005"},
}
SIZES = [(170, 120), (97, 203)]


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Bright rectangles on noise: features that differ from place to place."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
        image[y : y + height // 3, x : x + width // 4] += rng.integers(40, 190, 3, np.uint8)
    return image


def test_absent_detectron2_is_an_error_that_says_how_to_install(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "detectron2", None)
    with pytest.raises(MissingDependency, match=r"setuptools<81.*--no-build-isolation") as caught:
        Detectron2Detector.from_spec(FASTER_RCNN, {})
    assert "git+https://github.com/facebookresearch/detectron2" in str(caught.value)
    with pytest.raises(MissingDependency):
        Detectron2Detector.from_config({"kind": "detectron2"}, ".")


@pytest.fixture(scope="module", params=MODELS)
def detector(request: pytest.FixtureRequest) -> Detectron2Detector:
    if not HAVE_DETECTRON2:
        pytest.skip("detectron2 is not installed")
    return Detectron2Detector.from_spec(request.param, MODELS[request.param])


@pytest.fixture(scope="module")
def faster_rcnn() -> Detectron2Detector:
    if not HAVE_DETECTRON2:
        pytest.skip("detectron2 is not installed")
    return Detectron2Detector.from_spec(FASTER_RCNN, OPTIONS)


class TestWithDetectron2:
    pytestmark = needs_detectron2

    @pytest.mark.parametrize("size", SIZES)
    def test_halves_together_are_the_unsplit_detector(self, detector, size) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from detectron2.engine import DefaultPredictor

        image = picture(*size)
        weights = detector.cfg.MODEL.WEIGHTS
        detector.cfg.MODEL.WEIGHTS = ""  # the predictor would download them
        predictor = DefaultPredictor(detector.cfg)
        detector.cfg.MODEL.WEIGHTS = weights
        predictor.model.load_state_dict(detector.model.state_dict())
        expected = predictor(image[:, :, ::-1])["instances"]

        found = detector.detect(detector.extract(image))

        assert len(found) == len(expected) > 0
        np.testing.assert_allclose(found.boxes, expected.pred_boxes.tensor, rtol=1e-4, atol=1e-3)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
        np.testing.assert_array_equal(found.labels, expected.pred_classes)
        if expected.has("pred_masks"):
            np.testing.assert_array_equal(found.masks, expected.pred_masks)
            assert found.masks.shape[1:] == image.shape[:2]
        else:
            assert found.masks is None

    def test_pyramid_holds_what_must_be_sent(self, detector) -> None:
        one_stage = detector.cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
        if one_stage:
            # p6 is a convolution of res5, which the server does not have.
            assert detector.spec.coded_names == ("p3", "p4", "p5", "p6")
        else:
            assert detector.spec.coded_names == ("p2", "p3", "p4", "p5")
            assert detector.spec["p6"].derived_from == "p5"
        assert detector.spec["p5"].channels == 256

    def test_head_and_response_have_one_score_map_per_level(self, detector) -> None:
        pyramid = detector.extract(picture(170, 120))
        output = detector.head(pyramid)
        response = detector.response(pyramid)
        assert tuple(response) == detector.spec.names
        for name, values in response.items():
            shape = detector.spec.shape(name, pyramid.geometry.network_size)[1:]
            assert values.shape == output.boxes[name].shape[1:] == shape
            assert values.min() >= 0
            assert values.max() <= 1

    def test_one_level_is_the_same_alone_and_costs_less(self, detector) -> None:
        image = picture(170, 120)
        full = detector.extract(image)
        for name in detector.spec.coded_names:
            alone = detector.extract(image, [name])
            assert list(alone.levels) == [name]
            np.testing.assert_array_equal(alone.levels[name], full.levels[name])
            assert detector.macs([name]) < detector.macs()

    def test_output_convolutions_of_other_levels_do_not_run(self, faster_rcnn) -> None:
        ran: list[int] = []
        hooks = [
            conv.register_forward_hook(lambda *_, i=i: ran.append(i))
            for i, conv in enumerate(faster_rcnn.model.backbone.output_convs)  # coarse to fine
        ]
        faster_rcnn.extract(picture(170, 120), ["p3", "p5"])
        for hook in hooks:
            hook.remove()
        assert sorted(ran) == [0, 2]

    @pytest.mark.parametrize("limits", [(160, 300), (800, 1333), (96, 96)])
    def test_geometry_is_detectron2s_own_for_hundreds_of_sizes(self, faster_rcnn, limits) -> None:
        from detectron2.data.transforms import ResizeShortestEdge

        cfg = faster_rcnn.cfg
        saved = cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = limits
        rng = np.random.default_rng(limits[0])
        for width, height in rng.integers(20, 3000, (400, 2)).tolist():
            expected = ResizeShortestEdge.get_output_shape(height, width, *limits)
            geometry = faster_rcnn.geometry((width, height))
            assert geometry.content_size == expected[::-1], (width, height)
            assert geometry.network_size == tuple(-(-side // 32) * 32 for side in expected[::-1])
        cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = saved
        with pytest.raises(InputError, match="network input of"):
            faster_rcnn.geometry((170, 120), (32, 32))

    def test_rpn_may_see_another_pyramid_than_the_roi_heads(self, faster_rcnn) -> None:
        pyramid = faster_rcnn.extract(picture(170, 120))
        rng = np.random.default_rng(0)
        noisy = {
            name: (values + rng.normal(0, values.std(), values.shape)).astype(np.float32)
            for name, values in pyramid.levels.items()
        }
        degraded = Pyramid(pyramid.spec, noisy, pyramid.geometry)
        plain = faster_rcnn.detect(pyramid)
        same = faster_rcnn.detect(pyramid, rpn_pyramid=pyramid)
        rpn_alone = faster_rcnn.detect(pyramid, rpn_pyramid=degraded)
        both = faster_rcnn.detect(degraded)
        np.testing.assert_array_equal(same.boxes, plain.boxes)
        assert not np.array_equal(rpn_alone.scores, plain.scores)
        assert not np.array_equal(rpn_alone.scores, both.scores)

    def test_one_stage_detector_has_no_rpn_scope(self) -> None:
        detector = Detectron2Detector.from_spec(RETINANET, MODELS[RETINANET])
        pyramid = detector.extract(picture(64, 64))
        with pytest.raises(InputError, match="no RPN"):
            detector.detect(pyramid, rpn_pyramid=pyramid)

    def test_gradients_reach_the_features_and_not_the_weights(self, detector) -> None:
        pyramid = detector.extract(picture(170, 120))
        levels = {
            name: torch.from_numpy(values.copy())[None].requires_grad_()
            for name, values in pyramid.levels.items()
        }
        output = detector.head(levels)
        sum(scores.sum() for scores in output.scores.values()).backward()
        assert all(level.grad.abs().sum() > 0 for level in levels.values())
        assert all(parameter.grad is None for parameter in detector.model.parameters())
        for level in levels.values():
            level.grad = None
        detector.detect_tensors(levels, pyramid.geometry)["scores"].sum().backward()
        found = [level.grad for level in levels.values() if level.grad is not None]
        assert sum(float(grad.abs().sum()) for grad in found) > 0

    @pytest.mark.parametrize("name", [FASTER_RCNN, RETINANET])
    def test_profile_round_trip_loads_each_half_alone(self, name, tmp_path: Path) -> None:
        options = {**MODELS[name], "seed": "7", "labels": "cat,dog,cow"}
        detector = Detectron2Detector.from_spec(name, options)
        image = picture(170, 120)
        expected = detector.detect(detector.extract(image))

        config = json.loads(json.dumps(detector.export(tmp_path)))
        (tmp_path / "server.safetensors").rename(tmp_path / "away")
        edge = Detectron2Detector.from_config(config, tmp_path, role="edge")
        (tmp_path / "away").rename(tmp_path / "server.safetensors")
        (tmp_path / "edge.safetensors").unlink()
        server = Detectron2Detector.from_config(config, tmp_path, role="server")

        assert server.labels == ("cat", "dog", "cow")
        found = server.detect(edge.extract(image))
        np.testing.assert_array_equal(found.boxes, expected.boxes)
        np.testing.assert_array_equal(found.scores, expected.scores)
        with pytest.raises(ModelError, match="server alone"):
            server.extract(image)
        with pytest.raises(ModelError, match="edge alone"):
            edge.detect(edge.extract(image))

    def test_weights_file_makes_the_same_detector(self, faster_rcnn, tmp_path: Path) -> None:
        file = tmp_path / "model_final.pth"
        state = {**faster_rcnn.model.state_dict(), "pixel_mean": torch.zeros(3, 1, 1)}
        torch.save({"model": state, "iteration": 3}, file)
        options = {**OPTIONS, "weights": str(file), "seed": "99"}
        other = Detectron2Detector.from_spec(FASTER_RCNN, options)
        pyramid = faster_rcnn.extract(picture(170, 120))
        expected = faster_rcnn.detect(pyramid)
        np.testing.assert_array_equal(other.detect(pyramid).scores, expected.scores)
        with pytest.raises(ModelError, match="another model"):
            Detectron2Detector.from_spec(FASTER_RCNN, {**options, "num_classes": "4"})

    def test_pickled_weights_are_refused_with_the_way_to_convert_them(self, tmp_path) -> None:
        file = tmp_path / "model_final.pkl"
        file.write_bytes(b"\x80\x04.")
        with pytest.raises(ModelError, match=r"pickle.*safetensors"):
            Detectron2Detector.from_spec(FASTER_RCNN, {**OPTIONS, "weights": str(file)})

    def test_configuration_files_cannot_run_code(self, tmp_path: Path) -> None:
        marker = tmp_path / "ran"
        file = tmp_path / "config.yaml"
        file.write_text(f"MODEL:\n  WEIGHTS: !!python/object/apply:os.mkdir ['{marker}']\n")
        with pytest.raises(InputError, match="tags that run code"):
            Detectron2Detector.from_spec(str(file), {})
        assert not marker.exists()

    @pytest.mark.parametrize(
        ("argument", "options", "message"),
        [
            ("COCO-Detection/absent.yaml", {}, "absent.yaml: no such file"),
            ("model.py", {}, "not a .yaml"),
            (FASTER_RCNN, {"colour": "red"}, "'colour' is unknown"),
            (FASTER_RCNN, {"MODEL.NO.SUCH": "1"}, "cannot be used"),
            (FASTER_RCNN, {"seed": "x"}, "not an integer"),
        ],
    )
    def test_specification_errors_name_the_option(self, argument, options, message) -> None:
        with pytest.raises(InputError, match=message):
            Detectron2Detector.from_spec(argument, options)

    def test_backbone_without_pyramid_is_refused(self) -> None:
        with pytest.raises(ModelError, match="no plain FPN"):
            Detectron2Detector.from_spec("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", {})

    def test_configuration_file_of_the_user_is_read(self, tmp_path: Path, faster_rcnn) -> None:
        file = tmp_path / "mine.yaml"
        file.write_text(faster_rcnn.cfg.dump())
        mine = Detectron2Detector.from_spec(str(file), {})
        image = picture(64, 64)
        np.testing.assert_array_equal(
            mine.extract(image, ["p5"]).levels["p5"],
            faster_rcnn.extract(image, ["p5"]).levels["p5"],
        )

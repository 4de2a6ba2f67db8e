"""The torchvision adapter: the two halves together are the unsplit detector."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from torchvision.models.detection.transform import GeneralizedRCNNTransform  # noqa: E402

from fpcodec.detectors.torch_weights import load_weights  # noqa: E402
from fpcodec.detectors.torchvision import TorchvisionDetector  # noqa: E402
from fpcodec.detectors.torchvision_models import Recipe, build, recipe_from_spec  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.pyramid import Pyramid  # noqa: E402

SMALL = {"num_classes": "3", "min_size": "160", "max_size": "300"}
OPTIONS = {**SMALL, "rpn_pre_nms_top_n_test": "60", "rpn_post_nms_top_n_test": "40"}
# Untrained one-stage heads score about 0.01 everywhere.
ONE_STAGE = {**SMALL, "score_thresh": "0.005", "detections_per_img": "50"}
MODELS = {
    "fasterrcnn_resnet18_fpn": OPTIONS,
    "maskrcnn_resnet18_fpn": {**OPTIONS, "box_detections_per_img": "20"},
    "retinanet_resnet18_fpn": ONE_STAGE,
    "fcos_resnet18_fpn": ONE_STAGE,
    "retinanet_resnet50_fpn_v2": ONE_STAGE,
    "fasterrcnn_resnet50_fpn_v2": OPTIONS,
    "fasterrcnn_mobilenet_v3_large_320_fpn": {"num_classes": "3", "rpn_score_thresh": "0"},
}
SPECS = {
    "fasterrcnn_resnet18_fpn": ("p2", "p3", "p4", "p5", "p6"),
    "maskrcnn_resnet18_fpn": ("p2", "p3", "p4", "p5", "p6"),
    "retinanet_resnet18_fpn": ("p3", "p4", "p5"),
    "fcos_resnet18_fpn": ("p3", "p4", "p5"),
    "retinanet_resnet50_fpn_v2": ("p3", "p4", "p5", "p6"),
    "fasterrcnn_resnet50_fpn_v2": ("p2", "p3", "p4", "p5", "p6"),
    "fasterrcnn_mobilenet_v3_large_320_fpn": ("p5",),
}


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Bright rectangles on noise: features that differ from place to place."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 60, (height, width, 3), np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
        image[y : y + height // 3, x : x + width // 4] += rng.integers(40, 190, 3, np.uint8)
    return image


@pytest.fixture(scope="module", params=MODELS)
def detector(request: pytest.FixtureRequest) -> TorchvisionDetector:
    return TorchvisionDetector.from_spec(request.param, MODELS[request.param])


@pytest.fixture(scope="module")
def faster_rcnn() -> TorchvisionDetector:
    name = "fasterrcnn_resnet18_fpn"
    return TorchvisionDetector.from_spec(name, MODELS[name])


@pytest.fixture(scope="module")
def pyramid(faster_rcnn: TorchvisionDetector) -> Pyramid:
    return faster_rcnn.extract(picture(170, 120))


def assert_same_detections(found, boxes, scores, labels) -> None:
    assert len(found) == len(boxes) > 0
    np.testing.assert_allclose(found.boxes, boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4)
    np.testing.assert_array_equal(found.labels, labels)


@pytest.mark.parametrize("size", [(170, 120), (97, 203)])
def test_halves_together_are_the_unsplit_detector(detector, size) -> None:
    image = picture(*size)
    whole = build(detector.recipe).eval()
    with torch.inference_mode():
        expected = whole([torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255])[0]

    found = detector.detect(detector.extract(image))

    assert_same_detections(
        found, expected["boxes"].numpy(), expected["scores"].numpy(), expected["labels"].numpy()
    )
    assert found.boxes.min() >= 0
    assert (found.boxes[:, 2:] <= size).all()
    if "masks" in expected:
        np.testing.assert_array_equal(found.masks, expected["masks"][:, 0].numpy() > 0.5)
        assert found.masks.shape[1:] == image.shape[:2]
    else:
        assert found.masks is None


def test_pyramid_holds_what_must_be_sent(detector) -> None:
    name = detector.recipe.architecture
    assert detector.spec.names == SPECS[name]
    derived = [level.name for level in detector.spec.levels if level.derived_from]
    assert derived == (
        ["p6"] if name.endswith(("rcnn_resnet18_fpn", "rcnn_resnet50_fpn_v2")) else []
    )
    pyramid = detector.extract(picture(170, 120))
    assert tuple(pyramid.levels) == detector.spec.coded_names


def test_head_and_response_have_one_score_map_per_level(detector) -> None:
    pyramid = detector.extract(picture(170, 120))
    output = detector.head(pyramid)
    response = detector.response(pyramid)
    assert tuple(response) == detector.spec.names
    assert set(response) <= set(output.scores)
    for name, values in response.items():
        shape = detector.spec.shape(name, pyramid.geometry.network_size)[1:]
        assert values.shape == output.boxes[name].shape[1:] == shape
        assert output.boxes[name].shape[0] % 4 == 0
        np.testing.assert_array_equal(values, output.scores[name].max(axis=0))
        assert values.min() >= 0
        assert values.max() <= 1


def test_one_level_is_the_same_alone_and_costs_less(detector) -> None:
    image = picture(170, 120)
    full = detector.extract(image)
    for name in detector.spec.coded_names:
        alone = detector.extract(image, [name])
        assert list(alone.levels) == [name]
        np.testing.assert_array_equal(alone.levels[name], full.levels[name])
        if len(detector.spec.coded_names) > 1:
            assert detector.macs([name]) < detector.macs()


def test_output_convolutions_of_other_levels_do_not_run(faster_rcnn) -> None:
    ran: list[int] = []
    blocks = faster_rcnn.model.backbone.fpn.layer_blocks
    hooks = [
        block.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, block in enumerate(blocks)
    ]
    faster_rcnn.extract(picture(170, 120), ["p3", "p5"])
    for hook in hooks:
        hook.remove()
    assert sorted(ran) == [1, 3]


def test_macs_are_those_of_the_convolutions(faster_rcnn) -> None:
    size = (256, 160)
    spared = faster_rcnn.macs(network_size=size) - faster_rcnn.macs(("p3", "p4", "p5"), size)
    cells = (256 // 4) * (160 // 4)
    # p2's output convolution, 3 x 3 on 256 channels, and its lateral, 1 x 1 on 64.
    assert spared == cells * (256 * 256 * 9 + 64 * 256)


@pytest.mark.parametrize(
    ("limits", "count"), [((160, 300), 300), ((96, 96), 200), ((800, 1333), 50)]
)
def test_geometry_is_the_models_own_for_hundreds_of_sizes(faster_rcnn, limits, count) -> None:
    transform = GeneralizedRCNNTransform(*limits, [0.0], [1.0]).eval()
    detector = copy.copy(faster_rcnn)
    detector.model = SimpleNamespace(transform=transform)
    rng = np.random.default_rng(limits[0])
    sizes = [*rng.integers(20, 900, (count, 2)).tolist(), [1, 1], [640, 427], [600, 800], [31, 32]]
    for width, height in sizes:
        images, _ = transform([torch.zeros(1, height, width)])
        geometry = detector.geometry((width, height))
        assert geometry.content_size == tuple(reversed(images.image_sizes[0])), (width, height)
        assert geometry.network_size == tuple(reversed(images.tensors.shape[-2:])), (width, height)
        assert geometry.offset == (0, 0)
        assert detector.geometry((width, height), geometry.network_size) == geometry


def test_geometry_refuses_what_the_model_does_not_do(faster_rcnn) -> None:
    with pytest.raises(InputError, match="network input of 256x160, not 160x256"):
        faster_rcnn.geometry((170, 120), (160, 256))
    with pytest.raises(InputError, match="less narrow"):
        faster_rcnn.geometry((1, 5000))
    with pytest.raises(InputError, match="side outside"):
        faster_rcnn.geometry((0, 10))


def test_first_image_does_not_change_the_detections_of_the_next(faster_rcnn, pyramid) -> None:
    expected = faster_rcnn.detect(pyramid)
    other = TorchvisionDetector.from_spec("fasterrcnn_resnet18_fpn", OPTIONS)
    # Mostly padding: torchvision would guess the strides from it and keep them.
    other.detect(other.extract(picture(300, 20)))
    found = other.detect(pyramid)
    assert_same_detections(found, expected.boxes, expected.scores, expected.labels)


def test_derived_level_is_computed_where_absent(faster_rcnn, pyramid) -> None:
    p6 = np.ascontiguousarray(pyramid.levels["p5"][:, ::2, ::2])
    full = Pyramid(pyramid.spec, {**pyramid.levels, "p6": p6}, pyramid.geometry)
    assert "p6" not in pyramid.levels
    expected = faster_rcnn.detect(full)
    found = faster_rcnn.detect(pyramid)
    assert_same_detections(found, expected.boxes, expected.scores, expected.labels)


def test_rpn_may_see_another_pyramid_than_the_roi_heads(faster_rcnn, pyramid) -> None:
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


def test_one_stage_detector_has_no_rpn_scope() -> None:
    detector = TorchvisionDetector.from_spec("fcos_resnet18_fpn", ONE_STAGE)
    pyramid = detector.extract(picture(64, 64))
    with pytest.raises(InputError, match="no RPN"):
        detector.detect(pyramid, rpn_pyramid=pyramid)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "retinanet_resnet18_fpn"])
def test_gradients_reach_the_features_and_not_the_weights(name) -> None:
    detector = TorchvisionDetector.from_spec(name, MODELS[name])
    pyramid = detector.extract(picture(170, 120))
    coded = detector.spec.coded_names
    levels = {n: t.clone().requires_grad_() for n, t in detector.tensors(pyramid).items()}
    levels = {n: levels[n] for n in coded}

    output = detector.head(levels)
    sum(scores.sum() for scores in output.scores.values()).backward()
    assert all(levels[n].grad.abs().sum() > 0 for n in coded)
    assert all(parameter.grad is None for parameter in detector.model.parameters())

    for level in levels.values():
        level.grad = None
    detector.detect_tensors(levels, pyramid.geometry)["scores"].sum().backward()
    assert sum(float(level.grad.abs().sum()) for level in levels.values()) > 0


def test_head_takes_a_batch_of_tensors(faster_rcnn, pyramid) -> None:
    single = faster_rcnn.tensors(pyramid)
    batch = faster_rcnn.head({name: torch.cat([t, t]) for name, t in single.items()})
    expected = faster_rcnn.head(pyramid)
    for name, scores in batch.scores.items():
        assert scores.shape[0] == 2
        np.testing.assert_allclose(scores[1].numpy(), expected.scores[name], rtol=1e-4, atol=1e-6)


def test_unusable_calls_are_typed_errors(faster_rcnn, pyramid) -> None:
    part = Pyramid(pyramid.spec, {"p3": pyramid.levels["p3"]}, pyramid.geometry)
    with pytest.raises(InputError, match="needs p2, p4, p5"):
        faster_rcnn.detect(part)
    with pytest.raises(InputError, match="no level 'p9'"):
        faster_rcnn.extract(picture(64, 64), ["p9"])
    with pytest.raises(InputError, match="derives from p5"):
        faster_rcnn.extract(picture(64, 64), ["p6"])
    with pytest.raises(InputError, match="no level asked for"):
        faster_rcnn.extract(picture(64, 64), [])
    with pytest.raises(InputError, match="uint8"):
        faster_rcnn.extract(picture(64, 64).astype(np.float32))
    with pytest.raises(InputError, match="empty"):
        faster_rcnn.extract(np.zeros((0, 5, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ssd300_vgg16", {}, "unknown"),
        ("fasterrcnn_resnet18_fpn", {"colour": "red"}, "no option 'colour'"),
        ("fasterrcnn_resnet18_fpn", {"min_size": "big"}, "not an integer"),
        ("fasterrcnn_resnet18_fpn", {"score_thresh": "0.1"}, "no option 'score_thresh'"),
        ("fasterrcnn_resnet18_fpn", {"weights": "DEFAULT"}, "no weights for"),
    ],
)
def test_specification_errors_name_the_option(name, options, message) -> None:
    with pytest.raises(InputError, match=message):
        TorchvisionDetector.from_spec(name, options)


def test_options_may_come_from_json() -> None:
    options = {"num_classes": 3, "min_size": 96, "max_size": 160, "labels": ["none", "a", "b"]}
    detector = TorchvisionDetector.from_spec("fcos_resnet18_fpn", options)
    assert detector.labels == ("none", "a", "b")
    assert detector.geometry((100, 50)).content_size == (160, 80)


def test_builder_of_ones_own_is_in_the_profile_by_name(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "my_models.py").write_text(
        "from torchvision.models.detection.faster_rcnn import FasterRCNN\n"
        "from torchvision.models.detection.backbone_utils import resnet_fpn_backbone\n"
        "def cells(channels=1, thresh=0.5):\n"
        "    assert isinstance(channels, int) and isinstance(thresh, float)\n"
        "    backbone = resnet_fpn_backbone(backbone_name='resnet18', weights=None)\n"
        "    return FasterRCNN(backbone, channels, min_size=96, box_score_thresh=thresh)\n"
        "def broken():\n"
        "    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = {"channels": "3", "thresh": "0.05", "labels": "none,cat,dog"}
    detector = TorchvisionDetector.from_spec("my_models:cells", options)
    image = picture(170, 120)
    expected = detector.detect(detector.extract(image))
    assert len(expected) > 0
    config = json.loads(json.dumps(detector.export(tmp_path / "profile")))
    again = TorchvisionDetector.from_config(config, tmp_path / "profile")
    np.testing.assert_array_equal(again.detect(again.extract(image)).boxes, expected.boxes)
    assert again.labels == ("none", "cat", "dog")
    with pytest.raises(InputError, match="note='thin' is not a number"):
        TorchvisionDetector.from_spec("my_models:cells", {"note": "thin"})
    with pytest.raises(InputError, match="not all numbers"):
        Recipe("os:system", {"command": "true"})
    with pytest.raises(ModelError, match=r"absent:cells.*absent.py on PYTHONPATH"):
        TorchvisionDetector.from_spec("absent:cells", {})
    with pytest.raises(ModelError, match=r"my_models:broken.*failed: ZeroDivisionError"):
        TorchvisionDetector.from_spec("my_models:broken", {})


def test_models_of_other_families_are_refused() -> None:
    from torchvision.models.detection import FasterRCNN, ssdlite320_mobilenet_v3_large

    ssd = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)
    with pytest.raises(ModelError, match="SSD cannot be cut"):
        TorchvisionDetector.wrap(ssd)
    plain = torch.nn.Conv2d(3, 8, 3)
    plain.out_channels = 8
    with pytest.raises(ModelError, match="no torchvision FPN"):
        TorchvisionDetector.wrap(FasterRCNN(plain, num_classes=2))


def test_own_model_is_frozen_and_cannot_be_rebuilt_by_name(tmp_path: Path) -> None:
    model = build(Recipe("fasterrcnn_resnet18_fpn", {"num_classes": 3, "min_size": 160}))
    detector = TorchvisionDetector.wrap(model.train(), labels=["none", "cat", "dog"])
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert len(detector.detect(detector.extract(picture(100, 100)))) > 0
    with pytest.raises(ModelError, match="recipe"):
        detector.export(tmp_path)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "retinanet_resnet50_fpn_v2"])
def test_profile_round_trip_loads_each_half_alone(name, tmp_path: Path) -> None:
    options = {**MODELS[name], "seed": "7", "labels": "none,cat,dog"}
    detector = TorchvisionDetector.from_spec(name, options)
    image = picture(170, 120)
    expected = detector.detect(detector.extract(image))

    config = json.loads(json.dumps(detector.export(tmp_path)))
    assert set(config["files"]) == {path.name for path in tmp_path.iterdir()}
    (tmp_path / "server.safetensors").rename(tmp_path / "away")
    edge = TorchvisionDetector.from_config(config, tmp_path, role="edge")
    (tmp_path / "away").rename(tmp_path / "server.safetensors")
    (tmp_path / "edge.safetensors").unlink()
    server = TorchvisionDetector.from_config(config, tmp_path, role="server")

    assert server.labels == ("none", "cat", "dog")
    found = server.detect(edge.extract(image))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    with pytest.raises(ModelError, match="server alone"):
        server.extract(image)
    with pytest.raises(ModelError, match="edge alone"):
        edge.detect(edge.extract(image))
    kept = [sum(p.numel() for p in half.model.parameters()) for half in (edge, server)]
    assert max(kept) < sum(p.numel() for p in detector.model.parameters())
    with pytest.raises(ModelError, match="both"):
        edge.export(tmp_path)


def test_damaged_profile_is_a_model_error(faster_rcnn, tmp_path: Path) -> None:
    config = faster_rcnn.export(tmp_path)
    file = tmp_path / "server.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be read"):
        TorchvisionDetector.from_config(config, tmp_path, role="server")
    with pytest.raises(ModelError, match="not a torchvision"):
        TorchvisionDetector.from_config({**config, "kind": "onnx"}, tmp_path)
    file.unlink()
    with pytest.raises(ModelError, match=r"server\.safetensors: no such file"):
        TorchvisionDetector.from_config(config, tmp_path, role="server")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_file_makes_the_same_detector(faster_rcnn, pyramid, suffix, tmp_path) -> None:
    from safetensors.torch import save_file

    file = tmp_path / f"weights{suffix}"
    state = faster_rcnn.model.state_dict()
    if suffix == ".pth":
        torch.save({"model": state, "epoch": 3}, file)
    else:
        save_file(state, file)
    options = {**OPTIONS, "weights": str(file), "seed": "99"}
    other = TorchvisionDetector.from_spec("fasterrcnn_resnet18_fpn", options)
    expected = faster_rcnn.detect(pyramid)
    found = other.detect(pyramid)
    np.testing.assert_array_equal(found.scores, expected.scores)
    with pytest.raises(ModelError, match="another model"):
        TorchvisionDetector.from_spec("fasterrcnn_resnet18_fpn", {**options, "num_classes": "4"})
    with pytest.raises(ModelError, match="another model"):
        TorchvisionDetector.from_spec("fcos_resnet18_fpn", {**ONE_STAGE, "weights": str(file)})


def test_names_lose_what_a_distributed_training_put_before_them(tmp_path: Path) -> None:
    torch.save({"module.a.weight": torch.ones(2), "module.b": torch.ones(1)}, tmp_path / "all.pth")
    assert set(load_weights(tmp_path / "all.pth")) == {"a.weight", "b"}
    torch.save({"module.a": torch.ones(2), "b": torch.ones(1)}, tmp_path / "some.pth")
    assert set(load_weights(tmp_path / "some.pth")) == {"module.a", "b"}


def test_pickles_are_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Payload:
        def __reduce__(self):
            return (Path.touch, (marker,))

    for name in ("weights.pth", "weights.pt", "weights.pkl"):
        buffer = io.BytesIO()
        torch.save({"model": Payload()}, buffer)
        (tmp_path / name).write_bytes(buffer.getvalue())
        with pytest.raises(ModelError):
            load_weights(tmp_path / name)
        (tmp_path / name).write_bytes(pickle.dumps(Payload()))
        with pytest.raises(ModelError):
            load_weights(tmp_path / name)
    assert not marker.exists()


def test_official_coco_weights_use_batch_norms_without_epsilon() -> None:
    name = "fasterrcnn_resnet50_fpn"
    recipe, _, labels, _ = recipe_from_spec(name, {"weights": f"/w/{name}_coco-258fb6c6.pth"})
    assert recipe.norm_eps == 0.0
    assert labels[1] == "person"
    recipe, *_ = recipe_from_spec(name, {"weights": "/w/my_own.pth"})
    assert recipe.norm_eps is None
    model = build(Recipe("fasterrcnn_resnet18_fpn", {"num_classes": 2}, norm_eps=0.0))
    assert {m.eps for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.0}


def test_building_leaves_torchs_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    build(Recipe("fcos_resnet18_fpn", {"num_classes": 2}))
    assert torch.rand(1) == expected


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fcos_resnet18_fpn"])
def test_onnx_halves_agree_with_torch(name, tmp_path: Path) -> None:
    from fpcodec.detectors.onnx import OnnxDetector

    detector = TorchvisionDetector.from_spec(name, MODELS[name])
    # An image of the network's own size: nothing is resampled.
    image = picture(192, 160)
    config = json.loads(json.dumps(detector.export_onnx(tmp_path, (192, 160))))
    other = OnnxDetector.from_config(config, tmp_path, threads=1)
    pyramid = detector.extract(image)
    found = other.extract(image)
    for level, values in pyramid.levels.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found.levels[level], values, atol=1e-4 * scale)
    expected = detector.detect(pyramid)
    answer = other.detect(pyramid)
    assert len(answer) == len(expected) > 0
    np.testing.assert_allclose(answer.scores, expected.scores, rtol=1e-4)
    assert other.macs() == detector.macs(network_size=(192, 160))
    theirs, ours = other.response(pyramid), detector.response(pyramid)
    assert all(np.allclose(theirs[level], ours[level], atol=1e-5) for level in ours)


def test_masks_cannot_be_exported_to_onnx(tmp_path: Path) -> None:
    detector = TorchvisionDetector.from_spec("maskrcnn_resnet18_fpn", OPTIONS)
    with pytest.raises(ModelError, match="masks"):
        detector.export_onnx(tmp_path, (192, 160))


@pytest.mark.slow
def test_resnet50_at_full_size_is_the_unsplit_detector() -> None:
    detector = TorchvisionDetector.from_spec("fasterrcnn_resnet50_fpn", {"num_classes": "5"})
    image = picture(640, 480)
    with torch.inference_mode():
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy()).float() / 255
        expected = build(detector.recipe).eval()([pixels])[0]
    pyramid = detector.extract(image)
    assert pyramid.geometry.network_size == (1088, 800)
    found = detector.detect(pyramid)
    assert_same_detections(
        found, expected["boxes"].numpy(), expected["scores"].numpy(), expected["labels"].numpy()
    )
    # p2's output convolution and lateral: three tenths of the edge's work.
    spared = detector.macs() - detector.macs(("p3", "p4", "p5"))
    assert spared == (1088 // 4) * (800 // 4) * (256 * 256 * 9 + 256 * 256)
    assert 0.25 < spared / detector.macs() < 0.35

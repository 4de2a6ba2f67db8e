"""Output layouts of the field's detectors, on ONNX models: boxes, maps, profiles, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from layout_kit import OPTIONS, decoded, spec_of, write_layout
from onnx_kit import CLASSES, LEVELS, SIDE, write_model

from fpcodec import EdgeHalf, Profile, ServerHalf
from fpcodec.calibration import calibrate
from fpcodec.data import generate_scene
from fpcodec.detectors.decoding import DecodeConfig, batched_nms
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.layouts import LAYOUTS
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.errors import InputError, ModelError

pytest.importorskip("onnx", reason="cutting a graph needs the onnx package")

IMAGE = np.ascontiguousarray(generate_scene(3).image[:128, :120])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {kind: write_layout(folder / f"{kind}.onnx", kind) for kind in OPTIONS}


def opened(models: dict[str, Path], kind: str, more: str = "") -> OnnxDetector:
    detector = open_detector(spec_of(models[kind], kind, more), threads=1)
    assert isinstance(detector, OnnxDetector)
    return detector


def whole(model: Path, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Run the uncut detector."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": tensor}), strict=True))


@pytest.mark.parametrize("kind", OPTIONS)
def test_boxes_are_those_of_plain_loops(models: dict[str, Path], kind: str) -> None:
    detector = opened(models, kind)
    tensor, geometry = detector.preprocess(IMAGE)
    expected = decoded(kind, whole(models[kind], tensor), 0.4)
    boxes = np.asarray([box for box, _, _ in expected], np.float32)
    scores = np.asarray([score for _, score, _ in expected], np.float32)
    labels = np.asarray([label for _, _, label in expected])
    keep = batched_nms(boxes, scores, labels, detector.config["decode"]["nms_iou"], 40)
    found = detector.detect(detector.extract(IMAGE))
    assert len(found) == len(keep) > 3
    assert len(set(found.labels.tolist())) > 1
    np.testing.assert_allclose(found.scores, scores[keep], rtol=1e-4)
    np.testing.assert_array_equal(found.labels, labels[keep])
    np.testing.assert_allclose(found.boxes, geometry.to_image(boxes[keep]), rtol=1e-4, atol=5e-3)


@pytest.mark.parametrize("kind", OPTIONS)
def test_maps_hold_the_scores_of_candidates(models: dict[str, Path], kind: str) -> None:
    detector = opened(models, kind)
    pyramid = detector.extract(IMAGE)
    head, found = detector.head(pyramid), detector.candidates(pyramid)
    assert head.of_classes
    assert len(found.scores) > 3
    for number, name in enumerate(LEVELS):
        assert head.scores[name].shape == (CLASSES, *pyramid.levels[name].shape[1:])
        assert head.boxes[name].shape[1:] == pyramid.levels[name].shape[1:]
        best = np.zeros_like(head.scores[name])
        here = found.cells[:, 0] == number
        _, y, x = found.cells[here].T
        np.maximum.at(best, (found.labels[here], y, x), found.scores[here])
        # A cell's second class counts in the maps, and not everywhere among the candidates.
        assert (best <= head.scores[name]).all()
        highest = head.scores[name].max(axis=0)
        np.testing.assert_array_equal(best.max(axis=0), np.where(highest >= 0.4, highest, 0))
    both, response = detector.detect_and_response(pyramid)
    np.testing.assert_array_equal(both.boxes, detector.detect(pyramid).boxes)
    np.testing.assert_array_equal(response["p4"], head.scores["p4"].max(axis=0))


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_profile_carries_it_to_the_server(
    models: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    from PIL import Image

    paths = []
    for seed in (1, 2, 3):
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(generate_scene(seed).image[:128, :128]).save(paths[-1])
    detector = opened(models, kind)
    calibrate(detector, paths, tmp_path / "profile", codec="pca", seed=0)
    profile = Profile.load(tmp_path / "profile")
    frame = EdgeHalf(profile).encode(IMAGE, quality=1.0)
    answer = ServerHalf(profile).infer(frame.data)
    assert len(answer.detections) > 0
    described = json.loads((tmp_path / "profile" / "profile.json").read_text())
    assert described["detector"]["decode"]["kind"] == kind


@pytest.mark.parametrize("kind", LAYOUTS)
def test_each_kind_brings_its_preprocessing(kind: str) -> None:
    from fpcodec.detectors.onnx_options import read_options

    read = read_options({"p3": "a", "decode": kind})
    orders = {"yolox": "bgr", "nanodet": "bgr"}
    assert read.preprocess.channel_order == orders.get(kind, "rgb")
    assert read.preprocess.mode == ("resize" if kind in ("nanodet", "picodet") else "letterbox")
    middle = kind in ("yolov5", "yolov8")
    assert read.preprocess.align == ("center" if middle else "top_left")
    assert read_options({"p3": "a", "decode": kind, "mode": "letterbox"}).preprocess.mode == (
        "letterbox"
    )
    assert DecodeConfig.from_dict(json.loads(json.dumps(read.decode.to_dict()))) == read.decode


def test_anchors_bring_their_familys_defaults() -> None:
    from fpcodec.detectors.onnx_options import read_options

    read = read_options({"p3": "a", "decode": "retinanet", "anchors": "detectron2"})
    assert read.decode.max_detections == 100
    assert read.preprocess.channel_order == "bgr"
    read = read_options({"p3": "a", "decode": "retinanet", "score_threshold": "0.2"})
    assert (read.decode.max_detections, read.decode.score_threshold) == (300, 0.2)


def test_outputs_are_told_apart_and_kept(models: dict[str, Path]) -> None:
    outputs = opened(models, "picodet").config["decode"]["outputs"]
    assert outputs["scores_p4"] == "cls_4"
    assert outputs["boxes_p5"] == "reg_5"
    assert opened(models, "nanodet").config["decode"]["outputs"] == {}


def test_labels_must_be_as_many_as_classes(models: dict[str, Path]) -> None:
    assert opened(models, "yolov8").labels == ()
    assert opened(models, "yolov8", "&labels=a,b,c").labels == ("a", "b", "c")
    with pytest.raises(ModelError, match=r"scores 3 classes, but there are 80 labels"):
        opened(models, "yolov8", "&labels=coco")


def test_scores_that_are_still_logits(tmp_path: Path) -> None:
    """The same numbers with the sigmoid left to the decoder."""
    import onnx

    model = onnx.load(str(write_layout(tmp_path / "whole.onnx", "yolov8")))
    for node in model.graph.node:
        if node.op_type == "Sigmoid":
            node.op_type = "Identity"
    onnx.save(model, str(tmp_path / "logits.onnx"))
    found, wanted = (
        detector.detect(detector.extract(IMAGE))
        for name, more in (("logits", "&activation=sigmoid"), ("whole", ""))
        for detector in [
            open_detector(spec_of(tmp_path / f"{name}.onnx", "yolov8", more), threads=1)
        ]
    )
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5)
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-5, atol=1e-3)


def yolox_query(more: str = "") -> str:
    cut = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    return f"{cut}&decode=yolox&mean=0,0,0&std=128,128,128&score_threshold=0.3{more}"


def test_yolox_with_boxes_decoded_in_the_graph(tmp_path: Path) -> None:
    """The graph's raw rows, decoded by the same formula inside of it."""
    import onnx
    from onnx import helper, numpy_helper

    model = write_model(tmp_path / "plain.onnx")
    plain = open_detector(f"onnx:{model}?{yolox_query()}", threads=1)
    graph = onnx.load(str(model))
    places, strides = [], []
    for stride in (8, 16, 32):
        y, x = np.indices((SIDE // stride, SIDE // stride))
        places.append(np.stack([x.ravel(), y.ravel()], 1))
        strides.append(np.full((x.size, 1), stride))
    weights = {
        "place": np.concatenate(places).astype(np.float32)[None],
        "stride": np.concatenate(strides).astype(np.float32)[None],
        "cut": np.asarray([2, 2, 1 + CLASSES]),
    }
    graph.graph.initializer.extend(numpy_helper.from_array(x, n) for n, x in weights.items())
    last = graph.graph.node.pop()
    for kind, inputs, made in (
        ("Split", [last.input[0], "cut"], ["xy", "wh", "rest"]),
        ("Add", ["xy", "place"], ["moved"]),
        ("Mul", ["moved", "stride"], ["centre"]),
        ("Exp", ["wh"], ["grown"]),
        ("Mul", ["grown", "stride"], ["sides"]),
        ("Concat", ["centre", "sides", "rest"], ["output"]),
    ):
        axis = {"Split": {"axis": 2}, "Concat": {"axis": 2}}.get(kind, {})
        graph.graph.node.append(helper.make_node(kind, inputs, made, **axis))
    onnx.save(graph, str(tmp_path / "decoded.onnx"))
    more = "&decoded=true"
    inside = open_detector(f"onnx:{tmp_path / 'decoded.onnx'}?{yolox_query(more)}", threads=1)
    found, wanted = (d.detect(d.extract(IMAGE)) for d in (inside, plain))
    assert len(found) == len(wanted) > 3
    np.testing.assert_allclose(found.boxes, wanted.boxes, rtol=1e-4, atol=1e-3)
    np.testing.assert_array_equal(found.labels, wanted.labels)


@pytest.mark.parametrize(
    ("model", "decode", "message"),
    [
        ("nanodet", "decode=nanodet&reg_max=9", r"wants \(1, 84, classes \+ 40\).*\(1, 84, 35\)"),
        ("nanodet", "decode=yolov8", r"wants \(1, 4 \+ classes, 84\).*p3 8x8.*decode=yolov5's"),
        ("yolov8", "decode=yolov5", r"wants \(1, anchors x 84, 5 \+ .*decode=yolov8's"),
        ("yolov5", "decode=yolox", r"decode=yolox wants \(1, 84, 5 \+ classes\).*\(1, 252, 8\)"),
        ("picodet", "decode=yolox", r"decode=yolox wants one output.*cls_3 \(1, 64, 3\)"),
        ("retinanet", "decode=retinanet&anchor_scales=1", r"3 anchors a cell.*anchor_scales"),
        ("retinanet", "decode=nanodet", r"box values level by level.*logits_3 \(1, 27, 8, 8\)"),
    ],
)  # fmt: skip
def test_a_misfit_says_what_is_wanted_and_what_is_there(
    models: dict[str, Path], model: str, decode: str, message: str
) -> None:
    cut = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    with pytest.raises(ModelError, match=message) as caught:
        open_detector(f"onnx:{models[model]}?{cut}&{decode}")
    assert "\n" not in str(caught.value)


def test_a_wrong_number_of_strides_is_an_error(models: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"wants .*for levels .*p6 1x1"):
        opened(models, "nanodet", "&strides=8,16,32,64")
    with pytest.raises(ModelError, match="leave out p3"):
        opened(models, "nanodet", "&strides=16,32")


def test_named_outputs_are_checked(models: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"no output raws; it has output"):
        opened(models, "yolov8", "&outputs=raw:raws")
    named = "outputs=scores:cls_3,boxes:reg_3"
    with pytest.raises(ModelError, match=r"84 rows"):
        opened(models, "picodet", f"&{named}")
    pairs = ",".join(f"scores_p{n}:reg_{n},boxes_p{n}:cls_{n}" for n in (3, 4, 5))
    with pytest.raises(ModelError, match=r"wants 32 box values per row"):
        opened(models, "picodet", f"&outputs={pairs}")
    with pytest.raises(ModelError, match=r"an output for scores but none for boxes"):
        opened(models, "retinanet", "&outputs=scores:logits_3")


@pytest.mark.parametrize(
    ("kind", "options"),
    [("nanodet", {"reg_max": "0"}), ("nanodet", {"reg_max": "7.5"}), ("nanodet", {"anchors": "x"}),
     ("picodet", {"cell_offset": 2}), ("yolox", {"decoded": "perhaps"}),
     ("yolov5", {"activation": "softmax"}), ("yolov8", {"strides": "16,8"}),
     ("yolov8", {"pre_nms": -1}), ("yolov8", {"pre_nms": float("inf")}),
     ("retinanet", {"anchors": "mine"}),
     ("retinanet", {"anchor_sizes": "1,a"}), ("retinanet", {"anchor_ratios": []}),
     ("retinanet", {"anchor_scales": "0"}), ("retinanet", {"delta_weights": "1,1"}),
     ("retinanet", {"anchor_offset": "-1"}), ("detections", {"reg_max": 7})],
)  # fmt: skip
def test_options_are_checked(kind: str, options: dict[str, object]) -> None:
    with pytest.raises(InputError, match="decode"):
        DecodeConfig(kind, options=options)


@pytest.mark.parametrize("options", [3, "reg_max=7", None])
def test_options_of_another_kind_are_an_error(options: object) -> None:
    from fpcodec.detectors.onnx_options import read_options

    with pytest.raises(InputError, match="options"):
        read_options({"p3": "a", "decode": {"kind": "nanodet", "options": options}})


def test_anchor_sizes_are_one_per_level(models: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="anchor_sizes has 2 values"):
        opened(models, "retinanet", "&anchor_sizes=32,64")


def test_a_description_from_before_layouts_had_options() -> None:
    old = {"kind": "yolox", "score_threshold": 0.01, "nms_iou": 0.65, "max_detections": 100,
           "outputs": {}, "label_offset": 0}  # fmt: skip
    assert DecodeConfig.from_dict(old).to_dict() == old

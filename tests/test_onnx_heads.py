"""Frozen heads from ONNX graphs: any batch of what was exported for one image, and gradients."""

from __future__ import annotations

import shutil
from pathlib import Path
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
from onnx_kit import CHANNELS, LEVELS, SIDE, write_model  # noqa: E402

from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detectors.decoding import DecodeConfig  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.detectors.onnx import OnnxDetector  # noqa: E402
from fpcodec.detectors.onnx_build import build_onnx  # noqa: E402
from fpcodec.detectors.preprocess import yolox_preprocess  # noqa: E402
from fpcodec.embedded import embedded_folder  # noqa: E402
from fpcodec.errors import ModelError  # noqa: E402
from fpcodec.images import load_image  # noqa: E402
from fpcodec.training.heads import open_head  # noqa: E402
from fpcodec.training.onnx_heads import LayoutHead, ScoreHead  # noqa: E402


def yolox(tmp_path: Path, **options: Any) -> OnnxDetector:
    """A toy of three levels."""
    model = write_model(tmp_path / "toy.onnx", **options)
    return build_onnx(
        model, LEVELS, DecodeConfig("yolox"), yolox_preprocess(), threads=1,
        network_size=(SIDE, SIDE) if options.get("dynamic") else None, work_dir=tmp_path / "cut",
    )  # fmt: skip


@pytest.mark.parametrize("dynamic", [False, True])
def test_yolox_head_takes_batches_of_a_graph_made_for_one_image(tmp_path, dynamic) -> None:
    detector = yolox(tmp_path, dynamic=dynamic)
    head = open_head(detector)
    assert isinstance(head, LayoutHead)
    assert not head.graph.one_by_one
    levels = batch([detector.extract(generate_scene(seed).image) for seed in (1, 2)])
    assert_frozen(head)
    assert_batch_is_its_images(head, levels)
    assert_gradients_reach_every_level(head, levels)


def test_yolox_head_is_the_detectors(tmp_path) -> None:
    detector = yolox(tmp_path)
    pyramid = detector.extract(generate_scene(1).image)
    answer = open_head(detector, tmp_path / "cut")(batch([pyramid, pyramid]))
    own = detector.head(pyramid)
    for name in detector.spec.names:
        for i in range(2):
            assert_close(answer.scores[name][i], own.scores[name])
            assert_close(answer.boxes[name][i], own.boxes[name])
        assert_close(answer.response()[name][0, 0], detector.response(pyramid)[name])


def test_graph_that_counts_on_one_image_is_asked_image_by_image(tmp_path) -> None:
    import onnx
    from onnx import helper, numpy_helper

    detector = yolox(tmp_path)
    path = tmp_path / "cut" / "server.onnx"
    model = onnx.load(str(path))
    last = model.graph.node[-1]
    # Through a flat vector and back: the batch is gone in between.
    cells = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))
    for name, shape in (("flat", [-1]), ("back", [-1, cells, 8])):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(shape), f"{name}.shape"))
    source = last.input[0]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Reshape", [source, "flat.shape"], ["flat"])
    )
    model.graph.initializer.append(
        numpy_helper.from_array(np.zeros(cells * 8, np.float32), "nothing")
    )
    # Only one image is as long as this vector.
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", ["flat", "nothing"], ["longer"])
    )
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Reshape", ["longer", "back.shape"], ["back"])
    )
    last.input[0] = "back"
    onnx.save(model, str(path))
    head = open_head(detector)
    assert head.graph.one_by_one
    levels = {
        name: torch.randn(3, *detector.spec.shape(name, (SIDE, SIDE)))
        for name in detector.spec.coded_names
    }
    assert levels["p3"].shape[1] == CHANNELS
    assert_batch_is_its_images(head, levels)
    assert_gradients_reach_every_level(head, levels)


@pytest.fixture(scope="module")
def exported_rcnn(tmp_path_factory) -> tuple[OnnxDetector, Path]:
    """The graphs of ``tiny`` without its torch weights."""
    folder = tmp_path_factory.mktemp("graphs")
    for name in ("edge.onnx", "server.onnx"):
        shutil.copy(embedded_folder("tiny") / name, folder)
    config = open_detector("tiny:", threads=1).config
    return OnnxDetector.from_config(config, folder, threads=1), folder


def test_graph_that_selects_boxes_gives_its_objectness(exported_rcnn) -> None:
    detector, _ = exported_rcnn
    head = open_head(detector)
    assert isinstance(head, ScoreHead)
    found = [detector.extract(generate_scene(seed).image) for seed in (3, 4)]
    answer = head(batch(found))
    for i, pyramid in enumerate(found):
        for name, values in detector.response(pyramid).items():
            assert_close(answer.response()[name][i, 0], values)
    assert answer.boxes == {}
    assert answer.regions is None
    assert_frozen(head)
    assert_batch_is_its_images(head, batch(found))
    assert_gradients_reach_every_level(head, batch(found))


def without_objectness(folder: Path) -> None:
    import onnx

    path = folder / "server.onnx"
    model = onnx.load(str(path))
    del model.graph.output[3:]
    onnx.save(model, str(path))


def test_head_without_scores_is_an_error_that_says_what_to_do(exported_rcnn, tmp_path) -> None:
    detector, folder = exported_rcnn
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    without_objectness(tmp_path)
    with pytest.raises(ModelError, match=r"no score output.*--loss mse"):
        open_head(detector, tmp_path)

    decode = DecodeConfig("onnx_kit:decoder").to_dict()
    detector.config = {**detector.config, "decode": decode}
    with pytest.raises(ModelError, match=r"no score output.*--loss mse"):
        open_head(detector, folder)


def test_operator_that_cannot_be_converted_is_an_error(tmp_path, monkeypatch) -> None:
    detector = yolox(tmp_path)
    import onnx2torch

    def refuse(_: object) -> None:
        raise NotImplementedError("Converter is not implemented (Einhorn)")

    monkeypatch.setattr(onnx2torch, "convert", refuse)
    with pytest.raises(ModelError, match=r"Einhorn.*--loss mse"):
        open_head(detector)


def test_graph_converted_wrongly_is_an_error(tmp_path, monkeypatch) -> None:
    detector = yolox(tmp_path)
    import onnx2torch

    convert = onnx2torch.convert

    def wrong(model: Any) -> torch.nn.Module:
        module = convert(model)
        with torch.no_grad():
            next(module.parameters()).add_(1.0)
        return module

    monkeypatch.setattr(onnx2torch, "convert", wrong)
    with pytest.raises(ModelError, match="not onnxruntime's"):
        open_head(detector)


def test_yolox_nano_in_a_batch_is_what_onnxruntime_says(shared_folder: Path) -> None:
    path = shared_folder / "models" / "yolox_nano.onnx"
    photographs = sorted((shared_folder / "data" / "coco" / "train").rglob("*.jpg"))[:2]
    if not path.is_file() or len(photographs) < 2:
        pytest.skip("needs ../shared/models/yolox_nano.onnx and photographs")
    tensors = "p3=input.471&p4=input.531&p5=input.591"
    detector = open_detector(f"onnx:{path}?{tensors}&decode=yolox", threads=1)
    head = open_head(detector)
    assert not head.graph.one_by_one
    found = [detector.extract(load_image(photograph)) for photograph in photographs]
    with torch.no_grad():
        answer = head(batch(found))
    for i, pyramid in enumerate(found):
        own = detector.head(pyramid)
        for name in detector.spec.names:
            assert_close(answer.scores[name][i], own.scores[name])
            assert_close(answer.boxes[name][i], own.boxes[name])
    assert_gradients_reach_every_level(head, batch(found))

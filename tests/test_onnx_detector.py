"""The onnx adapter: cutting a graph, running either half, and agreeing with the whole."""

from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx_kit import CLASSES, LEVELS, SIDE, write_model

from fpcodec.detections import Detections
from fpcodec.detectors.factory import detector_from_config, open_detector, parse_spec
from fpcodec.detectors.head_decoder import HeadDecoder
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.detectors.onnx_session import prune
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import Pyramid

pytest.importorskip("onnx", reason="cutting a graph needs the onnx package")

YOLOX = "p3=input.471&p4=input.531&p5=input.591&decode=yolox"
QUERY = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items()) + "&decode=yolox"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "toy.onnx")


@pytest.fixture(scope="module")
def detector(model: Path) -> OnnxDetector:
    opened = open_detector(f"onnx:{model}?{QUERY}&labels=a,b,c", threads=1)
    assert isinstance(opened, OnnxDetector)
    return opened


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (48, 90, 3), np.uint8)


def whole(model: Path, tensor: np.ndarray) -> dict[str, np.ndarray]:
    """Run the uncut detector."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    feeds = {session.get_inputs()[0].name: tensor}
    return dict(zip(names, session.run(names, feeds), strict=True))


def assert_same(found: Detections, wanted: Detections) -> None:
    """Boxes agree to a relative 1e-4, in the same order where scores are not tied."""
    assert len(found) == len(wanted) > 0
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-6)
    largest = float(np.abs(wanted.boxes).max())
    for box, label in zip(found.boxes, found.labels, strict=True):
        same = wanted.boxes[wanted.labels == label]
        assert np.abs(same - box).max(axis=1).min() <= 1e-4 * largest


def test_cutting_works_out_the_pyramid(detector: OnnxDetector) -> None:
    assert detector.spec.names == ("p3", "p4", "p5")
    assert [detector.spec[n].stride for n in detector.spec.names] == [8, 16, 32]
    assert detector.spec["p3"].channels == 8
    assert detector.network_size == (SIDE, SIDE)
    assert tuple(detector.labels) == ("a", "b", "c")


def test_halves_agree_with_the_whole(
    detector: OnnxDetector, model: Path, image: np.ndarray
) -> None:
    tensor, geometry = detector.preprocess(image)
    decoder = HeadDecoder.from_config(detector.config)
    wanted = decoder.detections(whole(model, tensor))
    found = detector.detect(detector.extract(image))
    assert_same(found, Detections(geometry.to_image(wanted.boxes), wanted.scores, wanted.labels))


def test_any_levels_can_be_extracted_alone(detector: OnnxDetector, image: np.ndarray) -> None:
    full = detector.extract(image)
    for count in (1, 2):
        for names in combinations(LEVELS, count):
            part = detector.extract(image, names)
            assert tuple(part.levels) == names
            for name in names:
                np.testing.assert_allclose(part.levels[name], full.levels[name], atol=1e-5)


def test_what_other_levels_need_is_not_computed(detector: OnnxDetector, tmp_path: Path) -> None:
    import onnx

    detector.export(tmp_path)
    whole_edge = (tmp_path / "edge.onnx").read_bytes()
    pruned = onnx.load_from_string(prune(whole_edge, ["out5"]))
    onnx.checker.check_model(pruned)
    made = {name for node in pruned.graph.node for name in node.output}
    assert {"c3", "c4", "c5", "out5"} <= made
    assert not made & {"up3", "merged4", "lateral3", "out3", "out4"}
    assert {item.name for item in pruned.graph.initializer} <= {f"{name}.w" for name in made}


def test_macs_are_counted_for_every_subset(detector: OnnxDetector) -> None:
    cells = {3: 64, 4: 16, 5: 4}
    body = 16**2 * 3 * 8 * 9 + sum(8 * 8 * 9 * n for n in cells.values())
    out = {f"p{n}": 8 * 8 * 9 * c for n, c in cells.items()}
    lateral = {f"p{n}": 8 * 8 * c for n, c in cells.items()}
    assert detector.macs(["p5"]) == body + lateral["p5"] + out["p5"]
    assert detector.macs(["p5", "p3"]) == body + sum(lateral.values()) + out["p3"] + out["p5"]
    assert detector.macs() == body + sum(lateral.values()) + sum(out.values())
    assert detector.server_macs == sum(8 * (5 + CLASSES) * c for c in cells.values())


def test_response_and_detections_share_one_run(
    detector: OnnxDetector, image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid = detector.extract(image)
    head, boxes = detector.head(pyramid), detector.detect(pyramid)
    runs = []
    run = OnnxDetector._run_server
    monkeypatch.setattr(OnnxDetector, "_run_server", lambda *a: runs.append(1) or run(*a))
    found, response = detector.detect_and_response(pyramid)
    assert len(runs) == 1
    np.testing.assert_array_equal(found.boxes, boxes.boxes)
    for name in LEVELS:
        np.testing.assert_array_equal(response[name], head.scores[name].max(axis=0))
        assert response[name].shape == pyramid.levels[name].shape[1:]


def test_an_exported_half_runs_alone(
    detector: OnnxDetector, image: np.ndarray, tmp_path: Path
) -> None:
    config = json.loads(json.dumps(detector.export(tmp_path)))
    edge_folder, server_folder = tmp_path / "edge", tmp_path / "server"
    for folder, name in ((edge_folder, "edge.onnx"), (server_folder, "server.onnx")):
        folder.mkdir()
        (tmp_path / name).rename(folder / name)
    edge = detector_from_config(config, edge_folder, "edge", threads=1)
    server = detector_from_config(config, server_folder, "server", threads=1)
    sent = edge.extract(image)
    received = Pyramid(server.spec, sent.levels, server.geometry((90, 48), (SIDE, SIDE)))
    assert_same(server.detect(received), detector.detect(detector.extract(image)))
    with pytest.raises(ModelError, match="no server half"):
        edge.detect(sent)
    with pytest.raises(ModelError, match="no edge half"):
        server.extract(image)


def cut_folder(detector: OnnxDetector, folder: Path) -> Path:
    """A detector's folder as ``fpcodec distill`` leaves it."""
    (folder / "detector.json").write_text(json.dumps(detector.export(folder)))
    return folder


def test_a_folder_of_both_halves_is_opened(
    detector: OnnxDetector, image: np.ndarray, tmp_path: Path
) -> None:
    opened = open_detector(f"onnx:{cut_folder(detector, tmp_path)}", threads=1)
    assert isinstance(opened, OnnxDetector)
    assert opened.folder == tmp_path
    assert (opened.spec, opened.labels) == (detector.spec, detector.labels)
    assert opened.macs() == detector.macs()
    assert_same(opened.detect(opened.extract(image)), detector.detect(detector.extract(image)))


def test_a_folder_takes_no_options(detector: OnnxDetector, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leave out option decode"):
        open_detector(f"onnx:{cut_folder(detector, tmp_path)}?decode=yolox")


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"kind": "torchvision"}'])
def test_a_folder_that_holds_no_cut_detector(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "detector.json").write_text(content)
    with pytest.raises(ModelError, match=r"detector\.json") as caught:
        open_detector(f"onnx:{tmp_path}")
    assert "\n" not in str(caught.value)


def test_a_folder_without_one_of_its_graphs(detector: OnnxDetector, tmp_path: Path) -> None:
    (cut_folder(detector, tmp_path) / "server.onnx").unlink()
    with pytest.raises(ModelError, match="no such graph file"):
        open_detector(f"onnx:{tmp_path}")


def test_a_missing_level_is_named(detector: OnnxDetector, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="p4 is missing"):
        detector.detect(detector.extract(image, ["p3", "p5"]))


def test_unknown_levels_and_sizes_are_refused(detector: OnnxDetector, image: np.ndarray) -> None:
    with pytest.raises(InputError, match="p9"):
        detector.extract(image, ["p9"])
    with pytest.raises(InputError, match="no level"):
        detector.extract(image, [])
    with pytest.raises(InputError, match="network size"):
        detector.geometry((10, 10), (128, 128))


def test_a_single_pixel_goes_through(detector: OnnxDetector) -> None:
    found = detector.detect(detector.extract(np.zeros((1, 1, 3), np.uint8)))
    assert (found.boxes <= 1).all()


def test_a_misspelt_tensor_brings_its_neighbours(model: Path) -> None:
    with pytest.raises(ModelError, match=r"'oout3'.*close: .*out3.*fpcodec tensors toy\.onnx"):
        open_detector(f"onnx:{model}?p3=oout3&p4=out4&p5=out5&decode=yolox")


def test_a_head_that_needs_more_than_the_levels_is_refused(tmp_path: Path) -> None:
    leaky = write_model(tmp_path / "leaky.onnx", image_in_head="value")
    with pytest.raises(ModelError, match="also needs c3"):
        open_detector(f"onnx:{leaky}?{QUERY}")


def test_a_forgotten_level_is_named(model: Path) -> None:
    with pytest.raises(ModelError, match=r"also needs .*merged5|also needs .*lateral5"):
        open_detector(f"onnx:{model}?p3=out3&p4=out4&decode=yolox")


def test_a_head_may_ask_how_large_the_image_is(tmp_path: Path, image: np.ndarray) -> None:
    sized = write_model(tmp_path / "sized.onnx", image_in_head="shape")
    found = open_detector(f"onnx:{sized}?{QUERY}", threads=1)
    assert len(found.detect(found.extract(image))) > 0


def test_a_dynamic_export_takes_the_size_asked_for(tmp_path: Path, image: np.ndarray) -> None:
    dynamic = write_model(tmp_path / "dynamic.onnx", dynamic=True)
    opened = open_detector(f"onnx:{dynamic}?{QUERY}&size=128x64", threads=1)
    assert opened.extract(image).levels["p3"].shape == (8, 8, 16)
    with pytest.raises(ModelError, match="dynamic size"):
        open_detector(f"onnx:{dynamic}?{QUERY}")


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="not an ONNX model"):
        open_detector(f"onnx:{bad}?{QUERY}")
    with pytest.raises(ModelError, match="no such file"):
        open_detector(f"onnx:{tmp_path / 'none.onnx'}?{QUERY}")


def test_an_absent_provider_lists_those_there_are(model: Path) -> None:
    with pytest.raises(ModelError, match=r"NoSuchProvider.*CPUExecutionProvider"):
        open_detector(f"onnx:{model}?{QUERY}", providers=["NoSuchProvider"])


def test_without_onnx_the_extra_is_named(
    model: Path, detector: OnnxDetector, image: np.ndarray, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    config = detector.export(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingDependency, match=r'pip install "fpcodec\[bench\]"'):
        open_detector(f"onnx:{model}?{QUERY}")
    ready = detector_from_config(config, tmp_path, threads=1)
    assert len(ready.detect(ready.extract(image, None))) > 0
    assert ready.extract(image, ["p5"]).levels["p5"].shape == (8, 2, 2)


def test_temporary_halves_go_with_the_detector(model: Path) -> None:
    opened = open_detector(f"onnx:{model}?{QUERY}", threads=1)
    folder = opened._folder  # type: ignore[attr-defined]
    assert (folder / "edge.onnx").is_file()
    del opened
    assert not folder.exists()


def test_a_spec_is_the_same_as_text_and_as_file(tmp_path: Path, model: Path) -> None:
    spec = parse_spec("onnx:toy.onnx?p3=out3&p4=a%26b&decode=yolox")
    assert (spec.kind, spec.argument) == ("onnx", "toy.onnx")
    assert spec.options == {"p3": "out3", "p4": "a&b", "decode": "yolox"}
    file = tmp_path / "detector.json"
    (tmp_path / "toy.onnx").write_bytes(model.read_bytes())
    options = dict(LEVELS) | {"decode": {"kind": "yolox"}, "preprocess": {"mode": "resize"}}
    file.write_text(json.dumps({"kind": "onnx", "argument": "toy.onnx", "options": options}))
    opened = open_detector(str(file), threads=1)
    assert opened.geometry((30, 10)).content_size == (SIDE, SIDE)


@pytest.mark.parametrize(
    "text",
    ["", "onnx", "onnx:", "keras:model", "onnx:m?p3", "onnx:m?=1", "onnx:m?p3=a&p3=b", "no.json"],
)
def test_specs_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError):
        parse_spec(text)


@pytest.mark.parametrize(
    "query",
    ["p3=out3", f"{QUERY}&size=64", f"{QUERY}&size=axb", f"{QUERY}&colour=red", f"{QUERY}&mean=1,2",
     f"{QUERY}&score_threshold=high", f"{QUERY}&preprocess=imagenet"],
)  # fmt: skip
def test_options_that_cannot_be_used(model: Path, query: str) -> None:
    with pytest.raises(InputError):
        open_detector(f"onnx:{model}?{query}")


@pytest.mark.parametrize("key", ["spec", "tensors", "preprocess", "decode"])
def test_a_damaged_configuration_is_a_model_error(
    detector: OnnxDetector, tmp_path: Path, key: str
) -> None:
    config = detector.export(tmp_path)
    del config[key]
    with pytest.raises(ModelError, match="configuration"):
        detector_from_config(config, tmp_path)


def test_unknown_kinds_and_roles_are_model_errors(detector: OnnxDetector, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="kind"):
        detector_from_config({"kind": "keras"}, tmp_path)
    with pytest.raises(ModelError, match="role"):
        detector_from_config(detector.export(tmp_path), tmp_path, "client")
    with pytest.raises(ModelError, match="no such graph file"):
        detector_from_config(detector.config, tmp_path / "empty")


def test_yolox_nano_cut_agrees_with_the_whole(shared_folder: Path) -> None:
    from PIL import Image

    path = shared_folder / "models" / "yolox_nano.onnx"
    # Above the noise floor, where a last-bit difference decides what suppresses what.
    cut = open_detector(f"onnx:{path}?{YOLOX}&score_threshold=0.1", threads=1)
    assert isinstance(cut, OnnxDetector)
    decoder = HeadDecoder.from_config(cut.config)
    photographs = sorted((shared_folder / "data" / "coco" / "val").glob("*.jpg"))[:6]
    for photograph in photographs:
        pixels = np.asarray(Image.open(photograph).convert("RGB"))
        tensor, geometry = cut.preprocess(pixels)
        wanted = decoder.detections(whole(path, tensor))
        assert_same(
            cut.detect(cut.extract(pixels)),
            Detections(geometry.to_image(wanted.boxes), wanted.scores, wanted.labels),
        )


def test_the_embedded_detector_runs() -> None:
    from fpcodec.data import generate_scene

    tiny = open_detector("tiny", threads=1)
    assert isinstance(tiny, OnnxDetector)
    assert tiny.spec.coded_names == ("p2", "p3", "p4", "p5")
    pyramid = tiny.extract(generate_scene(1).image)
    assert tuple(pyramid.levels) == tiny.spec.coded_names
    found, response = tiny.detect_and_response(pyramid)
    assert len(found) > 0
    assert set(response) == {"p2", "p3", "p4", "p5", "p6"}
    assert all(0 <= values.min() <= values.max() <= 1 for values in response.values())
    with pytest.raises(InputError, match="p6 derives from p5"):
        tiny.extract(generate_scene(1).image, ["p6"])

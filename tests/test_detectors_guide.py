"""docs/detectors.md: its worked example runs, and its tables say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from layout_kit import head_conv
from onnx_kit import CLASSES, LEVELS, GraphWriter, save_model, write_pyramid

from fpcodec import EdgeHalf, Profile, ServerHalf
from fpcodec.calibration import calibrate
from fpcodec.data import generate_scene
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.layouts import LAYOUTS
from fpcodec.detectors.onnx_options import read_options

IMAGE = np.ascontiguousarray(generate_scene(3).image[:128, :120])


@pytest.fixture(scope="module")
def guide(repository: Path) -> str:
    return (repository / "docs" / "detectors.md").read_text("utf-8")


def write_centers(path: Path) -> Path:
    """Per level a map of peaks and one of sides."""
    g = GraphWriter()
    found = []
    g.weight("pixels", np.float32(20))
    for n, level in sorted(write_pyramid(g).items()):
        found.append(g.node("Sigmoid", [head_conv(g, level, f"peaks{n}", CLASSES)], f"heat_p{n}"))
        sides = g.node("Softplus", [head_conv(g, level, f"sides{n}", 2)], f"soft{n}")
        found.append(g.node("Mul", [sides, "pixels"], f"size_p{n}"))
    return save_model(g, path, found)


def test_the_worked_example_runs(
    guide: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx", reason="cutting a graph needs the onnx package")
    from PIL import Image

    found = re.search(r"<!-- example: centers\.py -->\n```python\n(.*?)```", guide, re.DOTALL)
    assert found is not None
    (tmp_path / "centers.py").write_text(found[1])
    monkeypatch.syspath_prepend(tmp_path)
    model = write_centers(tmp_path / "centers.onnx")
    cut = "&".join(f"{level}={tensor}" for level, tensor in LEVELS.items())
    detector = open_detector(
        f"onnx:{model}?{cut}&decode=centers:decode&labels=cat,dog,bird&std=128,128,128", threads=1
    )
    boxes = detector.detect(detector.extract(IMAGE))
    assert len(boxes) > 3

    # The best box is the highest peak of all levels.
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    tensor, geometry = detector.preprocess(IMAGE)  # type: ignore[attr-defined]
    outputs = dict(zip(names, session.run(names, {"image": tensor}), strict=True))
    level = max(LEVELS, key=lambda x: float(outputs[f"heat_{x}"].max()))
    heat, size = outputs[f"heat_{level}"][0], outputs[f"size_{level}"][0]
    label, y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    stride = detector.spec[level].stride
    half = size[:, y, x] / 2
    middle = np.asarray([x + 0.5, y + 0.5]) * stride
    wanted = geometry.to_image(np.concatenate([middle - half, middle + half])[None].astype("f4"))
    assert boxes.labels[0] == label
    np.testing.assert_allclose(boxes.boxes[0], wanted[0], rtol=1e-4, atol=1e-2)

    pictures = [tmp_path / f"{seed}.png" for seed in (1, 2, 3)]
    for seed, path in enumerate(pictures):
        Image.fromarray(generate_scene(seed).image[:128, :128]).save(path)
    calibrate(detector, pictures, tmp_path / "profile", codec="pca", seed=0)
    profile = Profile.load(tmp_path / "profile")
    answer = ServerHalf(profile).infer(EdgeHalf(profile).encode(IMAGE, quality=1.0).data)
    assert len(answer.detections) > 0


def test_the_tables_have_every_layout_option_and_threshold(guide: str) -> None:
    rows = {
        key.strip("` "): line
        for line in guide.split("Options and their defaults")[1].splitlines()
        if line.startswith("| `") and (key := line.split("|")[1])
    }
    for kind, layout in LAYOUTS.items():
        row = rows[kind]
        decode = read_options({"p3": "a", "decode": kind}).decode
        wanted = f"{decode.score_threshold:g}, IoU {decode.nms_iou:g}, {decode.max_detections}"
        assert wanted in row
        for name, value in vars(layout.Options()).items():
            plain = {"strides": (), "activation": "none", "multi_label": False, "pre_nms": 0,
                     "clip": False}  # fmt: skip
            if name in plain and plain[name] == value:
                continue
            text = ",".join(f"{x:.4g}" for x in value) if isinstance(value, tuple) else str(value)
            said = re.search(rf"`{name}=([^`]*)`", row)
            assert said is not None, f"{kind} {name}"
            assert said[1] in (text, text.lower(), f"{value}".rstrip("0").rstrip("."))

"""``fpcodec tensors``: where to cut, found on graphs of which that is known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from layout_kit import OPTIONS, spec_of, write_layout
from onnx_kit import LEVELS, write_model
from typer.testing import CliRunner

from fpcodec.cli.app import app
from fpcodec.detectors.factory import open_detector
from fpcodec.detectors.onnx_levels import outline
from fpcodec.errors import ModelError

pytest.importorskip("onnx", reason="reading a graph needs the onnx package")


@pytest.mark.parametrize("kind", OPTIONS)
def test_the_pyramid_and_the_layout_are_found(kind: str, tmp_path: Path) -> None:
    found = outline(write_layout(tmp_path / "toy.onnx", kind))
    assert found.network_size == (64, 64)
    assert {name: ways[0].name for name, ways in found.levels.items()} == LEVELS
    assert found.levels["p4"][0].shape == (1, 8, 4, 4)
    assert [way.name for way in found.levels["p4"]][:2] == ["out4", "merged4"]
    assert kind in found.layouts


def test_each_tensor_listed_is_a_valid_cut(tmp_path: Path) -> None:
    model = write_layout(tmp_path / "toy.onnx", "yolov8")
    for number in range(3):
        found = outline(model).levels
        spec = spec_of(model, "yolov8")
        for name, ways in found.items():
            spec = spec.replace(f"{name}={LEVELS[name]}", f"{name}={ways[number].name}")
        open_detector(spec, threads=1)


def test_yolox_nano(shared_folder: Path) -> None:
    found = outline(shared_folder / "models" / "yolox_nano.onnx")
    listed = {level: [way.name for way in ways] for level, ways in found.levels.items()}
    assert list(listed) == ["p3", "p4", "p5"]
    for level, name in (("p3", "input.471"), ("p4", "input.531"), ("p5", "input.591")):
        assert name in listed[level]
    assert "yolox" in found.layouts


def test_a_dynamic_graph_wants_a_size(tmp_path: Path) -> None:
    model = write_model(tmp_path / "dynamic.onnx", dynamic=True)
    with pytest.raises(ModelError, match="dynamic size"):
        outline(model)
    assert outline(model, (128, 64)).levels["p3"][0].shape == (1, 8, 8, 16)


def test_what_is_printed(tmp_path: Path) -> None:
    model = write_layout(tmp_path / "toy.onnx", "picodet")
    shown = CliRunner().invoke(app, ["tensors", str(model)])
    assert shown.exit_code == 0, shown.output
    assert "out3" in shown.output
    assert "shapes fit: decode=nanodet, picodet" in shown.output
    answer = CliRunner().invoke(app, ["tensors", str(model), "--json"])
    data = json.loads(answer.stdout)
    assert data["levels"]["p5"][0]["name"] == "out5"
    bad = CliRunner().invoke(app, ["tensors", str(model), "--size", "64"])
    assert bad.exit_code == 2

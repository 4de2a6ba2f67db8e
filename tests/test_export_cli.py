"""``fpcodec export``: a torchvision detector becomes one that needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="needs fpcodec[torch]")
pytest.importorskip("torchvision", reason="needs fpcodec[torch]")
pytest.importorskip("onnx", reason="needs onnx")

from fpcodec.cli.app import app
from fpcodec.detectors.factory import open_detector
from fpcodec.images import load_image

SPEC = "torchvision:fasterrcnn_resnet18_fpn?num_classes=3&min_size=96&max_size=96&labels=no,a,b"


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_folder_is_a_detector_without_torch(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "cut"
    result = run("--detector", SPEC, "--image", photo, "--out", out, "--threads", 1)
    assert result.exit_code == 0, result.stderr
    assert "agreement with torch on photo.png" in result.stderr
    assert {x.name for x in out.iterdir()} == {"detector.json", "edge.onnx", "server.onnx"}
    assert [x.name for x in out.parent.iterdir()] == ["cut"]
    cut, whole = open_detector(f"onnx:{out}", threads=1), open_detector(SPEC, threads=1)
    assert cut.labels == whole.labels == ("no", "a", "b")
    assert cut.spec == whole.spec
    image = load_image(photo)
    pyramid, wanted = cut.extract(image), whole.extract(image)
    for name, level in wanted.levels.items():
        spread = float(np.abs(level).mean())
        assert float(np.abs(pyramid.levels[name] - level).mean()) < 0.1 * spread


def test_what_cannot_be_exported_is_refused(photo: Path, tmp_path: Path) -> None:
    for spec, message in (
        ("tiny", "detector kind tiny cannot be exported"),
        ("torchvision:maskrcnn_resnet18_fpn?min_size=64&max_size=64", "masks cannot be exported"),
    ):
        result = run("--detector", spec, "--image", photo, "--out", tmp_path / "cut")
        assert result.exit_code == 2
        assert message in result.stderr
        assert not (tmp_path / "cut").exists()
    result = run("--detector", SPEC, "--image", photo, "--out", photo)
    assert result.exit_code == 2
    assert "name a new folder" in result.stderr

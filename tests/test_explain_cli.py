"""``fpcodec explain``: a picture for people, numbers for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fpcodec.cli.app import app
from fpcodec.explain.figure import Tile, TileRow, closer, draw_figure, heat_legend


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["explain", *map(str, arguments)])


def explain(photo: Path, out: Path, *arguments: object) -> dict[str, Any]:
    result = run("--image", photo, "--out", out, "--json", "--threads", 1, *arguments)
    assert result.exit_code == 0, result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    with Image.open(out) as picture:
        picture.load()
        assert min(picture.size) > 300
    return report


@pytest.mark.parametrize("method", ["odam", "levels"])
def test_by_gradients(photo: Path, tmp_path: Path, method: str) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    report = explain(photo, tmp_path / "why.png", "--method", method, "--limit", 2)
    assert report["method"] == method
    assert 1 <= len(report["detections"]) <= 2
    for entry in report["detections"]:
        assert entry["score"] >= 0.3
        assert entry["shares"][entry["level"]] == 1
        assert sum(entry["shares"].values()) == 1
        if method == "odam":
            assert entry["energy_in_box"] > 0.3


def test_response_of_every_level(photo: Path, tmp_path: Path) -> None:
    report = explain(photo, tmp_path / "new" / "s.png", "--method", "frs")
    assert [x["level"] for x in report["levels"]] == ["p2", "p3", "p4", "p5", "p6"]
    assert all(0 <= x["mean"] <= x["highest"] <= 1 for x in report["levels"])


@pytest.mark.parametrize("method", ["drise", "drise-features"])
def test_by_masks(photo: Path, tmp_path: Path, method: str) -> None:
    arguments = ("--method", method, "--masks", 12, "--limit", 1)
    report = explain(photo, tmp_path / "a.png", *arguments)
    assert report["masks"] == 12
    assert len(report["detections"]) == 1
    again = explain(photo, tmp_path / "b.png", *arguments)
    assert again["detections"] == report["detections"]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_for_people_there_is_a_table(photo: Path, tmp_path: Path) -> None:
    result = run("--image", photo, "--out", tmp_path / "s.png", "--method", "frs")
    assert result.exit_code == 0
    assert "highest" in result.stdout
    assert str(tmp_path / "s.png") in result.stdout.replace("\n", "")


def test_nothing_to_explain_is_one_line(photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "why.png"
    for arguments, said in (
        (("--min-score", 1, "--method", "drise"), "lower --min-score"),
        (("--detector", "nothing:x"), "nothing"),
        (("--method", "guess"), "guess"),
    ):
        result = run("--image", photo, "--out", out, *arguments)
        assert result.exit_code == 2
        assert said in result.stderr
        assert result.stderr.count("\n") == 1
    assert "no such file" in run("--image", tmp_path / "absent.jpg", "--out", out).stderr
    assert not out.exists()


def test_closer_keeps_the_box_in_view() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[80:90, 180:196] = 255
    near = closer(Tile(image, [np.asarray((180, 80, 196, 90), np.float32)]))
    assert near.image.shape == (30, 60, 3)
    x1, y1, x2, y2 = (int(value) for value in near.boxes[0])
    assert (near.image[y1:y2, x1:x2] == 255).all()
    assert near.image.sum() == image.sum()
    whole = closer(Tile(image, [np.asarray((0, 0, 200, 100), np.float32)]))
    np.testing.assert_array_equal(whole.image, image)


def test_figure_has_room_for_everything() -> None:
    tile = Tile(np.full((30, 10, 3), 9, np.uint8))
    rows = [TileRow("one", [tile, tile], (1, 2, 3)), TileRow("", [tile])]
    small = draw_figure("title", rows)
    large = draw_figure("title", rows, ("left", "right"), [heat_legend("Heat")])
    assert large.height > small.height
    assert draw_figure("a long title " * 30, rows).width > small.width

"""The benchmark of suppression: its rival, its measures, and that it goes on where it was."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from fpcodec.data import write_coco
from fpcodec.data.coco import load_coco
from fpcodec.data.scenes import CROWDED, generate_scene
from fpcodec.detections import Detections
from fpcodec.detectors.decoding import batched_nms
from fpcodec.evaluation.scoring import Bootstrap, score_detections


@pytest.fixture(scope="module")
def modules(repository: Path) -> Iterator[dict[str, ModuleType]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        names = ("crowding", "soft_nms", "crowding_tables")
        yield {name: importlib.import_module(name) for name in names}


def test_soft_nms_takes_score_and_no_box(modules: dict[str, ModuleType]) -> None:
    soft: Any = modules["soft_nms"].batched_soft_nms
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5], [20, 0, 30, 10], [0, 0, 10, 10]], np.float32)
    scores, labels = np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.array([0, 0, 0, 1])
    kept, left = soft(boxes, scores, labels, 0.5, 10)
    assert kept.tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(left, [0.9, 0.7, 0.6, 0.8 * np.exp(-0.25 / 0.5)], rtol=1e-6)
    # Towards no width it is suppression of every overlap.
    kept, left = soft(boxes, scores, labels, 1e-6, 10)
    np.testing.assert_array_equal(kept, batched_nms(boxes, scores, labels, 0.0))
    assert soft(boxes, scores, labels, 0.5, 2)[0].tolist() == [0, 2]


def test_measures_are_those_of_coco(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    dataset = load_coco(write_coco(tmp_path, range(3), CROWDED), tmp_path / "images")
    rng = np.random.default_rng(0)
    found = []
    for seed in range(3):
        scene = generate_scene(seed, CROWDED)
        boxes = scene.boxes + rng.normal(0, 3, scene.boxes.shape).astype(np.float32)
        scores = rng.uniform(0, 1, len(boxes)).astype(np.float32)
        found.append(Detections(boxes, scores, scene.labels))
    crowding = modules["crowding"]
    matches = crowding.match_detections(dataset, found)
    own = crowding.measures(matches, np.ones((1, 3), np.int32))
    wanted = score_detections(dataset, found, (), Bootstrap(200)).ap
    for name in ("ap", "ap50"):
        assert own[name][0] == pytest.approx(wanted[name], abs=1e-6)
    assert 0 < own["ar100"][0] < own["recall50"][0] <= 100
    # A picture counted twice is a data set that has it twice.
    twice = crowding.measures(matches, np.full((1, 3), 2, np.int32))
    assert twice["recall50"][0] == pytest.approx(own["recall50"][0])


def test_a_run_goes_on_and_makes_a_table(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowding = modules["crowding"]
    monkeypatch.setattr(crowding, "LOWS", (0.2,))
    monkeypatch.setattr(crowding, "HIGHS", (0.8,))
    data = write_coco(tmp_path / "data", range(3), CROWDED)
    out, work = tmp_path / "rows.json", tmp_path / "work"
    arguments = [
        "--detector", "tiny", "--images", str(data.parent / "images"), "--annotations", str(data),
        "--choose", "1", "--candidates", "20", "--work", str(work), "--out", str(out),
    ]  # fmt: skip
    crowding.main(arguments)
    first = json.loads(out.read_text())
    times = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    crowding.main(arguments)
    assert json.loads(out.read_text()) == first
    assert {path: path.stat().st_mtime_ns for path in work.iterdir()} == times
    assert [row["way"] for row in first] == [
        "NMS", "NMS, as shipped", "soft-NMS", "Odam-NMS", "Odam-NMS, as published",
    ]  # fmt: skip
    table = modules["crowding_tables"].suppression({"Crowds": out})
    assert table.count("\n| ") == 7
    assert "**Crowds**" in table

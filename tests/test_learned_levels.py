"""The benchmark of key chunks, recovery and partly arrived frames, from images to its tables."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from core_kit import NETWORK, FakeDetector, golden_learned, write_images

from fpcodec.errors import InputError
from fpcodec.evaluation.results import read_rows
from fpcodec.images import load_image
from fpcodec.profile import Profile

pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")

IMAGES = 6


class CountedDetector(FakeDetector):
    """Knows what its head costs."""

    server_macs = 100


@pytest.fixture(scope="module")
def module(repository: Path) -> Iterator[Any]:
    """Gives a benchmark by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module


@pytest.fixture(scope="module")
def levels(module: Any) -> ModuleType:
    found: ModuleType = module("learned_levels")
    return found


def annotate(folder: Path, detector: FakeDetector) -> Path:
    """COCO annotations of pictures: what the unsplit detector finds in them."""
    boxes, images = [], []
    for number, path in enumerate(write_images(folder / "images", IMAGES)):
        image = load_image(path)
        images.append({"id": number, "file_name": path.name, "width": image.shape[1],
                       "height": image.shape[0]})  # fmt: skip
        for x0, y0, x1, y1 in detector.detect(detector.extract(image)).boxes.tolist():
            sides = [x0, y0, x1 - x0, y1 - y0]
            boxes.append({"id": len(boxes), "image_id": number, "category_id": 1, "bbox": sides,
                          "area": sides[2] * sides[3], "iscrowd": 0})  # fmt: skip
    names = [{"id": i + 1, "name": label} for i, label in enumerate(detector.labels)]
    path = folder / "boxes.json"
    path.write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    return path


@pytest.fixture(scope="module")
def results(levels: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run on noise wrote."""
    folder = tmp_path_factory.mktemp("levels")
    profile = golden_learned()
    detector = CountedDetector(profile.spec, NETWORK)
    annotations = annotate(folder, detector)
    command = [
        "learned_levels.py", "--profile", str(profile.path), "--images", str(folder / "images"),
        "--annotations", str(annotations), "--quality", "0.3", "--quality", "0.9", "--draws", "200",
        "--work", str(folder / "work"), "--out", str(folder / "out"),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Profile, "open_detector", lambda *_, **__: detector)
        patch.setattr(sys, "argv", command)
        levels.main()
    return folder / "out"


def test_every_choice_of_chunks_is_measured_at_every_quality(levels: Any) -> None:
    plan = levels.Plan(("p3", "p4", "p5"), (0.4, 0.7))
    choices = [(way.quality, way.levels) for way in plan.choices()]
    assert len(choices) == len(set(choices)) == 12
    assert choices[0] == (0.4, ("p5",))
    assert all(way.levels == ("p3", "p4", "p5") for way in plan.wholes())
    assert [(x.chunks, x.part) for x in plan.prefixes()][:4] == [(0, 0), (1, 0), (2, 0), (2, 0.5)]
    names = [way.name for way in plan.ways()]
    assert len(names) == len(set(names)) == 2 + 12 + 4 + 8


def test_parts_can_be_left_out(levels: Any) -> None:
    names = ("p2", "p3", "p4", "p5")
    kinds = {
        part: {way.kind for way in levels.Plan(names, (0.5,), (part,)).ways()}
        for part in levels.PARTS
    }
    assert kinds == {
        "keys": {"features"}, "recovery": {"recovery"}, "progressive": {"features", "prefix"}
    }  # fmt: skip
    with pytest.raises(InputError, match="leave the part recovery out"):
        levels.Plan(("p3", "p5"), (0.5,)).ways()


def test_the_summary_says_what_the_rows_say(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    rows = {row.name: row for row in read_rows(results)}
    assert summary["images"] == IMAGES
    entries = [x for part in ("keys", "recovery", "progressive") for x in summary[part]]
    assert {entry["name"] for entry in entries} | {"unsplit"} == set(rows)
    for entry in entries:
        row = rows[entry["name"]]
        assert row.sent_bytes is not None
        assert entry["bytes"] == pytest.approx(row.sent_bytes.mean)
        assert entry["ap"]["all"] == pytest.approx(row.ap["ap"], abs=1e-6)
        assert row.drop is not None
        assert entry["lost"]["all"]["low"] == pytest.approx(row.drop.low, abs=0.5)


def test_fewer_chunks_are_fewer_bytes_and_what_arrives_grows(results: Path) -> None:
    summary = json.loads((results / "summary.json").read_text())
    for entry in summary["keys"]:
        saved = entry["saved_percent"]
        assert saved["low"] <= saved["value"] <= saved["high"] < 100
        # Without its parent a finer chunk may take more than both: only these are sure to save.
        if entry["levels"] in (["p5"], ["p4", "p5"]):
            assert saved["low"] > 0
        if entry["levels"] == ["p3", "p4", "p5"]:
            assert saved["low"] == saved["high"] == 0
            assert {x["value"] for x in entry["lost_against_all"].values()} == {0.0}
    for quality in (0.3, 0.9):
        steps = [x for x in summary["progressive"] if x["quality"] == quality]
        assert [len(x["arrived"]) for x in steps] == [0, 1, 2, 2, 3]
        assert np.all(np.diff([x["bytes"] for x in steps]) > 0)
        # Half a chunk is of no use: what is decoded is the same.
        assert steps[2]["ap"] == steps[3]["ap"]
        assert steps[-1]["lost_against_all"]["all"]["value"] == 0


def test_tables_show_every_entry(results: Path, module: Any) -> None:
    tables = module("learned_levels_table")
    chunks, recovery, progressive = (
        make(results) for make in (tables.key_chunks, tables.recovery, tables.progressive)
    )
    assert chunks.count("\n| p3+p4+p5 |") == 2
    assert chunks.count("\n| p4 |") == 2
    for method in ("nothing missing", "learned", "finer", "coarser", "mix"):
        assert f"\n| {method} |" in recovery
    assert progressive.count("\n| the header |") == 2
    assert "\n| p5, p4, 50% of p3 | 0.3 |" in progressive
    for text in (chunks, recovery, progressive):
        assert "learned_levels.py --profile" in text
        widths = {line.count(" |") for line in text.splitlines() if line.startswith("|")}
        assert len(widths) == 1


def made_up_entry(levels: list[str], quality: float, size: float, lost: float) -> dict[str, Any]:
    def interval(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 1, "high": value + 1}

    losses = {scale: interval(lost) for scale in ("all", "large")}
    return {"levels": levels, "quality": quality, "bytes": size,
            "saved_percent": interval(100 - size), "saved_percent_of_best": interval(100 - size),
            "lost_against_all": losses, "lost_against_best": losses}  # fmt: skip


def test_the_sentences_name_what_is_left_out_and_the_cheapest_that_will_do(module: Any) -> None:
    tables = module("learned_levels_table")
    entries = [
        made_up_entry(["p5"], 0.5, 20, 7.0),
        made_up_entry(["p4"], 0.5, 30, 9.0),
        made_up_entry(["p4", "p5"], 0.5, 40, 0.5),
        made_up_entry(["p3", "p4", "p5"], 0.5, 100, 0.0),
    ]
    said = tables.large_only({"keys": entries})
    assert len(said) == 3
    assert "leaving p3+p4 out at quality 0.5 saves 80.0 [79.0, 81.0] %" in said[0]
    assert "leaving p3 out at quality 0.5 saves 60.0" in said[1]
    assert "costs 0.5 [-0.5, 1.5] AP-large" in said[1]
    assert "those of p4+p5 at quality 0.5: 60.0" in said[2]

"""Explanations behind a codec: found again, and the same where nothing changed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.explain.fidelity import compare_maps, find_again
from fpcodec.explain.metrics import box_mask, map_correlation

SIZE = (40, 30)
OBJECTS = [box_mask((2, 2, 15, 20), SIZE), box_mask((20, 5, 38, 28), SIZE)]


def draw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(SIZE[::-1], np.float32)


@given(st.integers(0, 10_000), st.floats(0.01, 100), st.floats(0, 5))
def test_what_did_not_move_correlates_fully(seed: int, scale: float, shift: float) -> None:
    heatmap = draw(seed)
    same = compare_maps(heatmap, heatmap, 0, OBJECTS)
    assert same.correlation == pytest.approx(1)
    assert same.odi_shift == 0
    stretched = np.asarray(scale * heatmap + shift, np.float32)
    assert map_correlation(heatmap, stretched) == pytest.approx(1, abs=1e-3)
    other = draw(seed + 1)
    assert map_correlation(heatmap, other) == pytest.approx(
        float(np.corrcoef(heatmap.ravel(), other.ravel())[0, 1]), abs=1e-6
    )


def test_a_map_that_went_to_the_other_object_shifts_the_index() -> None:
    before, after = (np.asarray(mask, np.float32) for mask in OBJECTS)
    moved = compare_maps(before, after, 0, OBJECTS)
    assert moved.odi_shift == 1
    assert moved.correlation < 0
    back = compare_maps(after, before, 0, OBJECTS)
    assert back.odi_shift == -1


def test_flat_maps_and_other_sizes() -> None:
    assert np.isnan(map_correlation(draw(0), np.ones(SIZE[::-1], np.float32)))
    with pytest.raises(InputError, match="differ in size"):
        map_correlation(draw(0), draw(0)[:-1])


def test_an_object_is_found_again_by_class_and_place() -> None:
    found = Detections(
        np.asarray([
            (0, 0, 100, 60),  # overlaps by 0.6
            (0, 0, 100, 90),  # better, less sure
            (0, 0, 100, 100),  # perfect, another class
            (300, 0, 400, 100),  # elsewhere
        ], np.float32),
        np.asarray([0.9, 0.8, 0.7, 0.6], np.float32),
        np.asarray([1, 1, 2, 1], np.int64),
    )  # fmt: skip
    box = (0, 0, 100, 100)
    # The second is the first's double and suppressed.
    assert find_again(found, box, 1) == 0
    assert find_again(found, box, 2) == 2
    assert find_again(found, box, 3) is None
    assert find_again(found, (100, 100, 200, 200), 1) is None
    assert find_again(found, box, 2, min_score=0.75) is None


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Iterator[ModuleType]:
    pytest.importorskip("torch", reason="needs the torch extra")
    pytest.importorskip("torchvision", reason="needs the torch extra")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("explanation_fidelity")


def test_the_benchmark_measures_profiles_and_pictures(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fpcodec.data import write_coco
    from fpcodec.embedded import embedded_folder

    write_coco(tmp_path, range(40, 42))
    out = tmp_path / "results" / "rows.json"
    arguments = [
        "--profile", embedded_folder("tiny"), "--images", tmp_path / "images",
        "--annotations", tmp_path / "annotations.json", "--objects", 1000, "--quality", 0.1,
        "--quality", 1, "--levels", "p4+p5", "--picture", "png", "--draws", 200,
        "--work", tmp_path / "work", "--out", out,
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["explanation_fidelity.py", *map(str, arguments)])
    benchmark.main()
    found = json.loads(out.read_text("utf-8"))
    assert found["objects"] > 0
    by_way = {x["way"]: x for x in found["summary"]}
    assert list(by_way) == [
        "learned q0.1 all", "learned q1 all", "learned q0.5 p4+p5", "png", "another object"
    ]  # fmt: skip
    # A lossless picture at the network's size is the picture, and its maps are the maps.
    assert by_way["png"]["correlation"]["value"] == pytest.approx(1, abs=1e-3)
    assert by_way["png"]["lost"]["value"] == 0
    fine, coarse = by_way["learned q1 all"], by_way["learned q0.1 all"]
    assert fine["mean_bytes"] > coarse["mean_bytes"]
    assert fine["correlation"]["value"] > coarse["correlation"]["value"]
    assert by_way["another object"]["correlation"]["value"] < coarse["correlation"]["value"]
    again = json.loads(out.read_text("utf-8"))
    benchmark.main()  # everything is done already
    assert json.loads(out.read_text("utf-8"))["summary"] == again["summary"]

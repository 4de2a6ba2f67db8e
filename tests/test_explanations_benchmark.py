"""The benchmark of explanations: what is explained, measured alike, resumable."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from fpcodec.data import write_coco
from fpcodec.detections import Detections
from fpcodec.errors import InputError

METRICS = {"pointing_game", "energy", "compactness", "odi", "deletion", "insertion", "seconds"}


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("explanations")


def test_explained_is_what_is_right_beyond_doubt(benchmark: ModuleType) -> None:
    boxes = np.asarray([(0, 0, 100, 100), (200, 0, 300, 100), (400, 0, 500, 100)], np.float32)
    labels = np.asarray([1, 2, -1])
    found = Detections(
        np.asarray([
            (200, 0, 300, 99),  # the second
            (0, 0, 100, 97),  # the first
            (2, 0, 100, 100),  # the first again, suppressed
            (0, 0, 100, 80),  # too loose
            (400, 0, 500, 100),  # a class the detector lacks
            (0, 0, 100, 100),  # perfect, but not sure enough
        ], np.float32),
        np.asarray([0.9, 0.8, 0.7, 0.6, 0.5, 0.09], np.float32),
        np.asarray([2, 1, 1, 2, 0, 1], np.int64),
    )  # fmt: skip
    chosen = benchmark.choose(found, boxes, labels)
    assert chosen.indices.tolist() == [0, 1]
    assert chosen.truths.tolist() == [1, 0]
    nothing = benchmark.choose(found, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert not len(nothing.indices)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two generated scenes with their boxes."""
    write_coco(tmp_path, range(40, 42))
    return tmp_path


def measure(
    benchmark: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch, *more: str
) -> list[dict[str, object]]:
    out = data / "rows.json"
    arguments = [
        "--detector", "tiny", "--images", data / "images",
        "--annotations", data / "annotations.json",
        "--objects", 1000, "--work", data / "work", "--out", out, "--draws", 200,
        "--method", "odam", "--method", "drise-features", "--masks", 4,
    ]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["explanations.py", *map(str, arguments), *more])
    benchmark.main()
    rows: list[dict[str, object]] = json.loads(out.read_text("utf-8"))
    return rows


def test_run_is_resumed_after_a_kill(
    benchmark: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two looks at a curve instead of ten: the curve itself is tried elsewhere.
    monkeypatch.setattr("fpcodec.explain.perturbation.LOOK_EVERY", 50)
    rows = measure(benchmark, data, monkeypatch)
    assert [row["method"] for row in rows] == ["odam", "drise-features"]
    for row in rows:
        assert row["objects"] > 0
        assert row["environment"]["command"].startswith("python explanations.py")
        for metric in METRICS:
            assert row[metric]["low"] <= row[metric]["value"] <= row[metric]["high"]
    assert "minus_odam" in rows[1]["energy"]
    assert rows[0]["energy"]["value"] > rows[1]["energy"]["value"]

    done = data / "work" / "objects.jsonl"
    lines = done.read_text("utf-8").splitlines()
    assert len(lines) == 2
    # Killed while it wrote the last image.
    done.write_text("\n".join([lines[0], lines[1][:40]]), "utf-8")
    again = measure(benchmark, data, monkeypatch)
    for metric in METRICS - {"seconds"}:
        assert again[0][metric] == rows[0][metric]
    assert done.read_text("utf-8").splitlines()[0] == lines[0]

    with pytest.raises(InputError, match="other settings"):
        measure(benchmark, data, monkeypatch, "--budget", "image")

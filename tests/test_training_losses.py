"""The benchmark of training losses: nothing judged on is trained on, and bytes are held equal."""

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

from evaluation_kit import random_dataset, random_detections

from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import average_precision
from fpcodec.evaluation.matching import SCALE_AREAS, match_detections
from fpcodec.evaluation.runner import UNSPLIT
from fpcodec.evaluation.scoring import Bootstrap
from fpcodec.evaluation.traces import Trace


@pytest.fixture(scope="module")
def benchmark(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("training_losses")


def dataset_on_disk(folder: Path, seed: int = 0) -> Any:
    from dataclasses import replace

    dataset = replace(random_dataset(np.random.default_rng(seed), images=20), folder=folder)
    for path in dataset.paths():
        path.touch()
    (folder / "unlabelled.jpg").touch()
    return dataset


def test_images_judged_on_are_not_trained_on(benchmark, tmp_path) -> None:
    dataset = dataset_on_disk(tmp_path)
    judged, images = benchmark.split(dataset, tmp_path, held_out=6, limit=100, seed=0)
    assert len(judged) == 6
    assert len(images) == 15
    assert not set(judged.paths()) & set(images)
    assert {box.image_id for box in judged.boxes} <= {image.id for image in judged.images}
    again = benchmark.split(dataset, tmp_path, held_out=6, limit=5, seed=0)
    assert again[0] == judged
    assert len(again[1]) == 5
    with pytest.raises(InputError, match="lower --held-out"):
        benchmark.split(dataset, tmp_path, held_out=21, limit=5, seed=0)


def test_drop_is_read_between_qualities_and_never_beyond_them(benchmark) -> None:
    draws = np.array([[4.0, 5.0], [1.0, 2.0]])
    curve = benchmark.ScaleCurve(np.array([1000.0, 4000.0]), np.array([4.0, 1.0]), draws)
    value, drawn = curve.at(2000)  # half-way on a logarithmic scale
    assert value == pytest.approx(2.5)
    np.testing.assert_allclose(drawn, [2.5, 3.5])
    assert curve.at(1000)[0] == pytest.approx(4)
    assert curve.at(4000)[0] == pytest.approx(1)
    assert curve.at(999) is None
    assert curve.at(4001) is None


def test_gain_is_paired_and_at_equal_bytes(benchmark) -> None:
    noise = np.random.default_rng(0).normal(0, 5, (1, 300))
    size = np.array([500.0, 5000.0])

    def curve(drop: float) -> Any:
        drops = np.array([drop, drop])
        return benchmark.ScaleCurve(size, drops, drops[:, None] + noise)

    found = {("mse", "small"): curve(3.0), ("frs", "small"): curve(1.0)}
    summary = benchmark.summarise(found, [1000.0, 9000.0])
    by_key = {(x["loss"], x["bytes"]): x for x in summary}
    gain = by_key["frs", 1000.0]["gain_over_mse"]
    # What all draws share cancels: each drop is uncertain, their difference is not.
    assert gain["value"] == pytest.approx(2)
    assert gain["low"] == pytest.approx(2)
    assert gain["high"] == pytest.approx(2)
    assert by_key["frs", 1000.0]["drop"]["high"] > 5
    assert by_key["mse", 1000.0]["gain_over_mse"] is None
    assert by_key["frs", 9000.0]["drop"] is None
    assert json.dumps(summary, allow_nan=False)


def test_drops_are_those_of_each_scale(benchmark) -> None:
    generator = np.random.default_rng(3)
    dataset = random_dataset(generator, images=30)
    measured = benchmark.ways([0.2, 0.5])
    traces = {UNSPLIT: Trace(detections=random_detections(generator, dataset, 2.0))}
    for i, way in enumerate(measured):
        found = random_detections(generator, dataset, 8.0)
        traces[way.name] = Trace(detections=found, sent_bytes=[100 + i] * len(dataset))
    found = benchmark.curves(dataset, (), traces, measured, Bootstrap(200))
    assert len(found) == 4 * 4
    curve = found["frs", "large"]
    way = next(x for x in measured if x.profile == "frs")

    def large(name: str) -> float:
        areas = SCALE_AREAS["large"]
        return average_precision(match_detections(dataset, traces[name].detections, areas=areas))

    assert curve.drops[0] == pytest.approx(large(UNSPLIT) - large(way.name))
    assert curve.draws.shape == (2, 200)
    assert curve.mean_bytes[0] == np.mean(traces[way.name].sent_bytes)

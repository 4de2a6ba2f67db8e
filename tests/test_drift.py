"""Feature drift: measured where it is known, summed up, and a study that survives being killed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from explain_kit import FakeDetector, one_box
from PIL import Image
from typer.testing import CliRunner

from fpcodec.cli.drift import drift as drift_command
from fpcodec.data.coco import CocoBox, CocoCategory, CocoDataset, CocoImage
from fpcodec.data.coco_export import write_coco
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.levels.detector_source import DetectorSource
from fpcodec.explain.drift import ObjectDrift, evidence_centre, measure_drift
from fpcodec.explain.drift_study import DriftStudy, run_drift
from fpcodec.explain.drift_summary import MeanInterval, summarise
from fpcodec.explain.drise import SaliencyConfig
from fpcodec.explain.targets import Targets, right_detections
from fpcodec.pyramid import Pyramid

BOX = (32.0, 16.0, 96.0, 80.0)
DIAGONAL = 64 * 2**0.5


@dataclass(frozen=True)
class _Mover(FakeDetector):
    """Sees an object by a patch of the image and reads its box from a cell: both known.

    Attributes:
        patch: ``(row, column)`` of the cells of the middle level that the patch covers.
        cell: Where its backbone puts that evidence.
    """

    patch: tuple[int, int] = (6, 5)
    cell: tuple[int, int] = (6, 8)

    def extract(self, image: np.ndarray, levels: object = None) -> Pyramid:
        pyramid = super().extract(image)
        values = pyramid.levels["p4"].copy()
        values[:, self.cell[0], self.cell[1]] = values[:, self.patch[0], self.patch[1]]
        return Pyramid(self.spec, {**pyramid.levels, "p4": values}, pyramid.geometry)

    def detect(self, pyramid: Pyramid) -> Detections:
        score = pyramid.levels["p4"].mean(axis=0)[self.cell]
        return one_box(BOX, float(score))


IMAGE = np.full((96, 128, 3), 230, np.uint8)
CONFIG = SaliencyConfig(masks=1200, grid=12)


def _measure(detector: FakeDetector, config: SaliencyConfig = CONFIG) -> ObjectDrift:
    targets = Targets(detector.detect(detector.extract(IMAGE)), np.array([1.0]))
    (found,) = measure_drift(detector, IMAGE, targets, config)
    return found


def test_evidence_that_moves_is_measured() -> None:
    found = _measure(_Mover(cells={("p4", 0): (6, 8)}))
    # Three cells of eight pixels to the right, nearly to the middle of the box.
    assert found.drift == pytest.approx(24 / DIAGONAL, abs=0.06)
    assert found.image[0] + 15 < found.features[0]
    assert abs(found.image[1] - found.features[1]) < 6
    assert found.centre_bias > 0.1
    assert found.noise < found.drift / 2
    assert found.squared_drift == pytest.approx(found.drift**2, abs=0.02)
    assert found.squared_bias > 0.02
    assert found.probe is not None
    assert found.probe_to_features is not None
    assert found.probe_to_image is not None
    assert found.probe_to_features < 0.06 < found.probe_to_image
    assert found.scale == "medium"


def test_evidence_that_stays_is_within_its_noise() -> None:
    found = _measure(_Mover(patch=(7, 7), cell=(7, 7), labels=("a", "b", "c")))
    assert found.drift < 0.06
    assert abs(found.centre_bias) < 0.06
    assert abs(found.squared_drift) < 0.003
    # Three labels and two channels: this head scores no classes.
    assert found.probe is None
    assert found.probe_to_features is None


def test_progress_counts_all_masks_once() -> None:
    detector, calls = _Mover(), []
    targets = Targets(detector.detect(detector.extract(IMAGE)), np.array([1.0]))
    config = SaliencyConfig(masks=7)
    measure_drift(detector, IMAGE, targets, config, lambda *x: calls.append(x))
    assert calls == [(i, 14) for i in range(1, 15)]
    with pytest.raises(InputError, match="no two halves"):
        measure_drift(detector, IMAGE, targets, SaliencyConfig(masks=1))


def test_the_centre_of_evidence_ignores_a_noisy_background() -> None:
    heat = np.random.default_rng(0).uniform(0, 0.45, (100, 200)).astype(np.float32)
    heat[40:50, 30:40] = 1
    # Outside twice the box nothing counts, however hot.
    heat[:, 150:] = 9
    assert evidence_centre(heat, [20, 30, 60, 60]) == pytest.approx((35, 45), abs=0.5)
    with pytest.raises(InputError, match="lies outside"):
        evidence_centre(heat, [900, 30, 950, 60])


def test_right_detections_are_sure_of_their_class_and_one_a_box() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 0, 10, 4], [50, 50, 70, 70],
                      [50, 50, 70, 70], [80, 0, 90, 10]], np.float32)  # fmt: skip
    scores = np.array([0.8, 0.9, 0.95, 0.7, 0.6, 0.5], np.float32)
    labels = np.array([0, 0, 0, 0, 1, 2], np.int64)
    truths = np.array([[0, 0, 10, 10], [50, 50, 20, 20], [80, 0, 10, 10]], np.float64)
    kinds = np.array([0, 1, 2])
    found = right_detections(Detections(boxes, scores, labels), truths, kinds, limit=9)
    assert found.detections.scores == pytest.approx([0.9, 0.6])
    assert found.ious == pytest.approx([90 / 110, 1])
    assert len(right_detections(found.detections, truths, kinds, limit=1).detections) == 1
    assert not len(right_detections(found.detections, truths[:0], kinds[:0], limit=1).detections)


def test_a_mean_has_an_interval_that_covers_it() -> None:
    values = np.random.default_rng(0).normal(2, 1, 400)
    found = MeanInterval.of(list(values))
    assert found.n == 400
    assert found.mean == pytest.approx(values.mean())
    # Normal theory: 1.96 standard errors to both sides.
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert found.low < found.mean < found.high
    assert MeanInterval.of(list(values)) == found
    with pytest.raises(InputError, match="no objects"):
        MeanInterval.of([])


def test_a_summary_goes_by_scale_and_leaves_out_what_is_unknown() -> None:
    known = _measure(_Mover(), SaliencyConfig(masks=10))
    blind = replace(known, probe=None, probe_to_features=None, probe_to_image=None, scale="large")
    found = summarise([known, known, blind])
    assert set(found) == {"all", "medium", "large"}
    assert found["all"]["drift"].n == 3
    assert found["all"]["probe_to_features"].n == 2
    assert "probe_to_features" not in found["large"]
    assert ObjectDrift.from_dict(json.loads(json.dumps(known.to_dict()))) == known
    with pytest.raises(InputError, match="measure anew"):
        ObjectDrift.from_dict({"label": 1})


# The study


@dataclass(frozen=True)
class _Source(DetectorSource):
    """Opens the mover and counts what it is asked to detect."""

    profile: Path | None = None
    runs: list[int] = field(default_factory=list, hash=False, compare=False)

    def open(self) -> Any:
        runs = self.runs

        class _Counting(_Mover):
            def detect(self, pyramid: Pyramid) -> Detections:
                runs.append(1)
                return super().detect(pyramid)

        return _Counting()

    def identity(self) -> dict[str, Any]:
        return {"kind": "mover"}


def _dataset(folder: Path, pictures: int = 4) -> CocoDataset:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(pictures):
        Image.fromarray(IMAGE).save(folder / f"{index}.png")
    images = tuple(CocoImage(i, f"{i}.png", 128, 96) for i in range(pictures))
    # The second picture's object is of another class.
    boxes = tuple(CocoBox(i, 1 + (i == 1), (32, 16, 64, 64), 4096.0) for i in range(pictures))
    return CocoDataset(
        "squares", folder, images, boxes, (CocoCategory(1, "a"), CocoCategory(2, "b"))
    )


def _study(folder: Path, **changes: Any) -> DriftStudy:
    study = DriftStudy(
        _Source(), _dataset(folder / "data"), folder / "out", 2, 3, SaliencyConfig(masks=20),
        Environment.capture("fpcodec drift", 1),
    )  # fmt: skip
    return replace(study, **changes)


def test_a_study_measures_until_there_are_enough_objects(tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    result = run_drift(_study(tmp_path), lambda *x: steps.append(x))
    assert json.loads((tmp_path / "out" / "rows.json").read_text()) == result
    assert (result["objects"], result["images"]) == (2, 3)
    assert [row["file"] for row in result["rows"]] == ["0.png", "2.png"]
    assert result["summary"]["all"]["drift"]["n"] == 2
    assert result["environment"]["command"] == "fpcodec drift"
    assert [x[1:] for x in steps if x[0] == "objects"] == [(0, 2), (1, 2), (1, 2), (2, 2)]
    assert len([x for x in steps if x[0] == "masks"]) == 2 * 2 * 20


def test_a_killed_study_goes_on_and_a_larger_one_goes_further(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("objects", 1):
            raise Killed

    with pytest.raises(Killed):
        run_drift(_study(tmp_path), kill)
    assert [x.name for x in (tmp_path / "out" / "images").iterdir()] == ["0.json"]
    study = _study(tmp_path, objects=3)
    resumed = run_drift(study)
    assert len(study.source.runs) == 1 + 2 * (1 + 40)  # type: ignore[attr-defined]
    whole = run_drift(_study(tmp_path / "again", objects=3, dataset=study.dataset))
    assert resumed["rows"] == whole["rows"]


def test_another_study_s_folder_is_refused(tmp_path: Path) -> None:
    run_drift(_study(tmp_path))
    with pytest.raises(InputError, match="choose another --out"):
        run_drift(_study(tmp_path, saliency=SaliencyConfig(masks=20, seed=1)))
    (tmp_path / "out" / "images" / "0.json").write_text("{")
    with pytest.raises(InputError, match="delete it and run again"):
        run_drift(_study(tmp_path))


def test_nothing_to_measure_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no detection scores above 0\.99"):
        run_drift(_study(tmp_path, min_score=0.99))
    with pytest.raises(InputError, match="use 1 or more"):
        _study(tmp_path, objects=0)


def test_the_command_writes_rows_and_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    app = typer.Typer()
    app.command()(drift_command)
    annotations = write_coco(tmp_path, range(3))
    arguments = [
        "--detector", "tiny", "--images", str(tmp_path / "images"),
        "--annotations", str(annotations), "--out", str(tmp_path / "out"),
        "--objects", "2", "--per-image", "2", "--masks", "4",
    ]  # fmt: skip
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    result = json.loads(done.stdout)
    assert result == json.loads((tmp_path / "out" / "rows.json").read_text())
    assert result["objects"] == 2
    # A two-stage head: no class slice to compare with.
    assert result["rows"][0]["probe"] is None
    assert (tmp_path / "out" / "drift.png").read_bytes()[:4] == b"\x89PNG"
    table = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "drift of the evidence" in table.stdout

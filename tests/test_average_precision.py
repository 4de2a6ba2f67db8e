"""AP: our matching beside faster-coco-eval's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from evaluation_kit import detections, random_dataset, random_detections

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.average_precision import evaluate_ap
from fpcodec.evaluation.bootstrap import average_precision
from fpcodec.evaluation.matching import SCALE_AREAS, match_detections

pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crowds", [False, True])
def test_own_matching_gives_the_ap_of_faster_coco_eval(seed: int, crowds: bool) -> None:
    generator = np.random.default_rng(seed)
    dataset = random_dataset(generator, crowds=crowds)
    found = random_detections(generator, dataset)
    expected = evaluate_ap(dataset, found).ap
    assert expected is not None
    assert 5 < expected < 95
    assert average_precision(match_detections(dataset, found)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("crowds", [False, True])
def test_own_matching_gives_the_ap_by_scale_of_faster_coco_eval(seed: int, crowds: bool) -> None:
    generator = np.random.default_rng(seed)
    dataset = random_dataset(generator, images=30, crowds=crowds)
    found = random_detections(generator, dataset)
    expected = evaluate_ap(dataset, found).to_dict()
    for scale, areas in SCALE_AREAS.items():
        matches = match_detections(dataset, found, areas=areas)
        assert average_precision(matches) == pytest.approx(expected[f"ap_{scale}"], abs=1e-6)


def test_only_a_hundred_detections_of_a_category_count_as_in_coco() -> None:
    dataset = random_dataset(np.random.default_rng(5), images=1)
    box = dataset.boxes[0]
    label = [c.id for c in dataset.categories].index(box.category_id)
    x, y, w, h = box.bbox
    rows = [(300.0, 300.0, 310.0, 310.0, 0.9, label)] * 100
    found = [detections([*rows, (x, y, x + w, y + h, 0.1, label)])]
    assert evaluate_ap(dataset, found).ap == 0
    assert average_precision(match_detections(dataset, found)) == 0


def test_perfect_detections_score_a_hundred_and_none_score_zero() -> None:
    dataset = random_dataset(np.random.default_rng(1))
    perfect = random_detections(_Exact(), dataset, 0.0)  # type: ignore[arg-type]
    assert evaluate_ap(dataset, perfect).ap == pytest.approx(100)
    nothing = [detections([])] * len(dataset)
    scores = evaluate_ap(dataset, nothing)
    assert (scores.ap, scores.ap50, scores.ap_small) == (0, 0, 0)
    assert average_precision(match_detections(dataset, nothing)) == 0


class _Exact:
    """Stands in for a generator: every box is found once, exactly, and nothing else is."""

    def choice(self, _: Any) -> int:
        return 1

    def normal(self, _mean: float, _sigma: float, size: int) -> Any:
        return np.zeros(size)

    def random(self) -> float:
        return 0.5

    def integers(self, *_: Any) -> int:
        return 0


def test_a_scale_without_boxes_has_no_ap() -> None:
    dataset = random_dataset(np.random.default_rng(1))
    large = replace(dataset, boxes=tuple(b for b in dataset.boxes if b.area > 96**2))
    scores = evaluate_ap(large, random_detections(np.random.default_rng(0), large))
    assert scores.ap_small is None
    assert scores.ap_large == scores.ap


def test_scoring_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    dataset = random_dataset(np.random.default_rng(1))
    evaluate_ap(dataset, random_detections(np.random.default_rng(0), dataset))
    assert capfd.readouterr() == ("", "")


def test_detections_go_to_categories_by_label_name() -> None:
    dataset = random_dataset(np.random.default_rng(3))
    found = random_detections(np.random.default_rng(4), dataset)
    labels = ("background", "C11", "C9", "C5", "C2")
    renamed = [Detections(x.boxes, x.scores, 4 - x.labels) for x in found]
    assert evaluate_ap(dataset, renamed, labels) == evaluate_ap(dataset, found)
    assert average_precision(match_detections(dataset, renamed, labels)) == pytest.approx(
        average_precision(match_detections(dataset, found))
    )


def test_wrong_counts_and_unknown_labels_are_refused() -> None:
    dataset = random_dataset(np.random.default_rng(3), images=2)
    with pytest.raises(InputError, match="1 sets of detections for 2 images"):
        match_detections(dataset, [detections([])])
    with pytest.raises(InputError, match="label 4"):
        evaluate_ap(dataset, [detections([(0, 0, 1, 1, 0.5, 4)]), detections([])])

"""How far two sets of detections agree."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_kit import detections, random_dataset, random_detections

from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import Agreement, agreement, total_agreement


def test_agreement_counts_matched_pairs_of_one_label() -> None:
    a = detections([(0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.8, 2), (0, 0, 9, 9, 0.1, 1)])
    b = detections([(0, 0, 10, 8, 0.6, 1), (50, 50, 60, 60, 0.7, 3)])
    agreed = agreement(a, b)
    assert (agreed.matched, agreed.count_a, agreed.count_b) == (1, 2, 2)
    assert agreed.f1 == 0.5
    assert agreed.mean_iou == pytest.approx(0.8)


def test_agreement_is_symmetrical() -> None:
    generator = np.random.default_rng(0)
    dataset = random_dataset(generator, images=30)
    a, b = (random_detections(generator, dataset) for _ in range(2))
    for x, y in zip(a, b, strict=True):
        one, other = agreement(x, y), agreement(y, x)
        assert (one.matched, one.f1) == (other.matched, other.f1)
        assert one.iou_sum == pytest.approx(other.iou_sum)
    assert 0.2 < total_agreement(zip(a, b, strict=True)).f1 < 1
    assert total_agreement(zip(a, a, strict=True)).f1 == 1


def test_agreement_of_nothing_with_nothing_is_whole() -> None:
    none = detections([])
    assert agreement(none, none).f1 == 1
    assert agreement(none, none).mean_iou is None
    assert agreement(none, detections([(0, 0, 1, 1, 0.9, 0)])).f1 == 0
    assert total_agreement([]) == Agreement()
    with pytest.raises(InputError, match="thresholds"):
        agreement(none, none, min_iou=1.5)

"""AP by object scale on common draws."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_kit import random_dataset, random_detections

from fpcodec.evaluation.matching import match_detections
from fpcodec.evaluation.scales import SCALES, score_scales
from fpcodec.evaluation.scoring import Bootstrap, score_detections

BOOTSTRAP = Bootstrap(200, 5)


def data():
    generator = np.random.default_rng(11)
    dataset = random_dataset(generator, images=20)
    close, far = (random_detections(generator, dataset, jitter) for jitter in (2.0, 25.0))
    return dataset, close, far


def test_scales_are_what_coco_counts() -> None:
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    dataset, close, _ = data()
    found = score_scales(dataset, close, (), BOOTSTRAP)
    score = score_detections(dataset, close, (), BOOTSTRAP)
    for scale, key in (("all", "ap"), ("medium", "ap_medium"), ("large", "ap_large")):
        assert found.own[scale] == pytest.approx(score.ap[key], abs=1e-6)
    np.testing.assert_allclose(found.draws["all"], score.draws)


def test_losses_are_paired_and_clear_where_they_are_large() -> None:
    dataset, close, far = data()
    near, off = (score_scales(dataset, x, (), BOOTSTRAP) for x in (close, far))
    assert near.lost_against(near)["all"].low == near.lost_against(near)["all"].high == 0
    lost, won = off.lost_against(near), near.lost_against(off)
    assert lost["all"].low > 0
    assert lost["all"].value == pytest.approx(near.own["all"] - off.own["all"])
    assert won["all"].value == pytest.approx(-lost["all"].value)
    assert won["all"].high == pytest.approx(-lost["all"].low)


def test_a_scale_without_boxes_is_left_out() -> None:
    dataset, close, _ = data()
    from dataclasses import replace

    low, high = SCALES["small"]
    without = replace(dataset, boxes=tuple(x for x in dataset.boxes if x.area > high))
    found = score_scales(without, close, (), BOOTSTRAP)
    assert low < high
    assert set(found.own) == set(found.draws) == {"all", "medium", "large"}
    assert not match_detections(without, close, (), SCALES["small"]).categories[0].truths.any()

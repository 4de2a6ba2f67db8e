"""Weighted AP and paired drops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from evaluation_kit import random_dataset, random_detections

from fpcodec.data.coco import CocoDataset
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.average_precision import evaluate_ap
from fpcodec.evaluation.bootstrap import Interval, average_precision, paired_drops, weighted_ap
from fpcodec.evaluation.matching import match_detections

pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")


def duplicated(
    dataset: CocoDataset, found: Sequence[Detections], times: Sequence[int]
) -> tuple[CocoDataset, list[Detections]]:
    """The data set in which each image really stands several times, under new ids."""
    images, boxes, copies = [], [], []
    for image, here, count in zip(dataset.images, found, times, strict=True):
        for _ in range(count):
            new_id = len(images) + 1
            images.append(replace(image, id=new_id))
            boxes += [replace(b, image_id=new_id) for b in dataset.boxes if b.image_id == image.id]
            copies.append(here)
    return replace(dataset, images=tuple(images), boxes=tuple(boxes)), copies


@pytest.mark.parametrize("crowds", [False, True])
def test_weighted_ap_is_that_of_images_duplicated_by_hand(crowds: bool) -> None:
    generator = np.random.default_rng(11)
    dataset = random_dataset(generator, crowds=crowds)
    found = random_detections(generator, dataset)
    count = len(dataset)
    weights = generator.multinomial(count, [1 / count] * count, size=25).astype(np.int32)
    weighted = weighted_ap(match_detections(dataset, found), weights)
    expected = [evaluate_ap(*duplicated(dataset, found, row.tolist())).ap for row in weights]
    np.testing.assert_allclose(weighted, np.array(expected, float), atol=1e-6)
    assert np.std(weighted) > 1


def test_a_draw_without_annotated_boxes_has_no_ap() -> None:
    dataset = random_dataset(np.random.default_rng(1), images=3)
    first = dataset.images[0].id
    dataset = replace(dataset, boxes=tuple(b for b in dataset.boxes if b.image_id != first))
    found = random_detections(np.random.default_rng(2), dataset)
    weighted = weighted_ap(match_detections(dataset, found), np.array([[3, 0, 0]], np.int32))
    assert np.isnan(weighted).all()


def test_a_setting_like_the_reference_drops_by_nothing_at_all() -> None:
    generator = np.random.default_rng(2)
    dataset = random_dataset(generator, images=20)
    found = match_detections(dataset, random_detections(generator, dataset))
    drops = paired_drops(found, {"same": found}, draws=200)
    assert drops["same"] == Interval(0.0, 0.0, 0.0, 200)


def test_a_worse_setting_has_an_interval_around_its_drop_and_pairing_narrows_it() -> None:
    generator = np.random.default_rng(8)
    dataset = random_dataset(generator, images=60)
    good = random_detections(generator, dataset, jitter=2)
    # The same detections, some of them shifted: what pairing is for.
    worse = [
        Detections(
            x.boxes + np.float32(3) * (np.arange(len(x)) % 3 == 0)[:, None].astype(np.float32),
            x.scores, x.labels,
        )
        for x in good
    ]  # fmt: skip
    reference, setting = match_detections(dataset, good), match_detections(dataset, worse)
    interval = paired_drops(reference, {"worse": setting}, draws=400, seed=3)["worse"]
    exact = average_precision(reference) - average_precision(setting)
    assert interval.value == pytest.approx(exact)
    assert 0 < interval.low < interval.value < interval.high
    # The same difference with other draws for each side.
    draw = np.random.default_rng(0).multinomial(60, [1 / 60] * 60, size=800).astype(np.int32)
    unpaired = weighted_ap(reference, draw[:400]) - weighted_ap(setting, draw[400:])
    low, high = np.percentile(unpaired, [2.5, 97.5])
    assert interval.high - interval.low < (high - low) / 2


def test_a_seed_fixes_the_interval() -> None:
    generator = np.random.default_rng(2)
    dataset = random_dataset(generator)
    a, b = (match_detections(dataset, random_detections(generator, dataset)) for _ in range(2))
    first, again, other = (paired_drops(a, {"b": b}, draws=200, seed=s)["b"] for s in (1, 1, 2))
    assert first == again
    assert first.value == other.value
    assert first.low != other.low


def test_too_few_draws_and_unpaired_images_are_refused() -> None:
    dataset = random_dataset(np.random.default_rng(2))
    found = random_detections(np.random.default_rng(0), dataset)
    matches = match_detections(dataset, found)
    with pytest.raises(InputError, match="199 bootstrap draws"):
        paired_drops(matches, {}, draws=199)
    fewer = match_detections(dataset.limit(3), found[:3])
    with pytest.raises(InputError, match="pair the same images"):
        paired_drops(matches, {"fewer": fewer}, draws=200)

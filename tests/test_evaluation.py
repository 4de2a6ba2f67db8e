"""AP, its bootstrap, agreement, result rows and the runner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

import fpcodec
from fpcodec.bitstream import Chunk, Frame, write_frame
from fpcodec.data.coco import CocoBox, CocoCategory, CocoDataset, CocoImage
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import Agreement, agreement, total_agreement
from fpcodec.evaluation.average_precision import evaluate_ap
from fpcodec.evaluation.bootstrap import Interval, average_precision, paired_drops, weighted_ap
from fpcodec.evaluation.detection_files import read_detections, write_detections
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.matching import match_detections
from fpcodec.evaluation.results import (
    ResultRow,
    Spread,
    bytes_at_drop,
    pareto_hull,
    read_rows,
    write_rows,
)
from fpcodec.evaluation.runner import Bootstrap, evaluate, evaluate_ways
from fpcodec.evaluation.ways import FeaturesWay, level_bytes, rival_ways
from fpcodec.pyramid import ImageGeometry, LevelSpec, Pyramid, PyramidSpec

coco_eval = pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")


def detections(rows: Sequence[tuple[float, float, float, float, float, int]]) -> Detections:
    values = np.array(rows, np.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


def random_dataset(
    generator: np.random.Generator, images: int = 12, crowds: bool = False
) -> CocoDataset:
    """Boxes of all scales in three categories; the fourth never occurs."""
    boxes = []
    for image in range(images):
        for _ in range(generator.integers(0, 7)):
            left, top = generator.integers(0, 200, 2)
            width, height = generator.integers(4, 160, 2)
            boxes.append(CocoBox(
                100 - image, int(generator.choice([2, 5, 9])),
                (float(left), float(top), float(width), float(height)), float(width * height),
                crowds and bool(generator.random() < 0.2),
            ))  # fmt: skip
    return CocoDataset(
        "random", Path(), tuple(CocoImage(100 - i, f"{i}.jpg", 400, 400) for i in range(images)),
        tuple(boxes), tuple(CocoCategory(i, f"c{i}") for i in (2, 5, 9, 11)),
    )  # fmt: skip


def random_detections(
    generator: np.random.Generator, dataset: CocoDataset, jitter: float = 6.0
) -> list[Detections]:
    """Found boxes with noise, missed ones, doubles and false alarms."""
    order = [category.id for category in dataset.categories]
    found = []
    for image in dataset.images:
        rows = []
        for box in dataset.boxes:
            if box.image_id != image.id:
                continue
            for _ in range(generator.choice([0, 1, 1, 2])):
                x, y, w, h = np.array(box.bbox) + generator.normal(0, jitter, 4)
                label = order.index(box.category_id)
                rows.append((x, y, x + max(w, 1), y + max(h, 1), generator.random(), label))
        for _ in range(generator.integers(0, 4)):
            x, y = generator.integers(0, 300, 2)
            rows.append((x, y, x + 30, y + 30, generator.random() / 2, generator.integers(0, 4)))
        found.append(detections(rows))
    return found


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


def row(sent_bytes: float, drop: float, kind: str = "features") -> ResultRow:
    return ResultRow(
        name=f"{sent_bytes:g}", kind=kind, parameters={"quality": 0.5, "levels": ["p3"]},
        data="d", images=3, seed=0, ap={"ap": 20 - drop, "ap_small": None},
        drop=Interval(drop, drop - 0.1, drop + 0.1, 200),
        sent_bytes=Spread(sent_bytes, sent_bytes, sent_bytes), level_bytes={"p3": sent_bytes},
        times_ms={"encode": Spread(1.0, 1.0, 2.0)}, agreement_f1=0.9, agreement_iou=None,
        environment=Environment("cmd", None, {"numpy": "2"}, "cpu", 1),
    )  # fmt: skip


def test_bytes_at_a_drop_are_read_linearly_in_log_bytes() -> None:
    assert bytes_at_drop([row(1000, 2), row(4000, 0)], 1.0) == pytest.approx(2000)
    assert bytes_at_drop([row(4000, 1.0), row(1000, 2.0)], 1.0) == pytest.approx(4000)


def test_beaten_settings_do_not_count() -> None:
    curve = [row(1000, 2), row(4000, 0)]
    assert bytes_at_drop([*curve, row(3000, 1.5), row(8000, 0.5)], 1.0) == pytest.approx(2000)
    # Not beaten by a setting, but above the line between two of them.
    assert bytes_at_drop([*curve, row(2000, 1.2)], 1.0) == pytest.approx(2000)


def test_a_drop_that_the_settings_do_not_span_has_no_bytes() -> None:
    assert bytes_at_drop([row(1000, 2), row(4000, 1.5)], 1.0) is None
    assert bytes_at_drop([row(1000, 0.5), row(4000, 0.2)], 1.0) is None
    assert bytes_at_drop([], 1.0) is None
    assert bytes_at_drop([replace(row(1000, 0), drop=None)], 0.0) is None
    assert bytes_at_drop([row(1000, 1.0)], 1.0) == pytest.approx(1000)


def test_the_hull_is_convex_and_falls() -> None:
    points = np.random.default_rng(0).random((200, 2)).tolist()
    hull = pareto_hull([tuple(p) for p in points])
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in pairwise(hull)]
    assert slopes == sorted(slopes)
    assert max(slopes) < 0
    assert hull[0][0] == min(x for x, _ in points)
    assert hull[-1][1] == min(y for _, y in points)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [row(1000, 2), replace(row(5, 0), drop=None, sent_bytes=None)]
    write_rows(tmp_path / "r.json", rows)
    assert read_rows(tmp_path / "r.json") == rows
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_row_that_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_rows(path, [row(1000, 2)])
    with pytest.raises(ValueError, match="Out of range"):
        write_rows(path, [row(1000, math.nan)])
    assert len(read_rows(path)) == 1
    with pytest.raises(InputError, match="cannot be written"):
        write_rows(tmp_path / "absent" / "r.json", [])


@pytest.mark.parametrize("text", ["", "{}", "[{}]", "[3]", '[{"name": "x"}]'])
def test_files_that_hold_no_rows_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError):
        read_rows(tmp_path / "r.json")


def test_detections_come_back_as_they_were_written(tmp_path: Path) -> None:
    dataset = random_dataset(np.random.default_rng(0))
    settings = {
        "a b": random_detections(np.random.default_rng(1), dataset),
        "c": [detections([])] * 3,
        "none": [],
    }
    write_detections(tmp_path / "d.npz", settings)
    again = read_detections(tmp_path / "d.npz")
    assert list(again) == list(settings)
    for name, found in settings.items():
        assert len(again[name]) == len(found)
        for x, y in zip(found, again[name], strict=True):
            np.testing.assert_array_equal(x.boxes, y.boxes)
            np.testing.assert_array_equal(x.scores, y.scores)
            np.testing.assert_array_equal(x.labels, y.labels)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"\x80\x04K\x01."])
def test_files_that_hold_no_detections_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        read_detections(tmp_path / "d.npz")


# The runner, with a detector that finds the rectangle of another brightness than the border.

SPEC = PyramidSpec((LevelSpec("p3", 8, 3), LevelSpec("p4", 16, 3)), size_divisor=16)


class BrightBox:
    """Finds the bounding box of the bright pixels; the pyramid carries it in its first cells."""

    spec = SPEC
    labels = ("thing",)

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        return ImageGeometry(image_size, (64, 64), (64, 64))

    def extract(self, image: Any, levels: Sequence[str] | None = None) -> Pyramid:
        geometry = self.geometry((image.shape[1], image.shape[0]))
        resized = np.asarray(PillowImage.fromarray(image).resize((64, 64)))
        rows, columns = np.nonzero(resized.mean(axis=2) > 128)
        p3 = np.zeros((3, 8, 8), np.float32)
        if len(rows):
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            p3[0, 0, :4] = box
        return Pyramid(SPEC, {"p3": p3, "p4": np.zeros((3, 4, 4), np.float32)}, geometry)

    def detect(self, pyramid: Pyramid) -> Detections:
        box = pyramid.geometry.to_image(pyramid.levels["p3"][0, 0, :4][None])
        return Detections(box, np.full(1, 0.9, np.float32), np.zeros(1, np.int64))


@dataclass
class FakeAnswer:
    detections: Detections
    timings_ms: dict[str, float]


class FakeCodec:
    """Frames whose only content is the box, shifted by what quality lacks."""

    codec_id = 1
    stream_id = bytes(32)
    spec = SPEC

    def encode(
        self, pyramid: Pyramid, quality: float, levels: Sequence[str] | None = None
    ) -> bytes:
        moved = pyramid.levels["p3"][0, 0, :4] + np.float32(20 * (1 - quality))
        chosen = levels or SPEC.names
        chunks = [Chunk(1, False, False, b"12345")] if "p4" in chosen else []
        chunks.append(Chunk(0, False, False, moved.astype(np.float32).tobytes()))
        geometry = pyramid.geometry
        return write_frame(Frame(1, b"abcdef", round(255 * quality), geometry.image_size,
                                 geometry.network_size, tuple(chunks)))  # fmt: skip


def fake_infer(frame: bytes) -> FakeAnswer:
    from fpcodec.bitstream import read_frame

    parsed = read_frame(frame)
    data = parsed.chunks[-1].data
    assert data is not None
    box = np.frombuffer(data, np.float32)[None]
    geometry = ImageGeometry(parsed.image_size, (64, 64), (64, 64))
    found = Detections(
        geometry.to_image(box), np.full(1, 0.9, np.float32), np.zeros(1, np.int64)
    )  # fmt: skip
    return FakeAnswer(found, {"decode": 1.0, "reconstruct": 2.0, "head": 3.0})


@pytest.fixture
def bright_boxes(tmp_path: Path) -> CocoDataset:
    """Six pictures of 128x128 with one bright rectangle each."""
    images, boxes = [], []
    for i in range(6):
        pixels = np.zeros((128, 128, 3), np.uint8)
        left, top, side = 4 + 8 * i, 30, 24 + 4 * i
        pixels[top : top + side, left : left + side] = 255
        PillowImage.fromarray(pixels).save(tmp_path / f"{i}.png")
        images.append(CocoImage(i, f"{i}.png", 128, 128))
        boxes.append(CocoBox(i, 1, (left, top, side, side), side * side))
    categories = (CocoCategory(1, "thing"),)
    return CocoDataset("bright", tmp_path, tuple(images), tuple(boxes), categories)


def run(dataset: CocoDataset, **options: Any) -> Any:
    codec: Any = FakeCodec()
    detector: Any = BrightBox()
    ways = [
        FeaturesWay(codec, fake_infer, 1.0),
        FeaturesWay(codec, fake_infer, 0.6, ("p3",)),
        *rival_ways(detector, ["png", "jpeg:30", "boxes"]),
    ]
    return evaluate_ways(
        detector, dataset, ways, environment=Environment.capture("test", 1),
        bootstrap=Bootstrap(200, 0), **options,
    )  # fmt: skip


def test_the_runner_measures_every_way_on_the_same_images(bright_boxes: CocoDataset) -> None:
    done: list[tuple[int, int]] = []
    outcome = run(bright_boxes, progress=lambda i, n: done.append((i, n)))
    rows = {row.name: row for row in outcome.rows}
    assert list(rows) == ["unsplit", "fpc q1 all", "fpc q0.6 p3", "png q0", "jpeg q30",
                          "boxes 0.05"]  # fmt: skip
    assert done == [(i, 6) for i in range(1, 7)]
    assert [row.family for row in outcome.rows] == ["unsplit", "fpc all", "fpc p3", "png", "jpeg",
                                                    "boxes"]  # fmt: skip
    assert rows["unsplit"].drop is None
    assert rows["unsplit"].ap["ap"] > 80
    for name in ("fpc q1 all", "png q0", "boxes 0.05"):
        assert rows[name].drop.value == pytest.approx(0, abs=0.5)
        assert rows[name].agreement_f1 == 1
    worse = rows["fpc q0.6 p3"]
    assert worse.drop.value > 20
    assert worse.drop.low > 0
    assert worse.ap["ap"] == pytest.approx(rows["unsplit"].ap["ap"] - worse.drop.value)
    assert set(outcome.detections) == set(rows)
    assert all(len(found) == 6 for found in outcome.detections.values())


def test_rows_tell_bytes_by_level_and_times_by_stage(bright_boxes: CocoDataset) -> None:
    rows = {row.name: row for row in run(bright_boxes).rows}
    both, alone = rows["fpc q1 all"], rows["fpc q0.6 p3"]
    assert both.level_bytes["p4"] == 5
    assert both.level_bytes["p3"] == 16
    assert sum(both.level_bytes.values()) == both.sent_bytes.mean
    assert "p4" not in alone.level_bytes
    stages = {"extract", "encode", "decode", "reconstruct", "head", "answer"}
    assert set(both.times_ms) == stages
    assert both.times_ms["reconstruct"] == Spread(2.0, 2.0, 2.0)
    assert set(rows["jpeg q30"].times_ms) == {"encode", "decode", "detect"}
    stream = bytes(32).hex()
    assert both.parameters == {
        "codec_id": 1, "stream_id": stream, "quality": 1.0, "levels": None,
    }  # fmt: skip
    assert both.environment.command == "test"


def test_a_setting_twice_is_refused(bright_boxes: CocoDataset) -> None:
    detector: Any = BrightBox()
    with pytest.raises(InputError, match="two settings are the same"):
        evaluate_ways(detector, bright_boxes, rival_ways(detector, ["webp", "webp:80"]),
                      environment=Environment.capture())  # fmt: skip


class FakeProfile:
    codec = FakeCodec()

    def open_detector(self, role: str, threads: int | None = None) -> BrightBox:
        assert role == "both"
        return BrightBox()


def test_a_profile_is_measured_at_each_quality_and_set_of_levels(
    bright_boxes: CocoDataset,
) -> None:
    profile: Any = FakeProfile()
    outcome = evaluate(
        profile, bright_boxes, qualities=(0.5, 1.0), levels=(None, ("p3",)), rivals=("webp",),
        infer=fake_infer, bootstrap=Bootstrap(200),
    )  # fmt: skip
    names = [row.name for row in outcome.rows]
    assert names == ["unsplit", "fpc q0.5 all", "fpc q1 all", "fpc q0.5 p3", "fpc q1 p3",
                     "webp q80"]  # fmt: skip


def test_the_parts_of_a_frame_add_up() -> None:
    pyramid = BrightBox().extract(np.full((32, 32, 3), 200, np.uint8))
    frame = FakeCodec().encode(pyramid, 1.0)
    sizes = level_bytes(frame, SPEC)
    assert list(sizes) == ["p4", "p3", "header"]
    assert sum(sizes.values()) == len(frame)


def test_the_environment_names_package_versions() -> None:
    environment = Environment.capture("fpcodec eval", 2)
    assert environment.packages["numpy"] == np.__version__
    assert environment.packages["fpcodec"] == fpcodec.__version__
    assert environment.cpu_model
    assert environment.threads == 2

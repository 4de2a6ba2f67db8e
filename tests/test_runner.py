"""The runner, over ways of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_kit import SPEC, BrightBox, FakeCodec, draw_bright_boxes, fake_infer

import fpcodec
from fpcodec.data.coco import CocoDataset
from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import (
    Spread,
)
from fpcodec.evaluation.runner import evaluate, evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap
from fpcodec.evaluation.ways import FeaturesWay, OpenProfile, Workplace, parse_rival
from fpcodec.evaluation.ways.features import level_bytes

pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")


@pytest.fixture
def bright_boxes(tmp_path: Path) -> CocoDataset:
    return draw_bright_boxes(tmp_path)


class FakeProfile:
    """What a workplace needs of a profile."""

    codec = FakeCodec()

    def open_detector(self, role: str, threads: int | None = None) -> BrightBox:
        assert role == "both"
        return BrightBox()


def workplace() -> Workplace:
    profile: Any = FakeProfile()
    detector: Any = BrightBox()
    return Workplace(detector, {"fpc": OpenProfile(profile, fake_infer)})


def run(dataset: CocoDataset, **options: Any) -> Any:
    ways = [
        FeaturesWay(1.0),
        FeaturesWay(0.6, ("p3",)),
        *(parse_rival(text) for text in ("png", "jpeg:30", "boxes")),
    ]
    return evaluate_ways(
        workplace(), dataset, ways, environment=Environment.capture("test", 1),
        bootstrap=Bootstrap(200, 0), **options,
    )  # fmt: skip


def test_the_runner_measures_every_way_on_the_same_images(bright_boxes: CocoDataset) -> None:
    done: list[tuple[int, int]] = []
    outcome = run(bright_boxes, progress=lambda i, n: done.append((i, n)))
    rows = {row.name: row for row in outcome.rows}
    assert list(rows) == ["unsplit", "fpc q1 all", "fpc q0.6 p3", "png", "jpeg q30",
                          "boxes 0.05"]  # fmt: skip
    assert done == [(i, 6) for i in range(1, 7)]
    assert [row.family for row in outcome.rows] == ["unsplit", "fpc all", "fpc p3", "png", "jpeg",
                                                    "boxes"]  # fmt: skip
    assert rows["unsplit"].drop is None
    assert rows["unsplit"].ap["ap"] > 80
    for name in ("fpc q1 all", "png", "boxes 0.05"):
        assert rows[name].drop.value == pytest.approx(0, abs=0.5)
        assert rows[name].agreement_f1 == 1
    worse = rows["fpc q0.6 p3"]
    assert worse.drop.value > 20
    assert worse.drop.low > 0
    assert worse.ap["ap"] == pytest.approx(rows["unsplit"].ap["ap"] - worse.drop.value)
    assert set(outcome.traces) == set(outcome.draws) == set(rows)
    assert all(len(trace.detections) == 6 for trace in outcome.traces.values())
    assert {len(drops) for drops in outcome.draws.values()} == {200}
    assert worse.bpp == pytest.approx(8 * worse.sent_bytes.mean / 64**2)
    assert worse.bits_per_element == pytest.approx(
        8 * worse.sent_bytes.mean / SPEC.elements((64, 64))
    )


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
        "codec_id": 1, "stream_id": stream, "quality": 1.0, "levels": None, "profile": "fpc",
    }  # fmt: skip
    assert both.environment.command == "test"


def test_a_setting_twice_is_refused(bright_boxes: CocoDataset) -> None:
    ways = [parse_rival("webp"), parse_rival("webp:80")]
    with pytest.raises(InputError, match="two settings are the same: webp q80"):
        evaluate_ways(workplace(), bright_boxes, ways, environment=Environment.capture())


def test_a_profile_is_measured_at_each_quality_and_set_of_levels(
    bright_boxes: CocoDataset,
) -> None:
    profile: Any = FakeProfile()
    outcome = evaluate(
        profile, bright_boxes, qualities=(0.5, 1.0), levels=(None, ("p3",)),
        rivals=[parse_rival("webp")], infer=fake_infer, bootstrap=Bootstrap(200),
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

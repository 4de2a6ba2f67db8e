"""A study: shards, going on after a kill, the same numbers however it is worked on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpcodec.data import SceneConfig, write_coco
from fpcodec.data.coco import load_coco
from fpcodec.errors import InputError, WorkerLost
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import read_rows
from fpcodec.evaluation.runner import evaluate_ways
from fpcodec.evaluation.scoring import Bootstrap, read_draws
from fpcodec.evaluation.study import SHARD_IMAGES, Study, run_study
from fpcodec.evaluation.ways import BoxesWay, FeaturesWay, Workplace, parse_rival
from fpcodec.executor import open_executor
from fpcodec.executor.local import InlineExecutor
from fpcodec.profile import embedded_profile_path

pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
ENVIRONMENT = Environment("test", None, {}, "cpu", 1)
BOOTSTRAP = Bootstrap(200, 3)
IMAGES = 2 * SHARD_IMAGES + 1


class Counting(InlineExecutor):
    """Counts jobs, and fails like a lost worker after some."""

    def __init__(self, most: int = 1000) -> None:
        self.jobs, self.most = 0, most

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        if self.jobs == self.most:
            raise WorkerLost("gone")
        self.jobs += 1
        return super().submit(function, *arguments)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("scenes")
    annotations = write_coco(folder, range(IMAGES), SceneConfig())
    dataset = load_coco(annotations, annotations.parent / "images")
    ways = (FeaturesWay(0.5), FeaturesWay(0.3, ("p3", "p5")), BoxesWay(), parse_rival("webp:30"))
    return Study({"fpc": embedded_profile_path()}, dataset, ways)


def run(study: Study, out: Path, executor: Any) -> Any:
    return run_study(study, out, executor, environment=ENVIRONMENT, bootstrap=BOOTSTRAP)


def numbers(rows: Any) -> list[dict[str, Any]]:
    """Rows without what no two runs share."""
    return [{k: v for k, v in row.to_dict().items() if k != "times_ms"} for row in rows]


def test_a_killed_study_goes_on_where_it_was(study: Study, tmp_path: Path) -> None:
    with pytest.raises(WorkerLost):
        run(study, tmp_path, Counting(most=2))
    assert not (tmp_path / "rows.json").exists()
    assert len(list(tmp_path.glob("shards/*/*.json"))) == 2
    again = Counting()
    result = run(study, tmp_path, again)
    settings = len(study.ways) + 1
    assert again.jobs == 1 + settings
    assert read_rows(tmp_path) == list(result.rows)
    whole = evaluate_ways(Workplace.open(study.profiles, 1), study.dataset, study.ways,
                          environment=ENVIRONMENT, bootstrap=BOOTSTRAP)  # fmt: skip
    assert numbers(result.rows) == numbers(whole.rows)
    draws = read_draws(tmp_path / "draws.npz")
    assert set(draws) == {row.name for row in result.rows}
    np.testing.assert_allclose(draws["webp q30"], whole.draws["webp q30"], atol=1e-4)
    assert not draws["unsplit"].any()


def test_rows_hold_what_a_sceptic_asks_for(study: Study, tmp_path: Path) -> None:
    rows = {row.name: row for row in run(study, tmp_path, InlineExecutor()).rows}
    ours, picture, boxes = rows["fpc q0.3 p3+p5"], rows["webp q30"], rows["boxes 0.05"]
    assert ours.family == "fpc p3+p5"
    assert ours.payload_bytes is not None
    assert ours.sent_bytes is not None
    assert 0 < ours.payload_bytes.mean < ours.sent_bytes.mean
    assert ours.symbols is not None
    assert ours.symbols.mean > 100
    assert ours.parameters["stream_id"]
    assert set(ours.macs["edge"]) == {"network", "codec"}
    assert ours.macs["edge"]["network"] < boxes.macs["edge"]["network"]
    assert set(picture.macs["server"]) == {"network", "head"} == set(boxes.macs["edge"])
    assert picture.macs["edge"] == {} == boxes.macs["server"]
    assert picture.drop is not None
    assert picture.drop.draws == 200
    assert set(picture.times_ms) >= {"encode", "decode"}
    assert picture.bpp == pytest.approx(8 * picture.sent_bytes.mean / 320**2)
    assert {"ap", "ap50", "ap75", "ap_common"} < set(ours.ap)


def test_processes_give_the_numbers_of_one(study: Study, tmp_path: Path) -> None:
    few = replace(study, dataset=study.dataset.limit(SHARD_IMAGES + 1), ways=study.ways[:1])
    pool = open_executor(2)
    try:
        beside = run(few, tmp_path / "two", pool)
    finally:
        pool.close()
    assert numbers(beside.rows) == numbers(run(few, tmp_path / "one", InlineExecutor()).rows)


def test_another_setting_is_another_study(study: Study, tmp_path: Path) -> None:
    other = replace(study, ways=(FeaturesWay(0.51), *study.ways[1:]))
    assert other.digest(ENVIRONMENT) != study.digest(ENVIRONMENT)
    assert replace(study, dataset=study.dataset.limit(3)).digest(ENVIRONMENT) != study.digest(
        ENVIRONMENT
    )
    sha = replace(ENVIRONMENT, git_sha="abc")
    assert study.digest(sha) != study.digest(ENVIRONMENT)


def test_a_damaged_shard_is_named(study: Study, tmp_path: Path) -> None:
    few = replace(study, dataset=study.dataset.limit(2), ways=study.ways[2:3])
    run(few, tmp_path, InlineExecutor())
    shard = next(tmp_path.glob("shards/*/00000.json"))
    shard.write_text(json.dumps({"unsplit": {}}))
    with pytest.raises(InputError, match=r"00000\.json cannot be read"):
        run(few, tmp_path, InlineExecutor())


def test_a_label_that_no_profile_has_is_refused(study: Study, tmp_path: Path) -> None:
    lost = replace(study, ways=(FeaturesWay(0.5, profile="other"),))
    with pytest.raises(InputError, match="no profile is called 'other'"):
        run(lost, tmp_path, InlineExecutor())

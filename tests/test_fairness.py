"""docs/fairness.md: its tables say what rows say, and the document is up to date with them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import ResultRow, Spread, write_rows
from fpcodec.evaluation.scoring import write_draws

ENVIRONMENT = Environment("fpcodec bench rd --out x", "abcdef0" + "0" * 33, {}, "a processor", 1)
MACS = {"edge": {"network": 400_000_000, "codec": 30_000_000},
        "server": {"codec": 20_000_000, "head": 100_000_000}}  # fmt: skip
TIMES = {"extract": 20.0, "encode": 5.0, "decode": 3.0, "reconstruct": 1.0, "head": 10.0}


@pytest.fixture
def fairness(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))
    import fairness_tables

    return fairness_tables


def row(family: str, kind: str, quality: int, size: float, drop: float) -> ResultRow:
    unsplit = kind == "unsplit"
    return ResultRow(
        name="unsplit" if unsplit else f"{family} q{quality}", kind=kind, parameters={},
        data="val", images=500, seed=0, ap={"ap": 21.0 - drop},
        drop=None if unsplit else Interval(drop, drop - 0.6, drop + 0.8, 200),
        sent_bytes=None if unsplit else Spread(size, size, size),
        level_bytes={}, times_ms={k: Spread(9 * v, v, 9 * v) for k, v in TIMES.items()},
        agreement_f1=1.0, agreement_iou=1.0, environment=ENVIRONMENT, family=family,
        macs=MACS if kind == "features" else {},
    )  # fmt: skip


ROWS = (
    row("unsplit", "unsplit", 0, 0, 0),
    row("fpc p3+p5", "features", 1, 2_000, 3.0), row("fpc p3+p5", "features", 2, 5_000, 0.8),
    row("fpc p3+p5", "features", 3, 9_000, 0.1),
    row("fpc p5", "features", 1, 900, 9.0),
    row("webp", "picture", 1, 4_000, 6.0), row("webp", "picture", 2, 16_000, 0.5),
    row("webp @0.5", "picture", 1, 3_000, 8.0), row("webp @0.5", "picture", 2, 7_000, 4.0),
    row("jpeg @original", "picture", 1, 30_000, 1.5),
    row("jpeg @original", "picture", 2, 60_000, 0.5),
    row("boxes", "boxes", 1, 200, 0.3),
    row("x265", "mosaic", 1, 10_000, 3.0), row("x265", "mosaic", 2, 60_000, 0.2),
)  # fmt: skip


@pytest.fixture
def run(fairness: Any, tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    luck = rng.normal(0, 0.1, 200)
    draws = {
        x.name: (x.drop.value + luck * x.drop.value).astype(np.float32) for x in ROWS if x.drop
    }
    write_rows(tmp_path / "rows.json", ROWS)
    write_draws(tmp_path / "draws.npz", draws)
    from measured_run import Run

    return Run.read(tmp_path)


def cells(text: str, first: str) -> list[str]:
    """The cells of the table line that begins with ``first``."""
    (line,) = (x for x in text.splitlines() if x.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_fitted_compares_at_one_point_of_drop(fairness: Any, run: Any) -> None:
    text = fairness.fitted(run)
    ours, webp = cells(text, "fpc p3+p5"), cells(text, "webp")
    ratio = int(ours[1].replace(",", "")) / int(webp[1].replace(",", ""))
    assert ours[0] == "this detector's features"
    assert webp[2].startswith(f"{ratio:.0%} [")
    assert "video" not in cells(text, "x265")[0]
    assert f"the frames of {int(1 / ratio) + 1} such detectors together are larger" in text
    assert "500 photographs; `fpcodec bench rd --out x`, commit abcdef0" in text


def test_edge_share_is_of_time_and_macs(fairness: Any, run: Any) -> None:
    text = fairness.edge_share(run)
    assert cells(text, "backbone and pyramid") == ["edge", "400", "20.0", "67%"]
    assert cells(text, "decode, recover") == ["server", "20", "4.0", "13%"]
    assert "The edge runs 67% of the detector's time and 80% of its multiply-accumulates" in text
    assert "Running the head too would take it 5.0 ms more than encoding does" in text
    assert "200 bytes of boxes at a drop of 0.30 AP, against 5,000 bytes of features" in text


def test_a_larger_detector_must_make_up_for_a_coarse_picture(fairness: Any, run: Any) -> None:
    text = fairness.larger_detector(run)
    assert cells(text, "fpc p3+p5 q1")[2] == "none is so small"
    assert cells(text, "fpc p3+p5 q2")[2:5] == ["webp q1", "4,000", "15.0"]
    assert cells(text, "fpc p3+p5 q2")[5].startswith("5.2 [")
    assert cells(text, "fpc p3+p5 q3")[2] == "webp @0.5 q2"
    assert "3.9 to 5.2 AP for frames that lose at most 2 AP" in text


def test_picture_sizes_stand_side_by_side(fairness: Any, run: Any) -> None:
    text = fairness.picture_size(run)
    assert cells(text, "bytes at a drop of 1 AP") == ["original", "network", "x 0.5"]
    assert cells(text, "webp")[2] == "(loses 4.0 or more)"
    assert cells(text, "jpeg")[1:] == ["", ""]
    assert "Of all pictures, webp is the smallest" in text


def test_noise_is_half_the_width_of_intervals(fairness: Any, run: Any) -> None:
    text = fairness.noise(run)
    assert "half the width of a drop's 95 % interval is 0.70 AP in the median" in text
    assert "500 photographs, 200 draws" in text
    assert cells(text, "against webp")[2] == "200 of 200"
    low, high = re.findall(r"(\d+)%", cells(text, "against webp")[1])
    assert int(low) <= int(cells(text, "against webp")[0].rstrip("%")) <= int(high)


def test_ratios_without_draws_have_no_interval(fairness: Any, run: Any) -> None:
    from measured_run import Run

    text = fairness.noise(Run(run.rows))
    assert cells(text, "against webp")[1:] == ["-", "-"]
    assert cells(fairness.larger_detector(Run(run.rows)), "fpc p3+p5 q2")[5] == "5.2"


def test_rows_of_another_kind_are_refused(fairness: Any) -> None:
    from measured_run import Run

    with pytest.raises(InputError, match="first row is not the unsplit detector"):
        Run(ROWS[1:])
    with pytest.raises(InputError, match="no frames"):
        Run((ROWS[0], ROWS[-1]))


def test_the_document_has_every_section_and_is_up_to_date(fairness: Any, repository: Path) -> None:
    text = (repository / "docs" / "fairness.md").read_text("utf-8")
    assert set(re.findall(r"<!-- measured: (\w+) -->", text)) == set(fairness.SECTIONS)
    if not fairness.RESULTS.is_dir():
        pytest.skip("needs benchmarks/results/yolox_nano_coco (rows of a run)")
    from measured_run import Run

    assert fairness.rendered(text, Run.read(fairness.RESULTS)) == text, (
        "run: python benchmarks/fairness_tables.py"
    )

"""Result rows and curves of them; detections on disk."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import detections, random_dataset, random_detections

from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.detection_files import read_detections, write_detections
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import (
    ResultRow,
    Spread,
    bytes_at_drop,
    pareto_hull,
    read_rows,
    write_rows,
)


def row(sent_bytes: float, drop: float, kind: str = "features") -> ResultRow:
    return ResultRow(
        name=f"{sent_bytes:g}", kind=kind, parameters={"quality": 0.5, "levels": ["p3"]},
        data="d", images=3, seed=0, ap={"ap": 20 - drop, "ap_small": None},
        drop=Interval(drop, drop - 0.1, drop + 0.1, 200),
        sent_bytes=Spread(sent_bytes, sent_bytes, sent_bytes), level_bytes={"p3": sent_bytes},
        times_ms={"encode": Spread(1.0, 1.0, 2.0)}, agreement_f1=0.9, agreement_iou=None,
        environment=Environment("cmd", None, {"numpy": "2"}, "cpu", 1), family="fpc p3",
        symbols=Spread(9.0, 9.0, 9.0), bpp=0.5, macs={"edge": {"network": 7}, "server": {}},
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
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_rows(tmp_path / "file" / "r.json", [])


@pytest.mark.parametrize("text", ["", "{}", "[{}]", "[3]", '[{"name": "x"}]'])
def test_files_that_hold_no_rows_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(InputError):
        read_rows(tmp_path / "r.json")


def test_missing_results_name_what_measures(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder; measure with fpcodec bench rd"):
        read_rows(tmp_path / "rd")
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(InputError, match=r"is no rows\.json of fpcodec bench rd"):
        read_rows(tmp_path / "photo.jpg")
    with pytest.raises(InputError, match=r"photo\.jpg is a file; name a folder"):
        write_rows(tmp_path / "photo.jpg" / "rows.json", [])
    with pytest.raises(InputError, match="it is a folder; name a file") as refused:
        write_rows(tmp_path, [])
    assert ".rows" not in str(refused.value)


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

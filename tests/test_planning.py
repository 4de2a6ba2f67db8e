"""Whether to split: the model of latency, its ranges, and what the command says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from fpcodec.cli.plan import plan as plan_command
from fpcodec.cli.units import format_bit_rate, parse_bit_rate, parse_duration_ms
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.planning.model import (
    FASTEST_BPS,
    SLOWEST_BPS,
    Link,
    Speeds,
    plan,
    uplink_ranges,
    winning_ways,
)
from fpcodec.evaluation.planning.settings import WAYS, measured_settings
from fpcodec.evaluation.results import ResultRow, Spread, write_rows
from fpcodec.profile import Profile

ENVIRONMENT = Environment("fpcodec bench rd", "0" * 40, {}, "a processor", 1)


def row(
    name: str,
    kind: str,
    size: float | None = None,
    drop: float | None = None,
    parameters: Mapping[str, Any] | None = None,
    **times_ms: float,
) -> ResultRow:
    """A row whose p95 is three times its mean."""
    return ResultRow(
        name=name, kind=kind, parameters=parameters or {}, data="val", images=500, seed=0,
        ap={"ap": 20.0},
        drop=None if drop is None else Interval(drop, drop - 0.5, drop + 0.5, 1000),
        sent_bytes=None if size is None else Spread(size, size, 3 * size),
        level_bytes={},
        times_ms={x: Spread(10 * time, time, 20 * time) for x, time in times_ms.items()},
        agreement_f1=1.0, agreement_iou=1.0, environment=ENVIRONMENT, family=name.split(" q")[0],
    )  # fmt: skip


UNSPLIT = row("unsplit", "unsplit", extract=20.0, head=8.0)
BOXES = row("boxes 0.05", "boxes", 250, 0.3, encode=2.0, decode=1.0)
FRAME = {"extract": 20.0, "encode": 5.0, "decode": 4.0, "reconstruct": 1.0, "head": 10.0}
SPLIT = (
    row("fpc q0.4", "features", 2_000, 1.5, {"stream_id": "aa"}, **FRAME),
    row("fpc q0.6", "features", 5_000, 0.7, {"stream_id": "aa"}, **FRAME),
    row("fpc q0.9", "features", 30_000, 0.0, {"stream_id": "aa"}, **FRAME),
)
PICTURES = (
    row("webp q65", "picture", 12_500, 0.9, encode=20.0, decode=2.0, detect=30.0),
    row("jpeg q75", "picture", 25_000, 0.8, encode=1.0, decode=1.0, detect=30.0),
)
ROWS = (UNSPLIT, BOXES, *SPLIT, *PICTURES)
MEGABIT = Link(1e6, 40)


def test_latency_is_compute_on_both_sides_a_round_trip_and_the_bytes() -> None:
    found = {x.way: x for x in plan(ROWS, MEGABIT, Speeds(edge=0.5, server=2.0)).candidates}
    split = found["split"]
    assert split.name == "fpc q0.6"
    assert split.edge_ms == (20 + 5) / 0.5
    assert split.link_ms == 40 + 8 * 5_000 / 1e3
    assert split.server_ms == (4 + 1 + 10) / 2
    assert split.latency_ms == split.edge_ms + split.link_ms + split.server_ms
    assert split.latency_p95_ms - split.latency_ms == pytest.approx(8 * 10_000 / 1e3)
    assert (split.uplink_fps, split.edge_fps) == (25.0, 20.0)
    boxes, picture = found["boxes"], found["picture"]
    assert (boxes.edge_ms, boxes.server_ms) == ((20 + 8 + 2) / 0.5, 0.5)
    assert picture.name == "webp q65"
    assert (picture.edge_ms, picture.server_ms) == (20 / 0.5, 32 / 2)


def test_settings_that_lose_too_much_are_not_taken() -> None:
    chosen = {
        drop: {x.way: x.name for x in plan(ROWS, MEGABIT, max_drop=drop).candidates}
        for drop in (2.0, 0.75, 0.1)
    }
    assert chosen[2.0]["split"] == "fpc q0.4"
    assert chosen[0.75] == {"boxes": "boxes 0.05", "split": "fpc q0.6"}
    assert chosen[0.1] == {"split": "fpc q0.9"}
    with pytest.raises(InputError, match=r"loses -0\.1 AP or less; the least is 0\.00 \(fpc q0\.9"):
        plan(ROWS, MEGABIT, max_drop=-0.1)


def test_the_winner_changes_with_link_and_speeds() -> None:
    assert plan(ROWS, MEGABIT).winner.way == "boxes"
    assert plan(ROWS, MEGABIT, head_on_server=True).winner.way == "split"
    assert plan(ROWS, Link(50e6, 40), head_on_server=True).winner.name == "jpeg q75"
    assert plan(ROWS, MEGABIT, Speeds(edge=0.02)).winner.way == "picture"
    heavy = (row("unsplit", "unsplit", extract=20.0, head=800.0), *ROWS[1:])
    assert plan(heavy, MEGABIT, Speeds(server=50)).winner.way == "split"


def test_no_boxes_where_the_head_is_on_the_server() -> None:
    assert {x.way for x in plan(ROWS, MEGABIT, head_on_server=True).candidates} == {
        "split", "picture"
    }  # fmt: skip
    with pytest.raises(InputError, match="no setting to choose from"):
        plan(ROWS[:2], MEGABIT, head_on_server=True)


@pytest.mark.parametrize("edge", [0.01, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("head_on_server", [False, True])
def test_ranges_say_what_asking_at_each_uplink_says(edge: float, head_on_server: bool) -> None:
    chosen = plan(ROWS, MEGABIT, Speeds(edge), head_on_server=head_on_server)
    ranges = chosen.ranges
    assert (ranges[0].low_bps, ranges[-1].high_bps) == (SLOWEST_BPS, FASTEST_BPS)
    for slower, faster in pairwise(ranges):
        assert slower.high_bps == faster.low_bps
        assert slower.way != faster.way
    for uplink in np.geomspace(SLOWEST_BPS * 1.001, FASTEST_BPS * 0.999, 97):
        asked = plan(ROWS, Link(uplink), Speeds(edge), head_on_server=head_on_server)
        (within,) = {x.way for x in ranges if x.low_bps <= uplink < x.high_bps}
        assert asked.winner.way == within


def test_a_map_says_what_asking_at_each_point_says() -> None:
    settings = measured_settings(ROWS)
    uplinks, edges = np.geomspace(2e4, 9e7, 7), np.geomspace(0.01, 10, 5)
    found = winning_ways(settings, uplinks, edges, server_speed=3.0)
    for y, edge in enumerate(edges):
        for x, uplink in enumerate(uplinks):
            asked = plan(ROWS, Link(uplink), Speeds(edge, 3.0), max_drop=9)
            assert WAYS[found[y, x]] == asked.winner.way


def test_one_setting_wins_everywhere() -> None:
    (only,) = uplink_ranges(measured_settings((UNSPLIT, BOXES)), Speeds())
    assert (only.low_bps, only.high_bps, only.way) == (SLOWEST_BPS, FASTEST_BPS, "boxes")


def test_baselines_are_no_way_to_send() -> None:
    others = (row("x265 qp30", "mosaic", 100, 0.0), row("seed mix", "seed", 100, 0.0))
    assert plan((*ROWS, *others), MEGABIT) == plan(ROWS, MEGABIT)


def test_rows_that_do_not_do_are_refused() -> None:
    with pytest.raises(InputError, match="no unsplit detector"):
        plan(ROWS[1:], MEGABIT)
    with pytest.raises(InputError, match="row webp q65 holds no time of decode, detect"):
        plan((UNSPLIT, row("webp q65", "picture", 9, 0.1, encode=1.0)), MEGABIT)


@pytest.mark.parametrize("uplink", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_links_and_speeds_are_refused(uplink: float) -> None:
    with pytest.raises(InputError, match="uplink"):
        Link(uplink)
    with pytest.raises(InputError, match="edge speed"):
        Speeds(edge=uplink)
    with pytest.raises(InputError, match="server speed"):
        Speeds(server=uplink)
    with pytest.raises(InputError, match="round-trip"):
        Link(1e6, uplink - 1)


@pytest.mark.parametrize(
    ("text", "bps"),
    [
        ("1Mbps", 1e6),
        ("256kbps", 256e3),
        (" 1.5 mbps ", 1.5e6),
        ("2Kbps", 2e3),
        (".5Gbps", 5e8),
        ("16000bps", 16e3),
    ],
)
def test_bit_rates_are_read(text: str, bps: float) -> None:
    assert parse_bit_rate(text) == bps


def test_times_are_read() -> None:
    assert (parse_duration_ms("40ms"), parse_duration_ms("0.2s")) == (40.0, 200.0)


@pytest.mark.parametrize("text", ["", "1", "Mbps", "1MBps", "1 Mb", "-1Mbps", "1e3bps", "nanbps"])
def test_other_rates_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no bit rate; give a number and one of bps, kbps"):
        parse_bit_rate(text)


@pytest.mark.parametrize("text", ["40", "40m", "-1s", "1,5s"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no time; give a number and one of ms, s"):
        parse_duration_ms(text)


@pytest.mark.parametrize("bps", [1, 999, 16e3, 256e3, 1e6, 9.18e6, 1e8])
def test_rates_are_written_as_they_are_read(bps: float) -> None:
    assert parse_bit_rate(format_bit_rate(bps)) == pytest.approx(bps)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.json", ROWS)
    return tmp_path


def run(*arguments: object) -> Any:
    app = typer.Typer()
    app.command()(plan_command)
    return CliRunner().invoke(app, [str(x) for x in arguments])


def test_the_command_says_plainly_not_to_split(results: Path) -> None:
    result = run("--uplink", "1Mbps", "--results", results)
    assert result.exit_code == 0, result.output
    said = result.stdout.replace("\n", " ")
    assert "Do not split: send the boxes (boxes 0.05): 73 ms against 120 ms by fpc q0.6" in said
    assert "boxes everywhere from 16 kbps to 100 Mbps" in said
    assert "Where the edge may not run the head (--head-on-server): split here" in said
    assert "Measured on 500 images of val, threads: 1, a processor; times scale by" in said


def test_splits_that_lose_too_much_are_no_slow_splits(tmp_path: Path) -> None:
    rows = (UNSPLIT, SPLIT[0], PICTURES[0])
    write_rows(tmp_path / "rows.json", rows)
    said = run("--uplink", "256kbps", "--results", tmp_path).stdout.replace("\n", " ")
    assert "no split setting loses at most 1 AP; the nearest is fpc q0.4, 1.50" in said
    assert "takes longer" not in said


def test_the_command_answers_programs(results: Path) -> None:
    arguments = ("--uplink", "1Mbps", "--rtt", "0.1s", "--head-on-server", "--json")
    result = run(*arguments, "--results", results / "rows.json")
    report = json.loads(result.stdout)
    assert report["split"] is True
    assert (report["way"], report["setting"]) == ("split", "fpc q0.6")
    assert report["link"] == {"uplink_bps": 1e6, "rtt_ms": 100.0}
    assert [x["way"] for x in report["candidates"]] == ["split", "picture"]
    assert report["data"]["images"] == 500
    assert report["text"][0].startswith("Split (fpc q0.6): 180 ms against 252 ms by webp q65")


def test_a_plot_is_drawn(results: Path) -> None:
    pytest.importorskip("matplotlib")
    path = results / "regions.png"
    result = run("--uplink", "1Mbps", "--results", results, "--plot", path)
    assert result.exit_code == 0, result.output
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"), np.uint32) @ np.array([1 << 16, 1 << 8, 1])
    # Boxes and pictures on the left, split and pictures on the right.
    assert {0x9ECAE1, 0xD55E00, 0xC9C9C9} <= set(np.unique(pixels).tolist())
    refused = run("--uplink", "1Mbps", "--results", results, "--plot", results / "regions.docx")
    assert isinstance(refused.exception, InputError)
    assert "draws no .docx" in str(refused.exception)
    assert sorted(x.name for x in results.iterdir()) == ["regions.png", "rows.json"]


def test_a_profile_without_rates_names_the_remedy(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(
        repository / "fpcodec" / "assets" / "tiny", folder, ignore=lambda path, names: {"rates"}
    )
    result = run("--uplink", "1Mbps", "--profile", folder)
    assert isinstance(result.exception, InputError)
    assert f"fpcodec bench rd ... --out {folder / 'rates'}" in str(result.exception)


def test_an_embedded_profile_is_not_measured_into_the_package() -> None:
    result = run("--uplink", "1Mbps", "--profile", "bccd")
    assert "--out runs/rd, and give --results runs/rd" in str(result.exception)


def test_rates_of_another_profile_are_refused(results: Path, repository: Path) -> None:
    tiny = repository / "fpcodec" / "assets" / "tiny"
    result = run("--uplink", "1Mbps", "--results", results, "--profile", tiny)
    assert isinstance(result.exception, InputError)
    assert "another stream id" in str(result.exception)


def test_a_profile_brings_its_own_rates(tmp_path: Path, repository: Path) -> None:
    folder = tmp_path / "own"
    shutil.copytree(repository / "fpcodec" / "assets" / "tiny", folder)
    stream = Profile.load(folder).stream_id.hex()
    (folder / "rates").mkdir(exist_ok=True)
    own = row("own q0.5", "features", 900, 0.2, {"stream_id": stream}, **FRAME)
    write_rows(folder / "rates" / "rows.json", (*ROWS, own))
    result = run("--uplink", "1Mbps", "--profile", folder, "--json", "--max-drop", 2)
    assert result.exit_code == 0, result.output
    names = [x["name"] for x in json.loads(result.stdout)["candidates"]]
    assert "own q0.5" in names
    assert not [name for name in names if name.startswith("fpc")], "frames of another profile"


def test_a_light_edge_is_a_way_of_its_own() -> None:
    light = row(
        "light q0.6", "features", 3000, 0.9, {"light_edge": True}, extract=5.0, encode=2.0,
        decode=2.0, reconstruct=1.0,
    )  # fmt: skip
    slow = Speeds(edge=0.1)
    without = plan(ROWS, MEGABIT, slow, head_on_server=True)
    chosen = plan((*ROWS, light), MEGABIT, slow, head_on_server=True)
    assert without.winner.way == "picture"
    assert (chosen.winner.way, chosen.winner.name) == ("light split", "light q0.6")
    found = winning_ways(measured_settings([*ROWS, light]), np.array([1e6]), np.array([0.1]))
    assert WAYS[found[0, 0]] == "light split"

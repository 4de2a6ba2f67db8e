"""The command line on real files: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fpcodec.cli.app import app
from fpcodec.data import generate_scene
from fpcodec.profile import Profile, embedded_profile_path

COMMANDS = (
    "demo", "serve", "detect", "edge", "encode", "decode", "inspect", "export", "calibrate",
    "train", "distill", "eval", "profiles", "explain", "drift",
)  # fmt: skip


def run(*arguments: object) -> Any:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(x) for x in arguments])


def run_json(*arguments: object) -> Any:
    """The one JSON value that a successful command prints."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def frame(photo: Path) -> Path:
    """A frame of ``photo``, encoded with the embedded profile."""
    run_json("encode", photo, "--quality", 0.8, "--json")
    return photo.with_suffix(".fpc")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"fpcodec {command} " in result.stdout.partition("Example:")[2]


def test_no_command_shows_help() -> None:
    result = run()
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("budget", [300, 1500])
def test_encode_within_a_budget(photo: Path, budget: int) -> None:
    report = run_json("encode", photo, "--max-bytes", budget, "--json")
    assert 0.97 * budget <= report["bytes"] <= budget


def test_encode_reports_what_it_wrote(photo: Path, tmp_path: Path) -> None:
    report = run_json("encode", photo, "--out", tmp_path / "new" / "frames", "--json")
    data = Path(report["frame"]).read_bytes()
    assert Path(report["frame"]) == tmp_path / "new" / "frames" / "photo.fpc"
    assert data[:3] == b"FPC"
    assert report["bytes"] == len(data)
    assert 0 < len(data) - sum(report["level_bytes"].values()) <= 48
    assert [x.name for x in (tmp_path / "new" / "frames").iterdir()] == ["photo.fpc"]


def test_images_of_one_name_get_frames_of_their_own(photo: Path, tmp_path: Path) -> None:
    twin = photo.with_suffix(".jpg")
    with Image.open(photo) as picture:
        picture.save(twin)
    assert run("encode", photo, twin, "--out", tmp_path / "frames").exit_code == 0
    names = sorted(x.name for x in (tmp_path / "frames").iterdir())
    assert names == ["photo-2.fpc", "photo.fpc"]


def test_more_quality_is_more_bytes(photo: Path) -> None:
    sizes = [run_json("encode", photo, "-q", q, "--json")["bytes"] for q in (0, 0.4, 0.8, 1)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_levels_choose_what_is_sent(photo: Path) -> None:
    report = run_json("encode", photo, "--levels", "p3,p5", "--json")
    assert set(report["level_bytes"]) == {"p3", "p5"}
    everything = run_json("encode", photo, "--levels", "all", "--json")
    large = run_json("encode", photo, "--levels", "large", "--json")
    assert set(large["level_bytes"]) <= set(everything["level_bytes"])
    assert large["bytes"] < everything["bytes"]


def test_inspect_agrees_with_encode(photo: Path) -> None:
    encoded = run_json("encode", photo, "--json")
    report = run_json("inspect", encoded["frame"], "--json")
    assert report["bytes"] == encoded["bytes"]
    assert report["image_size"] == [320, 320]
    assert [x["bytes"] for x in report["chunks"]] == list(encoded["level_bytes"].values())[::-1]
    chunk_bytes = sum(x["bytes"] for x in report["chunks"])
    assert report["overhead_bytes"] == report["bytes"] - chunk_bytes


def test_inspect_names_levels_with_a_profile(frame: Path) -> None:
    from fpcodec import embedded_profile_path

    report = run_json("inspect", frame, "--profile", embedded_profile_path(), "--json")
    assert report["profile_matches"] is True
    assert {x["level"] for x in report["chunks"]} == {"p2", "p3", "p4", "p5"}
    assert "frame is of profile" in run("inspect", frame, "-p", embedded_profile_path()).stdout


def test_inspect_names_damage(frame: Path) -> None:
    data = bytearray(frame.read_bytes())
    data[-1] ^= 1
    frame.write_bytes(data)
    report = run_json("inspect", frame, "--json")
    damaged = [x for x in report["chunks"] if x["problem"]]
    assert len(damaged) == 1
    assert "checksum" in damaged[0]["problem"]


def test_decode_writes_what_it_prints(frame: Path, tmp_path: Path) -> None:
    symbols, answer = tmp_path / "s.npz", tmp_path / "a.json"
    report = run_json("decode", frame, "--json", "--symbols", symbols, "--out", answer)
    assert json.loads(answer.read_text()) == report
    assert set(report["levels_used"]) == {"p2", "p3", "p4", "p5"}
    assert report["levels_ignored"] == {}
    with np.load(symbols) as arrays:
        assert {"p2", "p3", "p4", "p5"} <= set(arrays)
        assert arrays["p5"].dtype == np.int32
        assert arrays["p5"].ndim == 3


def test_decode_finds_what_the_whole_detector_finds(photo: Path) -> None:
    from fpcodec import Profile, embedded_profile_path, load_image

    run_json("encode", photo, "--quality", 1, "--json")
    report = run_json("decode", photo.with_suffix(".fpc"), "--json")
    profile = Profile.load(embedded_profile_path())
    detector = profile.open_detector()
    whole = detector.detect(detector.extract(load_image(photo))).to_dicts(profile.labels)
    sure = [x for x in whole if x["score"] > 0.6]
    assert sure
    for wanted in sure:
        same = [x["box"] for x in report["detections"] if x["label"] == wanted["label"]]
        distance = [np.abs(np.subtract(box, wanted["box"])).max() for box in same]
        assert min(distance, default=np.inf) < 20, wanted


def test_decode_prints_a_table(frame: Path) -> None:
    result = run("decode", frame)
    assert result.exit_code == 0
    assert "detections" in result.stdout
    assert "levels from the frame" in result.stdout


def test_calibrated_profile_can_be_used(photo: Path, tmp_path: Path) -> None:
    for seed in range(6):
        Image.fromarray(generate_scene(seed).image).save(tmp_path / f"{seed}.png")
    profile = tmp_path / "profile"
    report = run_json(
        "calibrate", "--detector", "tiny", "--images", tmp_path, "--out", profile,
        "--limit", 6, "--json",
    )  # fmt: skip
    assert report["images"] == 6
    assert set(report["key_levels"]) == {"small", "medium", "large"}
    run_json("encode", photo, "--profile", profile, "--json")
    frame = photo.with_suffix(".fpc")
    assert run_json("decode", frame, "--profile", profile, "--json")["detections"] is not None
    wrong = run("decode", frame, "--json")
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("error: ")
    assert report["measured"]["found"]["images"] == 6
    shape = report["measured"]["found"]["best"]["label"]
    assert f"objects per image, e.g. {shape} " in run("profiles", "show", profile).stdout
    again = run("calibrate", "--detector", "tiny", "--images", tmp_path, "--out", profile)
    assert again.exit_code == 2
    assert "--replace" in again.stderr


def test_profiles_lists_what_ships_whatever_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Profile.load(embedded_profile_path()).save(Path("yolox_nano"))
    Path("tiny").mkdir()
    listed = run_json("profiles", "list", "--json")
    recipes = [facts["name"] for facts in listed if facts["recipe"]]
    assert recipes == ["yolox_nano"]
    assert listed[-1]["folder"] == "yolox_nano"
    assert len(listed) == 4


def test_eval_measures_bytes_and_drop(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    from fpcodec.data import write_coco

    write_coco(tmp_path / "scenes", range(4))
    annotations = next((tmp_path / "scenes").rglob("*.json"))
    images = next((tmp_path / "scenes").rglob("*.png")).parent
    out = tmp_path / "rows.json"
    result = run(
        "eval", "--images", images, "--annotations", annotations, "-q", 0.2, "-q", 0.9,
        "--rivals", "--json", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = json.loads(out.read_text())
    kinds = [row["kind"] for row in rows]
    assert kinds == ["unsplit", "features", "features", "picture", "picture", "boxes"]
    assert rows[1]["sent_bytes"]["mean"] < rows[2]["sent_bytes"]["mean"]
    assert all(row["images"] == 4 for row in rows)

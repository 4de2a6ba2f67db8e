"""``fpcodec edge`` as a user meets it: a real server, real signals, files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner
from wire_kit import free_port

from fpcodec import embedded_profile_path
from fpcodec.cli.app import app
from fpcodec.cli.loopback import loopback_server
from fpcodec.data import generate_scene


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server process with the embedded profile."""
    with loopback_server(embedded_profile_path(), threads=1) as address:
        yield address


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A folder of images, one of them damaged."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for seed in range(5):
        Image.fromarray(generate_scene(seed).image).save(folder / f"{seed}.png")
    (folder / "2b.png").write_text("damaged")
    return folder


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["edge", *map(str, arguments)])


def test_a_folder_gives_a_line_per_image_and_a_summary_that_adds_up(
    server: str, scenes: Path
) -> None:
    result = run(scenes, "--server", server, "--threads", 1, "--json")
    assert result.exit_code == 0, result.stderr
    *lines, last = (json.loads(x) for x in result.stdout.splitlines())
    assert sorted(x["frame"] for x in lines) == list(range(6))
    assert [x["source"] for x in lines if "error" in x] == ["2b.png"]
    assert all(x["detections"] for x in lines if "detections" in x)
    summary = last["summary"]
    assert summary["captured"] == 6
    assert summary["answered"] == 5
    assert summary["failed"] == {"InputError": 1}
    assert summary["sent_bytes"] == sum(x["bytes"] for x in lines if "bytes" in x)


def test_the_summary_for_people_and_the_lines_in_a_file(
    server: str, scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "lines.jsonl"
    result = run(
        scenes, "--server", server, "--threads", 1, "--out", out, "--frame-bytes", 1000,
        "--levels", "auto", "--fps", 20,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert "6 captured = " in result.stderr
    assert "1 InputError" in result.stderr
    lines = [json.loads(x) for x in out.read_text().splitlines()]
    assert sorted(x["frame"] for x in lines) == list(range(6))
    assert max(x.get("bytes", 0) for x in lines) <= 1000


def test_frames_are_spooled_without_a_server_and_sent_with_one(
    server: str, scenes: Path, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    nobody = f"127.0.0.1:{free_port()}"
    common = ("--threads", 1, "--json", "--spool", spool, "--fps", 8)
    result = run(scenes, "--server", nobody, *common)
    assert result.exit_code == 0, result.stderr
    first = json.loads(result.stdout.splitlines()[-1])["summary"]
    assert first["spooled"] + sum(first["dropped"].values()) == 5
    assert first["spooled"] >= 1
    result = run(scenes, "--server", server, *common, "--limit", 1)
    assert result.exit_code == 0, result.stderr
    second = json.loads(result.stdout.splitlines()[-1])["summary"]
    assert second["resumed"] == first["spooled"]
    assert second["answered"] == first["spooled"] + 1
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_with_the_summary(server: str, scenes: Path, number: int) -> None:
    command = [
        sys.executable, "-m", "fpcodec.cli", "edge", str(scenes), "--server", server,
        "--threads", "1", "--fps", "1", "--json",
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        start_s = time.monotonic()
        process.send_signal(number)
        rest, said = process.communicate(timeout=20)
    assert time.monotonic() - start_s < 10
    assert process.returncode == 0, said
    summary = json.loads(rest.splitlines()[-1])["summary"]
    ended = summary["answered"] + sum(summary["dropped"].values())
    assert first["frame"] == 0
    assert summary["captured"] == ended + sum(summary["failed"].values()) < 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.mp4", "--server", "127.0.0.1:1"), "no such file"),
        ((".", "--server", "127.0.0.1:1"), "images"),
        (("SCENES", "--server", "nonsense"), "host:port"),
        (("SCENES", "--server", "FREE"), "fpcodec serve"),
        (("SCENES", "--server", "FREE", "--rate", "fast"), "bit rate"),
        (("SCENES", "--server", "FREE", "--latency", "soon"), "time"),
        (("SCENES", "--server", "FREE", "--quality", "2"), r"[0, 1]"),
        (("SCENES", "--server", "FREE", "--levels", "p9"), "p9"),
        (("SCENES", "--server", "FREE", "--frame-bytes", "10"), "300"),
    ],
)
def test_errors_are_one_line_and_exit_code_two(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...],
    said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    words = {"SCENES": str(scenes), "FREE": f"127.0.0.1:{free_port()}"}
    result = run(*(words.get(x, x) for x in arguments))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert said in result.stderr

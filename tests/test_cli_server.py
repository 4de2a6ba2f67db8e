"""The command line with a real server process: serve, detect, demo, and that nothing stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fpcodec import embedded_profile_path
from fpcodec.address import split_address
from fpcodec.cli.app import app
from fpcodec.cli.loopback import loopback_server


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A server process with the embedded profile."""
    with loopback_server(embedded_profile_path(), threads=1) as address:
        yield address


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(x) for x in arguments])
    assert result.exit_code == 0, result.stderr
    return result


def answers(address: str) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(split_address(address), timeout=1).close()
    except OSError:
        return False
    return True


def test_detect_gives_a_line_per_image_and_agrees_with_decode(
    server: str, photo: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jpg"
    Image.new("RGB", (200, 100)).save(other)
    lines = run("detect", photo, other, "--server", server, "--quality", 0.6).stdout.splitlines()
    first, second = (json.loads(line) for line in lines)
    assert [Path(x["image"]) for x in (first, second)] == [photo, other]
    assert second["bytes"] < first["bytes"]
    run("encode", photo, "--quality", 0.6)
    local = json.loads(run("decode", photo.with_suffix(".fpc"), "--json").stdout)
    assert local["bytes"] == first["bytes"]
    assert local["levels_used"] == first["levels_used"]
    remote_boxes = [x["box"] for x in first["detections"]]
    assert len(remote_boxes) == len(local["detections"])
    for remote, here in zip(remote_boxes, local["detections"], strict=True):
        assert remote == pytest.approx(here["box"], abs=0.1)


def test_detect_leaves_out_boxes_of_low_scores(server: str, photo: Path) -> None:
    def scores(*options: object) -> list[float]:
        out = run("detect", photo, "--server", server, *options).stdout
        return [x["score"] for x in json.loads(out)["detections"]]

    every = scores()
    assert min(every) < 0.3
    assert scores("--min-score", 0.3) == [x for x in every if x >= 0.3]


def test_detect_draws_what_it_found(server: str, photo: Path, tmp_path: Path) -> None:
    run("detect", photo, "--server", server, "--quality", 1, "--draw", tmp_path / "found")
    with Image.open(tmp_path / "found" / "photo.png") as drawn, Image.open(photo) as plain:
        assert drawn.size == (4 * plain.width, 4 * plain.height)
        enlarged = plain.resize(drawn.size, Image.Resampling.BICUBIC)
        assert np.any(np.asarray(drawn) != np.asarray(enlarged))
    (tmp_path / "b").mkdir()
    shutil.copy(photo, tmp_path / "b")
    for images, folder in (([photo], photo.parent), ([photo, tmp_path / "b" / "photo.png"], "c")):
        arguments = ["detect", *images, "--server", server, "--draw", tmp_path / folder]
        result = CliRunner().invoke(app, [str(x) for x in arguments])
        assert result.exit_code == 2
        assert "which is taken" in result.stderr


def test_automatic_levels_go_on_from_answer_to_answer(server: str, photo: Path) -> None:
    out = run("detect", photo, photo, photo, "--server", server, "--levels", "auto").stdout
    assert len(out.splitlines()) == 3


def test_demo_draws_counts_and_writes(tmp_path: Path, photo: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--image", photo, "--image", photo, "--quality", 1, "--threads", 1)
    report = json.loads(run("demo", *arguments, "--out", out, "--json").stdout)
    assert [x["name"] for x in report["images"]] == ["photo", "photo-2"]
    for entry in report["images"]:
        size = Path(entry["frame"]).stat().st_size
        assert size == entry["frame_bytes"]
        assert size == sum(entry["level_bytes"].values()) + entry["overhead_bytes"]
        assert size < entry["pyramid_fp32_bytes"]
        assert entry["levels"]["p6"] == "derived"
        assert entry["agreement"]["f1"] > 0.8
        assert 0 < entry["codec_macs"] < entry["edge_macs"]
        assert all(way["bytes"] > 0 for way in entry["rivals"].values())
        with Image.open(entry["picture"]) as picture:
            assert picture.width > 1.5 * picture.height
    assert json.loads((out / "report.json").read_text()) == report
    assert {x.suffix for x in out.iterdir()} == {".png", ".fpc", ".json"}


def test_demo_says_what_was_recovered(tmp_path: Path, photo: Path) -> None:
    result = run("demo", "-i", photo, "--levels", "p3,p4,p5", "--threads", 1, "--out", tmp_path)
    assert "recovered" in result.stdout
    assert "fp32 pyramid" in result.stdout
    assert "webp" in result.stdout.lower()


def test_server_ends_with_its_block() -> None:
    with loopback_server(embedded_profile_path(), threads=1) as address:
        assert answers(address)
    assert not answers(address)


def test_server_ends_when_its_parent_is_killed() -> None:
    code = """
import time
from fpcodec import embedded_profile_path
from fpcodec.cli.loopback import loopback_server
with loopback_server(embedded_profile_path(), threads=1) as address:
    print(address, flush=True)
    time.sleep(60)
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        address = parent.stdout.readline().strip()
        assert answers(address)
        parent.kill()
    deadline = time.monotonic() + 20
    while answers(address):
        assert time.monotonic() < deadline, "the server outlived its parent"
        time.sleep(0.1)


def test_serve_ends_on_sigterm_with_success() -> None:
    command = [sys.executable, "-m", "fpcodec.cli", "serve", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as process:
        assert process.stdout is not None
        word, address, *_ = process.stdout.readline().split()
        assert word == "ready"
        assert answers(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_detect_goes_on_after_an_unreadable_image(server: str, photo: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("not a picture")
    result = CliRunner().invoke(app, ["detect", str(text), str(photo), "--server", server])
    assert result.exit_code == 2
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()] == [str(photo)]
    assert "text.jpg: not an image file" in result.stderr
    assert "1 of 2 images" in result.stderr

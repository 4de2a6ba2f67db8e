"""Ctrl-C in the middle of work: exit code 130, and nothing half-written is left."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from fpcodec.data import generate_scene
from fpcodec.profile import Profile, embedded_profile_path

PICTURES = 60
LONGEST_S = 120
LEFT_BY_OTHERS = (".ses", "torchinductor_")
"""By onnxruntime and torch, however a process ends."""


@pytest.fixture(autouse=True)
def _heeded() -> Iterator[None]:
    """Ctrl-C reaches what a test starts even where the tests themselves run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many pictures."""
    folder = tmp_path_factory.mktemp("scenes")
    picture = Image.fromarray(generate_scene(3).image)
    for number in range(PICTURES):
        picture.save(folder / f"{number:03}.jpg")
    return folder


@pytest.fixture
def annotations(images: Path, tmp_path: Path) -> Path:
    """A box in every picture."""
    path = tmp_path / "boxes.json"
    names = sorted(x.name for x in images.iterdir())
    path.write_text(json.dumps({
        "images": [{"id": i, "file_name": x, "width": 320, "height": 320}
                   for i, x in enumerate(names)],
        "annotations": [{"id": i, "image_id": i, "category_id": 1, "bbox": [9, 9, 99, 99],
                         "area": 9801, "iscrowd": 0} for i in range(len(names))],
        "categories": [{"id": 1, "name": "ball"}],
    }))  # fmt: skip
    return path


def terminal_text(master: int) -> Iterator[str]:
    """What a terminal has shown so far, again and again, until its other end closes."""
    text, end = b"", time.monotonic() + LONGEST_S
    while time.monotonic() < end and select.select([master], [], [], 60)[0]:
        try:
            text += os.read(master, 65536)
        except OSError:
            return
        yield text.decode(errors="replace")


def interrupt(folder: Path, sign: str, *arguments: object) -> str:
    """Send Ctrl-C to a command, as a terminal does, once a sign is seen; what it showed."""
    scratch = folder / "scratch"
    scratch.mkdir()
    master, slave = pty.openpty()
    changes = {"TMPDIR": str(scratch), "TERM": "xterm", "COLUMNS": "100", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "fpcodec.cli", *map(str, arguments)], cwd=folder,
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
        env={**os.environ, **changes},
    ) as process:  # fmt: skip
        os.close(slave)
        shown, sent = "", False
        for shown in terminal_text(master):
            if not sent and re.search(sign, shown):
                os.killpg(process.pid, signal.SIGINT)
                sent = True
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    os.close(master)
    assert sent, shown
    assert process.returncode == 130, shown
    assert "Traceback" not in shown
    left = [x.name for x in scratch.iterdir()]
    assert [x for x in left if not x.startswith(LEFT_BY_OTHERS)] == []
    shutil.rmtree(scratch)
    return shown


def hidden(folder: Path) -> list[Path]:
    """What writers leave while they write."""
    return [x for x in folder.rglob("*") if x.name.startswith(".") or x.suffix == ".tmp"]


def test_encode(images: Path, tmp_path: Path) -> None:
    interrupt(tmp_path, r"[1-9]\d*/60", "encode", *sorted(images.iterdir()), "--out", "frames")
    frames = list((tmp_path / "frames").iterdir())
    assert 0 < len(frames) < PICTURES
    assert all(x.suffix == ".fpc" and x.read_bytes()[:3] == b"FPC" for x in frames)
    assert len({x.stat().st_size for x in frames}) == 1, "the pictures are all the same"


@pytest.mark.parametrize("over", [False, True])
def test_calibrate(over: bool, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    if over:
        before = Profile.load(embedded_profile_path()).save(out).stream_id
    interrupt(
        tmp_path, r"[1-9]\d*/120", "calibrate", "--detector=tiny", "--images", images, "--out", out,
        "--replace",
    )  # fmt: skip
    assert hidden(tmp_path) == []
    assert out.exists() is over
    if over:
        assert Profile.load(out).stream_id == before


@pytest.mark.skipif(not find_spec("faster_coco_eval"), reason="needs fpcodec[bench]")
@pytest.mark.parametrize("workers", [1, 2])
def test_bench(workers: int, images: Path, annotations: Path, tmp_path: Path) -> None:
    shown = interrupt(
        tmp_path, r"[1-9]\d*/60", "bench", "rd", "--images", images, "--annotations", annotations,
        "--out", tmp_path / "rd", "--codecs", "fpc", "-q", 0.5, "--workers", workers, "--no-parts",
    )  # fmt: skip
    assert hidden(tmp_path) == [], shown
    assert not (tmp_path / "rd" / "rows.json").exists()


@pytest.mark.skipif(not find_spec("torch"), reason="needs fpcodec[train]")
def test_train(images: Path, tmp_path: Path) -> None:
    interrupt(
        tmp_path, r"[1-9]\d* of \d+", "train", "--detector=tiny", "--images", images, "--out",
        tmp_path / "codec", "--steps", 9999, "--loss", "mse", "--held-out", 2,
        "--start", embedded_profile_path(),
    )  # fmt: skip
    assert hidden(tmp_path) == []
    assert not (tmp_path / "codec").exists()

"""Ctrl-C in the middle of work: exit code 130, and nothing half-written is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation_kit import write_dataset
from PIL import Image

from fpcodec.data import generate_scene

Sign = Callable[[], bool]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of many pictures, and boxes for them."""
    folder = tmp_path_factory.mktemp("scenes")
    picture = Image.fromarray(generate_scene(3).image)
    for number in range(300):
        picture.save(folder / f"{number:03}.jpg")
    return folder


def interrupted(
    arguments: list[object], folder: Path, sign: Sign, wait_s: float = 60.0
) -> tuple[int, str]:
    """Exit code and words of a command that gets Ctrl-C, as a terminal sends it, at a sign."""
    scratch = folder / "tmp"
    scratch.mkdir()
    words = folder / "words.txt"
    with words.open("w") as stream, subprocess.Popen(
        [sys.executable, "-m", "fpcodec.cli", *map(str, arguments)], cwd=folder,
        stdout=stream, stderr=stream, start_new_session=True,
        env={**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        end = time.monotonic() + wait_s
        while not sign():
            assert process.poll() is None, words.read_text()
            assert time.monotonic() < end, words.read_text()
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        code = process.wait(30)
    assert list(scratch.iterdir()) == []
    said = words.read_text()
    assert "Traceback" not in said
    return code, said

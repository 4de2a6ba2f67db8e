"""Training: one call gives a working profile, and a run that was killed ends as if it never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from core_kit import FakeDetector  # noqa: E402
from training_kit import (  # noqa: E402
    HELD_OUT,
    KillAt,
    Killed,
    Recorder,
    run_training,
    settings,
    weights,
    write_images,
)
from typer.testing import CliRunner  # noqa: E402

from fpcodec.calibration import calibrate  # noqa: E402
from fpcodec.cli.app import app  # noqa: E402
from fpcodec.cli.training_progress import RichWatcher, progress_bars  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.images import load_image  # noqa: E402
from fpcodec.profile import Profile  # noqa: E402
from fpcodec.training.train import Trained  # noqa: E402
from fpcodec.training.watch import StepReport  # noqa: E402

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight generated scenes."""
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """Small networks run fastest so, and always alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def trained(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run from nothing to a profile."""
    return run_training(tmp_path_factory.mktemp("trained"), images)


@pytest.fixture(scope="module")
def start(images: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Profile:
    """The closed form of ``tiny`` on few images."""
    folder = tmp_path_factory.mktemp("start") / "profile"
    return calibrate(open_detector("tiny", threads=1), images[:2], folder, key_level_seconds=0)


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    """End runs with their last checkpoint: where only weights matter."""
    monkeypatch.setattr("fpcodec.training.train._finish", lambda *_: "not exported")


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[x], b[x]) for x in a)


def test_one_call_gives_a_profile_that_codes(trained: Trained, images: list[Path]) -> None:
    profile = Profile.load(trained.profile.path)
    profile.verify()
    assert profile.codec.codec_id == 3
    assert set(profile.key_levels) == {"small", "medium", "large"}
    pyramid = FakeDetector().extract(load_image(images[0]))
    errors = []
    for quality in (0.0, 1.0):
        decoded = profile.codec.decode(profile.codec.encode(pyramid, quality))
        restored = profile.codec.reconstruct([decoded], [pyramid.geometry])[0]
        assert restored.missing == ()
        errors.append(np.mean((restored.levels["p4"] - pyramid.levels["p4"]) ** 2))
    assert errors[1] < errors[0]


def test_the_summary_counts_what_happened(trained: Trained, images: list[Path]) -> None:
    assert (trained.steps, trained.images) == (6, len(images) - HELD_OUT)
    assert [point.quality for point in trained.held_out] == [0, 0.25, 0.5, 0.75, 1]
    sizes = [point.frame_bytes for point in trained.held_out]
    assert sizes == sorted(sizes)
    measured = trained.profile.measured
    assert measured["training"]["steps"] == 6
    assert measured["held_out"][2]["frame_bytes"] == trained.held_out[2].frame_bytes


def test_training_lowers_the_loss(tmp_path: Path, images: list[Path], no_export: None) -> None:
    def last_features(rate: float) -> float:
        watcher = Recorder()
        config = settings(steps=80, learning_rate=rate, frozen_steps=0)
        run_training(tmp_path / str(rate), images, config, watcher=watcher, checkpoint_minutes=9)
        return float(np.mean([report.parts["features"] for report in watcher.steps[40:]]))

    # The same steps draw the same qualities and lost chunks, whatever is learned.
    assert last_features(1e-2) < 0.9 * last_features(1e-9)


def test_a_run_resumed_ends_with_the_same_weights(
    tmp_path: Path, images: list[Path], start: Profile, no_export: None
) -> None:
    detector = open_detector("tiny", threads=1)

    def run(folder: str, watcher: Recorder) -> None:
        config = settings(steps=4, loss="frs")
        run_training(
            tmp_path / folder, images, config, detector=detector, start=start, watcher=watcher
        )

    watcher = Recorder()
    run("whole", watcher)
    with pytest.raises(Killed):
        run("parts", KillAt(3))
    run("parts", watcher)
    assert [report.step for report in watcher.steps] == [1, 2, 3, 4, 3, 4]
    assert watcher.notes == [f"going on from step 2 in {tmp_path / 'parts' / 'run'}"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_run_killed_at_random_ends_with_the_same_weights(
    tmp_path: Path, images: list[Path], no_export: None
) -> None:
    code = [sys.executable, HERE / "training_kit.py", tmp_path / "killed", images[0].parent, "60"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    victim = subprocess.Popen(code, env=environment)
    checkpoint = tmp_path / "killed" / "run" / "checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(float(np.random.default_rng().uniform(0, 0.5)))
    victim.send_signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert torch.load(checkpoint, weights_only=True)["step"] < 60
    for folder in ("killed", "whole"):
        run_training(tmp_path / folder, images, settings(steps=60), checkpoint_minutes=9)
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))


def test_mirrored_images_are_trained_on_and_never_held_out(
    tmp_path: Path, images: list[Path]
) -> None:
    run_training(tmp_path, images, settings(mirror=True))
    index = json.loads(next((tmp_path / "run" / "features").glob("*/index.json")).read_text())
    assert [x["mirrored"] for x in index["entries"][: HELD_OUT + 2]] == [False] * 3 + [True]
    assert len(index["entries"]) == 2 * len(images) - HELD_OUT


def test_features_are_extracted_once(
    tmp_path: Path, images: list[Path], no_export: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_training(tmp_path, images, cache=tmp_path / "shared")
    again = tmp_path / "again"
    monkeypatch.setattr("fpcodec.training.features._extract", None)
    run_training(again, images, settings(seed=1), cache=tmp_path / "shared")
    assert not (again / "run" / "features").exists()


def test_features_beyond_the_limit_are_left_out(tmp_path: Path, images: list[Path]) -> None:
    pyramid = FakeDetector().extract(load_image(images[0]))
    one = 2 * sum(x.size for x in pyramid.levels.values())
    watcher = Recorder()
    trained = run_training(tmp_path, images, cache_gb=6.5 * one / 1e9, watcher=watcher)
    assert (trained.images, trained.images_left_out) == (6 - HELD_OUT, 2)
    assert any("6 of 8 images" in note for note in watcher.notes)


def test_held_out_images_are_measured_at_intervals(tmp_path: Path, images: list[Path]) -> None:
    run_training(tmp_path, images, measure_steps=3)
    lines = (tmp_path / "run" / "held_out.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [3, 6]
    assert all(0 <= json.loads(x)["points"][0]["agreement"] <= 1 for x in lines)


def test_the_command_trains_tiny_through_its_head(tmp_path: Path, images: list[Path]) -> None:
    arguments = ["train", "--detector", "tiny", "--images", images[0].parent, "--steps", 2,
                 "--batch", 2, "--held-out", 1, "--threads", 1, "--loss", "frs-features",
                 "--out", tmp_path / "new", "--json"]  # fmt: skip
    result = CliRunner().invoke(app, [str(x) for x in arguments])
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["steps"] == 2
    assert report["held_out"][-1]["agreement"] > 0.8
    profile = Profile.load(tmp_path / "new")
    assert profile.stream_id.hex() == report["stream_id"]
    assert (tmp_path / "new.training" / "checkpoint.pt").is_file()
    pyramid = profile.open_detector("edge", threads=1).extract(load_image(images[0]))
    assert profile.codec.encode(pyramid, 0.5)


def test_the_bar_says_losses_bytes_and_time_left() -> None:
    bars = progress_bars()
    watcher = RichWatcher(bars)
    watcher.stage("Features", 3, 4)
    watcher.step(StepReport(10, 0.25, 1200.0, 2.0, {"features": 1.5, "scores": 0.25}, 2140.4))
    assert [task.percentage for task in bars.tasks] == [75, 25]
    says = bars.tasks[1].fields["says"]
    assert says == "features 1.500 scores 0.250 | 2140 bytes | 1:00:00 left"


def test_help_ends_with_an_example() -> None:
    result = CliRunner().invoke(app, ["train", "--help"])
    assert result.exit_code == 0
    assert "fpcodec train " in result.stdout.partition("Example:")[2]
    assert "in place of --steps" in " ".join(result.stdout.replace("│", " ").split())


@pytest.mark.slow
def test_a_detector_never_seen_gets_a_profile(tmp_path: Path, images: list[Path]) -> None:
    """RetinaNet of random weights on images of two network sizes: the mechanics."""
    from PIL import Image

    with Image.open(images[0]) as picture:
        picture.resize((200, 120)).save(images[0].with_name("wide.png"))
    every = sorted(images[0].parent.iterdir())
    spec = "torchvision:retinanet_resnet18_fpn?num_classes=3&min_size=96&max_size=160"
    detector = open_detector(spec, threads=1)
    trained = run_training(tmp_path, every, settings(steps=3, loss="frs"), detector=detector)
    pyramid = detector.extract(load_image(every[-1]))
    codec = trained.profile.codec
    restored = codec.reconstruct([codec.decode(codec.encode(pyramid, 0.5))], [pyramid.geometry])
    assert restored[0].missing == ()


@pytest.mark.slow
def test_two_processes_train_one_network(tmp_path: Path, images: list[Path]) -> None:
    code = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--standalone", HERE / "training_kit.py", tmp_path, images[0].parent, "4"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    assert subprocess.run(code, env=environment, check=False).returncode == 0
    found = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert (found["step"], found["run"]["processes"]) == (4, 2)
    assert Profile.load(tmp_path / "profile").codec.codec_id == 3

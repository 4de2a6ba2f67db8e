"""Training on bad input: one line that says what to do, and the last good checkpoint is kept."""

from __future__ import annotations

import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from core_kit import SPEC, FakeDetector  # noqa: E402
from training_kit import KillAt, Killed, run_training, settings, weights, write_images  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from fpcodec.cli.app import app  # noqa: E402
from fpcodec.errors import InputError, MissingDependency, ModelError  # noqa: E402
from fpcodec.pyramid import Pyramid  # noqa: E402
from fpcodec.training.heads import HeadAnswer  # noqa: E402
from fpcodec.training.loop import Trainer  # noqa: E402
from fpcodec.training.objective import Objective  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six generated scenes."""
    return write_images(tmp_path_factory.mktemp("images"), 6)


def refusal(*arguments: object) -> str:
    """The one line with which the command refuses."""
    result = CliRunner().invoke(app, ["train", "--detector", "tiny", *map(str, arguments)])
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    assert "no image files" in refusal("--images", tmp_path / "empty", "--out", out)
    assert "no such folder" in refusal("--images", tmp_path / "none", "--out", out)


def test_fewer_images_than_a_batch(tmp_path: Path, images: list[Path]) -> None:
    line = refusal("--images", images[0].parent, "--out", tmp_path / "out", "--batch", 4)
    assert "6 images are fewer than a batch of 4 and 32 held out" in line
    assert "--held-out" in line


def test_two_ways_to_say_how_long(tmp_path: Path, images: list[Path]) -> None:
    line = refusal(
        "--images", images[0].parent, "--out", tmp_path, "--steps", 3, "--minutes", 1
    )  # fmt: skip
    assert "give one of them" in line


def test_numbers_out_of_range(tmp_path: Path, images: list[Path]) -> None:
    base = ("--images", images[0].parent, "--out", tmp_path / "out", "--held-out", 0)
    assert "0.0 minutes" in refusal(*base, "--minutes", 0)
    assert "cache of 0.0 GB" in refusal(*base, "--cache-gb", 0)


def test_an_image_that_is_damaged(tmp_path: Path) -> None:
    paths = write_images(tmp_path / "images", 6)
    paths[3].write_bytes(paths[3].read_bytes()[:500])
    with pytest.raises(InputError, match=re.escape(str(paths[3]))):
        run_training(tmp_path, paths)


def test_a_cache_too_small_for_a_batch(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(InputError, match="--cache-gb"):
        run_training(tmp_path, images, cache_gb=1e-9)
    with pytest.raises(InputError, match="3 cached images are fewer"):
        run_training(tmp_path, images, cache_gb=3.5 * 2 * 8 * 126 / 1e9)


def test_a_checkpoint_from_another_detector(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(Killed):
        run_training(tmp_path, images, watcher=KillAt(2))
    other = FakeDetector()
    other.export_files = {"edge.bin": b"other weights"}
    with pytest.raises(InputError, match="checkpoint is from another detector"):
        run_training(tmp_path, images, detector=other)


def test_a_checkpoint_made_with_other_options(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(Killed):
        run_training(tmp_path, images, watcher=KillAt(2))
    with pytest.raises(InputError, match=r"other options \(seed 0 is now 1\)"):
        run_training(tmp_path, images, settings(seed=1))
    with pytest.raises(InputError, match="from another images"):
        run_training(tmp_path, images[1:])


def test_a_damaged_checkpoint(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(Killed):
        run_training(tmp_path, images, watcher=KillAt(2))
    path = tmp_path / "run" / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint"):
        run_training(tmp_path, images)


def test_a_disk_full_while_caching(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, ".f16", after=4)
    with pytest.raises(InputError, match="disk is full while writing cached features"):
        run_training(tmp_path, images)
    assert list((tmp_path / "run" / "features").iterdir()) == []


def test_a_disk_full_while_saving_keeps_the_last_checkpoint(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        run_training(tmp_path, images, watcher=KillAt(3))
    before = weights(tmp_path)
    with monkeypatch.context() as patch:
        fill_disk(patch, "checkpoint.pt", after=0)
        with pytest.raises(InputError, match="disk is full while writing a checkpoint"):
            run_training(tmp_path, images)
    after = weights(tmp_path)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not list((tmp_path / "run").glob(".checkpoint*"))
    assert run_training(tmp_path, images).steps == 6


def test_a_loss_that_is_not_finite_names_its_images(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = Trainer._loss

    def spoiled(self: Trainer, batch: Any) -> Any:
        loss, parts, bits = usual(self, batch)
        return (loss * float("nan") if self.step == 3 else loss), parts, bits

    monkeypatch.setattr(Trainer, "_loss", spoiled)
    with pytest.raises(ModelError, match=r"not finite at step 3, images .*\.png, .*\.png"):
        run_training(tmp_path, images)
    kept = weights(tmp_path)
    assert all(np.isfinite(values).all() for values in kept.values())
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 3


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_memory_that_runs_out(
    error: Exception, tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(Trainer, "_loss", hungry)
    with pytest.raises(InputError, match="lower --batch"):
        run_training(tmp_path, images)


def test_a_head_without_scores() -> None:
    def blind(levels: Any, teacher: Any = None) -> HeadAnswer:
        return HeadAnswer({}, {})

    level = {"p3": torch.zeros(1, 8, 4, 4)}
    objective = Objective(settings(loss="frs"), blind, {"p3": torch.ones(1, 8, 1, 1)})
    with pytest.raises(ModelError, match="no score for p3; train with --loss mse"):
        objective(level, level)


def test_a_detector_whose_head_is_unknown(tmp_path: Path, images: list[Path]) -> None:
    with pytest.raises(ModelError, match="no head that training knows"):
        run_training(tmp_path, images, settings(loss="frs"))


def test_features_that_are_not_finite(tmp_path: Path, images: list[Path]) -> None:
    class Broken(FakeDetector):
        def extract(self, image: np.ndarray, levels: Any = None) -> Pyramid:
            found = super().extract(image, levels)
            spoiled = {name: np.full_like(x, np.nan) for name, x in found.levels.items()}
            return Pyramid(SPEC, spoiled, found.geometry)

    with pytest.raises(InputError, match="NaN or infinite"):
        run_training(tmp_path, images, detector=Broken())


def test_curves_without_tensorboard(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependency, match=r"fpcodec\[train\]"):
        run_training(tmp_path, images, tensorboard=True)


def test_no_gpu_where_one_is_asked_for(
    tmp_path: Path, images: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="--device cpu"):
        run_training(tmp_path, images, device="cuda")


def fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """Let files whose name holds ``name`` be written so many times, then no more."""
    usual, opened = Path.open, iter(range(10**6))

    def full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if name in self.name and mode != "r" and next(opened) >= after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return usual(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)

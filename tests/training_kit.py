"""Training runs that take a second: the kit's detector without a model, or ``tiny``, few steps."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from core_kit import FakeDetector
from PIL import Image

from fpcodec.data import generate_scene
from fpcodec.profile import Profile
from fpcodec.training.objective import Importance
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.train import Trained, train
from fpcodec.training.watch import StepReport, Watcher

HELD_OUT = 2


def write_images(folder: Path, count: int = 8) -> list[Path]:
    """Generated scenes as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:02d}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(generate_scene(number).image).save(path)
    return paths


class Recorder(Watcher):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.notes: list[str] = []

    def step(self, report: StepReport) -> None:
        self.steps.append(report)

    def note(self, message: str) -> None:
        self.notes.append(message)


class Killed(Exception):
    """Ends a run as a signal would, in this process."""


class KillAt(Recorder):
    """Ends the run after some step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._last = step

    def step(self, report: StepReport) -> None:
        super().step(report)
        if report.step == self._last:
            raise Killed


def settings(**changes: Any) -> TrainingConfig:
    """A run of a few steps on the plain squared error, which needs no head."""
    short = {"steps": 6, "batch": 2, "loss": "mse", "held_out": HELD_OUT, "balance_batches": 1}
    return TrainingConfig(**{**short, **changes})


def run_training(
    folder: Path,
    images: Sequence[Path],
    config: TrainingConfig | None = None,
    *,
    detector: Any = None,
    start: Profile | None = None,
    watcher: Watcher | None = None,
    importance: Importance | None = None,
    **run: Any,
) -> Trained:
    """Train in ``folder/run`` and write ``folder/profile``; None but in the first process."""
    place = {"checkpoint_minutes": 0.0, "measure_steps": 0, "key_level_seconds": 0.0, **run}
    return train(  # type: ignore[return-value]
        detector or FakeDetector(), images, folder / "profile", config or settings(),
        RunConfig(folder / "run", **place), start=start, importance=importance, watcher=watcher,
    )  # fmt: skip


def weights(folder: Path) -> dict[str, np.ndarray]:
    """The averaged and the trained weights of the last checkpoint of ``folder/run``."""
    found = torch.load(folder / "run" / "checkpoint.pt", weights_only=True)
    return {
        f"{kind}.{name}": values.numpy()
        for kind in ("network", "average")
        for name, values in found[kind].items()
    }


if __name__ == "__main__":
    # A process of its own, to be killed or to be one of several: FOLDER IMAGES STEPS
    torch.set_num_threads(1)
    run_training(
        Path(sys.argv[1]), sorted(Path(sys.argv[2]).iterdir()), settings(steps=int(sys.argv[3]))
    )

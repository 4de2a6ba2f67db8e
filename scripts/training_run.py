"""The state of a training run: its settings, its progress, its averaged weights, its files."""

from __future__ import annotations

import copy
import json
import os
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from fpcodec.data.coco import CocoDataset
from fpcodec.detectors.tiny import CARD, WEIGHTS, TinyConfig
from fpcodec.files import replacing

# Held-out scenes have the seeds 0..99,999; training never meets them.
FIRST_TRAINING_SEED = 1_000_000


@dataclass(frozen=True)
class Settings:
    """One training run; see ``--help`` for the meaning of each field."""

    steps: int
    stop_after: int
    minutes: float
    batch: int
    lr: float
    seed: int
    threads: int
    workers: int
    save_minutes: float
    out: Path
    name: str
    data: Path | None
    images: Path | None
    size: tuple[int, int]
    heldout: int
    start: Path | None
    start_lr: float


@dataclass(frozen=True)
class Rank:
    """Which of the processes that train together this is; alone without torchrun."""

    index: int = int(os.environ.get("RANK", "0"))
    count: int = int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Data:
    """What to train on, what to watch AP on, and the network for it; no data set means scenes."""

    config: TinyConfig
    training: CocoDataset | None = None
    heldout: CocoDataset | None = None


class Average:
    """Exponential moving average of a model's weights and batch norm statistics."""

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards ``model``; the first steps count more, so the start is soon forgotten."""
        decay = min(self.decay, (1.0 + step) / (20.0 + step))
        for mine, theirs in zip(
            self.model.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1.0 - decay)
            else:
                mine.copy_(theirs)


@dataclass
class Progress:
    """How far a run is, kept over a resume."""

    step: int = 0
    seconds: float = 0.0
    images: int = 0

    def share(self, settings: Settings) -> float:
        """Return the part of the budget that is spent, 0..1: of steps or minutes, the larger."""
        by_steps = self.step / settings.steps if settings.steps else 0.0
        by_time = self.seconds / (60.0 * settings.minutes) if settings.minutes else 0.0
        return min(1.0, max(by_steps, by_time))


def save(
    settings: Settings,
    data: Data,
    progress: Progress,
    model: nn.Module,
    average: Average,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write the checkpoint and the averaged weights, each under a temporary name first."""
    checkpoint = {
        "step": progress.step,
        "seconds": progress.seconds,
        "model": model.state_dict(),
        "images": progress.images,
        "average": average.model.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    with replacing(settings.out / "checkpoint.pt") as temporary:
        torch.save(checkpoint, temporary)
    weights = {name: value.contiguous() for name, value in average.model.state_dict().items()}
    with replacing(settings.out / WEIGHTS) as temporary:
        save_file(weights, temporary)
    (settings.out / CARD).write_text(json.dumps(data.config.to_card(), indent=2) + "\n")
    facts: dict[str, object] = {
        "steps": progress.step,
        "minutes": round(progress.seconds / 60.0, 1),
        "processes": Rank().count,
        "images": progress.images,
        "batch": settings.batch,
        "lr": settings.lr,
        "seed": settings.seed,
        "threads": settings.threads,
        "command": f"python {shlex.join(sys.argv)}",
    }
    if data.training is None:
        facts["first_training_seed"] = FIRST_TRAINING_SEED * (1 + settings.seed)
    else:
        facts["pictures"] = len(data.training)
        facts["epochs"] = round(progress.images / len(data.training), 1)
        facts["heldout_pictures"] = settings.heldout
    if settings.start:
        facts |= {"start": settings.start.as_posix(), "start_lr": settings.start_lr}
    (settings.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def restore(
    path: Path, model: nn.Module, average: Average, optimiser: torch.optim.Optimizer
) -> Progress:
    """Load a checkpoint into its owners and return the progress it was saved at."""
    checkpoint = torch.load(path, weights_only=True)
    model.load_state_dict(checkpoint["model"])
    average.model.load_state_dict(checkpoint["average"])
    optimiser.load_state_dict(checkpoint["optimiser"])
    return Progress(checkpoint["step"], checkpoint["seconds"], checkpoint["images"])

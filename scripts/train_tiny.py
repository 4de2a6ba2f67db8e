"""Train the ``tiny`` detector on generated scenes, on a CPU, and export it.

    python scripts/train_tiny.py --minutes 70 --out runs/tiny
    torchrun --standalone --nproc-per-node 2 scripts/train_tiny.py --minutes 70 --threads 1

The second form averages the gradients of two processes, which scales better than threads do.
The folder receives ``checkpoint.pt`` (everything needed to go on with ``--resume``) and
``weights.safetensors`` (the averaged weights).
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fpcodec.data import generate_scene
from fpcodec.detectors.tiny import build_tiny

# Held-out scenes have the seeds 0..99,999; training never meets them.
FIRST_TRAINING_SEED = 1_000_000
Sample = tuple[Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """One training run; see ``--help`` for the meaning of each field."""

    steps: int
    minutes: float
    batch: int
    lr: float
    seed: int
    threads: int
    workers: int
    save_minutes: float
    out: Path


@dataclass(frozen=True)
class Rank:
    """Which of the processes that train together this is; alone without torchrun."""

    index: int = int(os.environ.get("RANK", "0"))
    count: int = int(os.environ.get("WORLD_SIZE", "1"))


class Scenes(Dataset[Sample]):
    """Generated scenes: index ``i`` has the seed ``first + i * stride``, so resuming is exact."""

    def __init__(self, first: int, stride: int, count: int) -> None:
        self.first, self.stride, self.count = first, stride, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        scene = generate_scene(self.first + index * self.stride)
        image = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
        labels = torch.from_numpy(scene.labels) + 1  # torchvision's 0 is background
        return image, {"boxes": torch.from_numpy(scene.boxes), "labels": labels}


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


def learning_rate(settings: Settings, progress: Progress) -> float:
    """Return the rate of this step: a linear warm-up of 200 steps, then half a cosine."""
    warm = min(1.0, (progress.step + 1) / 200.0)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress.share(settings)))
    return settings.lr * warm * (0.01 + 0.99 * cosine)


def batches(settings: Settings, progress: Progress, rank: Rank) -> Iterator[list[Sample]]:
    """Yield batches of scenes that no earlier step and no other process has seen."""
    first = FIRST_TRAINING_SEED * (1 + settings.seed) + progress.images + rank.index
    loader = DataLoader(
        Scenes(first, rank.count, 10_000_000),
        batch_size=settings.batch,
        num_workers=settings.workers,
        collate_fn=list,
        prefetch_factor=4 if settings.workers else None,
    )
    yield from loader


def save(
    settings: Settings,
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
    torch.save(checkpoint, settings.out / "checkpoint.pt.tmp")
    os.replace(settings.out / "checkpoint.pt.tmp", settings.out / "checkpoint.pt")
    weights = {name: value.contiguous() for name, value in average.model.state_dict().items()}
    save_file(weights, settings.out / "weights.safetensors.tmp")
    os.replace(settings.out / "weights.safetensors.tmp", settings.out / "weights.safetensors")
    facts = {
        "steps": progress.step,
        "minutes": round(progress.seconds / 60.0, 1),
        "processes": Rank().count,
        "images": progress.images,
        "batch": settings.batch,
        "lr": settings.lr,
        "seed": settings.seed,
        "threads": settings.threads,
        "first_training_seed": FIRST_TRAINING_SEED * (1 + settings.seed),
    }
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


def train(settings: Settings, resume: Path | None) -> None:
    """Run the loop until the budget of steps or minutes is spent."""
    rank = Rank()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    settings.out.mkdir(parents=True, exist_ok=True)
    model = build_tiny().train()
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.02)
    progress = restore(resume, model, average, optimiser) if resume else Progress()
    # Equal weights in every process, but another choice of anchors and proposals to learn from.
    torch.manual_seed(settings.seed + 1000 * progress.step + rank.index)
    offset, saved = progress.seconds - time.monotonic(), progress.seconds
    smoothed: dict[str, float] = {}
    for batch in batches(settings, progress, rank):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(settings, progress)
        losses = training_step(model, optimiser, batch)
        progress.seconds = step_together(model, optimiser, offset + time.monotonic(), rank)
        average.update(model, progress.step)
        progress.step += 1
        progress.images += settings.batch * rank.count
        for name, value in losses.items():
            smoothed[name] = 0.98 * smoothed.get(name, value) + 0.02 * value
        done = progress.share(settings) >= 1.0
        if rank.index == 0 and progress.step % 50 == 0:
            report(settings, progress, smoothed)
        if rank.index == 0 and (done or progress.seconds - saved > 60.0 * settings.save_minutes):
            save(settings, progress, model, average, optimiser)
            saved = progress.seconds
        if done:
            break


def training_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, batch: list[Sample]
) -> dict[str, float]:
    """Compute this process's gradients; return its losses."""
    optimiser.zero_grad(set_to_none=True)
    losses = model([image.float() for image, _ in batch], [target for _, target in batch])
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {name: value.item() for name, value in losses.items()}


def step_together(
    model: nn.Module, optimiser: torch.optim.Optimizer, seconds: float, rank: Rank
) -> float:
    """Average gradients and clock over the processes, clip, step; return the mean clock."""
    if rank.count > 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        # The clock travels along, so that every process stops at the same step.
        flat = torch.cat([g.flatten() for g in gradients] + [torch.tensor([seconds])])
        dist.all_reduce(flat)
        flat /= rank.count
        nn.utils.vector_to_parameters(flat[:-1], gradients)
        seconds = float(flat[-1])
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimiser.step()
    return seconds


def report(settings: Settings, progress: Progress, losses: dict[str, float]) -> None:
    """Print one line: step, time left, losses."""
    share = max(progress.share(settings), 1e-9)
    left = progress.seconds * (1.0 - share) / share / 60.0
    parts = "  ".join(f"{name.removeprefix('loss_')} {v:.3f}" for name, v in losses.items())
    print(
        f"step {progress.step}  {progress.seconds / 60:.1f} min, {left:.0f} left  "
        f"loss {sum(losses.values()):.3f}  {parts}",
        flush=True,
    )


def main() -> None:
    """Read the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps")
    parser.add_argument("--minutes", type=float, default=70.0, help="time limit; 0: none")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and of the scenes")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that generate scenes")
    parser.add_argument("--save-minutes", type=float, default=2.0, help="between checkpoints")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--resume", type=Path, help="a checkpoint.pt to go on from")
    flags = vars(parser.parse_args())
    resume = flags.pop("resume")
    if Rank().count > 1:
        dist.init_process_group("gloo")
    train(Settings(**flags), resume)
    if Rank().count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

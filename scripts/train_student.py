"""Train a small detector of torchvision's kinds, alone or taught by a larger one of its kind.

    python scripts/train_student.py --kind retinanet --width 1 --out runs/teacher
    python scripts/train_student.py --kind retinanet --teacher runs/teacher --out runs/frs
    python scripts/train_student.py --teacher tiny:bccd --loss frs \\
        --data cells/annotations.json --images cells/images --out runs/cells
    python scripts/train_student.py --kind fcos --width 1 --crowded --start tiny --odam 0.5 \\
        --out runs/odam

Without ``--data`` the pictures are generated scenes. Called again, a run goes on from its last
checkpoint. The folder receives ``weights.safetensors`` (averaged weights), ``card.json`` (what the
network is for, its kind and width) and ``training.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from safetensors.torch import save_file
from torch import nn
from training_data import Photographs, Sample, Scenes, measure_colours
from training_run import FIRST_TRAINING_SEED, Average

from fpcodec.data.coco import load_coco
from fpcodec.data.scenes import CROWDED
from fpcodec.detectors.small_family import KINDS, build_small, load_small, residual_network
from fpcodec.detectors.tiny import CARD, WEIGHTS, TinyConfig
from fpcodec.distill.students import LOSSES, Distiller
from fpcodec.explain.odam_train import OdamTrained
from fpcodec.files import replacing


@dataclass(frozen=True)
class Settings:
    """One run; see ``--help`` for the meaning of each field."""

    kind: str
    width: float
    teacher: str | None
    loss: str
    steps: int
    batch: int
    lr: float
    seed: int
    data: Path | None
    images: Path | None
    size: tuple[int, int]
    threads: int
    save_minutes: float
    crowded: bool
    start: str | None
    odam: float
    out: Path


def pictures(settings: Settings, config: TinyConfig) -> Any:
    """The training pictures: index ``i`` is always the same."""
    if settings.data is None:
        crowds = CROWDED if settings.crowded else None
        return Scenes(FIRST_TRAINING_SEED * (2 + settings.seed), 1, crowds)
    dataset = load_coco(settings.data, settings.images)
    return Photographs(dataset, config, settings.seed, 0, 1)


def open_config(settings: Settings) -> TinyConfig:
    """What the network is for: as its teacher, or measured on the pictures."""
    if settings.teacher is not None:
        return load_small(settings.teacher)[1]
    if settings.data is None:
        return TinyConfig()
    dataset = load_coco(settings.data, settings.images)
    mean, std = measure_colours(dataset)
    classes = tuple(category.name for category in dataset.categories)
    return TinyConfig(settings.kind, classes, settings.size, mean, std)  # type: ignore[arg-type]


def learner_of(settings: Settings, student: nn.Module) -> nn.Module:
    """The student itself, or what gives it other losses besides its own."""
    if settings.odam:
        return OdamTrained(student, settings.odam)
    if settings.teacher is not None:
        return Distiller(load_small(settings.teacher)[0], student, settings.loss)
    return student


def start_from(source: nn.Module, student: nn.Module) -> None:
    """Copy what a trained small detector's residual network has in common with the student's."""
    theirs, own = residual_network(source).state_dict(), residual_network(student)
    fitting = {n: theirs[n] for n, x in own.state_dict().items() if theirs[n].shape == x.shape}
    own.load_state_dict(fitting, strict=False)


def train(settings: Settings) -> None:
    """Run the loop to its end; go on from a checkpoint where there is one."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    settings.out.mkdir(parents=True, exist_ok=True)
    config = open_config(settings)
    student = build_small(settings.kind, config, settings.width)
    if settings.start is not None:
        start_from(load_small(settings.start)[0], student)
    learner = learner_of(settings, student)
    learner.train()
    average = Average(student)
    optimiser = torch.optim.AdamW(learner.parameters(), lr=settings.lr, weight_decay=0.02)
    step, seconds = restore(settings, learner, average, optimiser)
    data = pictures(settings, config)
    saved = time.monotonic()
    remaining = range(step, settings.steps)
    for step in track(remaining, description=settings.out.name, disable=not sys.stderr.isatty()):
        begun = time.monotonic()
        # Each step has its own choice of anchors and proposals, resumed or not.
        torch.manual_seed(((settings.seed + 1) << 32) + step)
        share = step / settings.steps
        warm = min(1.0, (step + 1) / 200)
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * warm * (0.01 + 0.495 * (1 + math.cos(math.pi * share)))
        batch: list[Sample] = [data[step * settings.batch + i] for i in range(settings.batch)]
        images, targets = [image.float() for image, _ in batch], [target for _, target in batch]
        losses = learner(images, targets, *([] if learner is student else [step]))
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
        optimiser.step()
        average.update(student, step)
        seconds += time.monotonic() - begun
        if step % 50 == 0:
            told = " ".join(f"{name} {value.item():.3f}" for name, value in losses.items())
            print(f"step {step} {seconds / 60:.1f} min {told}", flush=True)
        if time.monotonic() - saved > 60 * settings.save_minutes:
            keep(settings, learner, average, optimiser, step + 1, seconds)
            saved = time.monotonic()
    keep(settings, learner, average, optimiser, settings.steps, seconds)
    write(settings, config, average.model, seconds)


def keep(
    settings: Settings,
    learner: nn.Module,
    average: Average,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write the checkpoint in place of the last one."""
    state = {
        "step": step, "seconds": seconds, "learner": learner.state_dict(),
        "average": average.model.state_dict(), "optimiser": optimiser.state_dict(),
    }  # fmt: skip
    with replacing(settings.out / "checkpoint.pt") as temporary:
        torch.save(state, temporary)


def restore(
    settings: Settings, learner: nn.Module, average: Average, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Steps and seconds done."""
    path = settings.out / "checkpoint.pt"
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    learner.load_state_dict(state["learner"])
    average.model.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["seconds"]


def write(settings: Settings, config: TinyConfig, model: nn.Module, seconds: float) -> None:
    """Write the finished detector."""
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(weights, settings.out / WEIGHTS)
    card = {**config.to_card(), "kind": settings.kind, "width": settings.width}
    (settings.out / CARD).write_text(json.dumps(card, indent=2) + "\n")
    facts = {
        "command": f"python {shlex.join(sys.argv)}", "steps": settings.steps,
        "batch": settings.batch, "lr": settings.lr, "seed": settings.seed, "loss": settings.loss,
        "teacher": settings.teacher, "start": settings.start, "crowded": settings.crowded,
        "odam": settings.odam, "minutes": round(seconds / 60, 1),
    }  # fmt: skip
    (settings.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    """Read the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=KINDS, default="fasterrcnn")
    parser.add_argument("--width", type=float, default=0.5, help="factor on all channels")
    parser.add_argument("--teacher", help="a folder of this script's, or tiny or tiny:NAME")
    parser.add_argument("--loss", choices=LOSSES, default="frs", help="besides the boxes'")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=8, help="pictures per step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="a COCO file; without it generated scenes")
    parser.add_argument("--images", type=Path, help="image folder of --data")
    parser.add_argument("--size", type=_size, default=(320, 320), help="network input, as 384x288")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--save-minutes", type=float, default=2.0, help="between checkpoints")
    parser.add_argument("--crowded", action="store_true", help="generated scenes with crowds")
    parser.add_argument("--start", help="small detector whose residual network to begin with")
    parser.add_argument(
        "--odam", type=float, default=0.0, metavar="WEIGHT", help="of Odam-Train's losses; 0: none"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    settings = Settings(**vars(parser.parse_args()))
    if settings.odam and settings.teacher is not None:
        parser.error("--odam and --teacher exclude each other; give one of them")
    train(settings)


if __name__ == "__main__":
    main()

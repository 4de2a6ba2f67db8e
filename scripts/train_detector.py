"""Train a ``tiny`` detector on a CPU: on generated scenes, or on photographs in COCO's format.

    python scripts/train_detector.py --minutes 70 --out runs/tiny
    torchrun --standalone --nproc-per-node 2 scripts/train_detector.py --minutes 70 --threads 1
    python scripts/train_detector.py --data cells/train.json --images cells/images --size 384x288 \\
        --start fpcodec/assets/tiny/weights.safetensors --heldout 25 --out runs/cells

The second form averages the gradients of two processes, which scales better than threads do.
The folder receives ``checkpoint.pt`` (everything needed to go on with ``--resume``),
``weights.safetensors`` (the averaged weights) and ``card.json`` (what the network is for).
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from training_data import (
    Photographs,
    Sample,
    Scenes,
    cut,
    fitting_ratio,
    measure_colours,
    split_heldout,
)
from training_run import (
    FIRST_TRAINING_SEED,
    Average,
    Data,
    Progress,
    Rank,
    Settings,
    restore,
    save,
)

from fpcodec.data.coco import load_coco
from fpcodec.detections import Detections
from fpcodec.detectors.tiny import TinyConfig, build_tiny
from fpcodec.evaluation.average_precision import evaluate_ap


def open_data(settings: Settings) -> Data:
    """Read the annotations, set pictures aside, and shape the network for them."""
    if settings.data is None:
        return Data(TinyConfig(settings.name, size=settings.size))
    dataset = load_coco(settings.data, settings.images)
    training, heldout = split_heldout(dataset, settings.heldout)
    mean, std = measure_colours(training)
    classes = tuple(category.name for category in dataset.categories)
    config = TinyConfig(settings.name, classes, settings.size, mean, std)
    return Data(config, training, heldout if settings.heldout else None)


def learning_rate(settings: Settings, progress: Progress) -> float:
    """Return the rate of this step: a linear warm-up of 200 steps, then half a cosine."""
    warm = min(1.0, (progress.step + 1) / 200.0)
    cosine = 0.5 * (1.0 + math.cos(math.pi * progress.share(settings)))
    return settings.lr * warm * (0.01 + 0.99 * cosine)


def batches(
    settings: Settings, data: Data, progress: Progress, rank: Rank
) -> Iterator[list[Sample]]:
    """Yield batches of pictures that no earlier step and no other process has seen."""
    first = progress.images + rank.index
    pictures: Dataset[Sample]
    if data.training is None:
        pictures = Scenes(FIRST_TRAINING_SEED * (1 + settings.seed) + first, rank.count)
    else:
        pictures = Photographs(data.training, data.config, settings.seed, first, rank.count)
    loader = DataLoader(
        pictures,
        batch_size=settings.batch,
        num_workers=settings.workers,
        collate_fn=list,
        prefetch_factor=4 if settings.workers else None,
    )
    yield from loader


def start_from(path: Path, model: nn.Module) -> set[str]:
    """Load the tensors of other weights that fit by name and shape; return their names."""
    own = model.state_dict()
    fitting = {
        name: value.float() if value.is_floating_point() else value
        for name, value in load_file(path).items()
        if name in own and own[name].shape == value.shape
    }
    model.load_state_dict(fitting, strict=False)
    return set(fitting)


def make_optimiser(
    settings: Settings, model: nn.Module, pretrained: set[str]
) -> torch.optim.Optimizer:
    """AdamW; pretrained weights learn at ``start_lr`` times the rate of new ones."""
    groups = []
    for known, scale in ((False, 1.0), (True, settings.start_lr)):
        weights = [p for name, p in model.named_parameters() if (name in pretrained) == known]
        if weights:
            groups.append({"params": weights, "scale": scale})
    return torch.optim.AdamW(groups, lr=settings.lr, weight_decay=0.02)


def train(settings: Settings, resume: Path | None) -> None:
    """Run the loop until the budget of steps or minutes is spent."""
    rank = Rank()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    settings.out.mkdir(parents=True, exist_ok=True)
    data = open_data(settings)
    model = build_tiny(data.config).train()
    pretrained = start_from(settings.start, model) if settings.start else set()
    average = Average(model)
    optimiser = make_optimiser(settings, model, pretrained)
    progress = restore(resume, model, average, optimiser) if resume else Progress()
    offset, saved = progress.seconds - time.monotonic(), progress.seconds
    smoothed: dict[str, float] = {}
    for batch in batches(settings, data, progress, rank):
        # Each step and process has its own choice of anchors and proposals, resumed or not.
        torch.manual_seed(((settings.seed + 1) << 32) + (progress.step << 8) + rank.index)
        for group in optimiser.param_groups:
            group["lr"] = group["scale"] * learning_rate(settings, progress)
        losses = training_step(model, optimiser, batch)
        progress.seconds = step_together(model, optimiser, offset + time.monotonic(), rank)
        average.update(model, progress.step)
        progress.step += 1
        progress.images += settings.batch * rank.count
        for name, value in losses.items():
            smoothed[name] = 0.98 * smoothed.get(name, value) + 0.02 * value
        done = progress.share(settings) >= 1.0 or progress.step == settings.stop_after
        if rank.index == 0 and progress.step % 50 == 0:
            report(settings, progress, smoothed)
        if rank.index == 0 and (done or progress.seconds - saved > 60.0 * settings.save_minutes):
            save(settings, data, progress, model, average, optimiser)
            saved = progress.seconds
            watch(data, average.model, progress)
        if done:
            break


@torch.no_grad()
def watch(data: Data, model: nn.Module, progress: Progress) -> None:
    """Print the AP of the averaged weights on the pictures set aside, where there are any."""
    if data.heldout is None:
        return
    found = []
    for entry in data.heldout.images:
        with Image.open(data.heldout.path(entry)) as opened:
            picture = opened.convert("RGB")
        ratio = fitting_ratio(picture.size, data.config.size)
        width, height = data.config.size
        window = (0, 0, round(width * ratio), round(height * ratio))
        shown, _ = cut(picture, np.zeros((0, 5), np.float32), window, data.config)
        pixels = torch.from_numpy(shown.copy()).permute(2, 0, 1).float()
        answer = model([pixels])[0]
        boxes = (answer["boxes"] * ratio).numpy()
        found.append(Detections(boxes, answer["scores"].numpy(), answer["labels"].numpy() - 1))
    ap = evaluate_ap(data.heldout, found, data.config.classes)
    print(f"step {progress.step}  set aside, AP {ap.ap:.1f}  {ap.to_dict()}", flush=True)


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


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def main() -> None:
    """Read the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps")
    parser.add_argument("--stop-after", type=int, default=0, help="break off at this step")
    parser.add_argument("--minutes", type=float, default=70.0, help="time limit; 0: none")
    parser.add_argument("--batch", type=int, default=8, help="images per step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and pictures")
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--workers", type=int, default=1, help="processes that make pictures")
    parser.add_argument("--save-minutes", type=float, default=2.0, help="between checkpoints")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny"), help="folder of the run")
    parser.add_argument("--resume", type=Path, help="a checkpoint.pt to go on from")
    parser.add_argument("--name", default="tiny", help="of the detector")
    parser.add_argument("--data", type=Path, help="a COCO file; without it generated scenes")
    parser.add_argument("--images", type=Path, help="image folder of --data")
    parser.add_argument("--size", type=_size, default=(320, 320), help="network input, as 384x288")
    parser.add_argument("--heldout", type=int, default=0, help="pictures of --data to set aside")
    parser.add_argument("--start", type=Path, help="weights.safetensors to start from")
    parser.add_argument("--start-lr", type=float, default=0.5, help="factor for those weights")
    flags = vars(parser.parse_args())
    resume = flags.pop("resume")
    if Rank().count > 1:
        dist.init_process_group("gloo")
    train(Settings(**flags), resume)
    if Rank().count > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()

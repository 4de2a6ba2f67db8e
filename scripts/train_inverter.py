"""Train an inverter: from the pyramids that a server receives back to pictures.

    python scripts/train_inverter.py --profile runs/learned_nano --quality 0.3 --quality 0.6 \\
        --quality 0.85 --images ../shared/data/coco/train --out runs/inverter

An attack, to measure what frames reveal; see docs/privacy.md. One network learns all qualities,
and pyramids that were never coded, which bound what any quality can reveal to it. Called again, a
run goes on from its last checkpoint, and ends with the weights of a run that was never stopped.
The folder receives ``weights.safetensors`` (averaged weights), ``inverter.json`` and
``training.json`` with every checkpoint, so that an unfinished run can be looked at.
"""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from torch import Tensor
from torch.nn import functional
from training_run import Average

from fpcodec.cli.output import progress_callback
from fpcodec.errors import InputError
from fpcodec.evaluation.privacy.inverter import Inverter, InverterConfig
from fpcodec.evaluation.privacy.inverter_files import write_inverter
from fpcodec.evaluation.privacy.received import ReceivedPyramids, network_picture
from fpcodec.files import replacing
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.training.features import FeatureCache, cache_features

_LUMA = torch.tensor([0.299, 0.587, 0.114])
_WINDOW, _STRIDE, _SCALES = 7, 2, 3
_C1, _C2 = 0.01**2, 0.03**2
_LEAST_PICTURES = 2


@dataclass(frozen=True)
class Settings:
    """One run; see ``--help`` for the meaning of each field."""

    profile: Path
    images: Path
    quality: Sequence[float]
    steps: int
    stop_after: int | None
    batch: int
    lr: float
    pixel: int
    width: int
    blocks: int
    structure: float
    seed: int
    bfloat16: bool
    threads: int
    cache: Path | None
    save_minutes: float
    out: Path


class Received:
    """Training pictures and what arrives of them at every rate; uncoded pyramids come last."""

    def __init__(self, settings: Settings, profile: Profile) -> None:
        paths = sorted(x for x in settings.images.iterdir() if not x.name.startswith("."))
        if len(paths) < _LEAST_PICTURES:
            raise InputError(f"{settings.images} holds {len(paths)} pictures; give some hundreds")
        self.paths, self.pixel = paths, settings.pixel
        self.caches: list[FeatureCache] = []
        for quality in (*settings.quality, None):
            source = ReceivedPyramids(profile, quality, settings.threads)
            identity = f"{profile.stream_id.hex()} quality {quality}"
            with progress_callback(f"Receiving at {quality or 'no coding'}") as progress:
                cached = cache_features(
                    source, paths, settings.cache or settings.out / "received",
                    identity=identity, limit_bytes=20e9, progress=progress,
                )  # fmt: skip
            if cached.images_left_out:
                raise InputError("features of so many pictures exceed 20 GB a rate; give fewer")
            self.caches.append(cached)

    def statistics(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Mean and deviation of each level's channels, over up to 200 uncoded pyramids."""
        some = list(range(0, len(self.paths), max(1, len(self.paths) // 200)))
        mean, std = {}, {}
        for name, values in self.caches[-1].batch(some, torch.device("cpu")).items():
            mean[name], std[name] = values.mean((0, 2, 3)), values.std((0, 2, 3))
        return mean, std

    def draw(
        self, key: Sequence[int], batch: int
    ) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
        """A batch by its key: features, rate numbers, pictures in [0, 1] and their masks."""
        generator = np.random.default_rng(key)
        chosen = generator.choice(len(self.paths), min(batch, len(self.paths)), replace=False)
        rates = generator.integers(len(self.caches), size=len(chosen))
        device = torch.device("cpu")
        parts = [self.caches[r].batch([int(i)], device) for i, r in zip(chosen, rates, strict=True)]
        features = {name: torch.cat([x[name] for x in parts]) for name in parts[0]}
        pictures, masks = [], []
        for i in chosen:
            geometry = self.caches[0].entries[i].geometry
            picture = network_picture(load_image(self.paths[i]), geometry)
            (left, top), (width, height) = geometry.offset, geometry.content_size
            mask = torch.zeros(1, *picture.shape[:2])
            mask[:, top : top + height, left : left + width] = 1
            pictures.append(torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255)
            masks.append(mask)
        small = (functional.avg_pool2d(torch.stack(x), self.pixel) for x in (pictures, masks))
        return features, torch.from_numpy(rates), *small


def difference(recovered: Tensor, pictures: Tensor, masks: Tensor, structure: float) -> Tensor:
    """Mean absolute error, and ``structure`` times the lack of similarity of luma at three scales.

    Padding, whose place a frame's header tells, counts as right.
    """
    recovered = torch.where(masks > 0, recovered, pictures)
    share = masks.mean()
    error = (recovered - pictures).abs().mean()
    ours, theirs = ((x * _LUMA[:, None, None]).sum(1, keepdim=True) for x in (recovered, pictures))
    lacking = torch.zeros(())
    for scale in range(_SCALES):
        if scale:
            ours, theirs = functional.avg_pool2d(ours, 2), functional.avg_pool2d(theirs, 2)
        lacking = lacking + (1 - _similarity(ours, theirs)).mean() / _SCALES
    return (error + structure * lacking) / share


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    """SSIM of luma at each place, in flat windows."""

    def mean(x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, _WINDOW, _STRIDE)

    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    level = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return level * (2 * covariance + _C2) / (variance_a + variance_b + _C2)


def train(settings: Settings) -> None:
    """Run the loop to its end; go on from a checkpoint where there is one."""
    torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    settings.out.mkdir(parents=True, exist_ok=True)
    profile = Profile.load(settings.profile)
    data = Received(settings, profile)
    config = InverterConfig.of(
        profile.spec, len(data.caches), pixel=settings.pixel, width=settings.width,
        blocks=settings.blocks,
    )  # fmt: skip
    model = Inverter(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.set_statistics(*data.statistics())
    average = Average(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.01)
    first, seconds = restore(settings, model, average, optimiser)
    last = settings.steps if settings.stop_after is None else first + settings.stop_after
    last, saved, losses = min(last, settings.steps), time.monotonic(), []
    steps = range(first, last)
    for step in track(steps, description=settings.out.name, disable=not sys.stderr.isatty()):
        begun = time.process_time()
        warm = min(1.0, (step + 1) / 200)
        for group in optimiser.param_groups:
            share = step / settings.steps
            group["lr"] = settings.lr * warm * (0.01 + 0.495 * (1 + math.cos(math.pi * share)))
        features, rates, pictures, masks = data.draw((settings.seed, step), settings.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            recovered = model(features, rates)
        loss = difference(recovered, pictures, masks, settings.structure)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        seconds += time.process_time() - begun
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            mean = sum(losses[-50:]) / len(losses[-50:])
            print(f"step {step + 1} {seconds / 60:.1f} min loss {mean:.4f}", flush=True)
        if time.monotonic() - saved > 60 * settings.save_minutes:
            keep(settings, model, average, optimiser, step + 1, seconds)
            saved = time.monotonic()
    keep(settings, model, average, optimiser, last, seconds)


def keep(
    settings: Settings,
    model: Inverter,
    average: Average,
    optimiser: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write the checkpoint in place of the last one, and the inverter as it is."""
    state = {
        "step": step, "seconds": seconds, "model": model.state_dict(), "what": what(settings),
        "average": average.model.state_dict(), "optimiser": optimiser.state_dict(),
    }  # fmt: skip
    with replacing(settings.out / "checkpoint.pt") as temporary:
        torch.save(state, temporary)
    write_inverter(average.model, tuple(settings.quality), settings.out)
    facts = {
        "command": f"python {shlex.join(sys.argv)}", **what(settings), "steps_done": step,
        "processor_minutes": round(seconds / 60, 1),
    }  # fmt: skip
    (settings.out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")


def restore(
    settings: Settings, model: Inverter, average: Average, optimiser: torch.optim.Optimizer
) -> tuple[int, float]:
    """Steps and processor seconds done.

    Raises:
        InputError: The checkpoint is of a run with other settings.
    """
    path = settings.out / "checkpoint.pt"
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    if state["what"] != what(settings):
        raise InputError(f"{path} is of a run with other settings; give another --out")
    model.load_state_dict(state["model"])
    average.model.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return state["step"], state["seconds"]


def what(settings: Settings) -> dict[str, object]:
    """What must be the same for a run to go on."""
    return {
        "qualities": list(settings.quality), "steps": settings.steps, "batch": settings.batch,
        "lr": settings.lr, "structure": settings.structure, "seed": settings.seed,
        "pixel": settings.pixel, "width": settings.width, "blocks": settings.blocks,
        "bfloat16": settings.bfloat16,
    }  # fmt: skip


def main() -> None:
    """Read the flags and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", type=Path, required=True, help="folder of the profile")
    parser.add_argument("--images", type=Path, required=True, help="folder of photographs")
    parser.add_argument(
        "--quality", type=float, action="append", required=True, help="of frames; may be repeated"
    )
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--stop-after", type=int, help="so many steps of this call")
    parser.add_argument("--batch", type=int, default=4, help="pictures per step")
    parser.add_argument("--lr", type=float, default=1e-3, help="peak learning rate of AdamW")
    parser.add_argument(
        "--pixel", type=int, default=2, help="side of a recovered pixel, in the network's pixels"
    )
    parser.add_argument("--width", type=int, default=96, help="channels at the finest level")
    parser.add_argument("--blocks", type=int, default=2, help="residual blocks there")
    parser.add_argument("--structure", type=float, default=0.3, help="weight of similarity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bfloat16", action="store_true", help="faster on newer processors")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--cache", type=Path, help="of received features; in --out without it")
    parser.add_argument("--save-minutes", type=float, default=2.0, help="between checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    train(Settings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()

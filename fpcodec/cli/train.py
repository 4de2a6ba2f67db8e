"""``fpcodec train``: train the learned codec for a detector from a folder of images."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.completion import profiles_to_run
from fpcodec.cli.options import DETECTOR_HELP, Json, Threads, profile_folder
from fpcodec.cli.output import note, print_json
from fpcodec.cli.training_options import (
    CheckpointMinutes,
    HeldOut,
    Loss,
    LossOption,
    MeasureSteps,
    Minutes,
    require_one_length,
    require_torch,
    watching,
)
from fpcodec.image_folder import choose_images

if TYPE_CHECKING:
    from fpcodec.training.train import Trained

STEPS = 12_000


class Device(str, Enum):
    """Where training runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


def train(
    detector: Annotated[str, typer.Option(metavar="SPEC", help=DETECTOR_HELP)],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of unlabelled images.")],
    out: Annotated[Path, typer.Option(metavar="PROFILE", help="The profile folder to write.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Optimiser steps, {STEPS} unless told otherwise.")
    ] = None,
    minutes: Minutes = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE",
            autocompletion=profiles_to_run,
            help="Start from this pca or learned profile of the detector.",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="For a detector with a light edge, as fpcodec distill makes: the full one.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per step and process.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Draws images, qualities, lost chunks.")] = 0,
    loss: LossOption = Loss.frs,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    rate_scale: Annotated[
        float, typer.Option(help="What a bit costs, times this: more is smaller frames.")
    ] = 1.0,
    best_rate_scale: Annotated[
        float,
        typer.Option(help="The same, for the best quality alone: less is closer to lossless."),
    ] = 1.0,
    mirror: Annotated[bool, typer.Option("--mirror", help="Mirrored images too.")] = False,
    held_out: HeldOut = 32,
    measure_steps: MeasureSteps = 1000,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The run's folder; PROFILE.training unless told otherwise."
        ),
    ] = None,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where features are kept, for runs to share; else in the run's folder.",
        ),
    ] = None,
    cache_gb: Annotated[float, typer.Option(help="Most gigabytes of cached features.")] = 20.0,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where there is one.")] = (
        Device.auto
    ),
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves to the run's folder.")
    ] = False,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Train the learned codec for a detector and write the profile that both sides deploy.

    Calibrates the closed form, caches features, trains through the frozen head, exports, and
    checks the export. Unlabelled images suffice. Killed and called again with the same options, it
    goes on from its last checkpoint; on a CPU, with --steps, to the very same weights. It needs
    the extra train: pip install "fpcodec\\[train]".

    Example:  fpcodec train --detector tiny --images photos --out my-codec --steps 4000

    On several GPUs:  torchrun --nproc-per-node 4 -m fpcodec.cli train ..
    """
    from fpcodec.profile import Profile
    from fpcodec.profile_folder import require_free

    require_one_length(steps, minutes)
    paths = choose_images(images, None, seed)
    require_free(out)
    require_torch(threads)
    from fpcodec.detectors.factory import open_detector
    from fpcodec.training.settings import RunConfig, TrainingConfig
    from fpcodec.training.train import train as run

    config = TrainingConfig(
        steps=steps or STEPS, minutes=minutes, batch=batch, seed=seed, loss=loss.value,
        mirror=mirror, held_out=held_out, learning_rate=learning_rate, rate_scale=rate_scale,
        best_rate_scale=best_rate_scale,
    )  # fmt: skip
    place = RunConfig(
        checkpoint_dir or out.with_name(f"{out.name}.training"), cache=cache, cache_gb=cache_gb,
        checkpoint_minutes=checkpoint_minutes, measure_steps=measure_steps, device=device.value,
        tensorboard=tensorboard,
    )  # fmt: skip
    opened = open_detector(detector, threads=threads)
    taught_by = None if teacher is None else open_detector(teacher, threads=threads)
    first = None if start is None else Profile.load(profile_folder(start))
    with watching() as watcher:
        trained = run(
            opened, paths, out, config, place, start=first, teacher=taught_by, watcher=watcher
        )
    if trained is not None:  # as it is in torchrun's other processes
        _report(trained, as_json)


def _report(trained: Trained, as_json: bool) -> None:
    profile = trained.profile
    if as_json:
        facts: dict[str, Any] = {
            "profile": str(profile.path),
            "name": profile.name,
            "stream_id": profile.stream_id.hex(),
            "steps": trained.steps,
            "seconds": round(trained.seconds, 1),
            "images": trained.images,
            "images_left_out": trained.images_left_out,
            "held_out": [asdict(point) for point in trained.held_out],
        }
        print_json(facts)
        return
    note(f"{profile.path}: {trained.steps} steps on {trained.images} images, "
         f"stream {profile.stream_id.hex()[:12]}")  # fmt: skip
    for point in trained.held_out:
        note(f"quality {point.quality:g}: {point.frame_bytes:.0f} bytes, agreement with the "
             f"unsplit detector {point.agreement:.3f}")  # fmt: skip

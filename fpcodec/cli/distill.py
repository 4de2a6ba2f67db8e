"""``fpcodec distill``: teach a light edge half to give the pyramid of the full one."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import Json, Threads
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
    from fpcodec.distill.run import Distilled

STEPS = 6000


class Body(str, Enum):
    """What a light edge is made of."""

    small_picture = "small-picture"
    thin = "thin"


def distill(
    detector: Annotated[
        str,
        typer.Option(metavar="SPEC", help="The detector, of kind onnx or tiny: as for calibrate."),
    ],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of unlabelled images.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The detector folder to write.")],
    macs_share: Annotated[
        float, typer.Option(help="Most multiply-accumulates, as a share of the full edge half's.")
    ] = 0.25,
    body: Annotated[
        Body, typer.Option(help="The detector's own on fewer pixels; or a thin network of our own.")
    ] = Body.small_picture,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="What the light edge sees, instead of --macs-share."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="A small detector whose backbone a thin body begins as."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"Optimiser steps, {STEPS} unless told otherwise.")
    ] = None,
    minutes: Minutes = None,
    batch: Annotated[int, typer.Option(min=1, help="Views per step.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Draws the views.")] = 0,
    loss: LossOption = Loss.frs,
    learning_rate: Annotated[
        float, typer.Option(help="Peak learning rate, as a share of each filter's own size.")
    ] = 4e-3,
    held_out: HeldOut = 64,
    measure_steps: MeasureSteps = 500,
    checkpoint_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The run's folder; FOLDER.training unless told otherwise."
        ),
    ] = None,
    checkpoint_minutes: CheckpointMinutes = 5.0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Teach a light edge half to give the full one's pyramid; the server's head stays.

    The folder written is a detector like any other: onnx:FOLDER. Killed and called again with the
    same options, it goes on from its last checkpoint. It needs the extra train: pip install
    "fpcodec\\[train]".

    Example:  fpcodec distill --detector tiny --body thin --images photos --out light-tiny

    Then:  fpcodec calibrate --detector onnx:light-tiny --images photos --out my-profile
    """
    from fpcodec.errors import InputError
    from fpcodec.profile_folder import require_free

    require_one_length(steps, minutes)
    if not 0 < macs_share < 1:
        raise InputError(f"--macs-share {macs_share} is not a share; use more than 0 and below 1")
    paths = choose_images(images, None, seed)
    require_free(out)
    if out.exists() and any(out.iterdir()):  # a profile: it would be replaced in part alone
        raise InputError(f"{out} exists; choose another folder, or remove it")
    require_torch(threads)
    from fpcodec.detectors.factory import open_detector
    from fpcodec.detectors.onnx import OnnxDetector
    from fpcodec.distill.run import distill as run
    from fpcodec.distill.settings import DistillConfig
    from fpcodec.training.settings import RunConfig

    config = DistillConfig(
        body=body.value, size=None if size is None else _size(size), macs_share=macs_share,
        start=start, steps=steps or STEPS, minutes=minutes, batch=batch, seed=seed, loss=loss.value,
        held_out=held_out, learning_rate=learning_rate,
    )  # fmt: skip
    opened = open_detector(detector, threads=threads)
    if not isinstance(opened, OnnxDetector):
        raise InputError(
            f"--detector {detector} is not two ONNX graphs; export it first (export_onnx of a "
            "torchvision detector), or give an onnx or tiny one"
        )
    place = RunConfig(
        checkpoint_dir or out.with_name(f"{out.name}.training"),
        checkpoint_minutes=checkpoint_minutes, measure_steps=measure_steps, device="cpu",
    )  # fmt: skip
    with watching() as watcher:
        distilled = run(opened, paths, out, config, place, watcher=watcher)
    _report(distilled, out, as_json)


def _size(text: str) -> tuple[int, int]:
    from fpcodec.errors import InputError

    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise InputError(f"--size {text} is not WIDTHxHEIGHT, such as 192x192")
    return int(width), int(height)


def _report(distilled: Distilled, out: Path, as_json: bool) -> None:
    light, full = distilled.macs
    if as_json:
        facts: dict[str, Any] = {
            "detector": str(out), "steps": distilled.steps,
            "seconds": round(distilled.seconds, 1), "images": distilled.images,
            "agreement": distilled.agreement, "edge_macs": light, "full_edge_macs": full,
        }  # fmt: skip
        print_json(facts)
        return
    note(f"onnx:{out}: {distilled.steps} steps on {distilled.images} images, {light / 1e6:.0f} of "
         f"{full / 1e6:.0f} million MACs on the edge ({100 * light / full:.0f} %)")  # fmt: skip
    if distilled.agreement is not None:
        note(f"agreement with the full detector on images held out {distilled.agreement:.3f}")

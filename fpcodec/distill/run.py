"""Distilling a light edge: what comes before and after the loop.

The teacher is the detector, its edge half and its frozen head; the student is a light edge under
the same head. The losses are FRS's (Du et al., NeurIPS 2021, arXiv 2111.00674) as
``fpcodec.training.losses`` has them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fpcodec.detections import Detections
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.distill.export import require_exportable, write_light_detector
from fpcodec.distill.fitting import fit_light_edge, fit_thin_edge
from fpcodec.distill.least_squares import LeastSquares
from fpcodec.distill.light_edge import LightEdge
from fpcodec.distill.loop import Trainer
from fpcodec.distill.settings import DistillConfig
from fpcodec.distill.teacher import Teacher
from fpcodec.distill.views import ViewConfig, Views
from fpcodec.errors import InputError
from fpcodec.evaluation.agreement import total_agreement
from fpcodec.images import load_image
from fpcodec.pyramid import Pyramid, derive
from fpcodec.training.checkpoint import Checkpoint
from fpcodec.training.features import Progress
from fpcodec.training.heads import Head, open_head
from fpcodec.training.objective import Objective
from fpcodec.training.prepare import detector_identity, shuffled
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.shortages import out_of_memory_named
from fpcodec.training.watch import Watcher

_LEAST_WEIGHT = 0.02
_START_KEY = 1_000_000_000
"""Number of the first lesson before the first step: no step comes so far."""


@dataclass(frozen=True)
class Distilled:
    """What came of a run.

    Attributes:
        detector: The same head behind a light edge.
        steps: Done.
        seconds: Spent on them.
        images: Trained on.
        agreement: F1 of its detections with the full detector's, on the images held out; None
            where there are none.
        macs: Of the light edge and of the full one.
    """

    detector: OnnxDetector
    steps: int
    seconds: float
    images: int
    agreement: float | None
    macs: tuple[int, int]


def distill(
    detector: OnnxDetector,
    images: Sequence[Path],
    out: Path,
    config: DistillConfig,
    run: RunConfig,
    *,
    watcher: Watcher | None = None,
) -> Distilled:
    """Train a light edge for a detector and write both as a detector's folder.

    Args:
        detector: Both halves.
        images: Unlabelled.
        out: The folder to write.
        config: What decides the weights.
        run: Where the run lies.
        watcher: Is told of progress.

    Raises:
        InputError: Too few images, one that cannot be read, a checkpoint of another run, a full
            disk, or not enough memory.
        ModelError: The edge half cannot be made smaller or be trained, or the loss is not finite.
        MissingDependency: onnx2torch is not installed.
    """
    if len(images) <= config.held_out:
        raise InputError(
            f"{len(images)} images leave none to train on beside {config.held_out} held out; add "
            "images, or lower --held-out"
        )
    told = watcher or Watcher()
    run.folder.mkdir(parents=True, exist_ok=True)
    ordered = shuffled(images)
    held_out, rest = ordered[: config.held_out], ordered[config.held_out :]
    views = Views(rest, ViewConfig(detector.network_size, grey=detector.preprocess.pad_value))
    teacher = Teacher(detector, views, config.batch, config.seed)
    try:
        with out_of_memory_named(config.batch):
            trainer = _trainer(detector, teacher, ordered, config, run, told)
            examples = _Examples(detector, held_out)
            for step in trainer.train():
                if run.measure_steps and step % run.measure_steps == 0 and held_out:
                    agreed = examples.agreement(trainer.averaged())
                    told.note(f"held out after step {step}: agreement {agreed:.3f}")
    finally:
        teacher.close()
    student = trainer.averaged()
    light, macs = write_light_detector(student, detector, out, config)
    agreement = examples.agreement(student) if held_out else None
    return Distilled(light, trainer.step, trainer.seconds, len(rest), agreement, macs)


def _trainer(
    detector: OnnxDetector,
    teacher: Teacher,
    images: Sequence[Path],
    config: DistillConfig,
    run: RunConfig,
    told: Watcher,
) -> Trainer:
    """Set up a run at its start, or where its last checkpoint was."""
    facts = {
        "detector": detector_identity(detector),
        "images": [str(x) for x in images],
        "config": config.to_dict(),
    }
    checkpoint = Checkpoint.load(run.folder, facts)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        if config.body == "thin":
            student = fit_thin_edge(detector, config.macs_share, start=config.start)
        else:
            student = fit_light_edge(detector, config.size, config.macs_share)
    require_exportable(student, detector)
    head = None if config.loss == "mse" else open_head(detector)
    start = partial(told.stage, "Start")
    # When resumed too: relative weights are multiples of what they began with.
    scale = _start(student, teacher, head, config, start)
    objective = Objective(TrainingConfig(loss=config.loss), head, scale)
    trainer = Trainer(student, teacher, objective, config, run, facts, told)
    if checkpoint is not None:
        trainer.restore(checkpoint)
        told.note(f"going on from step {checkpoint.step} in {run.folder}")
    return trainer


@torch.no_grad()
def _start(
    student: LightEdge,
    teacher: Teacher,
    head: Head | None,
    config: DistillConfig,
    progress: Progress,
) -> dict[str, Tensor]:
    """Fit the lifts to some views; the inverse of each channel's deviation, (1, C, 1, 1)."""
    sums: dict[str, list[Tensor]] = {}
    lessons = max(1, config.start_views // config.batch)
    squares = LeastSquares(student)
    student.train()  # a new body's batch norms know nothing yet but the batch
    for index in range(lessons):
        lesson = teacher.lesson(_START_KEY + index)
        for name, values in lesson.levels.items():
            sums.setdefault(name, []).append(torch.stack(torch.std_mean(values, (0, 2, 3))))
        weights = {name: torch.ones_like(x[:, :1]) for name, x in lesson.levels.items()}
        if head is not None:
            found = head(lesson.levels).response()
            weights = {name: found[name] + _LEAST_WEIGHT for name in weights}
        squares.add(lesson.images, lesson.levels, weights)
        progress(index + 1, lessons)
    squares.solve()
    return {name: _inverse_deviation(parts) for name, parts in sums.items()}


def _inverse_deviation(parts: Sequence[Tensor]) -> Tensor:
    deviation, mean = torch.stack(list(parts)).unbind(1)
    within, between = (deviation**2).mean(0), mean.var(0, unbiased=False)
    return 1 / (within + between).sqrt().clamp_min(1e-3).reshape(1, -1, 1, 1)


class _Examples:
    """Photographs held out, with what the full detector finds in them."""

    def __init__(self, detector: OnnxDetector, paths: Sequence[Path]) -> None:
        self._detector = detector
        self._images = [load_image(path) for path in paths]
        self._wanted = [detector.detect(detector.extract(image)) for image in self._images]

    def agreement(self, student: LightEdge) -> float:
        """F1 of the student's detections with the full detector's."""
        found = [self._detect(student, image) for image in self._images]
        return total_agreement(zip(self._wanted, found, strict=True)).f1

    @torch.no_grad()
    def _detect(self, student: LightEdge, image: Any) -> Detections:
        tensor, geometry = self._detector.preprocess(image)
        levels = student(torch.from_numpy(tensor))
        named = {n: np.ascontiguousarray(x[0].numpy())
                 for n, x in zip(student.names, levels, strict=True)}  # fmt: skip
        return self._detector.detect(derive(Pyramid(self._detector.spec, named, geometry)))

"""What a run tells whoever watches: a progress bar, TensorBoard, a file of measurements."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fpcodec.errors import MissingDependency
from fpcodec.training.held_out import Measured

MEASUREMENTS = "held_out.jsonl"


@dataclass(frozen=True)
class StepReport:
    """One step.

    Attributes:
        step: Steps done.
        share: Of the run, in [0, 1].
        seconds: Spent on steps so far.
        loss: What was minimised.
        parts: Each loss by name.
        frame_bytes: Mean estimated bytes of the batch's frames; None where none are coded.
    """

    step: int
    share: float
    seconds: float
    loss: float
    parts: Mapping[str, float]
    frame_bytes: float | None = None

    @property
    def seconds_left(self) -> float:
        """By the pace so far."""
        return self.seconds * (1 - self.share) / max(self.share, 1e-9)


class Watcher:
    """Told of everything, does nothing: the base of those that do."""

    def stage(self, name: str, done: int, total: int) -> None:
        """Work before and after the steps."""

    def step(self, report: StepReport) -> None:
        """A step is done."""

    def measured(self, step: int, points: Sequence[Measured]) -> None:
        """The averaged weights were measured on the images held out."""

    def note(self, message: str) -> None:
        """One line for people."""


class Watchers(Watcher):
    """Several watchers as one."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = tuple(watchers)

    def stage(self, name: str, done: int, total: int) -> None:
        """See ``Watcher``."""
        for watcher in self.watchers:
            watcher.stage(name, done, total)

    def step(self, report: StepReport) -> None:
        """See ``Watcher``."""
        for watcher in self.watchers:
            watcher.step(report)

    def measured(self, step: int, points: Sequence[Measured]) -> None:
        """See ``Watcher``."""
        for watcher in self.watchers:
            watcher.measured(step, points)

    def note(self, message: str) -> None:
        """See ``Watcher``."""
        for watcher in self.watchers:
            watcher.note(message)


class MeasurementFile(Watcher):
    """Appends measurements to ``held_out.jsonl`` in a run's folder."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / MEASUREMENTS

    def measured(self, step: int, points: Sequence[Measured]) -> None:
        """See ``Watcher``."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, "points": [asdict(x) for x in points]}) + "\n")


class TensorBoard(Watcher):
    """Curves for TensorBoard.

    Raises:
        MissingDependency: It is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingDependency(
                'curves need tensorboard: pip install "fpcodec[train]", or leave out --tensorboard'
            ) from error
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def step(self, report: StepReport) -> None:
        """See ``Watcher``."""
        values = {"loss": report.loss, "bytes": report.frame_bytes, **report.parts}
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, report.step)

    def measured(self, step: int, points: Sequence[Measured]) -> None:
        """See ``Watcher``."""
        for point in points:
            place = f"quality {point.quality:g}"
            self._writer.add_scalar(f"held-out agreement/{place}", point.agreement, step)
            self._writer.add_scalar(f"held-out bytes/{place}", point.frame_bytes, step)

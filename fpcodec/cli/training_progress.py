"""What ``fpcodec train`` shows while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fpcodec.cli.output import has_screen, note
from fpcodec.training.held_out import Measured
from fpcodec.training.watch import StepReport, Watcher

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_STEPS = 100
_WHOLE = 1000
_RECENT = 0.98


def progress_bars() -> Progress:
    """Bars with what they say beside them, on stderr where that is a terminal."""
    from rich import progress
    from rich.console import Console

    console = Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=20),
        progress.TaskProgressColumn(), progress.TextColumn("{task.fields[says]}"),
        console=console, disable=not has_screen(console),
    )  # fmt: skip


class LineWatcher(Watcher):
    """A line for people every hundred steps."""

    def step(self, report: StepReport) -> None:
        """See ``Watcher``."""
        if report.step % _LINE_STEPS == 0:
            note(f"step {report.step}: {_said(report, report.parts)}")

    def measured(self, step: int, points: Sequence[Measured]) -> None:
        """See ``Watcher``."""
        for point in points:
            note(f"held out after step {step}, quality {point.quality:g}: about "
                 f"{point.frame_bytes:.0f} bytes, agreement {point.agreement:.3f}")  # fmt: skip

    def note(self, message: str) -> None:
        """See ``Watcher``."""
        note(message)


class RichWatcher(LineWatcher):
    """A bar per stage; the losses beside the last are running means."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}
        self._means: dict[str, float] = {}

    def stage(self, name: str, done: int, total: int) -> None:
        """See ``Watcher``."""
        self._move(name, done / max(total, 1), f"{done} of {total}")

    def step(self, report: StepReport) -> None:
        """See ``Watcher``."""
        for name, value in report.parts.items():
            before = self._means.get(name, value)
            self._means[name] = _RECENT * before + (1 - _RECENT) * value
        self._move("Training", report.share, _said(report, self._means))

    def note(self, message: str) -> None:
        """See ``Watcher``."""
        self._bars.console.print(message, highlight=False)

    def _move(self, name: str, share: float, says: str) -> None:
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(name, total=_WHOLE, says="")
        self._bars.update(self._tasks[name], completed=share * _WHOLE, says=says)


def _said(report: StepReport, parts: Mapping[str, float]) -> str:
    losses = " ".join(f"{name} {value:.3f}" for name, value in parts.items())
    minutes, seconds = divmod(round(report.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    size = "" if report.frame_bytes is None else f" | {report.frame_bytes:.0f} bytes"
    return f"{losses}{size} | {hours}:{minutes:02}:{seconds:02} left"

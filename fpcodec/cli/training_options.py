"""Options and checks that every command which trains has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fpcodec.training.watch import Watcher


class Loss(str, Enum):
    """What distortion is."""

    mse = "mse"
    frs_features = "frs-features"
    frs = "frs"


LossOption = Annotated[
    Loss,
    typer.Option(
        help="mse: plain squared error of features. frs-features: weighted by the head's highest "
        "score at each place. frs: that, and what the head makes of them."
    ),
]
Minutes = Annotated[
    float | None,
    typer.Option(
        help="Train for so long in place of --steps; only steps give exactly the same again."
    ),
]
HeldOut = Annotated[int, typer.Option(min=0, help="Images kept for measuring, never trained on.")]
MeasureSteps = Annotated[
    int, typer.Option(min=0, help="Steps between measurements on them; 0 for the last alone.")
]
CheckpointMinutes = Annotated[float, typer.Option(help="Minutes between checkpoints.")]


def require_one_length(steps: int | None, minutes: float | None) -> None:
    """Take one way to say how long.

    Raises:
        InputError: Both are given.
    """
    from fpcodec.errors import InputError

    if steps is not None and minutes is not None:
        raise InputError("--steps and --minutes are two ways to say how long; give one of them")


def require_torch(threads: int | None) -> None:
    """Find out before anything is read whether training is possible.

    Raises:
        MissingDependency: torch or torchvision is not installed.
    """
    from fpcodec.errors import MissingDependency

    try:
        import torch
        import torchvision  # noqa: F401
    except ImportError as error:
        raise MissingDependency(
            f'training needs {error.name}: pip install "fpcodec[train]"'
        ) from error
    if threads is not None:
        torch.set_num_threads(threads)


@contextmanager
def watching() -> Iterator[Watcher]:
    """A bar per stage on stderr; where that is no terminal, a line now and then."""
    from fpcodec.cli.training_progress import LineWatcher, RichWatcher, progress_bars

    with progress_bars() as bars:
        yield LineWatcher() if bars.disable else RichWatcher(bars)

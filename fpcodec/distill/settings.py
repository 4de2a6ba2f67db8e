"""What a distillation is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fpcodec.errors import InputError

LOSSES = ("mse", "frs-features", "frs")
BODIES = ("small-picture", "thin")


@dataclass(frozen=True)
class DistillConfig:
    """What decides a light edge's weights.

    Attributes:
        body: ``small-picture``, the detector's own edge half on fewer pixels; or ``thin``, a
            narrow network of our own that sees them all.
        size: ``(width, height)`` of the small picture; None for the largest that keeps within
            ``macs_share``.
        start: Folder of a small detector whose backbone a thin body begins as; None for nothing.
        macs_share: Most multiply-accumulates, as a share of the full edge half's.
        steps: Optimiser steps.
        minutes: Train for so long instead; None for ``steps``.
        batch: Views per step.
        seed: Draws views, step by step, so that a step can be repeated.
        loss: ``mse`` (no head), ``frs-features`` (weighted by S) or ``frs`` (and through the
            frozen head).
        held_out: Photographs kept for measuring and never trained on.
        learning_rate: Peak, of the lifts, as a share of each filter's own size; the body's is
            half of it.
        warm_steps: In which the learning rate rises from nothing.
        clip_norm: Longest gradient.
        ema_decay: Of the averaged weights, which are the ones exported.
        start_views: Views that measure each channel's deviation, and that the lifts are fitted to
            before the first step.
    """

    body: str = "small-picture"
    size: tuple[int, int] | None = None
    start: str | None = None
    macs_share: float = 0.25
    steps: int = 6000
    minutes: float | None = None
    batch: int = 8
    seed: int = 0
    loss: str = "frs"
    held_out: int = 64
    learning_rate: float = 4e-3
    warm_steps: int = 500
    clip_norm: float = 20.0
    ema_decay: float = 0.998
    start_views: int = 64

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss {self.loss!r} is not one of {', '.join(LOSSES)}")
        if self.body not in BODIES:
            raise InputError(f"body {self.body!r} is not one of {', '.join(BODIES)}")
        if self.body == "thin" and self.size is not None:
            raise InputError("a thin body sees the whole picture; leave the size out")
        if self.body != "thin" and self.start is not None:
            raise InputError("a small picture's body begins as the detector; leave the start out")
        if min(self.steps, self.batch, self.start_views) < 1:
            raise InputError(
                f"{self.steps} steps of {self.batch} views after {self.start_views} cannot train; "
                "give at least 1 of each"
            )
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"{self.minutes} minutes is no time to train; give more than 0")
        if min(self.seed, self.held_out, self.warm_steps) < 0:
            raise InputError(
                f"seed {self.seed}, held-out {self.held_out} and warm-up {self.warm_steps} cannot "
                "be negative"
            )
        if not self.learning_rate > 0 or not 0 < self.macs_share < 1:
            raise InputError(
                f"learning rate {self.learning_rate} must be above 0, and a share of MACs of "
                f"{self.macs_share} between 0 and 1"
            )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)

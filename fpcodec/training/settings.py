"""What a training run is told: what decides the weights, and what does not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError

LOSSES = ("mse", "frs-features", "frs")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class TrainingConfig:
    """What decides the weights: two runs with the same give the same, on one machine's CPU.

    Attributes:
        steps: Optimiser steps.
        minutes: Train for so long instead; None for ``steps``. Where the clock decides, no two
            runs are the same.
        batch: Images per step and process.
        seed: Draws images, qualities and dropped chunks: step by step, so that a step can be
            repeated.
        loss: ``mse`` (no head), ``frs-features`` (weighted by S) or ``frs`` (and through the
            frozen head).
        mirror: Train on mirrored images too.
        held_out: Images kept for measuring and never trained on.
        feature_weight: Of the feature loss.
        head_weight: Of the head's class scores.
        region_weight: Of a second stage's scores and boxes, which are what detections are made of.
        box_weight: Of the head's boxes.
        learning_rate: Peak, of the synthesis; the other parts' follow it.
        rate_scale: Multiplies what a bit costs: more is smaller frames at each quality.
        best_rate_scale: Multiplies it further at quality 1, and less the lower the quality is:
            below 1 the best quality comes closer to lossless.
        rate_tilt: In [0, 1]: 0 lets low qualities, whose distortion is large, lead; 1 lets all
            qualities weigh alike.
        clip_norm: Longest gradient.
        ema_decay: Of the averaged weights, which are the ones exported.
        frozen_steps: At the start the synthesis and the rate learn alone; at most a quarter of
            the run.
        importance_steps: At the start importance is also told S outright.
        balance_batches: Batches that measure what a bit is worth, before the first step; at most
            one per hundred steps.
        rate_steps: Steps that fit the rate alone, before that; at most as many as follow.
    """

    steps: int = 12_000
    minutes: float | None = None
    batch: int = 4
    seed: int = 0
    loss: str = "frs"
    mirror: bool = False
    held_out: int = 32
    feature_weight: float = 0.2
    head_weight: float = 1.0
    region_weight: float = 3.0
    box_weight: float = 0.5
    learning_rate: float = 1e-3
    rate_scale: float = 1.0
    best_rate_scale: float = 1.0
    rate_tilt: float = 0.5
    clip_norm: float = 20.0
    ema_decay: float = 0.999
    frozen_steps: int = 300
    importance_steps: int = 1000
    balance_batches: int = 12
    rate_steps: int = 150

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise InputError(f"loss {self.loss!r} is not one of {', '.join(LOSSES)}")
        for name in ("steps", "batch", "balance_batches"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)} is below 1; give at least 1")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"{self.minutes} minutes is no time to train; give more than 0")
        if min(self.seed, self.held_out) < 0:
            raise InputError(f"seed {self.seed} and held-out {self.held_out} cannot be negative")
        for name in ("learning_rate", "rate_scale", "best_rate_scale"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)} must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self)


@dataclass(frozen=True)
class RunConfig:
    """Where a run lies and how it is watched; none of it changes the weights.

    Attributes:
        folder: For checkpoints, the start profile and the feature cache.
        cache: For cached features, where runs are to share them; None for inside ``folder``.
        cache_gb: Most gigabytes (10^9 bytes) of cached features.
        checkpoint_minutes: Between checkpoints; 0 for one after each step.
        measure_steps: Between measurements on the images held out; 0 for none but the last.
        key_level_seconds: For measuring which levels each object scale needs, at the end.
        device: ``auto``, ``cpu`` or ``cuda``.
        tensorboard: Whether curves are written to ``folder``.
    """

    folder: Path
    cache: Path | None = None
    cache_gb: float = 20.0
    checkpoint_minutes: float = 5.0
    measure_steps: int = 1000
    key_level_seconds: float = 60.0
    device: str = "auto"
    tensorboard: bool = False

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError(f"device {self.device!r} is not one of {', '.join(DEVICES)}")
        if not self.cache_gb > 0 or self.checkpoint_minutes < 0 or self.measure_steps < 0:
            raise InputError(
                f"cache of {self.cache_gb} GB must be above 0, {self.checkpoint_minutes} minutes "
                f"between checkpoints and {self.measure_steps} steps between measurements not "
                "below 0"
            )

    @property
    def cache_folder(self) -> Path:
        """Where cached features lie."""
        return self.cache or self.folder / "features"

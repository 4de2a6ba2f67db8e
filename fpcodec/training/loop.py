"""The training loop.

Read it from top to bottom. A step is a function of the weights and its number: which images, which
qualities, which chunks are lost and how fast to learn all follow from it, so a run that was killed
goes on from its last checkpoint to the very same weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fpcodec.errors import ModelError
from fpcodec.training.balance import Price
from fpcodec.training.batches import Batch, Batches
from fpcodec.training.checkpoint import Checkpoint
from fpcodec.training.distributed import Processes
from fpcodec.training.network import LearnedNetwork
from fpcodec.training.objective import Objective, importance_loss
from fpcodec.training.schedule import follow, pace, share_done
from fpcodec.training.settings import RunConfig, TrainingConfig
from fpcodec.training.shortages import out_of_memory_named
from fpcodec.training.watch import StepReport, Watcher

_STEP_KEY = 3

_PACE = {"synthesis": 1.0, "analysis": 0.3, "quantiser": 2.0, "rate": 5.0}
"""Learning rates of the parts: the edge's part moves slowly, for the synthesis must follow it."""
_FROZEN = ("analysis", "quantiser")
_BETAS = (0.9, 0.99)
_IMPORTANCE_WEIGHT = 0.05


@dataclass
class Trainer:
    """A run: its network and what trains it.

    Attributes:
        network: On its device.
        objective: Distortion.
        batches: What to train on.
        price: Of a bit.
        config: What decides the weights.
        run: Where checkpoints go.
        facts: What a checkpoint must agree with; see ``Checkpoint.run``.
        processes: This one among others.
        watcher: Is told of every step.
    """

    network: LearnedNetwork
    objective: Objective
    batches: Batches
    price: Price
    config: TrainingConfig
    run: RunConfig
    facts: Mapping[str, Any]
    processes: Processes
    watcher: Watcher

    def __post_init__(self) -> None:
        rate = self.config.learning_rate
        groups = [
            {"params": list(getattr(self.network, part).parameters()), "part": part,
             "peak": rate * pace}
            for part, pace in _PACE.items()
        ]  # fmt: skip
        self.optimiser = torch.optim.Adam(groups, lr=rate, betas=_BETAS)
        self.average = {name: x.detach().clone() for name, x in self.network.state_dict().items()}
        self.step, self.seconds = 0, 0.0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(checkpoint.network)
        self.optimiser.load_state_dict(dict(checkpoint.optimiser))
        for name, values in checkpoint.average.items():
            self.average[name].copy_(values)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        self.price = Price(*checkpoint.price)

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            InputError: The disk is full; the last checkpoint is kept.
        """
        if self.processes.first:
            Checkpoint(
                self.step, self.seconds, (self.price.slope, self.price.offset),
                self.network.state_dict(), self.optimiser.state_dict(), self.average, self.facts,
            ).save(self.run.folder)  # fmt: skip

    def train(self) -> Iterator[int]:
        """Train to the end; yields after every step.

        Raises:
            ModelError: The loss is not finite.
            InputError: The disk is full, or memory ran out.
        """
        saved_at = time.monotonic()
        while (share := self._agreed_share()) < 1:
            started = time.monotonic()
            report = self._one_step(share)
            self.seconds += time.monotonic() - started
            self.watcher.step(report)
            if time.monotonic() - saved_at >= 60 * self.run.checkpoint_minutes:
                self.save()
                saved_at = time.monotonic()
            yield self.step
        self.save()

    def _agreed_share(self) -> float:
        # Clocks differ between processes, steps do not.
        share = self._share()
        return share if self.config.minutes is None else self.processes.agree(share)

    def _share(self) -> float:
        """Of the run that is done."""
        return share_done(self.config, self.step, self.seconds)

    def _one_step(self, share: float) -> StepReport:
        config, network = self.config, self.network
        self._set_pace(share)
        batch = self.batches.draw((config.seed, _STEP_KEY, self.processes.rank, self.step))
        with out_of_memory_named(config.batch):
            loss, parts, bits = self._loss(batch)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        self.processes.average_gradients(network.parameters())
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise ModelError(
                f"the loss is not finite at step {self.step}, images {self.batches.images(batch)}; "
                "the last good checkpoint is kept: look at these images' features, or lower "
                "--learning-rate"
            )
        self.optimiser.step()
        follow(self.average, self.network.state_dict().items(), self.step, config.ema_decay)
        self.step += 1
        return StepReport(
            self.step, self._share(), self.seconds, float(loss.detach()),
            {name: float(x.detach()) for name, x in parts.items()}, float(bits.detach().mean()) / 8,
        )  # fmt: skip

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        decoded, bits, importance = self.network(
            batch.features, batch.quality, batch.presence, batch.exact
        )
        distortion = self.objective(batch.targets, decoded)
        weight = self.price.weight(batch.quality, self.config.rate_tilt)
        loss = (weight * (distortion.total + self.price(batch.quality) * bits)).mean()
        if self.step < self.config.importance_steps and distortion.response is not None:
            told = importance_loss(importance, distortion.response)
            loss = loss + _IMPORTANCE_WEIGHT * told
        return loss, distortion.parts, bits

    def _set_pace(self, share: float) -> None:
        """Warm up, then follow half a cosine."""
        frozen = min(self.config.frozen_steps, self.config.steps // 4)
        now = pace(share, self.step, frozen)
        for group in self.optimiser.param_groups:
            still = self.step < frozen and group["part"] in _FROZEN
            group["lr"] = 0.0 if still else group["peak"] * now


@contextmanager
def half_precision(network: LearnedNetwork) -> Iterator[None]:
    """Run the synthesis in bfloat16 on a GPU that has it; all that becomes integers stays exact."""
    device = next(network.parameters()).device
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        yield
        return
    cast = torch.autocast("cuda", torch.bfloat16)

    def leave(module: Any, inputs: Any, levels: dict[str, Tensor]) -> dict[str, Tensor]:
        cast.__exit__(None, None, None)
        return {name: x.float() for name, x in levels.items()}

    def enter(*_: Any) -> None:
        cast.__enter__()  # type: ignore[no-untyped-call]

    before = network.synthesis.register_forward_pre_hook(enter)
    after = network.synthesis.register_forward_hook(leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()

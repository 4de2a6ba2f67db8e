"""The distillation's training loop; read it from top to bottom.

A step is a function of the weights and its number, so a run that was killed goes on from its last
checkpoint.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.func import functional_call

from fpcodec.distill.light_edge import LightEdge
from fpcodec.distill.relative_weights import RelativeWeights
from fpcodec.distill.settings import DistillConfig
from fpcodec.distill.teacher import Lesson, Teacher
from fpcodec.errors import ModelError
from fpcodec.training.checkpoint import Checkpoint
from fpcodec.training.objective import Objective
from fpcodec.training.schedule import follow, pace, share_done
from fpcodec.training.settings import RunConfig
from fpcodec.training.watch import StepReport, Watcher

_BODY_PACE = 1 / 2


class Trainer:
    """A run: a light edge and what trains it.

    Args:
        student: Its lifts fitted; its parameters stay as they are.
        teacher: Gives the lessons.
        objective: Distortion.
        config: What decides the weights.
        run: Where checkpoints go.
        facts: What a checkpoint must agree with.
        told: Is told of every step.
    """

    def __init__(
        self,
        student: LightEdge,
        teacher: Teacher,
        objective: Objective,
        config: DistillConfig,
        run: RunConfig,
        facts: Mapping[str, Any],
        told: Watcher,
    ) -> None:
        self.student, self.teacher, self.objective = student, teacher, objective
        self.config, self.run, self.facts, self.told = config, run, facts, told
        self.weights = RelativeWeights(student)
        named = self.weights.learned
        self.optimiser = torch.optim.Adam(
            [
                {"params": [x for n, x in named.items() if n.startswith("body.")],
                 "peak": _BODY_PACE},
                {"params": [x for n, x in named.items() if not n.startswith("body.")],
                 "peak": 1.0},
            ],
            lr=config.learning_rate,
        )  # fmt: skip
        self.average = {name: x.detach().clone() for name, x in named.items()}
        self.step, self.seconds = 0, 0.0

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.weights.load(checkpoint.network)
        self.student.load_state_dict(
            {n: checkpoint.network[n] for n, _ in self.student.named_buffers()}, strict=False
        )
        self.optimiser.load_state_dict(dict(checkpoint.optimiser))
        self.average = {name: x.clone() for name, x in checkpoint.average.items()}
        self.step, self.seconds = checkpoint.step, checkpoint.seconds

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            InputError: The disk is full; the last checkpoint is kept.
        """
        # Running statistics of batch norms are no parameters, but must go on.
        learned = {**{name: x.detach() for name, x in self.weights.learned.items()},
                   **dict(self.student.named_buffers())}  # fmt: skip
        Checkpoint(
            self.step, self.seconds, (0.0, 0.0), learned,
            self.optimiser.state_dict(), self.average, self.facts,
        ).save(self.run.folder)  # fmt: skip

    def averaged(self) -> LightEdge:
        """The averaged weights as a light edge."""
        student = copy.deepcopy(self.student)
        student.load_state_dict(self.weights.scaled(self.average), strict=False)
        return student.eval()

    def train(self) -> Iterator[int]:
        """Train to the end; yields after every step.

        Raises:
            ModelError: The loss is not finite.
            InputError: The disk is full, or a photograph cannot be read.
        """
        saved_at = time.monotonic()
        self.student.train()
        while (share := self._share()) < 1:
            started = time.monotonic()
            loss, parts = self._one_step(share)
            self.seconds += time.monotonic() - started
            self.told.step(StepReport(self.step, self._share(), self.seconds, loss, parts))
            if time.monotonic() - saved_at >= 60 * self.run.checkpoint_minutes:
                self.save()
                saved_at = time.monotonic()
            yield self.step
        self.save()

    def _share(self) -> float:
        """Of the run that is done."""
        return share_done(self.config, self.step, self.seconds)

    def _one_step(self, share: float) -> tuple[float, dict[str, float]]:
        config = self.config
        now = pace(share, self.step, config.warm_steps)
        for group in self.optimiser.param_groups:
            group["lr"] = config.learning_rate * group["peak"] * now
        lesson: Lesson = self.teacher.lesson(self.step)
        levels = functional_call(
            self.student, self.weights.scaled(self.weights.learned), (lesson.images,)
        )
        named = dict(zip(self.student.names, levels, strict=True))
        distortion = self.objective(lesson.levels, named)
        loss = distortion.total.mean()
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.weights.learned.values(), config.clip_norm)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise ModelError(
                f"the loss is not finite at step {self.step}; the last good checkpoint is kept: "
                "lower --learning-rate"
            )
        self.optimiser.step()
        follow(self.average, self.weights.learned.items(), self.step, config.ema_decay)
        self.step += 1
        return float(loss.detach()), {n: float(x.detach()) for n, x in distortion.parts.items()}

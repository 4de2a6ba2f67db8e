"""What a bit is worth at each quality, measured before training starts.

The closed form's steps were chosen so that one more byte is equally worthwhile everywhere at one
quality. Making all steps a little finer or coarser shows the price it was chosen at: distortion
saved per bit spent. Training keeps these prices, so a quality stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpcodec.training.batches import Batch, Batches
from fpcodec.training.network import LearnedNetwork
from fpcodec.training.objective import Objective
from fpcodec.training.settings import TrainingConfig

QUALITIES = (0.0, 0.25, 0.5, 0.75, 1.0)
_FITTED = 4
"""At the best quality the head's losses are all but zero: it is left out of the line."""

_NUDGE = 0.3  # of a step's logarithm, up and down
_RATE_LEARNING = 2e-2
_LEAST = 1e-9

_RATE_KEY, _PRICE_KEY = 1, 2


@dataclass(frozen=True)
class Price:
    """Distortion that a bit must save: ``exp(slope * quality + offset)``."""

    slope: float
    offset: float

    def __call__(self, quality: Tensor) -> Tensor:
        """Prices (N,) at qualities (N,) in [0, 1]."""
        return torch.exp(self.slope * quality + self.offset)

    def weight(self, quality: Tensor, tilt: float) -> Tensor:
        """Weights (N,) that even out how much qualities count; see ``rate_tilt``."""
        return torch.exp(tilt * self.slope * (0.5 - quality))


def measure_price(
    network: LearnedNetwork,
    objective: Objective,
    batches: Batches,
    config: TrainingConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Price:
    """Fit the rate to the untrained network, then measure prices; the fitted rate stays.

    Args:
        network: As it starts; only ``network.rate`` changes.
        objective: Measures distortion.
        batches: Draws images.
        config: How long to look.
        progress: Called with rounds done and rounds in all.
    """
    rate_steps = min(config.rate_steps, config.steps)
    total = rate_steps + len(QUALITIES)
    step = progress or (lambda done, of: None)
    rate = list(network.rate.parameters())
    optimiser = torch.optim.Adam(rate, lr=_RATE_LEARNING)
    for number in range(rate_steps):
        batch = batches.draw((config.seed, _RATE_KEY, number), drop=False)
        _, bits, _ = network(batch.features, batch.quality, batch.presence)
        for parameter, gradient in zip(rate, torch.autograd.grad(bits.mean(), rate), strict=True):
            parameter.grad = gradient
        optimiser.step()
        step(number + 1, total)
    looked = [
        batches.draw((config.seed, _PRICE_KEY, number), drop=False)
        for number in range(min(config.balance_batches, 1 + config.steps // 100))
    ]
    prices = []
    for number, quality in enumerate(QUALITIES):
        coarse, fine = (_look(network, objective, looked, quality, x) for x in (_NUDGE, -_NUDGE))
        prices.append((coarse[0] - fine[0]) / max(fine[1] - coarse[1], _LEAST))
        step(rate_steps + number + 1, total)
    logarithms = np.log(np.maximum(prices, _LEAST))[:_FITTED]
    slope, offset = np.polyfit(QUALITIES[:_FITTED], logarithms, 1)
    return Price(
        float(slope) + math.log(config.best_rate_scale), float(offset) + math.log(config.rate_scale)
    )


@torch.no_grad()
def _look(
    network: LearnedNetwork,
    objective: Objective,
    looked: list[Batch],
    quality: float,
    nudge: float,
) -> tuple[float, float]:
    """Mean distortion and bits with every step's logarithm moved by ``nudge``."""
    kept = {name: base.clone() for name, base in network.quantiser.base.items()}
    distortion, bits = 0.0, 0.0
    try:
        for base in network.quantiser.base.values():
            base += nudge
        for batch in looked:
            everywhere = torch.full_like(batch.quality, quality)
            decoded, found, _ = network(batch.features, everywhere, batch.presence)
            distortion += float(objective(batch.targets, decoded).total.mean())
            bits += float(found.mean())
    finally:
        for name, base in network.quantiser.base.items():
            base.copy_(kept[name])
    return distortion / len(looked), bits / len(looked)

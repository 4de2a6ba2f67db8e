"""Weights as multiples of their own size, so that one learning rate suits all of them.

A trained detector whose batch norms were folded into its convolutions has filters of very different
size: where pixels come in as 0..255 they are a thousandth of those further in. An optimiser whose
steps have one size, as Adam's have, tears the small ones apart before it has moved the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

_LEAST = 0.1
"""Size of a filter as a share of its tensor's at least; and of one that begins as zeros."""


class RelativeWeights:
    """What is learned in place of a module's parameters: each filter divided by its first size.

    Args:
        module: Its parameters stay as they are.
    """

    def __init__(self, module: nn.Module) -> None:
        named = dict(module.named_parameters())
        self._sizes = {name: _sizes(x.detach()) for name, x in named.items()}
        self.learned = {
            name: nn.Parameter(x.detach() / self._sizes[name]) for name, x in named.items()
        }

    def scaled(self, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The module's parameters, by its names."""
        return {name: x * self._sizes[name] for name, x in learned.items()}

    @torch.no_grad()
    def load(self, learned: Mapping[str, Tensor]) -> None:
        """Take over what was learned before."""
        for name, values in self.learned.items():
            values.copy_(learned[name])


def _sizes(x: Tensor) -> Tensor:
    """Root mean square of each filter, (N, 1, ..), or of a vector as a whole."""
    whole = float(x.square().mean().sqrt())
    if whole == 0.0:
        return torch.full_like(x[:1], _LEAST)
    if x.dim() < 2:
        return torch.full_like(x[:1], whole)
    sizes = x.flatten(1).square().mean(1).sqrt().clamp_min(_LEAST * whole)
    return sizes.reshape(-1, *[1] * (x.dim() - 1))

"""Components of a level whose chunk did not arrive, guessed from its neighbours' components.

A guess is linear, with other weights where both neighbours are there than where one is. Least
squares fits it before training starts, as recovery by interpolation is fitted to features;
training moves it, and the rest of the synthesis adds to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

_RIDGE = 1e-4


class Neighbour(NamedTuple):
    """What is known of the next finer or coarser level.

    Attributes:
        components: (N, K, H, W); zeros where they are not known.
        known: (N, 1, 1, 1): 1 where they are.
    """

    components: Tensor
    known: Tensor


class Neighbours(nn.Module):
    """A linear map from a level's neighbours to the level.

    Args:
        finer: Components of the next finer level; None where the pyramid has none.
        own: Components of the level.
        coarser: Components of the next coarser level; None where the pyramid has none.
    """

    def __init__(self, finer: int | None, own: int, coarser: int | None) -> None:
        super().__init__()
        self.finer = nn.Conv2d(finer, own, 2, 2, bias=False) if finer else None
        self.coarser = nn.ConvTranspose2d(coarser, own, 2, 2, bias=False) if coarser else None

    def forward(self, finer: Neighbour | None, coarser: Neighbour | None, like: Tensor) -> Tensor:
        """Map to (N, K, H, W), the shape of ``like``."""
        total = torch.zeros_like(like)
        if finer is not None and self.finer is not None:
            total = total + self.finer(_even(finer.components))
        if coarser is not None and self.coarser is not None:
            rows, columns = like.shape[-2:]
            total = total + self.coarser(coarser.components)[..., :rows, :columns]
        return total

    def set(self, weights: Tensor) -> None:
        """Take weights (K, inputs), whose columns are in the order of ``seen_around``."""
        if self.finer is not None:
            split = 4 * self.finer.in_channels
            self.finer.weight.copy_(weights[:, :split].reshape(self.finer.weight.shape))
            weights = weights[:, split:]
        if self.coarser is not None:
            places = weights.reshape(len(weights), 2, 2, self.coarser.in_channels)
            self.coarser.weight.copy_(places.permute(3, 0, 1, 2))


class StandIn(nn.Module):
    """A guess at one level's components; arguments as of ``Neighbours``."""

    def __init__(self, finer: int | None, own: int, coarser: int | None) -> None:
        super().__init__()
        self.alone = Neighbours(finer, own, coarser)
        self.beside = Neighbours(finer, own, coarser) if finer and coarser else None

    def forward(self, finer: Neighbour | None, coarser: Neighbour | None, like: Tensor) -> Tensor:
        """Guess components (N, K, H, W), the shape of ``like``; zeros where nothing is known."""
        guess: Tensor = self.alone(finer, coarser, like)
        if self.beside is not None and finer is not None and coarser is not None:
            both = finer.known * coarser.known
            guess = guess + both * (self.beside(finer, coarser, like) - guess)
        return guess


@torch.no_grad()
def fit_stand_ins(stand_ins: nn.ModuleDict, examples: Iterable[Mapping[str, Tensor]]) -> None:
    """Set every stand-in to what least squares makes of complete pyramids.

    Args:
        stand_ins: By level, finest first.
        examples: Components (N, K, H, W) of every level, as the analysis gives them; one at a time
            is held.
    """
    if len(stand_ins) < 2:
        return
    names = list(stand_ins)
    beside = dict(zip(names, zip([None, *names], [*names[1:], None], strict=False), strict=True))
    grams = {name: torch.zeros(()) for name in names}
    crosses, splits = dict(grams), dict.fromkeys(names, 0)
    for levels in examples:
        for name, (finer, coarser) in beside.items():
            below = None if finer is None else levels[finer]
            above = None if coarser is None else levels[coarser]
            seen = seen_around(below, above, levels[name]).double()
            wanted = levels[name].flatten(2).double()
            grams[name] = grams[name] + (seen @ seen.mT).sum(dim=0).cpu()
            crosses[name] = crosses[name] + (wanted @ seen.mT).sum(dim=0).cpu()
            splits[name] = 0 if below is None else 4 * below.shape[1]
    for name in names:
        gram, cross, split, count = grams[name], crosses[name], splits[name], len(grams[name])
        # Of either neighbour alone nothing is known of the other: two fits, side by side.
        parts = [_solve(gram, cross, slice(0, split)), _solve(gram, cross, slice(split, count))]
        stand_in = cast(StandIn, stand_ins[name])
        stand_in.alone.set(torch.cat(parts, dim=1))
        if stand_in.beside is not None:
            stand_in.beside.set(_solve(gram, cross, slice(0, count)))


def seen_around(finer: Tensor | None, coarser: Tensor | None, like: Tensor) -> Tensor:
    """What ``Neighbours`` looks at, position by position, (N, inputs, H * W).

    First the four finer positions, component by component; then the coarser position, in rows of
    its own for each place in the 2 x 2 positions that it covers.
    """
    rows, columns = like.shape[-2:]
    seen = []
    if finer is not None:
        seen.append(functional.unfold(_even(finer), 2, stride=2))
    if coarser is not None:
        images, count, *size = coarser.shape
        spread = coarser.new_zeros(images, 4, count, *(2 * side for side in size))
        for place in range(4):
            spread[:, place, :, place // 2 :: 2, place % 2 :: 2] = coarser
        seen.append(spread[..., :rows, :columns].flatten(1, 2).flatten(2))
    return torch.cat(seen, dim=1)


def _even(values: Tensor) -> Tensor:
    """A row and a column of zeros after the last: without them an odd side would lose one."""
    return functional.pad(values, (0, 1, 0, 1))


def _solve(gram: Tensor, cross: Tensor, part: slice) -> Tensor:
    own = gram[part, part]
    if not len(own):
        return cross[:, part]
    ridge = _RIDGE * own.trace() / len(own) * torch.eye(len(own), dtype=own.dtype)
    found: Tensor = torch.linalg.solve(own + ridge, cross[:, part].mT).mT
    return found

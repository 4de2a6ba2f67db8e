"""What each step trains on, drawn from the step's number alone: a step can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpcodec.training.features import FeatureCache

DROP_FRAMES, EXACT_FRAMES = 0.3, 0.5
"""Share of frames that lose chunks, in half of these the finest, in the other half any; and the
share of those whose other chunks arrive unquantised, so that recovery is learned by itself too."""


@dataclass(frozen=True)
class Batch:
    """Images of one network size, each at a quality and with some chunks dropped.

    Attributes:
        indices: Entries of the cache.
        features: Level name to (N, C, H, W), float32: what is coded.
        targets: The same of what the server should see.
        quality: (N,) in [0, 1].
        presence: Level name to (N, 1, 1, 1): 1 where the chunk is sent.
        exact: (N, 1, 1, 1): 1 where chunks arrive unquantised.
    """

    indices: tuple[int, ...]
    features: dict[str, Tensor]
    targets: dict[str, Tensor]
    quality: Tensor
    presence: dict[str, Tensor]
    exact: Tensor


class Batches:
    """Draws batches from a cache.

    Args:
        cache: What to draw from.
        start: Its first entry to train on; those before are held out.
        size: Images in a batch.
        device: Where tensors go.
        targets: The same images' features as the server should see them; None for what is coded.
    """

    def __init__(
        self,
        cache: FeatureCache,
        start: int,
        size: int,
        device: torch.device,
        targets: FeatureCache | None = None,
    ) -> None:
        self.cache, self.size, self.device, self._targets = cache, size, device, targets
        self._groups = cache.by_size(start)
        counts = np.array([len(group) for group in self._groups], float)
        self._shares = counts / counts.sum()

    def draw(self, key: Sequence[int], *, drop: bool = True) -> Batch:
        """The batch of a key, always the same.

        Args:
            key: Numbers, such as seed, step and process.
            drop: Whether chunks may be missing.
        """
        rng = np.random.default_rng(list(key))
        group = self._groups[rng.choice(len(self._groups), p=self._shares)]
        few = len(group) < self.size  # a network size that few images have
        indices = np.sort(rng.choice(group, self.size, replace=few)).tolist()
        quality = rng.random(self.size).astype(np.float32)
        names = self.cache.spec.coded_names
        present = np.ones((len(names), self.size), np.float32)
        exact = np.zeros(self.size, np.float32)
        for image in range(self.size if drop else 0):
            present[:, image] = _kept(rng, len(names))
            exact[image] = not present[:, image].all() and rng.random() < EXACT_FRAMES
        features = self.cache.batch(indices, self.device)
        targets = features if self._targets is None else self._targets.batch(indices, self.device)
        return Batch(
            tuple(indices),
            features,
            targets,
            torch.from_numpy(quality).to(self.device),
            {
                name: torch.from_numpy(row).to(self.device).reshape(-1, 1, 1, 1)
                for name, row in zip(names, present, strict=True)
            },
            torch.from_numpy(exact).to(self.device).reshape(-1, 1, 1, 1),
        )

    def images(self, batch: Batch) -> str:
        """A batch's images, for a message."""
        return ", ".join(self.cache.entries[index].image for index in batch.indices)


def _kept(rng: np.random.Generator, levels: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which chunks of one frame arrive, finest first."""
    if rng.random() >= DROP_FRAMES:
        return np.ones(levels, np.bool_)
    if rng.random() < 0.5:
        return np.arange(levels) >= rng.integers(levels)
    some = rng.integers(1, max(2**levels - 1, 2))  # neither none nor all
    return np.asarray((some >> np.arange(levels)) % 2 == 1)

"""The learned codec as a torch network: analysis, quantiser, rate and synthesis.

Read it from top to bottom, then ``stand_in.py`` and ``quantiser.py``. At initialisation it is the
closed form: analysis is the ``pca`` basis and probe, synthesis its inverse, every residual path is
zero or nearly so. Training moves it all.

Shapes: N images, C channels, K components, (H, W) positions of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fpcodec.training.quantiser import Quantiser, Rate
from fpcodec.training.stand_in import Neighbour, StandIn

Levels = dict[str, Tensor]

SHARPNESS = 2.0
"""How fast the importance's say over the class fades away from a threshold."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        components: Components per level, finest first.
        analysis_width: Hidden channels of each level's analysis, finest first.
        synthesis_width: Hidden channels of the synthesis.
        synthesis_blocks: Blocks per level in the synthesis' last stage.
        classes: Step classes.
        anchors: Qualities at which steps and thresholds are parameters; between them they are
            interpolated.
    """

    components: tuple[int, ...]
    analysis_width: tuple[int, ...]
    synthesis_width: int = 64
    synthesis_blocks: int = 1
    classes: int = 3
    anchors: int = 9


def _silent(inputs: int, outputs: int) -> nn.Conv2d:
    """A pointwise convolution that gives zero until it is trained."""
    layer = nn.Conv2d(inputs, outputs, 1)
    for values in layer.parameters():
        nn.init.zeros_(values)
    return layer


class LevelAnalysis(nn.Module):
    """Features of one level to components and importance.

    The linear part is a basis; a small convolutional path adds to it. Importance is a linear
    probe on the features and their absolute values, to which the path adds too; its highest value
    in each 3 x 3 surroundings is what the step map is made of.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, channels: int, components: int, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))
        self.basis = nn.Conv2d(channels, components, 1, bias=False)
        self.probe = nn.Conv2d(2 * channels, 1, 1)
        self.enter = nn.Conv2d(channels, width, 1)
        self.look = nn.Conv2d(width, width, 5, padding=2, groups=width)
        self.leave = _silent(width, components + 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Map (N, C, H, W) to components (N, K, H, W) and importance (N, 1, H, W)."""
        centred = features - self.mean
        hidden = functional.relu(self.enter(centred * self.scale))
        added = self.leave(functional.relu(self.look(hidden)))
        components = self.basis(centred) + added[:, :-1]
        importance = self.probe(torch.cat([features, features.abs()], dim=1)) + added[:, -1:]
        return components, functional.max_pool2d(importance, 3, stride=1, padding=1)


class Analysis(nn.Module):
    """The edge's part: every level on its own, so that levels not sent cost nothing."""

    def __init__(
        self, names: Sequence[str], channels: Sequence[int], config: NetworkConfig
    ) -> None:
        super().__init__()
        sizes = zip(names, channels, config.components, config.analysis_width, strict=True)
        self.levels = nn.ModuleDict({x: LevelAnalysis(c, k, w) for x, c, k, w in sizes})

    def forward(self, features: Mapping[str, Tensor]) -> tuple[Levels, Levels]:
        """Components and importance of the levels given."""
        found = {name: self.levels[name](x) for name, x in features.items()}
        return {x: v[0] for x, v in found.items()}, {x: v[1] for x, v in found.items()}


class Block(nn.Module):
    """Depthwise 3 x 3, then two pointwise layers, around a shortcut (Liu et al., CVPR 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.widen = nn.Conv2d(width, 2 * width, 1)
        self.narrow = nn.Conv2d(2 * width, width, 1)
        with torch.no_grad():
            for values in self.narrow.parameters():
                values.mul_(0.2)  # nearly the identity at first

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        added: Tensor = self.narrow(functional.relu(self.widen(self.look(x))))
        return x + added


class Synthesis(nn.Module):
    """The server's part: all levels from whichever chunks arrived.

    What did not arrive is guessed from its neighbours first, then goes through the network like
    the rest, its ``presence`` at zero. Information goes down from coarse to fine and up again, so
    every level sees every chunk.
    """

    def __init__(
        self, names: Sequence[str], channels: Sequence[int], config: NetworkConfig
    ) -> None:
        super().__init__()
        self.names, width = tuple(names), config.synthesis_width

        def per_level(levels: Sequence[str], make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({name: make() for name in levels})

        sizes = dict(zip(names, zip(channels, config.components, strict=True), strict=True))
        counts = config.components
        beside = zip(names, (None, *counts[:-1]), counts, (*counts[1:], None), strict=True)
        self.stand_in = nn.ModuleDict(
            {x: StandIn(fine, k, coarse) for x, fine, k, coarse in beside}
        )
        self.basis = nn.ModuleDict({x: nn.Conv2d(k, c, 1) for x, (c, k) in sizes.items()})
        self.enter = nn.ModuleDict({x: nn.Conv2d(k + 2, width, 1) for x, (_, k) in sizes.items()})
        self.down = per_level(names, lambda: Block(width))
        self.down_mix = per_level(names[:-1], lambda: nn.Conv2d(width, width, 1))
        self.up = per_level(names, lambda: Block(width))
        self.up_look = per_level(names[1:], lambda: nn.Conv2d(width, width, 3, 2, 1, groups=width))
        self.up_mix = per_level(names[1:], lambda: nn.Conv2d(width, width, 1))
        self.last = per_level(
            names, lambda: nn.Sequential(*(Block(width) for _ in range(config.synthesis_blocks)))
        )
        self.leave = nn.ModuleDict({x: _silent(width, c) for x, (c, _) in sizes.items()})
        for name, (count, _) in sizes.items():
            self.register_buffer(f"scale_{name}", torch.ones(1, count, 1, 1))

    def forward(self, components: Levels, log_steps: Levels, presence: Levels) -> Levels:
        """Map dequantised components to features.

        Args:
            components: (N, K, H, W) per level; zeros where the chunk is absent.
            log_steps: (N, 1, H, W): natural logarithm of each position's step; zero where absent.
            presence: (N, 1, 1, 1): 1 where the chunk arrived, else 0.

        Returns:
            Features (N, C, H, W) of every level.
        """
        hidden, components = {}, self._completed(components, presence)
        for name in self.names:
            here = presence[name].expand_as(log_steps[name])
            seen = torch.cat([0.3 * components[name], 0.3 * log_steps[name], here], dim=1)
            hidden[name] = functional.relu(self.enter[name](seen))
        coarser = None
        for name in reversed(self.names):
            if coarser is not None:
                size = hidden[name].shape[-2:]
                above = functional.interpolate(self.down_mix[name](coarser), size=size)
                hidden[name] = hidden[name] + above
            hidden[name] = coarser = self.down[name](hidden[name])
        finer = None
        for name in self.names:
            if finer is not None:
                hidden[name] = hidden[name] + self.up_mix[name](self.up_look[name](finer))
            hidden[name] = finer = self.up[name](hidden[name])
        out = {}
        for name in self.names:
            added = self.leave[name](self.last[name](hidden[name]))
            scale = getattr(self, f"scale_{name}")
            out[name] = self.basis[name](components[name]) + scale * added
        return out

    def _completed(self, components: Levels, presence: Levels) -> Levels:
        """Components, with guesses where no chunk arrived, made from coarse to fine."""
        full: Levels = {}
        coarser: Neighbour | None = None
        for index, name in reversed(list(enumerate(self.names))):
            values, known = components[name], presence[name]
            below = self.names[index - 1] if index else None
            finer = None if below is None else Neighbour(components[below], presence[below])
            full[name] = values + (1 - known) * self.stand_in[name](finer, coarser, values)
            for beside in (finer, coarser):
                known = known if beside is None else torch.maximum(known, beside.known)
            coarser = Neighbour(full[name], known)
        return full


class LearnedNetwork(nn.Module):
    """Analysis, quantiser, rate and synthesis of one pyramid."""

    def __init__(
        self, names: Sequence[str], channels: Sequence[int], config: NetworkConfig
    ) -> None:
        super().__init__()
        self.names, self.channels, self.config = tuple(names), tuple(channels), config
        self.analysis = Analysis(names, channels, config)
        self.quantiser = Quantiser(names, config)
        self.rate = Rate(names, config)
        self.synthesis = Synthesis(names, channels, config)

    def forward(
        self,
        features: Mapping[str, Tensor],
        quality: Tensor,
        presence: Levels,
        exact: Tensor | None = None,
    ) -> tuple[Levels, Tensor, Levels]:
        """Code and decode, softly.

        Args:
            features: (N, C, H, W) per level.
            quality: (N,) in [0, 1].
            presence: (N, 1, 1, 1) per level: 1 where its chunk is sent.
            exact: (N, 1, 1, 1): 1 where chunks arrive unquantised; None for nowhere.

        Returns:
            Features as decoded, bits per image (N,) of the chunks sent, importance per level.
        """
        components, importance = self.analysis(features)
        decoded, steps, bits = {}, {}, quality.new_zeros(len(quality))
        for name in self.names:
            here = presence[name]
            values, log_step, cost = self._code(name, components[name], importance[name], quality)
            if exact is not None:
                values = torch.where(exact > 0, components[name], values)
                log_step = torch.where(exact > 0, self.quantiser.base[name][-1, -1], log_step)
            decoded[name], steps[name] = values * here, log_step * here
            bits = bits + cost.sum(dim=(1, 2)) * here[:, 0, 0, 0]
        return self.synthesis(decoded, steps, presence), bits, importance

    def _code(
        self, name: str, components: Tensor, importance: Tensor, quality: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values, logarithm of the base step, and bits per position of one level.

        How the class moves with the importance is learned from what the other class of the
        nearest threshold would have given and cost.
        """
        quantiser, rate = self.quantiser, self.rate
        classes, distance = quantiser.classes(name, importance, quality)
        log_step = quantiser.log_step(name, classes, quality)
        found = quantiser(name, components, log_step, quality)
        context = rate.context(name, found.size)
        bits = rate(name, found, classes, context)
        passed = distance > 0
        with torch.no_grad():
            others = classes + torch.where(passed[:, 0], -1, 1)
            other = quantiser(name, components, quantiser.log_step(name, others, quality), quality)
            other_bits = rate(name, other, others, context)
        soft = torch.sigmoid(SHARPNESS * distance)
        up = torch.where(passed, 1.0, -1.0) * (soft - soft.detach())
        values = found.values + up * (found.values - other.values).detach()
        return values, log_step, bits + up[:, 0] * (bits - other_bits).detach()

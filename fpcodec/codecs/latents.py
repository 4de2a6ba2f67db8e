"""What a codec quantises: components and importance, before any quality is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fpcodec.pyramid import Array


@dataclass(frozen=True)
class Latents:
    """What the analysis made of some levels: every quality is quantised from it.

    Attributes:
        components: Level name to shape (K, H, W), float32.
        importance: Level name to shape (H, W), float32: how much each position matters, the
            highest of its 3 x 3 surroundings. Levels whose codec writes no step map are absent.
    """

    components: Mapping[str, Array]
    importance: Mapping[str, Array]

"""Streams of small pyramids that move a little from frame to frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from core_kit import GEOMETRY, SPEC, make_pyramid

from fpcodec.pyramid import ImageGeometry, Pyramid, PyramidSpec, derive

STREAMS = Path(__file__).parent / "golden_streams"


def clip(
    count: int, seed: int = 0, spec: PyramidSpec = SPEC, geometry: ImageGeometry = GEOMETRY
) -> list[Pyramid]:
    """A still scene under slight noise through which a bright patch wanders."""
    scene, object_ = make_pyramid(seed, spec, geometry), make_pyramid(seed + 1, spec, geometry)
    rng = np.random.default_rng(seed)
    frames = []
    for index in range(count):
        levels = {}
        for name in spec.coded_names:
            values = scene.levels[name] + rng.normal(0, 0.02, scene.levels[name].shape)
            width = values.shape[2]
            start = index * width // max(count, 1)
            patch = slice(start, start + max(1, width // 4))
            values[:, : max(1, values.shape[1] // 2), patch] = (
                3 * object_.levels[name][:, : max(1, values.shape[1] // 2), patch]
            )
            levels[name] = values.astype(np.float32)
        frames.append(derive(Pyramid(spec, levels, geometry)))
    return frames


def same_integers(a, b) -> bool:
    """Whether two ``Decoded`` hold the same integers."""
    return (
        a.symbols.keys() == b.symbols.keys()
        and a.step_maps.keys() == b.step_maps.keys()
        and all(np.array_equal(a.symbols[x], b.symbols[x]) for x in a.symbols)
        and all(np.array_equal(a.step_maps[x], b.step_maps[x]) for x in a.step_maps)
        and (a.codec_id, a.quality, a.image_size, a.network_size)
        == (b.codec_id, b.quality, b.image_size, b.network_size)
    )

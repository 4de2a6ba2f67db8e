"""Tables for a codec, by counting what it would code of some pyramids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from fpcodec.codecs.chunked import ChunkedCodec
from fpcodec.codecs.chunks import count_frame
from fpcodec.codecs.tables import BUCKETS, CodecTables, TableFitter
from fpcodec.pyramid import Pyramid

_FEW = 64


def fit_tables(
    codec: ChunkedCodec,
    pyramids: Sequence[Pyramid],
    rng: np.random.Generator,
    *,
    pool_contexts: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> CodecTables:
    """Count symbols at every quality bucket, with parents and without.

    Few pyramids are all counted in every way; of many, each is counted in some, in turn.

    Args:
        codec: Quantises; its own tables, if it has any, are not looked at.
        pyramids: With every coded level.
        rng: Draws a quality within each bucket.
        pool_contexts: See ``TableFitter.fit``.
        progress: Called with pyramids done and pyramids in all.
    """
    spec = codec.spec
    fitter = TableFitter(codec.components)
    stride = 1 if len(pyramids) <= _FEW else 2
    for index, pyramid in enumerate(pyramids):
        quantise = codec.prepare(pyramid, spec.coded_names)
        for bucket in range(index % stride, BUCKETS, stride):
            width = 256 // BUCKETS
            quality = bucket * width + int(rng.integers(width))
            levels = quantise(quality, spec.coded_names)
            count = partial(count_frame, spec=spec, levels=levels, quality=quality)
            fitter.count(partial(count, parents=True))
            if stride == 1 or index % 4 < 2:
                fitter.count(partial(count, parents=False))
        if progress is not None:
            progress(index + 1, len(pyramids))
    return fitter.fit(pool_contexts=pool_contexts)

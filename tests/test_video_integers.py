"""Any integers to bytes and back, frame after frame, with every coder and through every change."""

from __future__ import annotations

import numpy as np
from core_kit import SPEC, backends, random_coder
from hypothesis import given, settings
from hypothesis import strategies as st
from video_kit import same_integers

from fpcodec.codecs.base import Decoded
from fpcodec.entropy import SymbolReader, SymbolWriter
from fpcodec.video.frame import QualityChange
from fpcodec.video.residuals import LevelState
from fpcodec.video.stream import StreamState

CODER = random_coder(2)
VALUES = (0, 0, 0, 0, 1, -1, 2, -3, 7, 16, -40, 5000, -(1 << 18), 1 << 18)


@st.composite
def levels(draw) -> dict[str, LevelState]:
    """Any integers for some levels, coarsest first."""
    out = {}
    names = draw(st.sets(st.sampled_from(SPEC.coded_names)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share, classes = draw(st.floats(0, 1)), draw(st.booleans())
    for name in reversed(SPEC.coded_names):
        if name not in names:
            continue
        _, height, width = SPEC.shape(name, (96, 64))
        shape = (CODER.components[name], height, width)
        symbols = np.where(rng.random(shape) < share, rng.choice(VALUES, shape), 0)
        plane = rng.integers(0, 4, shape[1:]).astype(np.int32) if classes else None
        out[name] = LevelState.still(symbols.astype(np.int32), plane)
    return out


ratios = st.integers(0, 255)


@given(st.lists(st.tuples(levels(), st.none() | st.integers(0, 255)), min_size=1, max_size=4),
       st.data())  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_integers_to_bytes_to_integers_over_sequences(steps, data):
    first, *rest = steps
    decoded = Decoded(
        2, 100, (120, 80), (96, 64), {x: v.symbols for x, v in first[0].items()},
        {x: v.classes.astype(np.uint8) for x, v in first[0].items() if v.classes is not None},
    )  # fmt: skip
    ends = [StreamState.of_refresh(CODER, decoded, b"refresh") for _ in range(1 + len(backends()))]
    for target, quality in rest:
        change = None
        if quality is not None:
            counts = [4 if level.classes is not None else 1 for level in target.values()]
            change = QualityChange(
                quality,
                tuple(tuple(data.draw(st.lists(ratios, min_size=n, max_size=n))) for n in counts),
            )
        frames = {ends[0].write(target, change, backend)[0] for backend in backends()}
        assert len(frames) == 1
        frame = frames.pop()
        _, ends[0] = ends[0].write(target, change)
        for number, backend in enumerate(backends(), 1):
            ends[number] = ends[number].read(frame, backend=backend)
            assert same_integers(ends[number].decoded(), ends[0].decoded())
            assert ends[number].checksum == ends[0].checksum
        for name, level in target.items():
            np.testing.assert_array_equal(ends[0].levels[name].symbols, level.symbols)


def test_what_is_measured_is_what_is_written():
    """The encoder's meter sees the same passes as the writer."""
    state = StreamState.of_refresh(
        CODER,
        Decoded(2, 0, (9, 9), (96, 64), {"p5": np.zeros((8, 2, 3), np.int32)}),
        b"x",
    )
    target = {"p5": LevelState.still(np.arange(48, dtype=np.int32).reshape(8, 2, 3) % 5, None)}
    for backend in backends():
        writer = SymbolWriter(backend)
        written, tables = state.code(writer, target)
        read, learned = state.code(SymbolReader(writer.finish(), backend), None)
        np.testing.assert_array_equal(read["p5"].symbols, written["p5"].symbols)
        for name in tables:
            np.testing.assert_array_equal(tables[name].table.counts, learned[name].table.counts)

"""The traversal of one level: what the writer coded, the reader reads, whatever the integers."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from core_kit import backends, random_tables
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.codecs.coefficients import (
    LevelCode,
    LevelPlanes,
    code_level,
    group_bounds,
    largest_magnitude,
    table_shapes,
)
from fpcodec.entropy import SymbolMeter, SymbolReader, SymbolWriter, Table
from fpcodec.errors import InvalidField

BACKENDS = backends()
MOST_ESCAPE = (1 << 22) - 1
tables_of = cache(random_tables)


@st.composite
def levels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None, LevelPlanes | None]:
    """Symbols (K, H, W), a step map or none, and a parent's planes or none."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    shape = (draw(st.integers(1, 80)), height, width)
    spread = draw(st.sampled_from([0, 0.3, 2, 60, 5000, 1 << 22]))
    symbols = np.rint(rng.laplace(0, spread, shape) if spread else np.zeros(shape))
    symbols *= rng.random(shape) < draw(st.sampled_from([0.02, 0.5, 1.0]))
    symbols = np.clip(symbols, -MOST_ESCAPE, MOST_ESCAPE).astype(np.int32)
    classes = rng.integers(0, 4, (height, width)) if draw(st.booleans()) else None
    parent = None
    if draw(st.booleans()):
        below = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        parent_classes = rng.integers(0, 4, below) if draw(st.booleans()) else None
        parent = LevelPlanes(rng.integers(0, 9, below).astype(np.int32), parent_classes)
    return symbols, None if classes is None else classes.astype(np.int32), parent


def write(symbols, classes, parent, tables, backend) -> tuple[bytes, LevelCode]:
    writer = SymbolWriter(backend)
    code = code_level(writer, tables, symbols.shape, has_map=classes is not None, parent=parent,
                      symbols=symbols, classes=classes)  # fmt: skip
    return writer.finish(), code


def read(data, shape, has_map, parent, tables, backend) -> LevelCode:
    reader = SymbolReader(data, backend)
    code = code_level(reader, tables, shape, has_map=has_map, parent=parent)
    reader.finish()
    return code


@given(levels(), st.integers(0, 3))
@settings(max_examples=120, deadline=None)
def test_what_is_written_is_read_with_either_coder(level, seed):
    symbols, classes, parent = level
    tables = tables_of(len(symbols), seed)
    written = [write(symbols, classes, parent, tables, backend) for backend in BACKENDS]
    assert len({data for data, _ in written}) == 1
    data, own = written[0]
    for backend in BACKENDS:
        code = read(data, symbols.shape, classes is not None, parent, tables, backend)
        np.testing.assert_array_equal(code.symbols, symbols)
        assert code.symbols.dtype == np.int32
        # Finer levels look at these planes: both sides must hold the same.
        np.testing.assert_array_equal(code.planes.depth, own.planes.depth)
        if classes is None:
            assert code.classes is None
            assert code.planes.classes is None
        else:
            np.testing.assert_array_equal(code.classes, classes)
            np.testing.assert_array_equal(code.planes.classes, own.planes.classes)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize("components", [1, 2, 4, 8, 16, 32, 64, 80, 200])
def test_every_edge_of_the_alphabet_survives(components, backend):
    tables = tables_of(components, 1)
    symbols = np.zeros((components, 3, 5), np.int32)
    for group, (start, stop) in enumerate(group_bounds(components)):
        top = largest_magnitude(group)
        edge = [top, top + 1, top + 2, top + MOST_ESCAPE, 255, 256]
        values = np.array([*edge, *(-x for x in edge), 0, 1, -1])
        symbols[stop - 1] = values.reshape(3, 5)
        symbols[start] = values[::-1].reshape(3, 5)
    data, _ = write(symbols, None, None, tables, backend)
    np.testing.assert_array_equal(
        read(data, symbols.shape, False, None, tables, backend).symbols, symbols
    )


def test_a_magnitude_above_the_largest_escape_is_clipped_to_it():
    tables, backend = tables_of(1, 1), BACKENDS[0]
    symbols = np.array([[[1 << 30, -(1 << 30), 2**31 - 1, -(2**31), 5]]], np.int32)
    data, _ = write(symbols, None, None, tables, backend)
    top = MOST_ESCAPE + largest_magnitude(0)
    found = read(data, (1, 1, 5), False, None, tables, backend).symbols
    assert found.tolist() == [[[top, -top, top, -top, 5]]]


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda x: type(x).__name__)
@pytest.mark.parametrize(("length", "allowed"), [(21, True), (22, False), (23, False)])
def test_an_escape_above_its_limit_is_refused(length, allowed, backend):
    tables, halves = tables_of(1, 1), Table(np.full((1, 2), 1 << 15))
    writer = SymbolWriter(backend)
    # One position of depth 1 whose value is announced as an escape: what no writer makes.
    for table, context, symbol in (
        (tables["depth"], 0, 1),
        (tables["group0"], 3, 2 * largest_magnitude(0) + 1),
        (halves, 0, 1),
        (tables["escape"], 0, length),
        *[(halves, 0, 1)] * length,
    ):
        writer.code(table, np.array([context]), np.array([symbol], np.int32))
    data = writer.finish()
    if allowed:
        code = read(data, (1, 1, 1), False, None, tables, backend)
        assert code.symbols.item() == -MOST_ESCAPE - largest_magnitude(0)
    else:
        with pytest.raises(InvalidField, match="escape"):
            read(data, (1, 1, 1), False, None, tables, backend)


def test_positions_that_are_all_zero_cost_next_to_nothing_after_the_depth():
    tables = tables_of(64, 2)
    blank = np.zeros((64, 8, 8), np.int32)
    one = blank.copy()
    one[0, 3, 3] = 1
    costs = []
    for symbols in (blank, one):
        meter = SymbolMeter()
        code_level(meter, tables, (64, 8, 8), has_map=False, parent=None, symbols=symbols)
        costs.append(meter.symbols)
    assert costs == [64, 65], "64 depths, and one value where the depth is 1"


def test_groups_cover_every_component_once_and_their_tables_have_shapes():
    for components in range(1, 300):
        bounds = group_bounds(components)
        covered = [x for start, stop in bounds for x in range(start, stop)]
        assert covered == list(range(components))
        shapes = table_shapes(components)
        assert shapes["depth"][1] == len(bounds) + 1
        assert {f"group{g}" for g in range(len(bounds))} <= set(shapes)
        assert f"group{len(bounds)}" not in shapes
    assert [stop - start for start, stop in group_bounds(200)] == [1, 1, 2, 4, 8, 16, 32, 64, 64, 8]

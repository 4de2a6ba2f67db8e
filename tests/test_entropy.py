"""The range coder: its Python twin is constriction's to the bit; both are near the ideal length."""

from __future__ import annotations

import numpy as np
import pytest
from core_kit import backends, random_tables, smooth
from hypothesis import given, settings
from hypothesis import strategies as st

from fpcodec.codecs.coefficients import code_level
from fpcodec.entropy import (
    ConstrictionBackend,
    PythonBackend,
    SymbolCounter,
    SymbolMeter,
    SymbolReader,
    SymbolWriter,
    Table,
    default_backend,
    table_from_counts,
)
from fpcodec.errors import InputError, InvalidField

BACKENDS = backends()
both = pytest.mark.skipif(len(BACKENDS) < 2, reason="needs constriction's wheel")
FIXED_WORDS = [
    "0x35a5", "0x2c04b82", "0x2767b500", "0x2e3421", "0x5e65cc56", "0xf98c7c00",
    "0x67d394", "0x66b81c0a", "0xb585f74b", "0x6dcaeba6", "0x3ee81380", "0x325c0",
]  # fmt: skip
backend_names = pytest.mark.parametrize("backend", BACKENDS, ids=lambda x: type(x).__name__)


@st.composite
def passes(draw: st.DrawFn) -> list[tuple[Table, np.ndarray, np.ndarray]]:
    """Passes of symbols with tables of any skew, from flat to one symbol taking nearly all."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    out = []
    for _ in range(draw(st.integers(0, 4))):
        contexts, alphabet = draw(st.integers(1, 5)), draw(st.integers(2, 70))
        shape = draw(st.sampled_from([0.05, 0.5, 50.0]))
        counts = rng.gamma(shape, 1000, (contexts, alphabet)).astype(np.int64)
        size = draw(st.integers(0, 300))
        row = rng.integers(0, contexts, size)
        likely = draw(st.booleans())
        table = table_from_counts(counts, draw(st.sampled_from([0.01, 4.0])))
        symbols = rng.integers(0, alphabet, size)
        if likely:
            symbols = table.counts.argmax(axis=1)[row]
        out.append((table, row, symbols.astype(np.int32)))
    return out


@both
@given(passes())
@settings(max_examples=150, deadline=None)
def test_both_coders_write_the_same_words_and_read_the_same_symbols(coded):
    words = [backend.encode(coded) for backend in BACKENDS]
    np.testing.assert_array_equal(*words)
    for backend in BACKENDS:
        reader = backend.decoder(words[0])
        for table, contexts, symbols in coded:
            np.testing.assert_array_equal(reader.read(table, contexts), symbols)
        assert reader.exhausted()


@both
@given(passes(), st.binary(max_size=96))
@settings(max_examples=300, deadline=None)
def test_both_coders_agree_on_junk(coded, junk):
    words = np.frombuffer(junk[: len(junk) // 4 * 4], "<u4").astype(np.uint32)
    outcomes = []
    for backend in BACKENDS:
        reader, seen = backend.decoder(words), []
        try:
            for table, contexts, _ in coded:
                seen.append(reader.read(table, contexts).tolist())
            seen.append([reader.exhausted()])
        except InvalidField:
            # constriction hands a failing pass back as a whole: only the passes before it count.
            seen.append(["invalid"])
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]


@both
@given(st.binary(max_size=64), st.integers(0, 40))
@settings(max_examples=300, deadline=None)
def test_both_coders_agree_symbol_by_symbol_near_impossible_words(junk, count):
    # Rows in which one symbol takes nearly all leave `range` just above its least: here the
    # quotient reaches 2^24 most often.
    table = Table(np.array([[65535, 1], [1, 65535], [32768, 32768]]))
    data = b"\xff" * (len(junk) % 12) + junk
    words = np.frombuffer(data[: len(data) // 4 * 4], "<u4").astype(np.uint32)
    outcomes = []
    for backend in BACKENDS:
        reader, seen = backend.decoder(words), []
        try:
            for number in range(count):
                seen.append(int(reader.read(table, np.array([number % 3]))[0]))
            seen.append(int(reader.exhausted()))
        except InvalidField:
            seen.append(-1)
        outcomes.append(seen)
    assert outcomes[0] == outcomes[1]


@backend_names
def test_the_words_of_a_fixed_case_never_change(backend):
    table = Table(np.array([[60000, 5000, 500, 36], [1, 2, 3, 65530], [16384] * 4]))
    contexts = np.arange(60) % 3
    symbols = (np.arange(60) ** 2 // 7 % 4).astype(np.int32)
    words = backend.encode([(table, contexts, symbols)])
    assert [hex(word) for word in words.tolist()] == FIXED_WORDS


@backend_names
def test_a_carry_runs_through_the_words_held_back(backend):
    # The last symbol of each row leaves `lower` just under the top, so that words are held back
    # until a later symbol either carries into them or does not.
    table = Table(np.array([[65535, 1], [1, 65535]]))
    for tail in ([0] * 40, [1] * 40, [1, 0] * 20):
        symbols = np.array([1] * 200 + tail, np.int32)
        contexts = np.array([1] * 200 + [number % 2 for number in range(40)])
        words = backend.encode([(table, contexts, symbols)])
        np.testing.assert_array_equal(backend.decoder(words).read(table, contexts), symbols)


@backend_names
def test_a_chunk_of_real_size_is_within_two_percent_of_the_ideal_length(backend):
    tables = random_tables(64, 3)
    rng = np.random.default_rng(0)
    symbols = np.rint(2.5 * smooth(rng, (64, 26, 26)) * (0.93 ** np.arange(64))[:, None, None])
    classes = np.clip(smooth(rng, (1, 26, 26))[0] + 1.5, 0, 3).astype(np.int32)
    counter = SymbolCounter()
    arguments = {"has_map": True, "parent": None, "classes": classes}
    code_level(counter, tables, (64, 26, 26), symbols=symbols.astype(np.int32), **arguments)
    fitted = {
        name: table_from_counts(counter.counts.get(id(table), np.zeros(table.counts.shape)))
        for name, table in tables.items()
    }
    meter, writer = SymbolMeter(), SymbolWriter(backend)
    for coder in (meter, writer):
        code_level(coder, fitted, (64, 26, 26), symbols=symbols.astype(np.int32), **arguments)
    coded = len(writer.finish())
    assert meter.symbols > 10_000
    assert meter.bits / 8 <= coded + 4
    assert coded <= 1.02 * meter.bits / 8


@backend_names
def test_nothing_written_is_no_bytes_and_reads_back(backend):
    writer = SymbolWriter(backend)
    assert writer.finish() == b""
    reader = SymbolReader(b"", backend)
    reader.finish()


@backend_names
def test_bytes_beyond_the_last_symbol_are_refused(backend):
    table, contexts = Table(np.array([[32768, 32768]])), np.zeros(100, np.intp)
    writer = SymbolWriter(backend)
    writer.code(table, contexts, (np.arange(100) % 2).astype(np.int32))
    data = writer.finish()
    reader = SymbolReader(data + b"\x01\x02\x03\x04\x05", backend)
    reader.code(table, contexts, None)
    with pytest.raises(InvalidField, match="beyond"):
        reader.finish()


def test_a_chunk_that_ends_in_zero_is_refused():
    with pytest.raises(InvalidField, match="zero byte"):
        SymbolReader(b"\x01\x00", PythonBackend())


@pytest.mark.parametrize(
    "counts",
    [
        [[65536]],
        [[65535, 0, 1]],
        [[65536, 1]],
        [[32768, 32767]],
        [[-1, 65537]],
        np.zeros((0, 4)),
        [65535, 1],
        [[32768, 32768], [1, 2]],
    ],
)
def test_a_table_that_breaks_the_rules_is_refused(counts):
    with pytest.raises(InputError):
        Table(np.array(counts))


def test_a_table_says_its_sizes_and_costs():
    table = Table(np.array([[32768, 32768], [65535, 1]]))
    assert (table.contexts, table.alphabet) == (2, 2)
    assert table.cost_bits(np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(18)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(2, 300))
@settings(max_examples=60, deadline=None)
def test_any_counts_fit_to_a_valid_table(seed, contexts, alphabet):
    rng = np.random.default_rng(seed)
    seen = rng.integers(0, 10 ** rng.integers(0, 9, (contexts, alphabet)) + 1)
    fitted = table_from_counts(seen)
    assert (fitted.counts.sum(axis=1) == 65536).all()
    assert fitted.counts.min() >= 1


def test_rows_never_seen_lean_on_the_average_row():
    seen = np.array([[9000, 900, 100], [0, 0, 0]])
    fitted = table_from_counts(seen)
    np.testing.assert_allclose(fitted.counts[1] / 65536, seen[0] / 10_000, atol=0.001)


@pytest.mark.parametrize("coder", [SymbolCounter(), SymbolMeter(), SymbolWriter(PythonBackend())])
def test_coders_that_take_symbols_refuse_none(coder):
    with pytest.raises(InputError, match="needs symbols"):
        coder.code(Table(np.array([[1, 65535]])), np.zeros(1, np.intp), None)


def test_the_default_backend_is_the_fastest_installed(monkeypatch):
    import importlib.util

    if len(BACKENDS) == 2:
        assert isinstance(default_backend(), ConstrictionBackend)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(default_backend(), PythonBackend)

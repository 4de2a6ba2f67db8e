"""The benchmark of entropy coders: all get the symbols of real frames and give them back."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from core_kit import kit_profile, make_pyramid

from fpcodec.bitstream import read_frame
from fpcodec.codecs.base import Limits
from fpcodec.entropy import PythonBackend
from fpcodec.errors import InputError, MissingDependency


@pytest.fixture(scope="module")
def benchmark_folder(repository: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield repository / "benchmarks"


@pytest.fixture(scope="module")
def coders(benchmark_folder: Path) -> ModuleType:
    return importlib.import_module("symbol_coders")


@pytest.fixture(scope="module")
def measuring(benchmark_folder: Path) -> ModuleType:
    return importlib.import_module("entropy_peers")


def test_recorded_symbols_are_those_of_the_frame(coders: ModuleType) -> None:
    codec = kit_profile("pca").codec
    pyramid = make_pyramid(83)
    coder = coders.range_coder()
    chunks = coders.chunk_symbols(codec, pyramid, 0.5)
    frame = read_frame(codec.encode(pyramid, 0.5), Limits())
    assert [coder.encode(chunk) for chunk in chunks] == [chunk.data for chunk in frame.chunks]


def test_joint_rows_give_every_symbol_the_probability_of_its_table(coders: ModuleType) -> None:
    for chunk in coders.chunk_symbols(kit_profile("pca").codec, make_pyramid(84), 0.8):
        lengths, rows, indexes = chunk.joint
        assert lengths == [len(row) for row in rows]
        expected = np.concatenate([t.counts[c, s] for t, c, s in chunk.passes])
        found = [rows[i][s + 1] - rows[i][s] for i, s in zip(indexes, chunk.symbols, strict=True)]
        np.testing.assert_array_equal(found, expected)


def test_peers_give_back_what_they_were_given(coders: ModuleType, measuring: ModuleType) -> None:
    chunks = coders.chunk_symbols(kit_profile("pca").codec, make_pyramid(85), 0.5)
    found = [coders.range_coder(), coders.range_coder(PythonBackend())]
    found[1] = replace(found[1], name="twin")
    if importlib.util.find_spec("compressai") is not None:
        found.append(coders.rans())
    if importlib.util.find_spec("zstandard") is not None:
        found.append(coders.zstd(3, "planes", lambda chunk: chunk.planes))
    measured = measuring.measure_frame(found, chunks, 1)
    sizes = {name: size for name, (size, _, _) in measured.items()}
    assert len(sizes) == len(found)
    assert sizes["twin"] == sizes["range coder"]
    assert 0 < sizes["range coder"] <= measuring.ideal_bytes(chunks) + 8 * len(chunks)


def test_a_coder_that_loses_symbols_is_not_compared(
    coders: ModuleType, measuring: ModuleType
) -> None:
    chunks = coders.chunk_symbols(kit_profile("pca").codec, make_pyramid(86), 0.5)
    lossy = replace(coders.range_coder(), decode=lambda data, chunk: chunk.symbols + 1)
    with pytest.raises(InputError, match="does not give back"):
        measuring.measure_frame([lossy], chunks, 1)


@pytest.mark.parametrize("missing", ["compressai", "zstandard"])
def test_a_peer_that_is_not_installed_is_named_with_its_remedy(
    coders: ModuleType, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setitem(sys.modules, "compressai.ans", None)
    with pytest.raises(MissingDependency, match="pip install"):
        coders.rans() if missing == "compressai" else coders.zstd(3, "x", lambda chunk: b"")


def test_ratios_are_medians_of_the_frames_own(measuring: ModuleType) -> None:
    ours = measuring.Measured([100, 300], [1.0, 4.0], [2.0, 2.0])
    other = measuring.Measured([200, 400], [3.0, 4.0], [1.0, 1.0])
    row = measuring.summarise({"range coder": ours, "other": other})[1]
    assert row["bytes_ratio"] == 1.5
    assert row["encode_time_ratio"] == 2.0
    assert row["decode_time_ratio"] == 0.5

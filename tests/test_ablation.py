"""The benchmarks' variants of ``pca`` write real frames, and what is left out is left out."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from core_kit import FakeDetector, kit_profile, make_pyramid

from fpcodec.bitstream import read_frame
from fpcodec.codecs.base import Limits
from fpcodec.codecs.chunks import order_levels
from fpcodec.codecs.coefficients import group_bounds
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import ResultRow, Spread
from fpcodec.evaluation.runner import Evaluation
from fpcodec.profile import Profile

NAMES = (
    "full", "no step map", "true response", "no contexts", "no parents", "no end of block"
)  # fmt: skip


@pytest.fixture(scope="module")
def benchmark_folder(repository: Path) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield repository / "benchmarks"


@pytest.fixture(scope="module")
def variants(benchmark_folder: Path) -> ModuleType:
    return importlib.import_module("pca_variants")


@pytest.fixture(scope="module")
def coders(benchmark_folder: Path) -> ModuleType:
    return importlib.import_module("symbol_coders")


@cache
def fitted(variants: ModuleType, name: str) -> Profile:
    variant = next(x for x in variants.VARIANTS if x.name == name)
    return variant.fit(kit_profile("pca"), FakeDetector(), [make_pyramid(i) for i in range(6)])


def test_every_variant_is_known(variants: ModuleType) -> None:
    assert tuple(x.name for x in variants.VARIANTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("quality", [0.3, 0.9])
def test_variants_write_frames_that_the_ordinary_codec_reads(
    variants: ModuleType, name: str, quality: float
) -> None:
    codec: Any = fitted(variants, name).codec
    pyramid = make_pyramid(77)
    wire = round(quality * 255)
    sent = codec.quantise(pyramid, wire, codec.spec.coded_names)
    decoder = type(kit_profile("pca").codec)(codec.spec, codec.tensors, codec.recoverer)
    decoded = decoder.decode(codec.encode(pyramid, quality))
    for level, values in decoded.symbols.items():
        expected = sent[level].symbols
        np.testing.assert_array_equal(values[: len(expected)], expected)
        assert not values[len(expected) :].any()
        if sent[level].classes is not None:
            np.testing.assert_array_equal(decoded.step_maps[level], sent[level].classes)


def test_no_variant_changes_the_basis(variants: ModuleType) -> None:
    full = kit_profile("pca").codec.tensors
    for name in NAMES:
        tensors = fitted(variants, name).codec.tensors
        for key in ("p3.basis", "p3.mean", "p5.basis"):
            np.testing.assert_array_equal(tensors[key], full[key])


def test_pooled_tables_carry_nothing_in_their_contexts(
    variants: ModuleType, coders: ModuleType
) -> None:
    codec = fitted(variants, "no contexts").codec
    rng = np.random.default_rng(3)
    seen = 0
    for chunk in coders.chunk_symbols(codec, make_pyramid(78), 0.7):
        for table, contexts, symbols in chunk.passes:
            other = rng.integers(0, table.contexts, len(contexts))
            assert table.cost_bits(contexts, symbols) == table.cost_bits(other, symbols)
            seen += len(symbols)
    assert seen > 100


def test_without_a_step_map_none_is_sent(variants: ModuleType) -> None:
    codec = fitted(variants, "no step map").codec
    frame = read_frame(codec.encode(make_pyramid(79), 0.6), Limits())
    assert frame.chunks
    assert not any(chunk.has_map for chunk in frame.chunks)


def test_without_parents_a_level_is_coded_the_same_with_and_without_the_others(
    variants: ModuleType,
) -> None:
    codec = fitted(variants, "no parents").codec
    together = read_frame(codec.encode(make_pyramid(80), 0.6), Limits())
    alone = read_frame(codec.encode(make_pyramid(80), 0.6, ["p3"]), Limits())
    assert not any(chunk.has_parent for chunk in together.chunks)
    assert together.chunks[-1].data == alone.chunks[-1].data


def test_without_end_of_block_every_value_is_a_symbol(
    variants: ModuleType, coders: ModuleType
) -> None:
    codec: Any = fitted(variants, "no end of block").codec
    pyramid = make_pyramid(81)
    chunks = coders.chunk_symbols(codec, pyramid, 0.4)
    for name, chunk in zip(order_levels(codec.spec, codec.components), chunks, strict=True):
        count, height, width = chunk.level.symbols.shape
        assert count == codec.components[name]
        # Map, depth and values; escapes come on top.
        assert len(chunk.symbols) >= (count + 2) * height * width
        assert (chunk.level.depth == len(group_bounds(count))).all()


def test_the_true_response_decides_its_map(variants: ModuleType) -> None:
    codec: Any = fitted(variants, "true response").codec
    pyramid = make_pyramid(82)
    peaks = variants.response_peaks(FakeDetector(), pyramid)
    found = codec.quantise(pyramid, 160, codec.spec.coded_names)
    for name, peak in peaks.items():
        expected = (peak[..., None] > codec.tensors["thresholds"][160]).sum(axis=-1)
        np.testing.assert_array_equal(found[name].classes, expected)


def test_only_pca_has_variants(variants: ModuleType) -> None:
    with pytest.raises(InputError, match="calibrate one of pca"):
        variants.VARIANTS[0].fit(kit_profile("uniform"), FakeDetector(), [make_pyramid(1)])


def evaluation(sizes: dict[str, list[float]], draws: int = 200) -> Evaluation:
    """Rows of variants that lose 3, 1.5 and 0.3 points at the given bytes, and noisy draws."""
    rng = np.random.default_rng(1)
    environment = Environment("none", None, {}, "none", 1)
    noise = rng.normal(0, 0.05, draws)
    rows, drawn = [], {}
    for variant, three in sizes.items():
        for size, drop in zip(three, (3.0, 1.5, 0.3), strict=True):
            name = f"{variant} {size:g}"
            rows.append(ResultRow(
                name, "features", {"profile": variant}, "photos", 50, 0, {"ap": 20.0},
                Interval(drop, drop - 1, drop + 1, draws), Spread(size, size, size), {}, {}, 1.0,
                1.0, environment,
            ))  # fmt: skip
            drawn[name] = drop + noise
    return Evaluation(tuple(rows), {}, drawn)


def test_the_summary_compares_every_variant_with_the_full_codec(
    benchmark_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ablation = importlib.import_module("ablation")
    summary = ablation.summarise(
        evaluation({"full": [1000, 2000, 8000], "no contexts": [1500, 3000, 12000],
                    "no parents": [900, 901, 902]})
    )  # fmt: skip
    by_name = {entry["variant"]: entry for entry in summary}
    assert by_name["full"]["ratio_at_drop"]["ratio"] == 1
    half_more = by_name["no contexts"]
    assert half_more["ratio_at_drop"]["ratio"] == pytest.approx(1.5)
    assert half_more["ratio_at_drop"]["low"] == pytest.approx(1.5)
    assert half_more["bd_rate"]["percent"] == pytest.approx(50)
    assert 2000 < by_name["full"]["bytes_at_drop"]["bytes"] < 8000
    ablation.print_summary(summary)
    assert "no contexts" in capsys.readouterr().out


def test_what_cannot_be_compared_says_why(
    benchmark_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ablation = importlib.import_module("ablation")
    monkeypatch.setattr(ablation, "DROP", 5.0)
    entry = ablation.summarise(evaluation({"full": [1000, 2000, 8000]}))[0]
    assert "both sides" in entry["ratio_at_drop"]["unknown"]
    assert entry["bytes_at_drop"]["bytes"] is None
    ablation.print_summary([entry])

"""The benchmark of a codec's costs: what is timed, what is divided by what, and its tables."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from core_kit import NETWORK, FakeDetector, golden_learned, kit_profile, write_images

from fpcodec.errors import InputError
from fpcodec.images import load_image
from fpcodec.profile import Profile


class CountedDetector(FakeDetector):
    """Knows what its head costs."""

    server_macs = 100


@pytest.fixture(scope="module")
def costs(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("codec_costs")


@pytest.fixture(scope="module")
def tables(costs: Any) -> ModuleType:
    return importlib.import_module("codec_costs_table")


@pytest.fixture
def without_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles of the kit open a detector of numpy alone."""
    monkeypatch.setattr(
        Profile, "open_detector", lambda profile, *_, **__: CountedDetector(profile.spec, NETWORK)
    )


@pytest.fixture
def rows(costs: Any, without_model: None, tmp_path: Path, monkeypatch: Any) -> list[Any]:
    write_images(tmp_path / "images", 3)
    command = ["codec_costs.py", "--images", str(tmp_path / "images"), "--limit", "2",
               "--rounds", "2", "--quality", "0.3", "--quality", "0.9",
               "--profile", str(golden_learned().path), "--profile", str(kit_profile("pca").path),
               "--network-size", "96x64", "--out", str(tmp_path / "costs.json")]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    costs.main()
    found: list[Any] = json.loads((tmp_path / "costs.json").read_text())
    return found


def test_every_profile_and_quality_is_a_row_with_its_provenance(rows: list[Any]) -> None:
    assert [(row["codec"], row["quality"]) for row in rows] == [
        ("learned", 0.3), ("learned", 0.9), ("pca", 0.3), ("pca", 0.9)
    ]  # fmt: skip
    for row in rows:
        assert row["images"] == row["rounds"] == 2
        assert row["network_size"] == list(NETWORK)
        assert row["environment"]["threads"] == 1
        assert row["proposals"] is None
        assert row["macs"]["server_head"] == 100
        share = row["macs"]["edge_analysis"] / row["macs"]["edge_network"]
        assert row["macs"]["edge_analysis_share"] == pytest.approx(share)
    assert rows[0]["mean_bytes"] < rows[1]["mean_bytes"]


def test_ratios_are_taken_within_a_turn(costs: Any) -> None:
    turns = [
        {"extract": 10.0 * x, "analyse": 1.0 * x, "quantise": 0.5 * x, "code": 0.5 * x,
         "decode": 1.0 * x, "reconstruct": 2.0 * x, "head": 2.0 * x, "picture decode": 1.0 * x,
         "picture detect": 9.0 * x}
        for x in (1.0, 3.0, 50.0)
    ]  # fmt: skip
    found = costs.timings(turns)
    # The machine slowed down fifty-fold, and no ratio knows of it.
    for key, value in (("edge_codec_share_of_extract", 0.2), ("server_split_over_picture", 2.0)):
        assert found[key] == pytest.approx({"median": value, "p5": value, "p95": value})
    assert found["server_split_images_per_s"]["median"] == pytest.approx(1000 / 15)
    assert found["server_picture_images_per_s"]["median"] == pytest.approx(1000 / 30)
    assert found["cpu_ms"]["extract"]["median"] == 30


def test_the_rivals_picture_is_never_larger_than_the_image(
    costs: Any, without_model: None, tmp_path: Path
) -> None:
    from fpcodec.evaluation.rivals.pictures import decode_picture

    image = load_image(write_images(tmp_path, 1)[0])
    bench = costs.Bench.open(kit_profile("pca"), 0.5)
    assert decode_picture(bench.picture(image)).shape == (NETWORK[1], NETWORK[0], 3)
    small = image[:20, :30]
    assert decode_picture(bench.picture(small)).shape == small.shape


def test_only_pictures_of_the_asked_network_size_are_taken(costs: Any, tmp_path: Path) -> None:
    paths = write_images(tmp_path, 3)
    detector = FakeDetector()
    assert costs.chosen_images(tmp_path, 2, detector, "96x64") == paths[:2]
    assert costs.chosen_images(tmp_path, 3, detector, "") == paths
    with pytest.raises(InputError, match="0 pictures of 1 fit"):
        costs.chosen_images(tmp_path, 1, detector, "64x64")


def test_regions_of_a_second_stage_are_counted(costs: Any) -> None:
    torch = pytest.importorskip("torch", reason="needs the torch extra")

    class Regions(torch.nn.Module):  # type: ignore[misc, name-defined]
        def forward(self, features: Any) -> Any:
            return [torch.zeros(7, 4)], {}

    class TwoStage:
        def __init__(self) -> None:
            self.model = torch.nn.Module()
            self.model.rpn = Regions()

        def detect(self, pyramid: Any) -> None:
            self.model.rpn(pyramid)

    detector = TwoStage()
    assert costs.proposals(detector, None) == 7
    assert not detector.model.rpn._forward_hooks
    assert costs.proposals(FakeDetector(), None) is None


def test_an_untrained_profile_is_made_once(
    costs: Any, without_model: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="needs the torch extra")
    pytest.importorskip("onnx", reason="needs the torch extra")
    from fpcodec.detectors import factory

    monkeypatch.setattr(factory, "open_detector", lambda *_, **__: CountedDetector())
    paths = write_images(tmp_path / "images", 4)
    made = costs.untrained_profile("any", paths, tmp_path / "made")
    assert made.codec.codec_id == 3
    found = Profile.load(tmp_path / "made")
    assert found.stream_id == made.stream_id
    graph = tmp_path / "made" / "analysis.onnx"
    written = graph.stat().st_mtime_ns
    costs.untrained_profile("any", paths, tmp_path / "made")
    assert graph.stat().st_mtime_ns == written
    bench = costs.Bench.open(found, 0.5)
    pyramid = bench.detector.extract(load_image(paths[0]))
    assert costs.macs(bench, pyramid)["edge_analysis"] > 0


def test_tables_show_every_row(rows: list[Any], tables: Any, tmp_path: Path) -> None:
    text = tables.codec_costs([tmp_path / "costs.json", tmp_path / "absent.json"])
    for name in (golden_learned().name, kit_profile("pca").name):
        assert text.count(f"\n| {name}, ") == 4
    assert text.count("codec_costs.py --images") == 1
    found = {"trained": False, "detector": "torchvision:retinanet?weights=none", "codec": "learned"}
    assert tables.title(found) == "retinanet, learned, untrained"
    assert tables.spread({"median": 0.25, "p5": 0.2, "p95": 0.31}) == "0.250 [0.200, 0.310]"

"""ODAM's maps of all detections as one importance, in a codec's step map and in training."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from core_kit import FakeDetector, kit_profile, make_pyramid  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from training_kit import run_training, write_images  # noqa: E402
from training_kit import settings as short  # noqa: E402

from fpcodec.calibration.schedule import quality_schedule  # noqa: E402
from fpcodec.codecs.base import Limits  # noqa: E402
from fpcodec.data import generate_scene  # noqa: E402
from fpcodec.detectors.factory import open_detector  # noqa: E402
from fpcodec.errors import InputError  # noqa: E402
from fpcodec.explain.importance import magnitude_map, odam_importance  # noqa: E402
from fpcodec.explain.odam import ATTRIBUTES, gradients, odam_map  # noqa: E402
from fpcodec.explain.predictions import Predictions, open_predictor  # noqa: E402
from fpcodec.pyramid import ImageGeometry, LevelSpec, PyramidSpec, derive  # noqa: E402
from fpcodec.training.heads import HeadAnswer  # noqa: E402
from fpcodec.training.losses import feature_loss  # noqa: E402
from fpcodec.training.objective import Objective  # noqa: E402

SIZES = {"p3": (3, 8, 8), "p4": (3, 4, 4)}


def linear(seed: int, count: int, scores: list[float] | None = None) -> Predictions:
    """Detections whose scores are weighted sums of their own corner of one level's features."""
    rng = np.random.default_rng(seed)
    spec = PyramidSpec((LevelSpec("p3", 8, 3), LevelSpec("p4", 16, 3)))
    geometry = ImageGeometry((64, 64), (64, 64), (64, 64))
    leaves = {
        name: torch.from_numpy(rng.normal(size=(1, *size)).astype(np.float32)).requires_grad_()
        for name, size in SIZES.items()
    }
    found = []
    for index in range(count):
        weight = np.zeros(SIZES["p3"], np.float32)
        place = slice(2 * index, 2 * index + 2)
        weight[:, place, place] = rng.normal(size=(3, 2, 2))
        value = (torch.from_numpy(weight) * leaves["p3"][0]).sum()
        # The gradient is the weight, whatever the score itself is said to be.
        found.append(value - value.detach() + (scores[index] if scores else 0.5))
    score = torch.stack(found) if found else torch.zeros(0)
    return Predictions(
        score[:, None] * torch.tensor([1.0, 2, 3, 4]), score, torch.zeros(count, dtype=torch.int64),
        leaves, spec, geometry,
    )  # fmt: skip


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.integers(0, 4), st.sampled_from([odam_map, magnitude_map]))
def test_importance_covers_the_detections_and_nothing_else(seed, count, rule) -> None:
    found = odam_importance(linear(seed, count), rule=rule)
    assert {name: x.shape for name, x in found.items()} == {
        name: size[1:] for name, size in SIZES.items()
    }
    touched = np.zeros((8, 8), bool)
    for index in range(count):
        touched[2 * index : 2 * index + 2, 2 * index : 2 * index + 2] = True
    for values in found.values():
        assert values.dtype == np.float32
        assert (values >= 0).all()
        assert np.isfinite(values).all()
    assert not found["p3"][~touched].any()
    assert not found["p4"].any()
    if rule is magnitude_map:
        assert (found["p3"][touched] > 0).all()


def test_each_detection_peaks_at_its_score_and_the_best_are_kept() -> None:
    predictions = linear(1, 3, [0.9, 0.5, 0.2])
    found = odam_importance(predictions, rule=magnitude_map)["p3"]
    peaks = [found[2 * i : 2 * i + 2, 2 * i : 2 * i + 2].max() for i in range(3)]
    np.testing.assert_allclose(peaks, [0.9, 0.5, 0.2], rtol=1e-6)
    one = odam_importance(predictions, rule=magnitude_map, limit=1)["p3"]
    np.testing.assert_array_equal(one[:2, :2], found[:2, :2])
    assert not one[2:].any()
    assert not odam_importance(predictions, limit=0)["p3"].any()


def test_importance_is_the_sum_of_single_maps() -> None:
    detector = open_detector("tiny", threads=1)
    pyramid = detector.extract(np.ascontiguousarray(generate_scene(3).image[:160, :160]))
    predictions = open_predictor(detector)(derive(pyramid))
    assert len(predictions) > 1
    with torch.no_grad():  # as training asks for it
        found = odam_importance(predictions)
    expected = {name: np.zeros_like(x) for name, x in found.items()}
    for index in range(len(predictions)):
        maps = {
            name: odam_map(x, predictions.levels[name].detach().numpy()[0])
            for name, x in gradients(predictions, index, "score").items()
        }
        largest = max(x.max() for x in maps.values())
        for name, x in maps.items():
            expected[name] += predictions.scores[index].item() * x / (largest or 1)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=1e-6)
    both = odam_importance(predictions, attributes=ATTRIBUTES, limit=2)
    alone = odam_importance(predictions, limit=2)
    assert all((both[name] >= alone[name] - 1e-6).all() for name in both)


def test_bad_requests_are_named() -> None:
    with pytest.raises(InputError, match="width"):
        odam_importance(linear(0, 1), attributes=["width"])
    with pytest.raises(InputError, match="below 0"):
        odam_importance(linear(0, 1), limit=-1)


@pytest.fixture(scope="module")
def maps(repository: Path) -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("importance_maps")


def test_a_step_map_follows_the_maps_it_is_given(maps: ModuleType) -> None:
    like: Any = kit_profile("pca").codec
    variants = importlib.import_module("pca_variants")
    follow = maps.Remembered(variants.response_of(FakeDetector()))
    pyramids = [make_pyramid(i) for i in range(12)]
    tensors = {**like.tensors, "thresholds": maps.matched_thresholds(follow, pyramids)}
    codec = variants.FollowsMaps(follow, tensors, like)
    _, shares = quality_schedule()
    fine = np.concatenate([
        codec.quantise(x, 120, codec.spec.coded_names)[name].classes.ravel() > 0
        for x in pyramids for name in codec.spec.coded_names
    ])  # fmt: skip
    assert fine.mean() == pytest.approx(shares[120, 0], abs=0.03)
    frame = codec.encode(pyramids[0], 0.5)
    decoded = like.decode(frame, Limits())  # an ordinary decoder reads it
    wanted = codec.quantise(pyramids[0], decoded.quality, codec.spec.coded_names)
    for name, level in wanted.items():
        np.testing.assert_array_equal(decoded.step_maps[name], level.classes)


class Twice:
    """A weight that is not the head's."""

    name = "twice"

    def __call__(self, levels: Any) -> Any:
        """Twos on the left half, nothing on the right."""
        out = {name: torch.full_like(x[:, :1], 2.0) for name, x in levels.items()}
        for values in out.values():
            values[..., values.shape[-1] // 2 :] = 0
        return out


def test_training_weighs_features_as_it_is_told() -> None:
    def head(levels: Any, teacher: Any = None) -> HeadAnswer:
        return HeadAnswer({name: x[:, :2].sigmoid() for name, x in levels.items()}, {})

    random = torch.Generator().manual_seed(0)
    original, decoded = ({"p3": torch.randn(2, 3, 4, 4, generator=random)} for _ in range(2))
    scale = {"p3": torch.ones(1, 3, 1, 1)}
    config = replace(short(), loss="frs-features")
    told = Objective(config, head, scale, Twice())(original, decoded)
    left = {"p3": torch.ones(2, 1, 4, 4)}
    left["p3"][..., 2:] = 0
    torch.testing.assert_close(told.total, feature_loss(original, decoded, left, scale))
    plain = Objective(config, head, scale)(original, decoded)
    assert not torch.allclose(told.total, plain.total)
    # What the step map is told stays the head's response.
    torch.testing.assert_close(told.response, plain.response)


def test_plain_squared_error_has_no_weight(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", 6)
    with pytest.raises(InputError, match="frs-features"):
        run_training(tmp_path, images, short(), importance=Twice())


def test_comparisons_follow_from_the_committed_rows(repository: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        benchmark = importlib.import_module("importance")
        table = importlib.import_module("importance_table")
    folder = repository / "benchmarks" / "results" / "importance" / "quantisation"
    for name in ("rows.json", "draws.npz", "summary.json"):
        shutil.copy(folder / name, tmp_path / name)
    benchmark.sum_up(tmp_path)
    found, committed = (json.loads((x / "summary.json").read_text()) for x in (tmp_path, folder))
    assert [x["weight"] for x in found["weights"]] == [x["weight"] for x in committed["weights"]]
    for new, old in zip(found["weights"], committed["weights"], strict=True):
        for anchor, beside in old["beside"].items():
            mine = new["beside"][anchor]["bd_rate"]["percent"]
            assert mine == pytest.approx(beside["bd_rate"]["percent"], abs=1e-6)
    text = table.importance(tmp_path)
    assert "| ODAM |" in text
    assert table.importance(tmp_path / "none") == "Not measured yet."

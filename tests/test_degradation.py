"""The degradation study: resampling, scopes, running and resuming, key levels, heat maps."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from core_kit import IMAGE, FakeDetector, kit_profile, make_pyramid, write_images
from PIL import Image as PillowImage
from typer.testing import CliRunner

from fpcodec.cli.sweep import sweep as sweep_command
from fpcodec.data import SceneConfig, generate_scene, write_coco
from fpcodec.data.coco import CocoBox, CocoCategory, CocoDataset, CocoImage
from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.levels import degradation
from fpcodec.evaluation.levels.degradation import (
    Degradation,
    DegradedPyramids,
    affordable_pairs,
    clamped_levels,
    detect_cell,
    parse_ratios,
    require_scope,
    study,
)
from fpcodec.evaluation.levels.detector_source import DetectorSource
from fpcodec.evaluation.levels.heat_maps import (
    combinations_grid,
    draw_heat_maps,
    pairs_grid,
    singles_grid,
)
from fpcodec.evaluation.levels.reading import (
    LevelLosses,
    direction_sentences,
    key_level_table,
    read_direction,
)
from fpcodec.evaluation.levels.resampling import degrade
from fpcodec.evaluation.levels.sweep import SHARD_IMAGES, Sweep, run_sweep
from fpcodec.evaluation.levels.sweep_result import losses_of, with_key_levels
from fpcodec.evaluation.scoring import Bootstrap
from fpcodec.executor import open_executor
from fpcodec.profile import Profile, embedded_profile_path
from fpcodec.pyramid import LevelSpec, Pyramid, PyramidSpec

needs_coco_eval = pytest.mark.skipif(
    find_spec("faster_coco_eval") is None, reason="needs fpcodec[bench]"
)

FPN = PyramidSpec(
    (
        LevelSpec("p2", 4, 2), LevelSpec("p3", 8, 2), LevelSpec("p4", 16, 2),
        LevelSpec("p5", 32, 2), LevelSpec("p6", 64, 2, derived_from="p5"),
    ),
    64,
)  # fmt: skip
SIZES = [(25, 13), (16, 16), (5, 5), (1, 1)]
RATIOS = [2.0, 3.0, 4.0, 8.0, 16.0, 2.5]


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(size[0]).normal(0, 3, (4, *size)).astype(np.float32)


# Resampling


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ratio", RATIOS)
def test_seed_resampling_is_torchs_bilinear_down_and_up(
    size: tuple[int, int], ratio: float
) -> None:
    torch = pytest.importorskip("torch")
    values = noise(size)
    small = tuple(max(1, int(side // ratio)) for side in size)
    resize = torch.nn.functional.interpolate
    down = resize(torch.from_numpy(values)[None], small, mode="bilinear", align_corners=False)
    wanted = resize(down, size, mode="bilinear", align_corners=False)[0].numpy()
    # torch places its samples in float32.
    np.testing.assert_allclose(degrade(values, ratio), wanted, atol=1e-4)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ratio", RATIOS)
def test_area_resampling_is_average_pooling_down_and_bilinear_up(
    size: tuple[int, int], ratio: float
) -> None:
    torch = pytest.importorskip("torch")
    values = noise(size)
    small = tuple(max(1, int(side // ratio)) for side in size)
    down = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values)[None], small)
    wanted = torch.nn.functional.interpolate(down, size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(degrade(values, ratio, "area"), wanted[0].numpy(), atol=1e-4)


def test_the_seeds_ratio_of_four_looks_at_the_middle_of_a_block_and_area_at_all_of_it() -> None:
    values = np.zeros((1, 16, 16), np.float32)
    values[0, 0, 0] = 16
    assert not degrade(values, 4).any()
    assert degrade(values, 4, "area").max() == 1


@pytest.mark.parametrize("resample", ["seed", "area"])
@pytest.mark.parametrize("ratio", [1.0, *RATIOS])
def test_a_constant_level_survives_every_ratio(resample: str, ratio: float) -> None:
    values = np.full((2, 25, 13), 1.5, np.float32)
    np.testing.assert_allclose(degrade(values, ratio, resample), values, rtol=1e-6)


def test_ones_leave_the_pyramid_as_it_is_to_the_bit() -> None:
    degraded = DegradedPyramids.of(make_pyramid(1))
    untouched = degraded.pyramid(Degradation((1, 1, 1, 1)))
    for name, values in degraded.original.levels.items():
        assert np.array_equal(untouched.levels[name], values)


def test_a_derived_level_does_not_follow_its_source() -> None:
    degraded = DegradedPyramids.of(make_pyramid(1))
    source_alone = degraded.pyramid(Degradation((1, 1, 2, 1))).levels
    derived_alone = degraded.pyramid(Degradation((1, 1, 1, 2))).levels
    original = degraded.original.levels
    assert not np.array_equal(source_alone["p5"], original["p5"])
    assert np.array_equal(source_alone["p6"], original["p6"])
    assert np.array_equal(derived_alone["p5"], original["p5"])
    assert not np.array_equal(derived_alone["p6"], original["p6"])


# Cells


@pytest.mark.parametrize(("pairs", "count"), [("none", 21), ("equal", 61), ("all", 181)])
def test_the_study_has_every_level_and_every_pair_once(pairs: str, count: int) -> None:
    cells = study(FPN, pairs=pairs)
    assert len({cell.key for cell in cells}) == len(cells) == count
    assert cells[0].is_reference
    assert max(len(cell.degraded_levels(FPN)) for cell in cells) == (1 if pairs == "none" else 2)


def test_pairs_are_combined_only_while_that_is_affordable() -> None:
    most = degradation.MOST_HEAD_RUNS // 181
    assert affordable_pairs(FPN, degradation.DEFAULT_RATIOS, most) == "all"
    assert affordable_pairs(FPN, degradation.DEFAULT_RATIOS, most + 1) == "equal"


def test_keys_are_canonical() -> None:
    assert Degradation((1, 1.0, 4, 1, 1), "rpn").key == "1,1,4,1,1 rpn seed"
    assert Degradation((2.5, 1), "all", "area").key == "2.5,1 all area"


@pytest.mark.parametrize("ratios", [(1, 1, 1, 1), (1, 1, 1, 1, 1, 4)])
def test_a_ratio_set_has_exactly_one_ratio_per_level(ratios: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=rf"has {len(ratios)} ratios, this pyramid has 5 levels"):
        Degradation(ratios).require_levels(FPN)


@pytest.mark.parametrize("text", ["1,2,x", "", "1,,2", "0.5,1", "nan", "inf,1", "-2"])
def test_ratios_are_numbers_of_at_least_one(text: str) -> None:
    with pytest.raises(InputError, match="ratio"):
        parse_ratios(text)


def test_unknown_scope_resampling_and_pairs_are_refused() -> None:
    with pytest.raises(InputError, match="scope 'roi'"):
        Degradation((1, 2), "roi")
    with pytest.raises(InputError, match="resampling 'lanczos'"):
        Degradation((1, 2), "all", "lanczos")
    with pytest.raises(InputError, match="pairs 'some'"):
        study(FPN, pairs="some")


def test_levels_that_a_ratio_cannot_shrink_so_far_are_named() -> None:
    cells = study(FPN, (1, 8, 16), pairs="none")
    clamped = clamped_levels(FPN, cells, [(320, 320), (640, 640)])
    assert clamped["1,1,1,16,1 all seed"] == ("p5",)
    assert clamped["1,1,1,8,1 all seed"] == ()
    assert clamped["1,1,1,1,8 all seed"] == ("p6",)
    assert clamped["16,1,1,1,1 all seed"] == ()


# Scopes


class Recorder(FakeDetector):
    """Notes what each part of the head saw."""

    def detect(self, pyramid: Pyramid, rpn_pyramid: Pyramid | None = None) -> Detections:
        self.roi, self.rpn = pyramid, rpn_pyramid
        return super().detect(pyramid)


def test_scope_rpn_leaves_the_roi_heads_the_original_and_scope_all_does_not() -> None:
    detector, degraded = Recorder(), DegradedPyramids.of(make_pyramid(2))
    detect_cell(detector, degraded, Degradation((4, 1, 1, 1), "rpn"))
    assert detector.rpn is not None
    assert np.array_equal(detector.roi.levels["p3"], degraded.original.levels["p3"])
    assert not np.array_equal(detector.rpn.levels["p3"], degraded.original.levels["p3"])
    detect_cell(detector, degraded, Degradation((4, 1, 1, 1), "all"))
    assert detector.rpn is None
    assert not np.array_equal(detector.roi.levels["p3"], degraded.original.levels["p3"])


def test_a_detector_of_one_graph_has_no_scope_rpn() -> None:
    require_scope(FakeDetector(), "all")
    with pytest.raises(InputError, match=r"tiny\?runtime=torch"):
        require_scope(FakeDetector(), "rpn")


def test_tiny_in_torch_finds_what_its_graphs_find_and_can_run_its_rpn_apart() -> None:
    pytest.importorskip("torchvision")
    in_torch = DetectorSource(None, "tiny?runtime=torch").open()
    graphs = DetectorSource(embedded_profile_path()).open()
    require_scope(in_torch, "rpn")
    image = generate_scene(300).image
    degraded = DegradedPyramids.of(in_torch.extract(image))
    unsplit = graphs.detect(graphs.extract(image))
    blind = (16.0, 16.0, 16.0, 16.0, 16.0)
    found = {
        (scope, ratios): detect_cell(in_torch, degraded, Degradation(ratios, scope))
        for scope in ("all", "rpn") for ratios in ((1.0,) * 5, blind)
    }  # fmt: skip
    for scope in ("all", "rpn"):
        same = found[scope, (1.0,) * 5]
        assert np.array_equal(same.labels, unsplit.labels)
        np.testing.assert_allclose(same.boxes, unsplit.boxes, atol=0.03)
        np.testing.assert_allclose(same.scores, unsplit.scores, atol=1e-3)
    # RoI heads that still see everything lose less than those that see nothing.
    assert found["all", blind].scores.sum() < found["rpn", blind].scores.sum()
    assert found["rpn", blind].scores.sum() < unsplit.scores.sum()


# Running


@dataclass(frozen=True)
class FakeSource(DetectorSource):
    """A detector of numpy alone that counts its runs."""

    profile: Path | None = None
    runs: list[int] = field(default_factory=list, hash=False, compare=False)

    def open(self) -> Any:
        runs = self.runs

        class Counting(FakeDetector):
            def detect(self, pyramid: Pyramid) -> Detections:
                runs.append(1)
                return super().detect(pyramid)

        return Counting()

    def identity(self) -> dict[str, Any]:
        return {"kind": "fake"}


_NUMBERS = count()


def blobs(folder: Path, pictures: int) -> CocoDataset:
    """Pictures whose annotated boxes are what the detector finds in them."""
    write_images(folder, pictures)
    detector, boxes = FakeDetector(), []
    for index in range(pictures):
        image = np.asarray(PillowImage.open(folder / f"{index}.png"))
        for x1, y1, x2, y2 in detector.detect(detector.extract(image)).boxes.tolist():
            size = (x2 - x1, y2 - y1)
            boxes.append(CocoBox(index, 1, (x1, y1, *size), size[0] * size[1]))
    images = tuple(CocoImage(i, f"{i}.png", *IMAGE) for i in range(pictures))
    categories = (CocoCategory(1, "blob"), CocoCategory(2, "other"))
    return CocoDataset("blobs", folder, images, tuple(boxes), categories)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    return blobs(tmp_path_factory.mktemp("blobs"), SHARD_IMAGES + 4)


def fake_sweep(dataset: CocoDataset, folder: Path, **changes: Any) -> Sweep:
    # A name of its own: workers keep the detector of a source that they know.
    source = FakeSource(spec=f"fake {next(_NUMBERS)}")
    cells = changes.pop("cells", study(FakeDetector().spec, (1, 4)))
    environment = Environment.capture("fpcodec sweep", 1)
    return Sweep(source, dataset, cells, folder, Bootstrap(200, changes.pop("seed", 0)),
                 environment)  # fmt: skip


def run(sweep: Sweep, **options: Any) -> dict[str, Any]:
    return run_sweep(sweep, open_executor(1), **options)


@needs_coco_eval
def test_a_sweep_scores_every_cell_and_losing_levels_loses_boxes(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    result = run(fake_sweep(dataset, tmp_path))
    assert json.loads((tmp_path / "sweep.json").read_text()) == result
    assert result["levels"] == ["p3", "p4", "p5", "p6"]
    assert result["derived"] == {"p6": "p5"}
    assert len(result["cells"]) == 1 + 4 + 6
    reference = result["cells"]["1,1,1,1 all seed"]
    assert reference["ap"]["ap"] == pytest.approx(100)
    assert reference["drop"] is None
    finest = result["cells"]["4,1,1,1 all seed"]
    assert finest["drop"]["value"] == pytest.approx(100 - finest["ap"]["ap"], abs=1e-6)
    assert finest["drop"]["low"] <= finest["drop"]["value"] <= finest["drop"]["high"]
    assert finest["drop"]["value"] > 5
    assert result["environment"]["command"] == "fpcodec sweep"
    assert result["images"] == len(dataset)
    assert set(result["readings"]["all seed"]["key_levels"]) == {"small", "medium", "large"}


class Killed(Exception):
    pass


@needs_coco_eval
@pytest.mark.parametrize("stage", ["detecting", "scoring"])
def test_a_killed_run_goes_on_where_it_was(
    dataset: CocoDataset, tmp_path: Path, stage: str
) -> None:
    whole = run(fake_sweep(dataset, tmp_path / "whole"))

    def die(at: str, done: int, total: int) -> None:
        if at == stage:
            raise Killed

    first = fake_sweep(dataset, tmp_path / "killed")
    with pytest.raises(Killed):
        run(first, progress=die)
    second = fake_sweep(dataset, tmp_path / "killed")
    resumed = run(second)
    assert resumed["cells"] == whole["cells"]
    assert resumed["readings"] == whole["readings"]
    # One run of the head finds out whether the scope can be measured.
    cells, images = len(whole["cells"]), len(dataset)
    left = images - SHARD_IMAGES if stage == "detecting" else 0
    assert sum(second.source.runs) == 1 + cells * left  # type: ignore[attr-defined]


@needs_coco_eval
def test_what_a_folder_holds_is_not_measured_again(dataset: CocoDataset, tmp_path: Path) -> None:
    run(fake_sweep(dataset, tmp_path, cells=(Degradation((4, 1, 1, 1)),)))
    two = (Degradation((4, 1, 1, 1)), Degradation((1, 2, 1, 1)))
    more = fake_sweep(dataset, tmp_path, cells=two)
    result = run(more)
    assert set(result["cells"]) == {f"{x} all seed" for x in ("1,1,1,1", "4,1,1,1", "1,2,1,1")}
    assert sum(more.source.runs) == 1 + len(dataset)  # type: ignore[attr-defined]
    # Results stay when the shards are gone.
    shutil.rmtree(tmp_path / "shards")
    again = fake_sweep(dataset, tmp_path, cells=(Degradation((4, 1, 1, 1)),))
    assert run(again)["cells"] == result["cells"]
    assert sum(again.source.runs) == 1  # type: ignore[attr-defined]


@needs_coco_eval
def test_another_studys_folder_is_refused(dataset: CocoDataset, tmp_path: Path) -> None:
    cells = (Degradation((4, 1, 1, 1)),)
    run(fake_sweep(dataset, tmp_path, cells=cells))
    for other in (
        fake_sweep(dataset.limit(3), tmp_path, cells=cells),
        fake_sweep(dataset, tmp_path, cells=cells, seed=1),
    ):
        with pytest.raises(InputError, match="choose another --out"):
            run(other)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(InputError, match="no result of a sweep"):
        run(fake_sweep(dataset, tmp_path, cells=cells))


@needs_coco_eval
def test_a_damaged_shard_is_named(dataset: CocoDataset, tmp_path: Path) -> None:
    def die(stage: str, done: int, total: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        run(fake_sweep(dataset, tmp_path), progress=die)
    shard = next((tmp_path / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{shard.name} cannot be read"):
        run(fake_sweep(dataset, tmp_path))


@needs_coco_eval
def test_a_cell_of_the_wrong_length_ends_it_at_once(dataset: CocoDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"1,1,4 has 3 ratios, this pyramid has 4 levels"):
        run(fake_sweep(dataset, tmp_path, cells=(Degradation((1, 1, 4)),)))


# Reading


def losses(
    singles: Mapping[str, Sequence[float]], pairs: Mapping[tuple[str, str], Sequence[float]] = {}
) -> LevelLosses:
    """Losses (small, medium, large) at ratio 16 for levels p2..p6."""
    names = FPN.names
    whole = {"ap": 50.0, "ap_small": 40.0, "ap_medium": 50.0, "ap_large": 60.0}
    aps: list[tuple[Sequence[float], Mapping[str, Any]]] = [((1.0,) * 5, whole)]
    for level, lost in [*(((k,), v) for k, v in singles.items()), *pairs.items()]:
        ratios = [16.0 if name in level else 1.0 for name in names]
        ap = {key: whole[key] - x for key, x in zip(list(whole)[1:], lost, strict=True)}
        aps.append((ratios, {"ap": 45.0, **ap}))
    return LevelLosses.of(names, aps)


AS_CLAIMED = {
    "p2": (9, 0.1, 0), "p3": (5, 1, 0.1), "p4": (0.3, 6, 1), "p5": (0, 7, 4), "p6": (0, 0.2, 3),
}  # fmt: skip
CLAIMED_PAIRS = {
    ("p2", "p3"): (20, 3, 0), ("p3", "p4"): (6, 9, 1), ("p4", "p5"): (1, 20, 9),
    ("p5", "p6"): (0, 8, 12),
}  # fmt: skip


def test_key_levels_bear_nine_tenths_of_the_loss_and_a_derived_levels_loss_is_its_sources() -> None:
    table = key_level_table(losses(AS_CLAIMED), FPN)
    assert table == {"small": ("p2", "p3"), "medium": ("p4", "p5"), "large": ("p4", "p5")}
    assert key_level_table(losses(AS_CLAIMED), FPN, 0.5)["large"] == ("p5",)
    # Negative losses are luck and bear nothing.
    lucky = {**AS_CLAIMED, "p3": (-3, 1, 0)}
    assert key_level_table(losses(lucky), FPN)["small"] == ("p2",)


def test_a_scale_of_which_nothing_is_known_gets_every_level() -> None:
    faint = {name: (lost[0], 0.05, lost[2]) for name, lost in AS_CLAIMED.items()}
    assert key_level_table(losses(faint), FPN)["medium"] == FPN.coded_names
    found = losses(AS_CLAIMED)
    none = LevelLosses.of(
        FPN.names,
        [(r, {**ap, "ap_large": None}) for r, ap in [((1.0,) * 5, {"ap": 1, "ap_small": 40.0}),
         *(([16.0 if x == n else 1.0 for x in FPN.names],
            {"ap": 0, "ap_small": 40 - AS_CLAIMED[n][0]}) for n in FPN.names)]],
    )  # fmt: skip
    assert key_level_table(none, FPN)["large"] == FPN.coded_names
    assert key_level_table(none, FPN)["small"] == key_level_table(found, FPN)["small"]


def test_key_levels_need_every_level_alone() -> None:
    with pytest.raises(InputError, match="run the whole study"):
        key_level_table(losses({"p2": AS_CLAIMED["p2"]}), FPN)
    with pytest.raises(InputError, match="share"):
        key_level_table(losses(AS_CLAIMED), FPN, 0)
    with pytest.raises(InputError, match="measure ratio 1"):
        LevelLosses.of(FPN.names, [((2, 1, 1, 1, 1), {"ap": 1.0})])


def test_a_study_like_the_claimed_one_agrees_with_it() -> None:
    halves = [losses(AS_CLAIMED), losses(dict.fromkeys(FPN.names, (0, 0, 0)))]
    direction = read_direction(losses(AS_CLAIMED, CLAIMED_PAIRS), halves)
    assert [direction[x]["verdict"] for x in ("small", "medium", "large")] == ["agrees"] * 3
    assert direction["small"]["direction_in_parts"] == [True, None]
    assert direction["medium"]["costliest_pair"] == ["p4", "p5"]
    assert direction["large"]["claimed_pair_loss"] == 12
    assert "1 of 2 halves" in direction_sentences(direction)[0]


def test_a_study_that_says_otherwise_is_told_apart() -> None:
    turned = dict(zip(FPN.names, reversed(list(AS_CLAIMED.values())), strict=True))
    direction = read_direction(losses(turned))
    assert direction["small"]["verdict"] == "differs"
    assert direction["small"]["costliest_levels"] == ["p5", "p6"]
    assert direction["small"]["pair_agrees"] is None
    # The claimed pair is costly in the mean, and another pair costs more.
    pairs = {**CLAIMED_PAIRS, ("p3", "p4"): (30, 9, 1)}
    assert read_direction(losses(AS_CLAIMED, pairs))["small"]["verdict"] == "direction"
    nothing = read_direction(losses(dict.fromkeys(FPN.names, (0, 0, 0))))
    assert nothing["large"]["verdict"] is None
    assert "cannot tell" in direction_sentences(nothing)[2]


def test_claimed_levels_that_a_pyramid_lacks_are_left_out() -> None:
    names = ("p3", "p4", "p5")
    lost = {"p3": 9.0, "p4": 1.0, "p5": 0.0}
    aps: list[tuple[Sequence[float], Mapping[str, Any]]] = [
        ((1.0, 1.0, 1.0), {"ap": 50.0, "ap_small": 40.0})
    ]
    aps += [
        ([8.0 if x == name else 1.0 for x in names], {"ap": 45.0, "ap_small": 40 - lost[name]})
        for name in names
    ]
    direction = read_direction(LevelLosses.of(names, aps))
    assert direction["small"]["claimed"] == ["p3"]
    assert direction["small"]["verdict"] == "agrees"
    assert direction["large"]["verdict"] is None


# Heat maps


def test_grids_hold_the_losses_where_they_belong() -> None:
    found = losses(AS_CLAIMED, CLAIMED_PAIRS)
    np.testing.assert_allclose(
        singles_grid(found, "ap_small"), [[9], [5], [0.3], [0], [0]], atol=1e-9
    )
    pairs = pairs_grid(found, "ap_small")
    assert pairs[0, 1] == pairs[1, 0] == 20
    assert pairs[0, 0] == 9
    assert np.isnan(pairs[0, 4])
    assert combinations_grid(found, "ap_small") is None


def test_combinations_of_ratios_have_a_grid_of_their_own() -> None:
    spec = PyramidSpec(FPN.levels[:2])
    cells = study(spec, (1, 2, 4), pairs="all")
    found = LevelLosses.of(spec.names, [(x.ratios, {"ap": 60 - sum(x.ratios)}) for x in cells])
    grid = combinations_grid(found, "ap")
    assert grid is not None
    assert grid.shape == (4, 4)
    # Rows and columns: p2 by 2, p2 by 4, p3 by 2, p3 by 4.
    assert grid[1, 2] == grid[2, 1] == (4 + 2) - 2
    assert grid[0, 0] == 1
    assert np.isnan(grid[0, 1])


def test_every_scale_and_the_overview_get_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    files = draw_heat_maps(losses(AS_CLAIMED, CLAIMED_PAIRS), tmp_path, "rpn seed", "made up")
    assert [file.name for file in files] == [
        "ap_rpn_seed.png", "ap_small_rpn_seed.png", "ap_medium_rpn_seed.png",
        "ap_large_rpn_seed.png", "overview_rpn_seed.png",
    ]  # fmt: skip
    for file in files:
        with PillowImage.open(file) as picture:
            assert picture.format == "PNG"
            # Something is drawn, and it is not all of one colour.
            assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert sorted(tmp_path.iterdir()) == sorted(files)


# The command


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("scenes"), range(5), SceneConfig())


def call(scenes: Path, out: Path, *arguments: str) -> Any:
    app = typer.Typer()
    app.command()(sweep_command)
    base = ["--images", str(scenes.parent / "images"), "--annotations", str(scenes)]
    return CliRunner().invoke(app, [*base, "--out", str(out), *arguments])


@needs_coco_eval
def test_the_command_writes_results_pictures_and_the_profiles_key_levels(
    scenes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    profile = tmp_path / "profile"
    shutil.copytree(embedded_profile_path(), profile)
    before = Profile.load(profile)
    done = call(
        scenes, tmp_path / "out", "--ratios", "1,16", "--limit", "4",
        "--profile", str(profile), "--into", str(profile),
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert len(result["cells"]) == 1 + 5 + 10
    assert {x.name for x in (tmp_path / "out").glob("*.png")} >= {"overview_all_seed.png"}
    after = Profile.load(profile)
    after.verify()
    assert after.stream_id == before.stream_id
    wanted = result["readings"]["all seed"]["key_levels"]
    assert {k: list(v) for k, v in after.key_levels.items()} == wanted
    assert after.measured["key_levels"]["data"] == result["data"]
    files = [{file.name for file in x.iterdir()} for x in (profile, embedded_profile_path())]
    assert files[0] == files[1]
    # What lies in the profile now has no say in which study the folder holds.
    again = call(scenes, tmp_path / "out", "--ratios", "1,16", "--limit", "4",
                 "--profile", str(profile), "--json")  # fmt: skip
    assert json.loads(again.stdout)["cells"] == result["cells"]


@needs_coco_eval
def test_two_workers_find_what_one_finds(scenes: Path, tmp_path: Path) -> None:
    results = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        done = call(scenes, out, "--ratio-set", "1,1,4,1,1", "--workers", workers)
        assert done.exit_code == 0, done.output
        results.append(json.loads((out / "sweep.json").read_text()))
    assert results[0]["cells"] == results[1]["cells"]
    assert set(results[0]["cells"]) == {"1,1,1,1,1 all seed", "1,1,4,1,1 all seed"}
    assert results[0]["readings"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio-set", "1,1,1,1,1,4"], "has 6 ratios, this pyramid has 5 levels"),
        (["--ratio-set", "1,1,0,1,1"], "not a number of at least 1"),
        (["--ratios", "1,two"], "not numbers joined by commas"),
        (["--scope", "rpn"], "tiny?runtime=torch"),
        (["--detector", "tiny", "--profile", "somewhere"], "name one of them"),
        (["--into", "{profile}", "--ratio-set", "1,1,4,1,1"], "run the whole study"),
        (["--into", "{profile}", "--scope", "rpn"], "use --scope all"),
        (["--into", "{other}"], "profile of another pyramid"),
    ],
)
def test_what_cannot_be_measured_is_said_before_anything_runs(
    scenes: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    pytest.importorskip("faster_coco_eval", reason="needs fpcodec[bench]")
    places = {"profile": embedded_profile_path(), "other": kit_profile("pca").path}
    done = call(scenes, tmp_path / "out", *(x.format(**places) for x in arguments))
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_key_levels_are_all_that_a_study_changes_in_a_profile() -> None:
    profile = kit_profile("pca")
    table = {"small": ["p3"], "medium": ["p4"], "large": ["p5"]}
    result = {"readings": {"all seed": {"key_levels": table}}, "data": "blobs", "images": 3}
    changed = with_key_levels(profile, result, "all seed", FakeDetector())
    assert changed.key_levels == {k: tuple(v) for k, v in table.items()}
    assert changed.stream_id == profile.stream_id
    assert changed.measured["edge_macs_saved_by_scale"]["large"] > 0
    assert changed.measured["mean_bytes_by_quality"] == profile.measured["mean_bytes_by_quality"]


def test_losses_of_halves_come_from_the_halves() -> None:
    cells = {
        "1,1 all seed": {"ratios": [1, 1], "ap": {"ap": 50.0},
                         "ap_halves": [{"ap": 40.0}, {"ap": 60.0}]},
        "2,1 all seed": {"ratios": [2, 1], "ap": {"ap": 45.0},
                         "ap_halves": [{"ap": 39.0}, {"ap": 51.0}]},
        "1,1 rpn seed": {"ratios": [1, 1], "ap": {"ap": 50.0}, "ap_halves": [{}, {}]},
    }  # fmt: skip
    result = {"levels": ["p4", "p5"], "cells": cells}
    found = [losses_of(result, "all seed", half).single("p4", 2, "ap") for half in (None, 0, 1)]
    assert found == [5, 1, 9]

"""Masks and D-RISE: what they must do whatever the detector, and against other code."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from explain_kit import SPEC, FakeDetector, one_box

from fpcodec.detections import Detections
from fpcodec.errors import InputError, ModelError
from fpcodec.explain.class_slice import class_slice
from fpcodec.explain.drise import (
    SaliencyConfig,
    feature_maps_in_image,
    mask_weights,
    saliency_on_features,
    saliency_on_image,
    sums_on_features,
    sums_on_image,
)
from fpcodec.explain.masks import MaskSource, interpolation
from fpcodec.pyramid import LevelSpec, Pyramid, PyramidSpec

# Not square, and no multiple of a cell of the grid.
IMAGE = np.full((96, 128, 3), 200, np.uint8)


@dataclass(frozen=True)
class _Steady(FakeDetector):
    """Finds the same box whatever it is shown."""

    def detect(self, pyramid: Pyramid) -> Detections:
        return one_box([10, 20, 50, 80], 0.8)


@dataclass(frozen=True)
class _OneCell(FakeDetector):
    """A head of one 1x1 convolution, of which one cell of the middle level makes a box."""

    row: int = 4
    column: int = 11

    def detect(self, pyramid: Pyramid) -> Detections:
        score = pyramid.levels["p4"].mean(axis=0)[self.row, self.column]
        x, y = 8 * self.column, 8 * self.row
        return one_box([x - 10, y - 10, x + 18, y + 18], float(score))


def test_masks_have_their_mean_and_stay_in_range() -> None:
    source = MaskSource((37, 53), 8, 0.3, 5)
    masks = source.draw(range(2000))
    assert masks.shape == (2000, 37, 53)
    assert masks.dtype == np.float32
    assert 0 <= masks.min() < 0.02
    assert 0.98 < masks.max() <= 1
    # Sixty-four coin tosses a mask, each pixel an average of a few of them.
    assert masks.mean() == pytest.approx(0.3, abs=0.005)
    assert np.abs(masks.mean(axis=0) - 0.3).max() < 0.05


def test_a_mask_is_the_same_whoever_asks() -> None:
    source = MaskSource((20, 30), 4, 0.5, 9)
    masks = source.draw(range(12))
    assert np.array_equal(source.draw(range(5, 9)), masks[5:9])
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(replace(source, seed=10).draw(range(1))[0], masks[0])


def test_masks_are_shifted_within_a_cell() -> None:
    """Every place is at times amid a cell and at times between two: all vary nearly alike."""
    masks = MaskSource((64, 64), 4, 0.5, 0).draw(range(3000))
    spread = masks.std(axis=0)[8:-8, 8:-8]
    assert spread.max() / spread.min() < 1.3  # unshifted masks have 2


def test_interpolation_reads_between_samples_and_keeps_the_ends() -> None:
    read = interpolation(np.array([-1.0, 0.0, 0.25, 1.5, 9.0]), 3) @ np.array([1.0, 2.0, 4.0])
    assert read == pytest.approx([1, 1, 1.25, 3, 4])


def test_a_level_is_resized_as_bilinear_resizing_does() -> None:
    torch = pytest.importorskip("torch")
    coarse = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    rows, columns = (
        interpolation((np.arange(2 * side) + 0.5) / 2 - 0.5, side) for side in coarse.shape
    )
    wanted = torch.nn.functional.interpolate(
        torch.from_numpy(coarse)[None, None], scale_factor=2, mode="bilinear"
    )
    assert rows @ coarse @ columns.T == pytest.approx(wanted[0, 0].numpy(), abs=1e-6)


@pytest.mark.parametrize("where", ["image", "features"])
def test_a_detector_that_ignores_its_input_has_a_flat_map(where: str) -> None:
    detector = _Steady()
    target = one_box([10, 20, 50, 80], 0.8)
    found = _saliency(where, detector, target, SaliencyConfig(masks=60))
    assert found.shape == (1, 96, 128)
    assert found == pytest.approx(0.8, abs=1e-6)


def test_feature_saliency_peaks_at_the_firing_cell() -> None:
    detector = _OneCell()
    pyramid = detector.extract(IMAGE)
    target = detector.detect(pyramid)
    config = SaliencyConfig(masks=1500, seed=1)
    sums = sums_on_features(detector, pyramid, target, config, range(config.masks))
    grid = sums.maps[0]
    assert np.unravel_index(grid.argmax(), grid.shape) == (4, 11)
    found = saliency_on_features(detector, pyramid, target, config)[0]
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert (y // 8, x // 8) == (4, 11)


def test_image_saliency_peaks_where_the_detector_looks() -> None:
    detector = _OneCell(row=9, column=3)
    target = detector.detect(detector.extract(IMAGE))
    found = saliency_on_image(detector, IMAGE, target, SaliencyConfig(masks=800, grid=12))[0]
    y, x = np.unravel_index(found.argmax(), found.shape)
    assert abs(y - 76) <= 8
    assert abs(x - 28) <= 8


@pytest.mark.parametrize("where", ["image", "features"])
def test_a_chunk_changes_nothing(where: str) -> None:
    detector = _OneCell()
    target = detector.detect(detector.extract(IMAGE))
    maps = [
        _saliency(where, detector, target, SaliencyConfig(masks=30, chunk=chunk, seed=3))
        for chunk in (1, 7, 64)
    ]
    assert maps[1] == pytest.approx(maps[0], rel=1e-6)
    assert maps[2] == pytest.approx(maps[0], rel=1e-6)
    other = _saliency(where, detector, target, SaliencyConfig(masks=30, seed=4))
    assert np.abs(other - maps[0]).max() > 0.01


def test_disjoint_trials_add_up_to_all_of_them() -> None:
    detector = _OneCell()
    pyramid = detector.extract(IMAGE)
    target, config = detector.detect(pyramid), SaliencyConfig(masks=20)
    parts = [
        sums_on_features(detector, pyramid, target, config, x) for x in (range(8), range(8, 20))
    ]
    whole = saliency_on_features(detector, pyramid, target, config)
    assert feature_maps_in_image(parts[0] + parts[1], pyramid) == pytest.approx(whole, rel=1e-5)


def test_targets_share_the_trials() -> None:
    detector = _OneCell()
    pyramid = detector.extract(IMAGE)
    one = detector.detect(pyramid)
    both = Detections(
        np.concatenate([one.boxes, one.boxes + 6]), one.scores.repeat(2), one.labels.repeat(2)
    )
    calls: list[tuple[int, int]] = []
    config = SaliencyConfig(masks=9, chunk=4)
    found = saliency_on_features(detector, pyramid, both, config, lambda *x: calls.append(x))
    assert calls == [(i, 9) for i in range(1, 10)]
    assert np.array_equal(found[0], saliency_on_features(detector, pyramid, one, config)[0])
    assert found[1].max() < found[0].max()
    nothing = Detections(one.boxes[:0], one.scores[:0], one.labels[:0])
    assert saliency_on_features(detector, pyramid, nothing, config).shape == (0, 96, 128)


def test_one_mask_a_trial_reaches_every_level_and_channel() -> None:
    shown: list[Pyramid] = []
    spec = PyramidSpec((*SPEC.levels, LevelSpec("p6", 32, 4, "p5")), 32)

    @dataclass(frozen=True)
    class _Watch(_Steady):
        def detect(self, pyramid: Pyramid) -> Detections:
            shown.append(pyramid)
            return super().detect(pyramid)

    detector = _Watch(spec=spec)
    levels = {n: np.ones(spec.shape(n, (128, 96)), np.float32) for n in spec.coded_names}
    pyramid = Pyramid(spec, levels, detector.geometry((128, 96)))
    target = one_box([10, 20, 50, 80], 0.8)
    # Of four levels the third carries the masks: 6 rows and 8 columns, so a grid of 6.
    sums_on_features(detector, pyramid, target, SaliencyConfig(seed=2), range(4))
    masks = MaskSource((6, 8), 6, 0.5, 2).draw(range(4))
    for seen, mask in zip(shown, masks, strict=True):
        assert seen.levels["p5"] == pytest.approx(np.repeat(mask[None], 4, 0), abs=1e-6)
        # Level p6 is a derived one: computed, then masked with all the others.
        quarters = mask.reshape(3, 2, 4, 2).mean(axis=(1, 3))
        assert seen.levels["p6"][0] == pytest.approx(quarters, abs=1e-6)
        assert seen.levels["p6"].shape == (4, 3, 4)
        between = (3 * mask[:, :-1] + mask[:, 1:]) / 4
        rows = (3 * between[:-1] + between[1:]) / 4
        assert seen.levels["p4"][0, 1:-1:2, 1:-1:2] == pytest.approx(rows, abs=1e-6)
        assert (np.ptp(seen.levels["p3"], axis=0) == 0).all()


def test_masked_places_take_the_fill() -> None:
    shown = []

    @dataclass(frozen=True)
    class _Watch(_Steady):
        def extract(self, image: np.ndarray, levels: object = None) -> Pyramid:
            shown.append(image)
            return super().extract(image)

    target = one_box([10, 20, 50, 80], 0.8)
    config = SaliencyConfig(masks=3, fill=90)
    sums_on_image(_Watch(), IMAGE, target, config, range(3))
    masks = config.source((96, 128)).draw(range(3))[..., None]
    wanted = np.rint(200 * masks + 90 * (1 - masks))
    assert np.abs(np.stack(shown) - wanted).max() <= 1
    assert all(image.dtype == np.uint8 for image in shown)


def _random_case(seed: int) -> tuple[Detections, np.ndarray, list[Detections], list[np.ndarray]]:
    generator = np.random.default_rng(seed)

    def boxes(count: int) -> tuple[Detections, np.ndarray]:
        corner = generator.uniform(0, 20, (count, 2))
        sides = generator.uniform(10, 30, (count, 2))
        scores = generator.uniform(0.1, 1, count).astype(np.float32)
        found = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
        return Detections(found, scores, np.zeros(count, np.int64)), generator.random((count, 4))

    targets, classes = boxes(2)
    found = [boxes(3) for _ in range(25)]
    return targets, classes, [x for x, _ in found], [x for _, x in found]


def test_weights_and_maps_are_the_formula() -> None:
    """H = sum of w M / sum of M, w = max of IoU cos score, written out once more in full."""
    targets, classes, found, found_classes = _random_case(0)
    masks = MaskSource((30, 40), 5, 0.5, 0).draw(range(len(found)))
    top, bottom = np.zeros((2, 30, 40)), np.zeros((30, 40))
    for mask, here, scores in zip(masks, found, found_classes, strict=True):
        for t, (ax, ay, bx, by) in enumerate(targets.boxes):
            weight = 0.0
            for j, (cx, cy, dx, dy) in enumerate(here.boxes):
                inter = max(min(bx, dx) - max(ax, cx), 0) * max(min(by, dy) - max(ay, cy), 0)
                union = (bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - inter
                cosine = classes[t] @ scores[j]
                cosine /= np.sqrt(classes[t] @ classes[t]) * np.sqrt(scores[j] @ scores[j])
                weight = max(weight, inter / union * cosine * here.scores[j])
            assert mask_weights(targets, here, classes, scores)[t] == pytest.approx(weight)
            top[t] += weight * mask
        bottom += mask
    assert _maps_of(targets, classes, found, found_classes, masks) == pytest.approx(top / bottom)


def test_agrees_with_xaitk() -> None:
    xaitk = pytest.importorskip("xaitk_saliency.impls.gen_detector_prop_sal.drise_scoring")
    targets, classes, found, found_classes = _random_case(1)
    masks = MaskSource((30, 40), 5, 0.5, 0).draw(range(len(found)))
    # Its boxes include their last pixel; ours end before it.
    inclusive = np.array([0, 0, 1, 1])

    def rows(boxes: Detections, scores: np.ndarray) -> np.ndarray:
        return np.concatenate([boxes.boxes - inclusive, boxes.scores[:, None], scores], axis=1)

    perturbed = np.stack([rows(*x) for x in zip(found, found_classes, strict=True)])
    wanted = xaitk.DRISEScoring().generate(rows(targets, classes), perturbed, masks)
    maps = _maps_of(targets, classes, found, found_classes, masks)
    assert maps / maps.max(axis=(1, 2), keepdims=True) == pytest.approx(wanted, abs=1e-5)


def _maps_of(
    targets: Detections,
    classes: np.ndarray,
    found: list[Detections],
    found_classes: list[np.ndarray],
    masks: np.ndarray,
) -> np.ndarray:
    """Ours, from detections and masks that are given."""
    from fpcodec.explain.drise import MaskSums

    weights = np.stack(
        [mask_weights(targets, x, classes, y) for x, y in zip(found, found_classes, strict=True)]
    )
    sums = np.tensordot(weights.T, masks.astype(np.float64), axes=1)
    return MaskSums(sums, masks.sum(axis=0, dtype=np.float64)).maps


def test_labels_alone_count_as_equal_or_not() -> None:
    target = one_box([0, 0, 10, 10], 1.0)
    found = Detections(
        np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32),
        np.array([0.9, 0.6], np.float32),
        np.array([1, 0], np.int64),
    )
    assert mask_weights(target, found) == pytest.approx([0.5 * 0.6])
    nothing = Detections(found.boxes[:0], found.scores[:0], found.labels[:0])
    assert mask_weights(target, nothing) == pytest.approx([0.0])


def test_class_scores_must_fit() -> None:
    target = one_box([0, 0, 10, 10], 1.0)
    with pytest.raises(InputError, match="give both or neither"):
        mask_weights(target, target, np.ones((1, 3)))
    with pytest.raises(InputError, match="one row a box"):
        mask_weights(target, target, np.ones((1, 3)), np.ones((2, 3)))
    with pytest.raises(InputError, match=r"are not \(N, K\)"):
        mask_weights(target, target, np.ones((1, 3)), np.ones((1, 4)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"masks": 0}, "0 masks"),
        ({"grid": 0}, "mask grid 0"),
        ({"keep": 1.0}, "share of cells kept 1.0"),
        ({"chunk": 0}, "chunk of 0"),
        ({"fill": 256}, "fill 256"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SaliencyConfig(**wrong)  # type: ignore[arg-type]


def test_maps_that_would_fill_memory_are_refused() -> None:
    detector = _Steady()
    many = Detections(
        np.zeros((9000, 4), np.float32), np.zeros(9000, np.float32), np.zeros(9000, np.int64)
    )
    for where in ("image", "features"):
        with pytest.raises(InputError, match="explain fewer at once"):
            _saliency(where, detector, many, SaliencyConfig(masks=1))


def test_a_missing_level_is_named() -> None:
    detector = _Steady()
    pyramid = detector.extract(IMAGE)
    part = Pyramid(pyramid.spec, {"p3": pyramid.levels["p3"]}, pyramid.geometry)
    with pytest.raises(InputError, match="p4, p5 is missing"):
        saliency_on_features(detector, part, one_box([0, 0, 9, 9], 1), SaliencyConfig(masks=1))


def test_the_class_slice_peaks_where_the_head_scores_the_class() -> None:
    detector = _Steady(cells={("p5", 1): (2, 6), ("p3", 0): (20, 3)})
    maps = class_slice(detector, detector.extract(IMAGE), [0, 1])
    assert maps.shape == (2, 96, 128)
    assert maps.max(axis=(1, 2)) == pytest.approx([1, 1])
    for found, (row, column), stride in ((maps[0], (20, 3), 4), (maps[1], (2, 6), 16)):
        y, x = np.unravel_index(found.argmax(), found.shape)
        assert (y // stride, x // stride) == (row, column)


def test_a_head_without_classes_has_no_slice() -> None:
    detector = _Steady(labels=("a", "b", "c"))
    with pytest.raises(ModelError, match="scores objectness"):
        class_slice(detector, detector.extract(IMAGE), [0])
    with pytest.raises(ModelError, match="label 2 is not"):
        class_slice(_Steady(), detector.extract(IMAGE), [2])


def _saliency(
    where: str, detector: FakeDetector, target: Detections, config: SaliencyConfig
) -> np.ndarray:
    if where == "image":
        return saliency_on_image(detector, IMAGE, target, config)
    return saliency_on_features(detector, detector.extract(IMAGE), target, config)

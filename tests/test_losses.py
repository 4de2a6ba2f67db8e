"""Losses against the published formula, written down once more in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from fpcodec.training.heads import HeadAnswer, Regions  # noqa: E402
from fpcodec.training.losses import (  # noqa: E402
    box_loss,
    feature_loss,
    region_loss,
    score_loss,
)

IMAGES, CHANNELS = 2, 3
SIZES = {"p3": (2, 2), "p4": (1, 1)}


def published_feature_loss(original, decoded, response) -> float:
    """Equation of Du et al. (2021), but for the mean over channels where it has the sum."""
    total = 0.0
    for name, s in response.items():
        top, bottom = 0.0, 0.0
        images, channels, rows, columns = original[name].shape
        for b in range(images):
            for i in range(rows):
                for j in range(columns):
                    bottom += s[b][0][i][j]
                    for c in range(channels):
                        error = original[name][b][c][i][j] - decoded[name][b][c][i][j]
                        top += s[b][0][i][j] * error**2 / channels
        total += top / bottom
    return total


def published_score_loss(wanted, found, s) -> float:
    """The head's loss of Du et al. (2021) on one level, the sum over classes as it stands."""
    top = 0.0
    for b, k, i, j in np.ndindex(wanted.shape):
        t, p = wanted[b][k][i][j], found[b][k][i][j]
        top += s[b][0][i][j] * -(t * np.log(p) + (1 - t) * np.log(1 - p))
    return top / s.sum()


def levels(seed: int, channels: int = CHANNELS) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    return {n: torch.randn(IMAGES, channels, *size, generator=random) for n, size in SIZES.items()}


def responses(seed: int) -> dict[str, torch.Tensor]:
    return {name: x.sigmoid() for name, x in levels(seed, 1).items()}


def even(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {name: torch.full((1, CHANNELS, 1, 1), value) for name in SIZES}


def double(values) -> dict[str, np.ndarray]:
    return {name: x.double().numpy() for name, x in values.items()}


def answer(seed: int, classes: int = 4) -> HeadAnswer:
    scores = {name: x.sigmoid() for name, x in levels(seed, classes).items()}
    return HeadAnswer(scores, levels(seed + 100, 4))


def regions(seed: int, counts: tuple[int, ...] = (3, 2)) -> Regions:
    random = torch.Generator().manual_seed(seed)
    rows = sum(counts)
    return Regions(
        tuple(torch.rand(count, 4, generator=random) for count in counts),
        torch.randn(rows, 3, generator=random).softmax(dim=1),
        torch.randn(rows, 12, generator=random),
    )


def test_feature_loss_is_the_published_one() -> None:
    original, decoded, response = levels(1), levels(2), responses(3)
    found = feature_loss(original, decoded, response, even())
    assert found.shape == (IMAGES,)
    wanted = published_feature_loss(double(original), double(decoded), double(response))
    assert float(found.mean()) == pytest.approx(wanted, rel=1e-5)


def test_feature_loss_on_numbers_made_by_hand() -> None:
    original = {"p3": torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])}
    decoded = {"p3": torch.tensor([[[[1.0, 0.0], [3.0, 3.0]]]])}
    response = {"p3": torch.tensor([[[[0.5, 0.25], [0.2, 0.05]]]])}
    # (0.25 * 4 + 0.05 * 1) / (0.5 + 0.25 + 0.2 + 0.05)
    found = feature_loss(original, decoded, response, {"p3": torch.ones(1, 1, 1, 1)})
    assert found.tolist() == pytest.approx([1.05], rel=1e-5)


def test_even_weights_give_the_mean_squared_error_of_each_image() -> None:
    original, decoded = levels(1), levels(2)
    ones = {name: torch.ones(IMAGES, 1, *size) for name, size in SIZES.items()}
    found = feature_loss(original, decoded, ones, even())
    wanted = sum((original[n] - decoded[n]).pow(2).mean(dim=(1, 2, 3)) for n in SIZES)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_error_counts_in_units_of_the_channels_deviation() -> None:
    original, decoded, response = levels(1), levels(2), responses(3)
    found = feature_loss(original, decoded, response, even(0.5))
    whole = feature_loss(original, decoded, response, even())
    torch.testing.assert_close(found, whole / 4)


def test_weights_sum_over_the_batch_not_image_by_image() -> None:
    original, decoded, response = levels(1), levels(2), responses(3)
    # An image in which the detector sees nothing has next to no say.
    quiet = {
        name: x * torch.tensor([1.0, 1e-4]).reshape(2, 1, 1, 1) for name, x in response.items()
    }
    found = feature_loss(original, decoded, quiet, even())
    assert float(found[1]) < 1e-3 * float(found[0])
    wanted = published_feature_loss(double(original), double(decoded), double(quiet))
    assert float(found.mean()) == pytest.approx(wanted, rel=1e-4)


def test_score_loss_is_the_published_one_less_the_teachers_entropy() -> None:
    teacher = answer(1)
    # Where the student sees less than the teacher everywhere, both have the same weight.
    student = replace(teacher, scores={n: 0.6 * x for n, x in teacher.scores.items()})
    wanted = 0.0
    for name, x in double(teacher.scores).items():
        s = x.max(axis=1, keepdims=True)
        found = student.scores[name].double().numpy()
        wanted += published_score_loss(x, found, s) - published_score_loss(x, x, s)
    assert float(score_loss(teacher, student).mean()) == pytest.approx(wanted, rel=1e-4)


def test_a_perfect_student_costs_nothing_and_any_other_something() -> None:
    teacher = replace(answer(1), regions=regions(5))
    same = replace(teacher)
    other = replace(answer(2), regions=replace(regions(6), proposals=teacher.regions.proposals))
    features = levels(3)
    assert feature_loss(features, features, responses(4), even()).abs().max() == 0
    for loss in (score_loss, box_loss, region_loss):
        assert loss(teacher, same).abs().max() < 1e-6
        assert (loss(teacher, other) > 1e-3).all()


def test_false_positive_is_pushed_down() -> None:
    silent = {"p3": torch.full((1, 2, 2, 2), 0.01)}
    logits = torch.full((1, 2, 2, 2), -4.6, requires_grad=True)
    with torch.no_grad():
        logits[0, 1, 0, 1] = 3.0
    teacher, student = HeadAnswer(silent, {}), HeadAnswer({"p3": logits.sigmoid()}, {})
    score_loss(teacher, student).sum().backward()
    assert logits.grad[0, 1, 0, 1] > 0
    # More than where the student rightly says nothing, by far.
    others = logits.grad.clone()
    others[0, 1, 0, 1] = 0
    assert logits.grad[0, 1, 0, 1] > 100 * others.abs().max()


def test_missed_object_is_pulled_up() -> None:
    scores = torch.full((1, 2, 2, 2), 0.01)
    scores[0, 0, 1, 1] = 0.9
    logits = torch.full((1, 2, 2, 2), -4.6, requires_grad=True)
    score_loss(HeadAnswer({"p3": scores}, {}), HeadAnswer({"p3": logits.sigmoid()}, {})).backward()
    assert logits.grad[0, 0, 1, 1] < 0
    assert logits.grad.flatten().argmin() == 3


def test_certain_scores_stay_finite() -> None:
    sure = {"p3": torch.tensor([0.0, 1.0, 0.0, 1.0]).reshape(1, 4, 1, 1)}
    wrong = torch.tensor([1.0, 0.0, 0.0, 1.0]).reshape(1, 4, 1, 1).requires_grad_()
    loss = score_loss(HeadAnswer(sure, {}), HeadAnswer({"p3": wrong}, {}))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(wrong.grad).all()


def test_boxes_count_where_the_teacher_sees_something() -> None:
    scores = torch.tensor([0.9, 0.0]).reshape(1, 1, 1, 2)
    teacher = HeadAnswer({"p3": scores}, {"p3": torch.zeros(1, 4, 1, 2)})
    boxes = torch.ones(1, 4, 1, 2, requires_grad=True)
    loss = box_loss(teacher, HeadAnswer({"p3": scores}, {"p3": boxes}))
    loss.sum().backward()
    # Smooth L1 of 1 with beta 0.1 is 0.95, for four values.
    assert loss.tolist() == pytest.approx([3.8], rel=1e-4)
    assert (boxes.grad[..., 0] > 0).all()
    assert (boxes.grad[..., 1] == 0).all()


def test_head_without_boxes_or_second_stage_has_no_such_loss() -> None:
    teacher = HeadAnswer(answer(1).scores, {})
    student = HeadAnswer(answer(2).scores, {})
    assert float(box_loss(teacher, student)) == 0
    assert float(region_loss(teacher, student)) == 0


def test_region_loss_of_a_batch_is_made_of_its_images() -> None:
    teacher = replace(answer(1), regions=regions(5))
    wanted = regions(6)
    student = replace(answer(2), regions=replace(wanted, proposals=teacher.regions.proposals))
    together = region_loss(teacher, student)
    assert together.shape == (2,)
    sure = [float((1 - x[:, 0]).sum()) for x in teacher.regions.scores.split((3, 2))]
    for i, rows in enumerate((slice(0, 3), slice(3, 5))):

        def one(x: HeadAnswer, i: int = i, rows: slice = rows) -> HeadAnswer:
            part = Regions(
                x.regions.proposals[i : i + 1], x.regions.scores[rows], x.regions.boxes[rows]
            )
            return replace(x, regions=part)

        # Alone an image is divided by its own certainty, in a batch by the mean.
        alone = float(region_loss(one(teacher), one(student))) * sure[i]
        assert float(together[i]) == pytest.approx(alone / (sum(sure) / 2), rel=1e-4)


def test_image_without_proposals_costs_nothing() -> None:
    teacher = replace(answer(1), regions=regions(5, (3, 0)))
    student = replace(answer(2), regions=regions(6, (3, 0)))
    found = region_loss(teacher, student)
    assert found[0] > 0
    assert found[1] == 0


def test_region_boxes_count_for_the_class_the_teacher_sees() -> None:
    sure = torch.tensor([[0.1, 0.8, 0.1]])
    boxes = torch.zeros(1, 12)
    moved = boxes.clone().requires_grad_()
    with torch.no_grad():
        moved[:, 4:] = 1.0
    where = (torch.rand(1, 4),)
    teacher = HeadAnswer({}, {}, Regions(where, sure, boxes))
    region_loss(teacher, HeadAnswer({}, {}, Regions(where, sure, moved))).sum().backward()
    assert (moved.grad[0, 4:8] > 0).all()
    assert (moved.grad[0, :4] == 0).all()
    assert (moved.grad[0, 8:] == 0).all()

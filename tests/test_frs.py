"""FRS's losses against the published formula, written down once more in float64."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from fpcodec.distill.frs import (  # noqa: E402
    PUBLISHED,
    FrsWeights,
    feature_loss,
    richness,
    score_loss,
)
from fpcodec.errors import InputError  # noqa: E402


def published(teacher, student, logits, found_logits) -> tuple[float, float]:
    """Both losses of Du et al. (2021), level by level."""
    features = scores = 0.0
    for ft, fs, zt, zs in zip(teacher, student, logits, found_logits, strict=True):
        t, p = (1 / (1 + np.exp(-z)) for z in (zt, zs))
        s = t.max(axis=1, keepdims=True)
        features += (s * (ft - fs) ** 2).sum() / s.sum()
        cross_entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
        scores += (s * cross_entropy).sum() / s.sum()
    return features, scores


def maps(*values: object) -> list[torch.Tensor]:
    """One image per level, (1, C, H, W), from nested lists."""
    return [torch.tensor(x, dtype=torch.float32)[None] for x in values]


def noise(seed: int, channels: int) -> list[torch.Tensor]:
    """Two images on two levels."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(2, channels, *size, generator=random) for size in ((2, 2), (1, 3))]


def double(values: list[torch.Tensor]) -> list[np.ndarray]:
    return [x.double().numpy() for x in values]


TEACHER = maps([[[1.0, 2.0], [3.0, 4.0]], [[0.0, -1.0], [2.0, 0.5]]])
STUDENT = maps([[[1.5, 0.0], [3.0, 3.0]], [[1.0, -1.0], [2.0, 1.5]]])
LOGITS = maps([[[2.0, -1.0], [0.0, -3.0]], [[-2.0, 1.0], [-4.0, -1.0]]])
FOUND = maps([[[1.0, -2.0], [0.5, -1.0]], [[0.0, 2.0], [-1.0, 1.0]]])


@pytest.mark.parametrize("made", ["by hand", "by chance"])
def test_losses_are_the_published_ones(made: str) -> None:
    by_hand = (TEACHER, STUDENT, LOGITS, FOUND)
    by_chance = (noise(1, 3), noise(2, 3), noise(3, 5), noise(4, 5))
    teacher, student, logits, found = by_hand if made == "by hand" else by_chance
    weights = richness(logits)
    features, scores = published(*map(double, (teacher, student, logits, found)))
    assert float(feature_loss(teacher, student, weights)) == pytest.approx(features, rel=1e-4)
    assert float(score_loss(logits, found, weights)) == pytest.approx(scores, rel=1e-4)


def test_richness_is_the_highest_probability_of_a_position() -> None:
    (s,) = richness(LOGITS)
    assert s.shape == (1, 1, 2, 2)
    highest = torch.tensor([[2.0, 1.0], [0.0, -1.0]]).sigmoid()
    torch.testing.assert_close(s[0, 0], highest)


def test_even_weights_give_the_mean_over_positions() -> None:
    ones = [torch.ones(1, 1, 2, 2)]
    # Squared errors by position: 0.25 + 1, 4, 0, 1 + 1.
    assert float(feature_loss(TEACHER, STUDENT, ones)) == pytest.approx(7.25 / 4, rel=1e-5)


def test_a_batch_is_divided_by_its_whole_richness() -> None:
    teacher, student = [torch.cat([x, x]) for x in TEACHER], [torch.cat([x, x]) for x in STUDENT]
    loud = richness(LOGITS)[0]
    together = feature_loss(teacher, student, [torch.cat([loud, 1e-5 * loud])])
    # The image in which nothing is seen has no say; alone it would have the same loss.
    torch.testing.assert_close(together, feature_loss(TEACHER, STUDENT, [loud]), rtol=1e-3, atol=0)


def test_levels_are_added() -> None:
    weights = richness(LOGITS)
    once = feature_loss(TEACHER, STUDENT, weights), score_loss(LOGITS, FOUND, weights)
    twice = (
        feature_loss(2 * TEACHER, 2 * STUDENT, 2 * weights),
        score_loss(2 * LOGITS, 2 * FOUND, 2 * weights),
    )
    assert [float(x) for x in twice] == pytest.approx([2 * float(x) for x in once])


def test_a_loss_is_felt_only_where_the_teacher_sees_something() -> None:
    logits = [torch.full((1, 3, 2, 2), -60.0)]
    logits[0][0, 2, 1, 0] = 60.0
    weights = richness(logits)
    features = [torch.zeros(1, 2, 2, 2, requires_grad=True)]
    found = [torch.zeros(1, 3, 2, 2, requires_grad=True)]
    loss = feature_loss([torch.ones(1, 2, 2, 2)], features, weights)
    (loss + score_loss(logits, found, weights)).backward()
    assert float(loss.detach()) == pytest.approx(2, rel=1e-5)
    for values in (features[0], found[0]):
        felt = values.grad.abs().sum(dim=1)[0]
        assert felt[1, 0] > 0.1
        felt[1, 0] = 0
        assert felt.max() < 1e-6


def test_logits_that_are_certain_keep_the_loss_finite() -> None:
    logits = [torch.tensor([200.0, -200.0]).reshape(1, 2, 1, 1)]
    wrong = [torch.tensor([-200.0, 200.0]).reshape(1, 2, 1, 1).requires_grad_()]
    loss = score_loss(logits, wrong, richness(logits))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(400, rel=1e-4)
    assert torch.isfinite(wrong[0].grad).all()


def test_a_teacher_that_sees_nothing_costs_nothing() -> None:
    logits = [torch.full((1, 2, 2, 2), -200.0)]
    weights = richness(logits)
    assert float(feature_loss(TEACHER, STUDENT, weights)) == 0
    assert float(score_loss(logits, FOUND, weights)) == 0


def test_no_gradient_reaches_the_teacher() -> None:
    given_maps = [[x.clone().requires_grad_() for x in some]
                  for some in (TEACHER, LOGITS, STUDENT, FOUND)]  # fmt: skip
    teacher, logits, student, found = given_maps
    weights = richness(logits)
    (feature_loss(teacher, student, weights) + score_loss(logits, found, weights)).backward()
    assert all(x[0].grad is None for x in (teacher, logits))
    assert all(x[0].grad.abs().sum() > 0 for x in (student, found))


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.01, 1.0, 30.0]))
def test_losses_are_never_negative_and_equal_features_cost_nothing(seed: int, size: float) -> None:
    teacher, student = noise(seed, 3), noise(seed + 1, 3)
    logits, found = ([size * x for x in noise(seed + i, 4)] for i in (2, 3))
    weights = richness(logits)
    assert float(feature_loss(teacher, student, weights)) >= 0
    assert float(score_loss(logits, found, weights)) >= 0
    assert float(feature_loss(teacher, teacher, weights)) == 0


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (250, 0.5), (500, 1.0), (1000, 1.0)])
def test_weights_warm_up(step: int, share: float) -> None:
    assert all(x.share(step) == share for x in PUBLISHED.values())
    assert FrsWeights(1.0, 1.0, warm_steps=0).share(step) == 1


@pytest.mark.parametrize("weights", [(-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_weights_below_nothing_are_refused(weights: tuple[float, float, int]) -> None:
    with pytest.raises(InputError, match="below 0"):
        FrsWeights(*weights)


def test_maps_of_other_levels_are_not_compared() -> None:
    weights = richness(LOGITS)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        feature_loss(TEACHER, 2 * STUDENT, weights)

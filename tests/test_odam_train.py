"""Odam-Train: gradients in closed form, and losses that keep images apart."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")
pytest.importorskip("torchvision", reason="needs the torch extra")

from torch import nn  # noqa: E402

from fpcodec.data.scenes import CROWDED, generate_scene  # noqa: E402
from fpcodec.detectors.small_family import build_small  # noqa: E402
from fpcodec.detectors.tiny import TinyConfig  # noqa: E402
from fpcodec.errors import InputError, ModelError  # noqa: E402
from fpcodec.explain.odam_losses import odam_losses  # noqa: E402
from fpcodec.explain.odam_train import OdamTrained, class_maps, local_gradients  # noqa: E402


class Held(nn.Module):
    """A group normalisation whose statistics are what they were for one input."""

    def __init__(self, norm: Any, values: Any) -> None:
        super().__init__()
        groups = values.unflatten(1, (norm.num_groups, -1))
        self.mean = groups.mean(dim=(2, 3, 4), keepdim=True).detach()
        self.scale = (groups.var(dim=(2, 3, 4), correction=0, keepdim=True) + norm.eps).rsqrt()
        self.scale, self.norm = self.scale.detach(), norm

    def forward(self, values: Any) -> Any:
        groups = values.unflatten(1, (self.norm.num_groups, -1))
        flat = ((groups - self.mean) * self.scale).flatten(1, 2)
        return flat * self.norm.weight[:, None, None] + self.norm.bias[:, None, None]


def class_head() -> Any:
    torch.manual_seed(0)
    head = build_small("fcos", TinyConfig(), 0.5).head.classification_head  # type: ignore[union-attr]
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.1)
    return head.eval()


def with_held_statistics(head: Any, level: Any) -> Any:
    other = copy.deepcopy(head)
    values = level
    for i, layer in enumerate(head.conv):
        if isinstance(layer, nn.GroupNorm):
            other.conv[i] = Held(layer, values)
        values = layer(values)
    return other


@pytest.mark.parametrize(("row", "column"), [(7, 8), (0, 0), (13, 2)])
def test_the_closed_form_is_the_gradient_with_statistics_held(row: int, column: int) -> None:
    head, level = class_head(), torch.randn(2, 32, 14, 15).requires_grad_()
    held = with_held_statistics(head, level)
    label = 2
    logit = held.cls_logits(held.conv(level))[1, label, row, column]
    (wanted,) = torch.autograd.grad(logit, level)
    place = [torch.tensor([x]) for x in (1, row, column, label)]
    (found,) = local_gradients(head, level, *place)
    padded = nn.functional.pad(wanted, [5] * 4)[1, :, row : row + 11, column : column + 11]
    assert found.shape == (32, 11, 11)
    assert float(padded.abs().max()) > 0
    inside = nn.functional.pad(torch.ones(1, 1, 14, 15), [5] * 4)
    inside = inside[0, 0, row : row + 11, column : column + 11]
    torch.testing.assert_close(found * inside, padded, atol=1e-6, rtol=1e-3)
    assert not wanted[0].any()


def test_maps_lie_at_their_place_and_learn_through_the_features_alone() -> None:
    head = class_head()
    levels = [torch.randn(1, 32, 16, 16).requires_grad_(), torch.randn(1, 32, 8, 8)]
    places = torch.tensor([3 * 16 + 4, 16 * 16 + 6 * 8 + 1])
    zeros = torch.zeros(2, dtype=torch.int64)
    maps = class_maps(head, levels, zeros, places, zeros, (16, 16))
    assert maps.shape == (2, 16, 16)
    assert bool((maps >= 0).all())
    assert not maps[0, 9:].any()
    assert not maps[0, :, 10:].any()
    maps[0].sum().backward()
    assert levels[0].grad is not None
    assert bool(levels[0].grad.any())
    assert all(parameter.grad is None for parameter in head.parameters())


def losses(
    maps: Any, images: list[int], objects: list[int], ious: list[float], boxes: Any
) -> float:
    values = odam_losses(
        torch.tensor(maps)[:, None].float(), torch.tensor(images), torch.tensor(objects),
        torch.tensor(ious), torch.tensor(boxes).float(),
    )  # fmt: skip
    return float(values)


HERE, THERE = [0, 0, 10, 10], [50, 50, 60, 60]
LEAST = -math.log(1e-4)
SAME = -math.log(1 - 1e-4)


def test_two_images_with_the_same_index_share_no_object() -> None:
    # One object each, of index 0, with unlike maps: nothing to reproach either.
    maps = [[1.0, 0.0], [0.0, 1.0]]
    assert losses(maps, [0, 1], [0, 0], [0.9, 0.8], [HERE, HERE]) == pytest.approx(SAME, rel=1e-2)
    # In one image they are one object that is explained in two ways.
    found = losses(maps, [0, 0], [0, 0], [0.9, 0.8], [HERE, HERE])
    assert found == pytest.approx((SAME + LEAST) / 2, rel=1e-3)


def test_boxes_of_two_images_do_not_meet() -> None:
    maps = [[1.0, 0.0], [1.0, 0.0]]
    assert losses(maps, [0, 1], [0, 1], [0.9, 0.8], [HERE, HERE]) == pytest.approx(SAME, rel=1e-2)
    found = losses(maps, [0, 0], [0, 1], [0.9, 0.8], [HERE, HERE])
    assert found == pytest.approx((2 * SAME + 2 * LEAST) / 4, rel=1e-3)
    assert losses(maps, [0, 0], [0, 1], [0.9, 0.8], [HERE, THERE]) == pytest.approx(SAME, rel=1e-2)


def test_the_best_positive_is_the_reference() -> None:
    maps = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    half = -math.log(math.sqrt(0.5))
    found = losses(maps, [3] * 3, [7] * 3, [0.1, 0.2, 0.9], [HERE] * 3)
    assert found == pytest.approx((2 * half + SAME) / 3, rel=1e-3)


def test_no_positives_no_loss() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    found = odam_losses(torch.zeros(0, 4, 4), empty, empty, torch.zeros(0), torch.zeros(0, 4))
    assert float(found) == 0


def test_a_count_that_differs_is_refused() -> None:
    with pytest.raises(InputError, match="one of each per positive"):
        losses([[1.0, 0.0]], [0, 0], [0], [0.5], [HERE])


def batch(count: int) -> tuple[list[Any], list[dict[str, Any]]]:
    scenes = [generate_scene(1_000_000 + i, CROWDED) for i in range(count)]
    images = [torch.from_numpy(x.image).permute(2, 0, 1).float() for x in scenes]
    targets = [
        {"boxes": torch.from_numpy(x.boxes), "labels": torch.from_numpy(x.labels) + 1}
        for x in scenes
    ]
    return images, targets


def test_it_adds_a_loss_and_leaves_the_others_as_they_are() -> None:
    torch.manual_seed(0)
    model = build_small("fcos", TinyConfig(), 0.5).train()
    images, targets = batch(2)
    own = copy.deepcopy(model)(images, targets)
    found = OdamTrained(model)(images, targets)
    assert set(found) == {*own, "odam"}
    for name, value in own.items():
        torch.testing.assert_close(found[name], value)
    found["odam"].backward()
    assert any(x.grad is not None and bool(x.grad.any()) for x in model.backbone.parameters())
    # What learns is the features: the head hears nothing.
    assert all(x.grad is None for x in model.head.parameters())


def test_pictures_without_objects_can_be_trained_on() -> None:
    model = build_small("fcos", TinyConfig(), 0.5).train()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    found = OdamTrained(model)([torch.zeros(3, 320, 320)], [empty])
    assert float(found["odam"].detach()) == 0


def test_other_detectors_and_weights_are_refused() -> None:
    with pytest.raises(ModelError, match="give an fcos"):
        OdamTrained(build_small("retinanet", TinyConfig(), 0.5))
    with pytest.raises(InputError, match="above 0"):
        OdamTrained(build_small("fcos", TinyConfig(), 0.5), 0)

"""What every frozen head is held to: the detector's own word, batches, gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fpcodec.data import generate_scene
from fpcodec.pyramid import Pyramid
from fpcodec.training.heads import Head, HeadAnswer
from fpcodec.training.losses import box_loss, region_loss, score_loss


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """A generated scene's middle."""
    return np.ascontiguousarray(generate_scene(seed).image[:height, :width])


def pyramids(detector: Any) -> list[Pyramid]:
    """Of two images of different sizes that have one network size."""
    found = [detector.extract(picture(150, 97, 1)), detector.extract(picture(149, 98, 2))]
    assert found[0].geometry.content_size != found[1].geometry.content_size
    assert found[0].geometry.network_size == found[1].geometry.network_size
    return found


def batch(found: list[Pyramid]) -> dict[str, torch.Tensor]:
    """Coded levels of pyramids as a batch."""
    names = found[0].spec.coded_names
    return {n: torch.from_numpy(np.stack([x.levels[n] for x in found])) for n in names}


def assert_close(found: torch.Tensor, wanted: torch.Tensor | np.ndarray) -> None:
    torch.testing.assert_close(found, torch.as_tensor(wanted), rtol=1e-4, atol=1e-4)


def assert_says_what_the_detector_says(head: Head, detector: Any) -> None:
    """Answers for a batch are the detector's own, image by image."""
    found = pyramids(detector)
    with torch.no_grad():
        answer = head(batch(found))
    response = answer.response()
    for i, pyramid in enumerate(found):
        own = detector.head(pyramid)
        assert answer.scores.keys() == own.scores.keys()
        for name, scores in own.scores.items():
            assert_close(answer.scores[name][i], scores)
        for name, boxes in own.boxes.items():
            assert_close(answer.boxes[name][i, : len(boxes)], boxes)
        for name, values in detector.response(pyramid).items():
            assert_close(response[name][i, 0], values)


def assert_batch_is_its_images(head: Head, levels: dict[str, torch.Tensor]) -> None:
    """A batch is answered as its images are, one by one."""
    with torch.no_grad():
        together = head(levels)
        for i in range(len(next(iter(levels.values())))):
            alone = head({name: x[i : i + 1] for name, x in levels.items()}, one_image(together, i))
            for name, scores in alone.scores.items():
                assert_close(together.scores[name][i], scores[0])
            for name, boxes in alone.boxes.items():
                assert_close(together.boxes[name][i], boxes[0])
            if alone.regions is not None:
                wanted = one_image(together, i).regions
                assert_close(alone.regions.scores, wanted.scores)
                assert_close(alone.regions.boxes, wanted.boxes)


def one_image(answer: HeadAnswer, i: int) -> HeadAnswer:
    """What a batch's answer says of one image's regions."""
    if answer.regions is None:
        return answer
    counts = [len(x) for x in answer.regions.proposals]
    scores = answer.regions.scores.split(counts)[i]
    boxes = answer.regions.boxes.split(counts)[i]
    regions = replace(
        answer.regions, proposals=answer.regions.proposals[i : i + 1], scores=scores, boxes=boxes
    )
    return replace(answer, regions=regions)


def assert_gradients_reach_every_level(head: Head, levels: dict[str, torch.Tensor]) -> None:
    """Losses of a disturbed batch pull at every coded level; a perfect one costs nothing."""
    with torch.no_grad():
        teacher = head(levels)
    student = {name: (x * 1.1 + 0.01).requires_grad_() for name, x in levels.items()}
    answer = head(student, teacher)
    loss = score_loss(teacher, answer) + box_loss(teacher, answer) + region_loss(teacher, answer)
    assert loss.shape == (len(next(iter(levels.values()))),)
    loss.sum().backward()
    for name, x in student.items():
        assert torch.isfinite(x.grad).all(), name
        assert x.grad.abs().amax(dim=(1, 2, 3)).min() > 0, name

    with torch.no_grad():
        again = head(levels, teacher)
    for part in (score_loss, box_loss, region_loss):
        assert part(teacher, again).abs().max() < 1e-6


def assert_frozen(head: Any) -> None:
    assert isinstance(head, torch.nn.Module)
    assert not head.training
    assert not any(parameter.requires_grad for parameter in head.parameters())

"""A student detector beside its teacher, both torchvision's: one step gives all losses of both."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet

from fpcodec.distill.frs import PUBLISHED, FrsWeights, feature_loss, richness, score_loss
from fpcodec.errors import InputError, ModelError

LOSSES = ("none", "mse", "frs")
_CHANNELS = 256
"""Of the pyramids that the published weights are for."""


class Distiller(nn.Module):
    """A student that learns from boxes and from a teacher.

    Between the student's features and the teacher's stands one 3 x 3 convolution per level; it is
    trained along and then thrown away.

    Args:
        teacher: A trained Faster R-CNN, RetinaNet or FCOS; is frozen.
        student: Of the same class, with the same levels and anchors.
        loss: ``frs``; ``mse``, features alone and every position alike; or ``none``.
        weights: None for those published for this class.

    Raises:
        InputError: The loss is unknown, or both do not see pictures alike.
        ModelError: The detectors are not of one class that is known here.
    """

    def __init__(
        self,
        teacher: nn.Module,
        student: nn.Module,
        loss: str = "frs",
        weights: FrsWeights | None = None,
    ) -> None:
        super().__init__()
        if loss not in LOSSES:
            raise InputError(f"loss {loss!r} is not one of {', '.join(LOSSES)}")
        kind = kind_of(student)
        if kind_of(teacher) != kind:
            raise ModelError(
                f"a {type(student).__name__} cannot learn from a {type(teacher).__name__}'s "
                "scores; give two of one class"
            )
        mine, theirs = _transform(student), _transform(teacher)
        if (mine.image_mean, mine.image_std) != (theirs.image_mean, theirs.image_std):
            raise InputError(
                "teacher and student normalise pictures differently; give both one mean and "
                "deviation"
            )
        if _classes(student) != _classes(teacher):
            raise ModelError(
                f"the student scores {_classes(student)} classes, the teacher {_classes(teacher)}; "
                "give two of the same classes"
            )
        self.loss, self.weights = loss, weights or PUBLISHED[kind]
        self.student = student
        # In a list, so that its weights are no part of this module's.
        self._teacher = [teacher.eval().requires_grad_(False)]
        self._heard = _Ear(student)
        pair: list[Any] = [student, teacher]
        widths = [int(model.backbone.out_channels) for model in pair]
        names = self._level_names()
        self.adapters = nn.ModuleList(
            [nn.Conv2d(widths[0], widths[1], 3, padding=1) for _ in names]
        )

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Tensor]], step: int
    ) -> dict[str, Tensor]:
        """All losses of a batch, ready to be summed.

        Args:
            images: As torchvision's detectors take them.
            targets: Boxes and labels.
            step: Decides how far distillation is warmed up.
        """
        losses: dict[str, Tensor] = dict(self.student(list(images), list(targets)))
        if self.loss == "none":
            return losses
        with torch.no_grad():
            features, logits = _ask(self._teacher[0], self._heard.tensors)
        wanted = list(features.values())
        found = [
            adapter(x)
            for adapter, x in zip(self.adapters, self._heard.features.values(), strict=True)
        ]
        weights = richness(logits)
        share = self.weights.share(step)
        # The paper sums over 256 channels; its weight is kept per channel.
        alpha = self.weights.features * _CHANNELS / wanted[0].shape[1]
        if self.loss == "mse":
            weights = [torch.ones_like(x) for x in weights]
            losses["distill_features"] = share * alpha * feature_loss(wanted, found, weights)
            return losses
        losses["distill_features"] = share * alpha * feature_loss(wanted, found, weights)
        scores = score_loss(logits, self._heard.logits(), weights)
        losses["distill_scores"] = share * self.weights.scores * scores
        return losses

    @torch.no_grad()
    def _level_names(self) -> list[str]:
        """Of the teacher's levels, which the student must have too."""
        blank = torch.zeros(1, 3, 64, 64)
        names = []
        for model in (self.student, self._teacher[0]):
            training = model.training
            names.append(list(model.eval().backbone(blank)))  # type: ignore[operator]
            model.train(training)
        if names[0] != names[1]:
            raise ModelError(f"student has levels {names[0]}, teacher {names[1]}; give both the "
                             "same")  # fmt: skip
        return names[1]


def kind_of(model: nn.Module) -> str:
    """``fasterrcnn``, ``retinanet`` or ``fcos``.

    Raises:
        ModelError: It is none of them.
    """
    for kind, known in (("fasterrcnn", FasterRCNN), ("retinanet", RetinaNet), ("fcos", FCOS)):
        if isinstance(model, known):
            return kind
    raise ModelError(
        f"{type(model).__name__} cannot be distilled; use torchvision's FasterRCNN, RetinaNet or "
        "FCOS"
    )


class _Ear:
    """Hears what passes through a detector: its input, its pyramid, its class scores."""

    def __init__(self, model: Any) -> None:
        self.tensors: Tensor = torch.zeros(0)
        self.features: OrderedDict[str, Tensor] = OrderedDict()
        self._model, self._scores = model, None
        model.backbone.register_forward_hook(self._hear_backbone)
        _scorer(model).register_forward_hook(self._hear_scores)

    def logits(self) -> list[Tensor]:
        """Level by level, (N, K, H, W)."""
        return _by_level(self._model, self._scores, list(self.features.values()))

    def _hear_backbone(self, module: Any, inputs: Any, output: Any) -> None:
        self.tensors, self.features = inputs[0], output

    def _hear_scores(self, module: Any, inputs: Any, output: Any) -> None:
        self._scores = output


def _ask(model: Any, tensors: Tensor) -> tuple[OrderedDict[str, Tensor], list[Tensor]]:
    """A detector's pyramid and class scores, without its boxes."""
    features = model.backbone(tensors)
    levels = list(features.values())
    return features, _by_level(model, _scorer(model)(levels), levels)


def _scorer(model: Any) -> Any:
    return model.rpn.head if isinstance(model, FasterRCNN) else model.head.classification_head


def _classes(model: Any) -> int:
    """Scores per anchor: one of an RPN, whatever the second stage tells apart."""
    return 1 if isinstance(model, FasterRCNN) else int(_scorer(model).num_classes)


def _by_level(model: Any, scores: Any, levels: Sequence[Tensor]) -> list[Tensor]:
    """Class scores as maps: an RPN gives them so, dense heads as (N, positions, classes)."""
    if isinstance(model, FasterRCNN):
        return list(scores[0])
    anchors = 1 if isinstance(model, FCOS) else model.anchor_generator.num_anchors_per_location()[0]
    sizes = [x.shape[-2:] for x in levels]
    parts = scores.split([h * w * anchors for h, w in sizes], dim=1)
    return [
        part.unflatten(1, (*size, anchors)).flatten(3).permute(0, 3, 1, 2)
        for part, size in zip(parts, sizes, strict=True)
    ]


def _transform(model: Any) -> Any:
    return model.transform

"""Which torchvision detector to build, from a specification or a profile's configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import PurePath
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from fpcodec.detectors.torch_common import integer_option
from fpcodec.errors import InputError, ModelError

BUILDERS = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
)
"""The builders of ``torchvision.models.detection`` that can be cut."""

_FAMILY = re.compile(r"(fasterrcnn|maskrcnn|retinanet|fcos)_(resnet(?:18|34|50|101|152))_fpn")
_COCO_CLASSES = 91
# torchvision gives these COCO weights batch norms without epsilon, which they were trained with.
_NO_EPSILON = ("fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
_EVERY_FAMILY = {"num_classes": int, "min_size": int, "max_size": int}
_TWO_STAGE = {
    "box_score_thresh": float,
    "box_nms_thresh": float,
    "box_detections_per_img": int,
    "rpn_score_thresh": float,
    "rpn_nms_thresh": float,
    "rpn_pre_nms_top_n_test": int,
    "rpn_post_nms_top_n_test": int,
}
_ONE_STAGE = {
    "score_thresh": float,
    "nms_thresh": float,
    "detections_per_img": int,
    "topk_candidates": int,
}
_OTHERS = ("weights", "seed", "labels", "norm_eps", "threads")


@dataclass(frozen=True)
class Recipe:
    """How to build a torchvision detector without its weights.

    Attributes:
        architecture: One of ``BUILDERS``, or a family on another ResNet
            (``fasterrcnn_resnet18_fpn``, also ``maskrcnn``, ``retinanet`` and ``fcos``), or a
            builder of yours, ``module:function``. That function is imported and run wherever the
            profile is opened: use profiles from people you trust.
        arguments: Keyword arguments of the builder, numbers alone.
        norm_eps: Epsilon of the backbone's batch norms; None for the builder's own.
        seed: Of the random weights that the model is built with.
    """

    architecture: str
    arguments: Mapping[str, int | float] = field(default_factory=dict)
    norm_eps: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        known = self.architecture in BUILDERS or _FAMILY.fullmatch(self.architecture)
        if not known and not _is_own(self.architecture):
            raise InputError(
                f"torchvision detector {self.architecture!r} is unknown; use one of "
                f"{', '.join(BUILDERS)}, a family on another ResNet, or module:function for a "
                "builder of yours"
            )
        _check_names(self.architecture, self.arguments)
        # A profile may say which function is called, but not with any text of its choice.
        if not all(isinstance(value, int | float) for value in self.arguments.values()):
            raise InputError(f"{self.architecture}: arguments {self.arguments} are not all numbers")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; ``from_dict`` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """Read the form that ``to_dict`` writes.

        Raises:
            InputError: A key is missing or unknown, or a value is out of range.
        """
        try:
            return cls(**data)
        except TypeError as error:
            raise InputError(f"torchvision recipe cannot be used: {error}") from error


def recipe_from_spec(
    architecture: str, options: Mapping[str, str]
) -> tuple[Recipe, str | WeightsEnum | None, tuple[str, ...], int | None]:
    """Read the parts of a ``torchvision:`` specification.

    Returns:
        The recipe; the weights to load (a file, torchvision's, or None for random ones); class
        names; CPU threads or None.

    Raises:
        InputError: The architecture or an option is unknown, or a value is out of range.
    """
    recipe = Recipe(architecture)
    given = [name for name in options if name not in _OTHERS]
    _check_names(architecture, given)
    arguments = {name: _number(name, options[name]) for name in given}
    weights = _weights(architecture, options.get("weights", "none"))
    eps = _number("norm_eps", options["norm_eps"]) if "norm_eps" in options else None
    if eps is None and architecture in _NO_EPSILON and _is_official(architecture, weights):
        eps = 0.0
    categories: tuple[str, ...] = ()
    if isinstance(weights, WeightsEnum):
        categories = tuple(weights.meta["categories"])
        if arguments.setdefault("num_classes", len(categories)) != len(categories):
            raise InputError(
                f"{architecture} DEFAULT weights have {len(categories)} classes; leave "
                "num_classes out or give other weights"
            )
    elif not _is_own(architecture) and arguments.get("num_classes", _COCO_CLASSES) == _COCO_CLASSES:
        coco = models.detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1
        categories = tuple(coco.meta["categories"])
    if options.get("labels"):
        categories = tuple(options["labels"].split(","))
    seed = integer_option(options, "seed") or 0
    recipe = replace(recipe, arguments=arguments, norm_eps=eps, seed=seed)
    return recipe, weights, categories, integer_option(options, "threads")


def build(recipe: Recipe) -> nn.Module:
    """Build a recipe's model with random weights; torch's random state is left as it was.

    Raises:
        InputError: The builder does not take an argument.
        ModelError: It is a builder of the user's that cannot be imported or fails.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        try:
            model: Any = _construct(recipe.architecture, dict(recipe.arguments))
        except (TypeError, ValueError) as error:
            raise InputError(f"{recipe.architecture} cannot be built: {error}") from error
    if recipe.norm_eps is not None:
        for module in model.backbone.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = recipe.norm_eps
    return model  # type: ignore[no-any-return]


def _is_own(architecture: str) -> bool:
    module, _, function = architecture.partition(":")
    return bool(module and function)


def _build_own(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    module, _, function = architecture.partition(":")
    try:
        builder: Callable[..., nn.Module] = getattr(import_module(module), function)
    except Exception as error:  # whatever a user's module raises on import
        raise ModelError(
            f"torchvision builder {architecture!r} cannot be imported ({error}); put the folder of "
            f"{module.partition('.')[0]}.py on PYTHONPATH"
        ) from error
    try:
        return builder(**arguments)
    except Exception as error:  # whatever a user's function raises
        raise ModelError(
            f"torchvision builder {architecture!r} failed: {type(error).__name__}: {error}"
        ) from error


def _construct(architecture: str, arguments: dict[str, Any]) -> nn.Module:
    if _is_own(architecture):
        return _build_own(architecture, arguments)
    if architecture in BUILDERS:
        model: nn.Module = models.get_model(
            architecture, weights=None, weights_backbone=None, **arguments
        )
        return model
    matched = _FAMILY.fullmatch(architecture)
    if matched is None:
        raise ValueError("unknown architecture")
    family, backbone_name = matched.groups()
    arguments.setdefault("num_classes", _COCO_CLASSES)
    one_stage = family in ("retinanet", "fcos")
    backbone = resnet_fpn_backbone(
        backbone_name=backbone_name,
        weights=None,
        norm_layer=nn.BatchNorm2d,
        trainable_layers=5,
        returned_layers=[2, 3, 4] if one_stage else None,
        extra_blocks=LastLevelP6P7(256, 256) if one_stage else None,
    )
    classes = {"fasterrcnn": FasterRCNN, "maskrcnn": MaskRCNN, "retinanet": RetinaNet, "fcos": FCOS}
    built: nn.Module = classes[family](backbone, **arguments)
    return built


def _weights(architecture: str, text: str) -> str | WeightsEnum | None:
    if text == "none":
        return None
    if text != "DEFAULT":
        return text
    if architecture not in BUILDERS:
        raise InputError(f"torchvision has no weights for {architecture}; give weights=FILE")
    weights: WeightsEnum = models.get_model_weights(architecture).DEFAULT
    return weights


def _is_official(architecture: str, weights: str | WeightsEnum | None) -> bool:
    """Whether weights are torchvision's own for COCO, by their file's published name."""
    if isinstance(weights, str):
        url = str(models.get_model_weights(architecture).COCO_V1.url)
        return PurePath(weights).stem == PurePath(url).stem
    return weights is not None


def _check_names(architecture: str, names: Iterable[str]) -> None:
    """Refuse arguments of another family: torchvision would ignore them in silence."""
    if _is_own(architecture):
        return  # only the builder knows
    family = _TWO_STAGE if "rcnn_" in architecture else _ONE_STAGE
    for name in names:
        if name not in _EVERY_FAMILY and name not in family:
            raise InputError(
                f"{architecture} has no option {name!r}; it has "
                f"{', '.join((*_OTHERS, *_EVERY_FAMILY, *family))}"
            )


def _number(name: str, text: str) -> int | float:
    kinds = {**_EVERY_FAMILY, **_TWO_STAGE, **_ONE_STAGE, "norm_eps": float}
    # What no builder of torchvision takes is one of the user's builder, which knows what it wants.
    kind = kinds.get(name, int if re.fullmatch(r"[+-]?\d+", text) else float)
    try:
        return int(text) if kind is int else float(text)
    except ValueError as error:
        wanted = "an integer" if kind is int else "a number"
        raise InputError(f"option {name}={text!r} is not {wanted}") from error

"""torchvision's detectors with a feature pyramid: Faster and Mask R-CNN, RetinaNet, FCOS."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.torch_common import (
    Levels,
    TorchDetector,
    freeze,
    stack_image,
    text_options,
)
from fpcodec.detectors.torch_weights import apply_weights, load_halves, load_weights, save_halves
from fpcodec.detectors.torchvision_dense import blank_images, dense_maps, detect_one_stage
from fpcodec.detectors.torchvision_fpn import FpnCut
from fpcodec.detectors.torchvision_models import Recipe, build, recipe_from_spec
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import ImageGeometry, PyramidSpec

try:
    import torch
    from torch import Tensor, nn
    from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
    from torchvision.models.detection.roi_heads import paste_masks_in_image
except ImportError as error:
    raise MissingDependency(
        "torchvision detectors need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error

MASK_THRESHOLD = 0.5
_MASKS_AT_ONCE = 8


class TorchvisionDetector(TorchDetector):
    """A torchvision detector cut at its feature pyramid.

    Both sides need torch and torchvision. Labels are torchvision's own: index 0 is background
    for R-CNN models, and COCO weights use COCO's category numbers.

    Attributes:
        model: The whole model, in evaluation mode with frozen parameters. Its RoI pooling is set
            to the pyramid's true strides; torchvision itself guesses them from the first image.
        recipe: How to rebuild the model, None where it is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        recipe: Recipe | None = None,
        labels: Sequence[str] = (),
        role: str = "both",
        threads: int | None = None,
    ) -> None:
        """Cut a model; use ``wrap``, ``from_spec`` or ``from_config`` instead.

        Raises:
            ModelError: The model is of another family or its backbone cannot be cut.
        """
        if not isinstance(model, (FasterRCNN, RetinaNet, FCOS)):
            raise ModelError(
                f"{type(model).__name__} cannot be cut; use a torchvision Faster R-CNN, "
                "Mask R-CNN, RetinaNet or FCOS with an FPN, or export yours to ONNX (kind onnx)"
            )
        freeze(model)
        self.model: Any = model
        self.recipe = recipe
        self._cut = FpnCut(model.backbone, model.transform.size_divisible)
        super().__init__(self._cut.edge, self._cut.spec, labels, role, threads)
        if isinstance(model, FasterRCNN):
            self._set_pooling_strides()

    @classmethod
    def wrap(
        cls,
        model: nn.Module,
        *,
        labels: Sequence[str] = (),
        recipe: Recipe | None = None,
        threads: int | None = None,
    ) -> TorchvisionDetector:
        """Cut a model of your own; it is frozen and put in evaluation mode in place.

        Args:
            model: A torchvision ``FasterRCNN``, ``MaskRCNN``, ``RetinaNet`` or ``FCOS`` whose
                backbone is a ``BackboneWithFPN``.
            labels: Class names by torchvision's label numbers.
            recipe: How ``from_config`` rebuilds the model; needed by ``export`` alone.
            threads: CPU threads for torch, process-wide; None leaves them as they are.

        Raises:
            ModelError: The model is of another family or its backbone cannot be cut.
        """
        return cls(model, labels=labels, recipe=recipe, threads=threads)

    @classmethod
    def from_spec(cls, argument: str, options: Mapping[str, Any]) -> TorchvisionDetector:
        """Build ``torchvision:ARGUMENT?options``.

        Args:
            argument: A builder of ``torchvision.models.detection``, one of its families on
                another ResNet, such as ``fasterrcnn_resnet18_fpn``, or a builder of your own,
                ``module:function``.
            options: ``weights`` is ``none`` (random, the default), ``DEFAULT`` (torchvision's,
                downloaded by torchvision) or a ``.safetensors``/``.pth`` file; ``seed`` for
                random weights; ``num_classes``, ``min_size``, ``max_size``, ``labels`` (comma
                separated), ``norm_eps``, ``threads``, and the thresholds of the model's builder.
                A builder of your own gets all others; its model keeps the weights it comes with
                unless ``weights`` names a file.

        Raises:
            InputError: The name or an option is unknown or out of range.
            ModelError: The weights cannot be read or are of another model.
        """
        recipe, weights, labels, threads = recipe_from_spec(argument, text_options(options))
        model = build(recipe)
        if isinstance(weights, str):
            apply_weights(model, load_weights(weights), weights)
        elif weights is not None:
            apply_weights(model, weights.get_state_dict(check_hash=True), str(weights))
        return cls(model, recipe=recipe, labels=labels, threads=threads)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        folder: str | Path,
        role: str = "both",
        threads: int | None = None,
        providers: Sequence[str] = (),
    ) -> TorchvisionDetector:
        """Open what ``export`` wrote; each role reads its own half's weights alone.

        Needs torch and torchvision on both sides. ``providers`` names onnxruntime's backends and
        is ignored.

        Raises:
            ModelError: The configuration is of another kind, or the weights cannot be read.
        """
        if config.get("kind") != "torchvision" or not config.get("recipe"):
            raise ModelError("not a torchvision detector's configuration; export it again")
        recipe = Recipe.from_dict(config["recipe"])
        detector = cls(
            build(recipe),
            recipe=recipe,
            labels=config.get("labels", ()),
            role=role,
            threads=threads,
        )
        if detector.spec != PyramidSpec.from_dict(config["spec"]):
            raise ModelError("the model's pyramid differs from the profile's; export it again")
        load_halves(detector.model, detector._cut.is_edge_tensor, folder, role)
        detector._drop_other_half()
        return detector

    @property
    def config(self) -> dict[str, Any]:
        """JSON-able description; ``from_config`` reads it beside the files of ``export``."""
        return {
            "kind": "torchvision",
            "recipe": None if self.recipe is None else self.recipe.to_dict(),
            "labels": list(self.labels),
            "spec": self.spec.to_dict(),
        }

    def export(self, folder: str | Path) -> dict[str, Any]:
        """Write the weights of both halves, each its own safetensors file.

        Returns:
            The configuration, as ``config``, and each file's sha256 under ``files``.

        Raises:
            ModelError: Only one half is loaded, or it is not known how to rebuild the model.
        """
        if self.role != "both":
            raise ModelError(f"only the {self.role} half is loaded; open it with role 'both'")
        if self.recipe is None:
            raise ModelError(
                "a wrapped model cannot be rebuilt by name; give wrap(model, recipe=Recipe(...))"
            )
        return {**self.config, "files": save_halves(self.model, self._cut.is_edge_tensor, folder)}

    def export_onnx(
        self, folder: str | Path, image_size: tuple[int, int], example: Image | None = None
    ) -> dict[str, Any]:
        """Write both halves as ONNX graphs, so that neither side needs torch.

        See ``torchvision_onnx.export_onnx``.
        """
        from fpcodec.detectors.torchvision_onnx import export_onnx

        return export_onnx(self, Path(folder), image_size, example)

    def content_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """See the base class; ``GeneralizedRCNNTransform``'s arithmetic in double precision."""
        transform = self.model.transform
        if transform.fixed_size is not None:
            return int(transform.fixed_size[0]), int(transform.fixed_size[1])
        scale = min(transform.min_size[-1] / min(image_size), transform.max_size / max(image_size))
        return math.floor(float(image_size[0]) * scale), math.floor(float(image_size[1]) * scale)

    def _network_input(self, image: Image) -> Tensor:
        images, _ = self.model.transform([stack_image(image).float() / 255])
        tensors: Tensor = images.tensors
        return tensors

    def _complete(self, levels: Levels) -> dict[str, Tensor]:
        return self._cut.head_maps(levels)

    def _dense(self, levels: Levels) -> HeadOutput:
        keys = [key for some in self._cut.level_maps.values() for key in some]
        maps = [levels[key] for key in keys]
        if isinstance(self.model, FasterRCNN):
            logits, deltas = self.model.rpn.head(maps)
            dense = [(x.sigmoid(), y) for x, y in zip(logits, deltas, strict=True)]
        else:
            dense = dense_maps(self.model, maps)
        found = dict(zip(keys, dense, strict=True))
        parts = {n: [found[key] for key in some] for n, some in self._cut.level_maps.items()}
        return HeadOutput(
            {name: torch.cat([x for x, _ in some], dim=1) for name, some in parts.items()},
            {name: torch.cat([y for _, y in some], dim=1) for name, some in parts.items()},
            of_classes=not isinstance(self.model, FasterRCNN),
        )

    def detect_tensors(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """See the base class."""
        found = self.detect_in_network(levels, geometry, rpn_levels)
        width, height = geometry.content_size
        original = (geometry.image_size[1], geometry.image_size[0])
        plain = {name: found[name] for name in ("boxes", "scores", "labels")}
        kept: dict[str, Tensor] = self.model.transform.postprocess(
            [plain], [(height, width)], [original]
        )[0]
        if "masks" in found:
            kept["masks"] = _paste_masks(found["masks"], kept["boxes"], original)
        return kept

    def detect_in_network(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """As ``detect_tensors``, with boxes in network pixels and masks as the head gives them.

        Masks are probabilities (N, 1, 28, 28) within their boxes.
        """
        self._require("server")
        features = OrderedDict(self._complete(self.complete_spec(levels)))
        sizes = geometry.network_size, geometry.content_size
        width, height = geometry.content_size
        if isinstance(self.model, FasterRCNN):
            seen = features
            if rpn_levels is not None:
                seen = OrderedDict(self._complete(self.complete_spec(rpn_levels)))
            blank = blank_images(next(iter(seen.values())), *sizes)
            proposals, _ = self.model.rpn(blank, seen)
            first: dict[str, Tensor] = self.model.roi_heads(features, proposals, [(height, width)])[
                0
            ][0]
            return first
        if rpn_levels is not None:
            raise InputError(f"{type(self.model).__name__} has no RPN; leave rpn_pyramid out")
        return detect_one_stage(self.model, list(features.values()), *sizes)

    def _set_pooling_strides(self) -> None:
        """Fix the scales that ``MultiScaleRoIAlign`` infers from the first image it sees.

        It rounds feature size over content size, which a narrow first image (mostly padding) gets
        wrong for every image after it.
        """
        side = 4 * max(self._cut.map_strides.values())
        blank = {
            key: torch.zeros(1, self.model.backbone.out_channels, side // stride, side // stride)
            for key, stride in self._cut.map_strides.items()
        }
        heads = self.model.roi_heads
        for pool in (heads.box_roi_pool, heads.mask_roi_pool, heads.keypoint_roi_pool):
            if pool is not None:
                pool.scales = pool.map_levels = None
                pool(blank, [torch.zeros(1, 4)], [(side, side)])

    def _drop_other_half(self) -> None:
        if self.role == "server":
            self._cut.drop_edge()
            self.edge = nn.Identity()
        elif self.role == "edge":
            heads = ("rpn", "roi_heads") if isinstance(self.model, FasterRCNN) else ("head",)
            for name in heads:
                setattr(self.model, name, nn.Identity())


def _paste_masks(masks: Tensor, boxes: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Paste (N, 1, 28, 28) probabilities into (N, H, W) bool.

    A few at a time: torchvision's own pasting holds all of them as float32 images.
    """
    height, width = image_size
    Detections.require_room(len(masks), (width, height))
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool)
    for start in range(0, len(masks), _MASKS_AT_ONCE):
        part = slice(start, start + _MASKS_AT_ONCE)
        soft = paste_masks_in_image(masks[part], boxes[part].detach(), image_size)
        pasted[part] = soft[:, 0] > MASK_THRESHOLD
    return pasted

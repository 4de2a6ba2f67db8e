"""detectron2's detectors with a feature pyramid: Faster and Mask R-CNN, RetinaNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.detectron2_models import (
    apply_options,
    build,
    class_names,
    is_configured,
    parse_configuration,
    read_configuration,
    require_detectron2,
)
from fpcodec.detectors.torch_common import (
    Levels,
    TorchDetector,
    freeze,
    integer_option,
    stack_image,
    text_options,
)
from fpcodec.detectors.torch_weights import apply_weights, load_halves, load_weights, save_halves
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import ImageGeometry, PyramidSpec

try:
    from torch import Tensor, nn
except ImportError as error:
    raise MissingDependency(
        "detectron2 detectors need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error


class Detectron2Detector(TorchDetector):
    """A detectron2 detector cut at its feature pyramid, on the CPU.

    Both sides need torch, torchvision and detectron2. Labels count from 0, as detectron2's do.

    Attributes:
        model: The whole model, in evaluation mode with frozen parameters.
        cfg: Its detectron2 ``CfgNode``.
    """

    def __init__(
        self,
        model: nn.Module,
        cfg: Any,
        *,
        labels: Sequence[str] = (),
        role: str = "both",
        threads: int | None = None,
    ) -> None:
        """Cut a model; use ``wrap``, ``from_spec`` or ``from_config`` instead.

        Raises:
            ModelError: The model is of another family or its backbone cannot be cut.
        """
        require_detectron2()
        from detectron2.modeling import GeneralizedRCNN
        from detectron2.modeling.meta_arch import RetinaNet

        from fpcodec.detectors.detectron2_fpn import FpnCut

        if type(model) not in (GeneralizedRCNN, RetinaNet):
            raise ModelError(
                f"{type(model).__name__} cannot be cut; use a detectron2 GeneralizedRCNN or "
                "RetinaNet with an FPN"
            )
        freeze(model)
        self.model: Any = model
        self.cfg = cfg
        self._two_stage = type(model) is GeneralizedRCNN
        self._cut = FpnCut(self.model.backbone, self._levels_read())
        super().__init__(self._cut.edge, self._cut.spec, labels, role, threads)

    @classmethod
    def wrap(
        cls, model: nn.Module, cfg: Any, *, labels: Sequence[str] = (), threads: int | None = None
    ) -> Detectron2Detector:
        """Cut a model of your own; it is frozen and put in evaluation mode in place.

        Args:
            model: A detectron2 ``GeneralizedRCNN`` or ``RetinaNet`` with an FPN, on the CPU.
            cfg: The ``CfgNode`` it was built from: resizing and channel order are read from it.
            labels: Class names by detectron2's label numbers.
            threads: CPU threads for torch, process-wide; None leaves them as they are.

        Raises:
            MissingDependency: detectron2 is not installed.
            ModelError: The model is of another family or its backbone cannot be cut.
        """
        return cls(model, cfg, labels=labels, threads=threads)

    @classmethod
    def from_spec(cls, argument: str, options: Mapping[str, Any]) -> Detectron2Detector:
        """Build ``detectron2:ARGUMENT?options``.

        Args:
            argument: A YAML file, or a name in the installed package's model zoo such as
                ``COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml``. Only the latter may use YAML
                that evaluates code. Nothing is downloaded.
            options: ``weights`` is ``none`` (random, the default) or a
                ``.safetensors``/``.pth`` file; ``seed`` for random weights; ``min_size``,
                ``max_size``, ``num_classes``, ``score_thresh``, ``labels`` (comma separated),
                ``threads``; any key with a dot overrides the configuration.

        Raises:
            MissingDependency: detectron2 is not installed.
            InputError: The configuration or an option is unknown or out of range.
            ModelError: The weights cannot be read or are of another model.
        """
        require_detectron2()
        options = text_options(options)
        cfg = read_configuration(argument)
        apply_options(cfg, options)
        model = build(cfg, integer_option(options, "seed") or 0)
        weights = options.get("weights", "none")
        if weights != "none":
            state = {n: t for n, t in load_weights(weights).items() if not is_configured(n)}
            apply_weights(model, state, weights)
        labels = options["labels"].split(",") if options.get("labels") else class_names(cfg)
        return cls(model, cfg, labels=labels, threads=integer_option(options, "threads"))

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        folder: str | Path,
        role: str = "both",
        threads: int | None = None,
        providers: Sequence[str] = (),
    ) -> Detectron2Detector:
        """Open what ``export`` wrote; each role reads its own half's weights alone.

        Needs torch and detectron2 on both sides. ``providers`` names onnxruntime's backends and
        is ignored.

        Raises:
            MissingDependency: detectron2 is not installed.
            ModelError: The configuration is of another kind, or the weights cannot be read.
        """
        require_detectron2()
        if config.get("kind") != "detectron2" or not config.get("configuration"):
            raise ModelError("not a detectron2 detector's configuration; export it again")
        cfg = parse_configuration(config["configuration"])
        model = build(cfg, 0)
        detector = cls(model, cfg, labels=config.get("labels", ()), role=role, threads=threads)
        if detector.spec != PyramidSpec.from_dict(config["spec"]):
            raise ModelError("the model's pyramid differs from the profile's; export it again")
        load_halves(detector.model, detector._cut.is_edge_tensor, folder, role)
        detector._drop_other_half()
        return detector

    @property
    def config(self) -> dict[str, Any]:
        """JSON-able description; ``from_config`` reads it beside the files of ``export``."""
        return {
            "kind": "detectron2",
            "configuration": self.cfg.dump(),
            "labels": list(self.labels),
            "spec": self.spec.to_dict(),
        }

    def export(self, folder: str | Path) -> dict[str, Any]:
        """Write the weights of both halves, each its own safetensors file.

        Returns:
            The configuration, as ``config``, and each file's sha256 under ``files``.

        Raises:
            ModelError: Only one half is loaded.
        """
        if self.role != "both":
            raise ModelError(f"only the {self.role} half is loaded; open it with role 'both'")
        return {**self.config, "files": save_halves(self.model, self._cut.is_edge_tensor, folder)}

    def content_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """See the base class; the arithmetic of detectron2's ``ResizeShortestEdge``."""
        width, height = image_size
        short, longest = self.cfg.INPUT.MIN_SIZE_TEST, self.cfg.INPUT.MAX_SIZE_TEST
        if short == 0:
            return width, height
        scale = short * 1.0 / min(height, width)
        new_height, new_width = (
            (short * 1.0, scale * width) if height < width else (scale * height, short * 1.0)
        )
        if max(new_height, new_width) > longest:
            scale = longest * 1.0 / max(new_height, new_width)
            new_height, new_width = new_height * scale, new_width * scale
        return int(new_width + 0.5), int(new_height + 0.5)

    def _network_input(self, image: Image) -> Tensor:
        size = self.content_size((image.shape[1], image.shape[0]))
        # Pillow's bilinear resize of the 8-bit image, as detectron2 does it.
        resized = PillowImage.fromarray(np.ascontiguousarray(image))
        if resized.size != size:
            resized = resized.resize(size, PillowImage.Resampling.BILINEAR)
        pixels = stack_image(np.asarray(resized))
        if self.cfg.INPUT.FORMAT == "BGR":
            pixels = pixels.flip(0)
        batch: Tensor = self.model.preprocess_image([{"image": pixels.float()}]).tensor
        return batch

    def _levels_read(self) -> set[str]:
        """Names of the levels that the heads read."""
        if not self._two_stage:
            return set(self.model.head_in_features)
        names = set(self.model.proposal_generator.in_features)
        heads = self.model.roi_heads
        for attribute in ("in_features", "mask_in_features", "keypoint_in_features"):
            names.update(getattr(heads, attribute, None) or ())
        return names

    def _complete(self, levels: Levels) -> dict[str, Tensor]:
        return self._cut.head_maps(levels)

    def _dense(self, levels: Levels) -> HeadOutput:
        names = (
            self.model.proposal_generator.in_features
            if self._two_stage
            else self.model.head_in_features
        )
        head = self.model.proposal_generator.rpn_head if self._two_stage else self.model.head
        logits, deltas = head([levels[name] for name in names])
        if not self._two_stage:
            logits = [
                x.reshape(len(x), -1, self.model.num_classes, *x.shape[-2:]).amax(dim=1)
                for x in logits
            ]
        scores = {name: x.sigmoid() for name, x in zip(names, logits, strict=True)}
        return HeadOutput(scores, dict(zip(names, deltas, strict=True)), not self._two_stage)

    def detect_tensors(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """See the base class."""
        self._require("server")
        from detectron2.modeling.postprocessing import detector_postprocess
        from detectron2.structures import ImageList

        features = self._complete(self.complete_spec(levels))
        width, height = geometry.content_size
        # Proposals and heads ask the images for their sizes alone.
        any_map = next(iter(features.values()))
        blank = any_map.new_zeros(()).expand(1, 3, *reversed(geometry.network_size))
        images = ImageList(blank, [(height, width)])
        if self._two_stage:
            seen = features
            if rpn_levels is not None:
                seen = self._complete(self.complete_spec(rpn_levels))
            proposals, _ = self.model.proposal_generator(images, seen, None)
            found, _ = self.model.roi_heads(images, features, proposals, None)
        elif rpn_levels is not None:
            raise InputError("RetinaNet has no RPN; leave rpn_pyramid out")
        else:
            maps = [features[name] for name in self.model.head_in_features]
            found = self.model.forward_inference(images, maps, self.model.head(maps))
        original_width, original_height = geometry.image_size
        if found[0].has("pred_masks"):
            Detections.require_room(len(found[0]), geometry.image_size)
        kept = detector_postprocess(found[0], original_height, original_width)
        tensors = {
            "boxes": kept.pred_boxes.tensor,
            "scores": kept.scores,
            "labels": kept.pred_classes,
        }
        if kept.has("pred_masks"):
            tensors["masks"] = kept.pred_masks
        return tensors

    def _drop_other_half(self) -> None:
        if self.role == "server":
            self.model.backbone = nn.Identity()
            self._cut.drop_edge()
            self.edge = nn.Identity()
        elif self.role == "edge":
            heads = ("proposal_generator", "roi_heads") if self._two_stage else ("head",)
            for name in heads:
                setattr(self.model, name, nn.Identity())

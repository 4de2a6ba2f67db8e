"""What the adapters of torch detectors share: tensors in and out of the Detector protocol.

An adapter provides two modules, the edge's half and the server's half, and the arithmetic of its
own resizing; everything that does not depend on the framework is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.preprocess import check_image
from fpcodec.errors import InputError, MissingDependency, ModelError
from fpcodec.pyramid import MAX_SIDE, Array, ImageGeometry, Pyramid, PyramidSpec, derive

try:
    import torch
    from torch import Tensor, nn
    from torch.func import functional_call
    from torch.utils.flop_counter import FlopCounterMode
except ImportError as error:
    raise MissingDependency(
        "torch detectors need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error

Levels = Mapping[str, Tensor]
"""Level name to features, shape (N, C, H, W), float32."""

ROLES = ("edge", "server", "both")


class TorchDetector(ABC):
    """A torch detector cut at its feature pyramid; keeps the ``Detector`` protocol.

    The model is put in evaluation mode and its parameters are frozen; gradients still reach the
    features given to ``head`` and ``detect_tensors``. Runs on the CPU.

    Attributes:
        spec: The pyramid at the cut.
        labels: Class names that ``Detections.labels`` indexes; empty where unknown.
        role: ``edge``, ``server`` or ``both``: which half is loaded.
        edge: The edge's half, called with a network input (N, 3, H, W) and level names.
    """

    def __init__(
        self,
        edge: nn.Module,
        spec: PyramidSpec,
        labels: Sequence[str] = (),
        role: str = "both",
        threads: int | None = None,
    ) -> None:
        if role not in ROLES:
            raise InputError(f"role {role!r} is not one of {', '.join(ROLES)}")
        if threads is not None:
            torch.set_num_threads(threads)
        self.spec = spec
        self.labels = tuple(labels)
        self.role = role
        self.edge = edge
        self._last_network_size: tuple[int, int] | None = None
        self._macs: dict[tuple[tuple[str, ...], tuple[int, int]], int] = {}
        self._server_macs: dict[tuple[int, int], int] = {}

    @abstractmethod
    def content_size(self, image_size: tuple[int, int]) -> tuple[int, int]:
        """``(width, height)`` in pixels that the model resizes an image to, before padding."""

    @abstractmethod
    def _network_input(self, image: Image) -> Tensor:
        """The network's input (1, 3, H, W), float32, for a checked image."""

    @abstractmethod
    def _complete(self, levels: Levels) -> dict[str, Tensor]:
        """Level by level what the head reads, from every level of the specification."""

    @abstractmethod
    def _dense(self, levels: Levels) -> HeadOutput:
        """The dense head on the completed levels; tensors (N, K, H, W), scores in [0, 1]."""

    @abstractmethod
    def detect_tensors(
        self, levels: Levels, geometry: ImageGeometry, rpn_levels: Levels | None = None
    ) -> dict[str, Tensor]:
        """Detect on the levels of one image, keeping gradients.

        Args:
            levels: Every coded level of the specification, (1, C, H, W).
            geometry: The image's geometry.
            rpn_levels: What the RPN sees instead, where the detector has one.

        Returns:
            ``boxes`` (N, 4) in image pixels, ``scores`` (N,), ``labels`` (N,) and, where the
            model finds them, ``masks`` (N, H, W) bool. Boxes and scores carry gradients to
            ``levels``; which boxes were selected does not.
        """

    def extract(self, image: Image, levels: Sequence[str] | None = None) -> Pyramid:
        """Run backbone and pyramid on one image.

        Args:
            image: Shape (H, W, 3), uint8, RGB.
            levels: Level names to compute; None for all coded levels. Laterals finer than the
                finest level asked for, and output convolutions of other levels, are skipped.

        Raises:
            InputError: The image is empty, too large or of another type; a level is unknown or
                derived.
            ModelError: This detector was opened for the server alone.
        """
        self._require("edge")
        check_image(image)
        names = self._coded(levels)
        geometry = self.geometry((image.shape[1], image.shape[0]))
        with torch.inference_mode():
            features = self.edge(self._network_input(image), names)
        self._last_network_size = geometry.network_size
        return Pyramid(self.spec, {n: features[n][0].numpy() for n in names}, geometry)

    def head(self, pyramid: Pyramid | Levels) -> HeadOutput:
        """Run the dense head (RPN or one-stage head) on a pyramid with every level present.

        Differentiable: give a mapping of level name to tensor (N, C, H, W) instead of a
        ``Pyramid`` and the output holds tensors (N, K, H, W) that carry gradients; a ``Pyramid``
        gives numpy arrays (K, H, W). Levels that the server computes itself (RetinaNet's and
        FCOS's ``p7``) are in the output too.

        Returns:
            Scores: RPN objectness per anchor, or per class the highest over the anchors. Boxes:
            the head's raw regression, 4 per anchor.

        Raises:
            InputError: A coded level is missing.
            ModelError: This detector was opened for the edge alone.
        """
        self._require("server")
        if not isinstance(pyramid, Pyramid):
            return self._dense(self._complete(self.complete_spec(pyramid)))
        with torch.inference_mode():
            output = self._dense(self._complete(self.tensors(pyramid)))
        return HeadOutput(
            {name: values[0].numpy() for name, values in output.scores.items()},
            {name: values[0].numpy() for name, values in output.boxes.items()},
            output.of_classes,
        )

    def response(self, pyramid: Pyramid) -> Mapping[str, Array]:
        """Response S: per level of the specification the head's highest score, shape (H, W).

        RPN objectness for two-stage detectors, the highest class score for one-stage ones: the
        mask of FRS (Du et al., NeurIPS 2021).
        """
        scores = self.head(pyramid).scores
        return {name: scores[name].max(axis=0) for name in self.spec.names}

    def detect(self, pyramid: Pyramid, rpn_pyramid: Pyramid | None = None) -> Detections:
        """Run the head and the model's own selection of boxes.

        Args:
            pyramid: Every coded level; derived levels that are absent are computed.
            rpn_pyramid: Seen by the RPN in place of ``pyramid`` while the RoI heads keep
                ``pyramid``: the scope in which some published results were measured. None for
                the same pyramid, which is what a split detector does.

        Raises:
            InputError: A coded level is missing, or ``rpn_pyramid`` is given to a detector that
                has no RPN.
            ModelError: This detector was opened for the edge alone.
        """
        self._require("server")
        with torch.inference_mode():
            rpn_levels = None if rpn_pyramid is None else self.tensors(rpn_pyramid)
            found = self.detect_tensors(self.tensors(pyramid), pyramid.geometry, rpn_levels)
        masks = found.get("masks")
        # Scaling a box that was clipped in network pixels may leave the image by a rounding.
        limit = np.asarray(pyramid.geometry.image_size * 2, np.float32)
        return Detections(
            np.clip(found["boxes"].numpy().astype(np.float32, copy=False), 0, limit),
            found["scores"].numpy().astype(np.float32, copy=False),
            found["labels"].numpy().astype(np.int64, copy=False),
            None if masks is None else masks.numpy(),
        )

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        """How an image of ``(width, height)`` pixels lies in the network's input, top left.

        Raises:
            InputError: The image is too large, too narrow for the model's resizing, or
                ``network_size`` is not what the model gives such an image.
        """
        if not all(1 <= side <= MAX_SIDE for side in image_size):
            raise InputError(f"image size {image_size} has a side outside 1..{MAX_SIDE}")
        width, height = self.content_size(image_size)
        if min(width, height) < 1:
            raise InputError(
                f"image {image_size[0]}x{image_size[1]} shrinks to {width}x{height} pixels in the "
                "network; give a less narrow image"
            )
        divisor = self.spec.size_divisor
        padded = (-(-width // divisor) * divisor, -(-height // divisor) * divisor)
        if network_size is not None and tuple(network_size) != padded:
            raise InputError(
                f"an image of {image_size[0]}x{image_size[1]} has a network input of "
                f"{padded[0]}x{padded[1]}, not {network_size[0]}x{network_size[1]}; "
                "use the same detector configuration on both sides"
            )
        return ImageGeometry((image_size[0], image_size[1]), padded, (width, height))

    def macs(
        self, levels: Sequence[str] | None = None, network_size: tuple[int, int] | None = None
    ) -> int | None:
        """Multiply-accumulates of ``extract``, convolutions and matrix products alone.

        Args:
            levels: Level names; None for all coded levels.
            network_size: ``(width, height)`` of the network input; None for the last image
                extracted, or a 640 x 480 image before the first.

        Raises:
            ModelError: This detector was opened for the server alone.
        """
        self._require("edge")
        names = self._coded(levels)
        size = network_size or self._last_network_size or self.geometry((640, 480)).network_size
        key = (names, size)
        if key not in self._macs:
            # On the meta device shapes are worked out and nothing is computed.
            tensors = {**dict(self.edge.named_parameters()), **dict(self.edge.named_buffers())}
            blank = {name: tensor.to("meta") for name, tensor in tensors.items()}
            image = torch.empty((1, 3, size[1], size[0]), device="meta")
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                functional_call(self.edge, blank, (image, names))
            self._macs[key] = counter.get_total_flops() // 2
        return self._macs[key]

    @property
    def server_macs(self) -> int | None:
        """Multiply-accumulates of the head, convolutions and matrix products alone.

        Counted once, on noise of the last pyramid's size, which gives a two-stage head nearly as
        many proposals as it takes.

        Raises:
            ModelError: This detector was opened for the edge alone.
        """
        self._require("server")
        size = self._last_network_size or self.geometry((640, 480)).network_size
        if size not in self._server_macs:
            noise = torch.Generator().manual_seed(0)
            levels = {
                name: torch.randn((1, *self.spec.shape(name, size)), generator=noise)
                for name in self.spec.coded_names
            }
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                self.detect_tensors(levels, ImageGeometry(size, size, size))
            self._server_macs[size] = counter.get_total_flops() // 2
        return self._server_macs[size]

    def tensors(self, pyramid: Pyramid) -> dict[str, Tensor]:
        """The levels of a pyramid as tensors (1, C, H, W), derived ones computed if absent."""
        levels = derive(pyramid).levels
        return self.complete_spec({n: _tensor(values)[None] for n, values in levels.items()})

    def _coded(self, levels: Sequence[str] | None) -> tuple[str, ...]:
        """The coded levels asked for, finest first."""
        coded = self.spec.coded_names
        if levels is None:
            return coded
        for name in levels:
            source = self.spec[name].derived_from
            if source is not None:
                raise InputError(
                    f"level {name} derives from {source} and is never extracted; ask for {source}"
                )
        if not levels:
            raise InputError(f"no level asked for; give some of {', '.join(coded)}")
        return tuple(name for name in coded if name in levels)

    def complete_spec(self, levels: Levels) -> dict[str, Tensor]:
        """Levels of the whole specification: the coded ones given, the derived ones computed.

        Raises:
            InputError: A coded level is missing.
        """
        missing = [name for name in self.spec.coded_names if name not in levels]
        if missing:
            raise InputError(
                f"the head needs {', '.join(missing)} too; recover the levels that were not sent"
            )
        complete: dict[str, Tensor] = {}
        for level in self.spec.levels:
            if level.name in levels or level.derived_from is None:
                complete[level.name] = levels[level.name]
            else:
                complete[level.name] = levels[level.derived_from][..., ::2, ::2]
        return complete

    def _require(self, role: str) -> None:
        if self.role not in (role, "both"):
            raise ModelError(
                f"this detector was opened for the {self.role} alone; open it with role "
                f"{role!r} or 'both'"
            )


def _tensor(values: Array) -> Tensor:
    # torch warns about arrays it may not write to, and refuses negative strides.
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))


def freeze(model: nn.Module) -> None:
    """Put a model in evaluation mode and stop gradients to its parameters."""
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)


def stack_image(image: Image) -> Tensor:
    """An (H, W, 3) uint8 image as a contiguous (3, H, W) uint8 tensor."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def text_options(options: Mapping[str, Any]) -> dict[str, str]:
    """Options as text: a description read from JSON has numbers and lists in it."""
    return {
        name: ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        for name, value in options.items()
    }


def integer_option(options: Mapping[str, str], name: str) -> int | None:
    """An option as an integer, None where absent.

    Raises:
        InputError: The value is not an integer.
    """
    if name not in options:
        return None
    try:
        return int(options[name])
    except ValueError as error:
        raise InputError(f"option {name}={options[name]!r} is not an integer") from error

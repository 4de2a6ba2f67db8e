"""From a server graph's outputs to head, response and boxes, as a configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from fpcodec.detections import Detections
from fpcodec.detectors import decoding
from fpcodec.detectors.base import HeadOutput
from fpcodec.detectors.decoding import DecodeConfig, Outputs
from fpcodec.detectors.onnx_session import first_line
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.errors import FpcodecError, ModelError
from fpcodec.pyramid import PyramidSpec

Decoder = Callable[[Outputs, PyramidSpec, tuple[int, int]], Detections]


class HeadDecoder:
    """Reads the outputs of one detector's head.

    Args:
        config: How outputs become boxes.
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input in pixels.

    Raises:
        ModelError: A user's decoder cannot be imported.
    """

    def __init__(
        self, config: DecodeConfig, spec: PyramidSpec, network_size: tuple[int, int]
    ) -> None:
        self._config = config
        self._spec = spec
        self._size = network_size
        self._custom = load_decoder(config.kind) if ":" in config.kind else None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> HeadDecoder:
        """Read a detector's configuration.

        Raises:
            InputError: A key is unknown or a value out of range.
            ModelError: A user's decoder cannot be imported.
        """
        decode = DecodeConfig.from_dict(config["decode"])
        size = Preprocess.from_dict(config["preprocess"]).size
        return cls(decode, PyramidSpec.from_dict(config["spec"]), size)

    def head(self, outputs: Outputs) -> HeadOutput:
        """Class scores and boxes per level; rasterised boxes where the graph gives no scores."""
        if self._config.kind == "yolox":
            raw = decoding.named_output(outputs, self._config, "raw")
            return decoding.split_yolox(raw, self._spec, self._size)
        if self._custom is None:
            scores = decoding.objectness(outputs, self._config, self._spec.names)
            if scores:
                return HeadOutput(scores, {}, of_classes=False)
        drawn = decoding.rasterise(self.detections(outputs), self._spec, self._size)
        return HeadOutput({name: values[None] for name, values in drawn.items()}, {},
                          of_classes=False)  # fmt: skip

    def detections(self, outputs: Outputs, head: HeadOutput | None = None) -> Detections:
        """Boxes in network pixels; ``head`` spares the work where it is at hand.

        Raises:
            ModelError: The outputs do not fit the configuration, or a user's decoder fails.
        """
        if self._config.kind == "yolox":
            return decoding.decode_yolox(head or self.head(outputs), self._spec, self._config)
        if self._custom is None:
            return decoding.decode_detections(outputs, self._config)
        try:
            found = self._custom(outputs, self._spec, self._size)
        except FpcodecError:
            raise
        except Exception as error:  # whatever a user's function raises
            raise ModelError(
                f"decoder {self._config.kind} failed: {type(error).__name__}: {first_line(error)}"
            ) from error
        if not isinstance(found, Detections):
            raise ModelError(
                f"decoder {self._config.kind} returned a {type(found).__name__}, not Detections"
            )
        return found


def load_decoder(reference: str) -> Decoder:
    """Import a user's ``module:function``.

    Raises:
        ModelError: The module or the function is not there.
    """
    module, _, function = reference.partition(":")
    try:
        decoder = getattr(import_module(module), function)
    except Exception as error:  # whatever a user's module raises on import
        raise ModelError(
            f"decoder {reference!r} cannot be imported: {first_line(error)}"
        ) from error
    if not callable(decoder):
        raise ModelError(f"decoder {reference!r} is not a function")
    return decoder  # type: ignore[no-any-return]

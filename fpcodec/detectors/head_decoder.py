"""From a server graph's outputs to head, response and boxes, as a configuration says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, cast

import numpy as np

from fpcodec.detections import Detections
from fpcodec.detectors import decoding
from fpcodec.detectors.base import HeadOutput
from fpcodec.detectors.decoding import DecodeConfig, Outputs
from fpcodec.detectors.layouts import Candidates, Layout, Rows
from fpcodec.detectors.layouts.maths import NUMPY
from fpcodec.detectors.layouts.tensors import shapes_of
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
        InputError: A layout's option does not fit the pyramid.
        ModelError: A user's decoder cannot be imported.
    """

    def __init__(
        self, config: DecodeConfig, spec: PyramidSpec, network_size: tuple[int, int]
    ) -> None:
        self._config = config
        self._spec = spec
        self._size = network_size
        self._layout = decoding.open_layout(config, spec, network_size)
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

    @property
    def layout(self) -> Layout[Any] | None:
        """How a head's tensors are read; None where the graph or a user selects boxes."""
        return self._layout

    def read(self, outputs: Outputs) -> list[Rows]:
        """Class scores and box values by level, as the layout has them.

        Raises:
            ModelError: The outputs do not fit, or there is no layout.
        """
        if self._layout is None:
            raise ModelError(f"decode {self._config.kind} gives boxes, not scores of every place")
        rows = self._layout.rows(outputs, NUMPY)
        if rows[0].scores.shape[0] != 1:
            raise self._layout.misfit("one image", shapes_of(outputs), "export it with batch 1")
        return rows

    def head(self, outputs: Outputs) -> HeadOutput:
        """Class scores and boxes per level; rasterised boxes where the graph gives no scores."""
        if self._layout is not None:
            return self._maps(self.read(outputs))
        if self._custom is None:
            scores = decoding.objectness(outputs, self._config, self._spec.names)
            if scores:
                return HeadOutput(scores, {}, of_classes=False)
        return self._drawn(self.detections(outputs))

    def candidates(self, outputs: Outputs) -> Candidates:
        """Boxes in network pixels before suppression.

        Raises:
            ModelError: The outputs do not fit, or there is no layout.
        """
        return self._candidates(self.read(outputs))

    def detections(self, outputs: Outputs) -> Detections:
        """Boxes in network pixels.

        Raises:
            ModelError: The outputs do not fit the configuration, or a user's decoder fails.
        """
        if self._layout is not None:
            return self._select(self.read(outputs))
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

    def detections_and_head(self, outputs: Outputs) -> tuple[Detections, HeadOutput]:
        """Both of one reading."""
        if self._layout is None:
            return self.detections(outputs), self.head(outputs)
        rows = self.read(outputs)
        return self._select(rows), self._maps(rows)

    def _candidates(self, rows: list[Rows]) -> Candidates:
        layout = cast("Layout[Any]", self._layout)
        return layout.candidates(rows, self._config.score_threshold)

    def _select(self, rows: list[Rows]) -> Detections:
        kept = decoding.select(self._candidates(rows), self._config)
        return Detections(kept.boxes, kept.scores, kept.labels)

    def _maps(self, rows: list[Rows]) -> HeadOutput:
        layout = cast("Layout[Any]", self._layout)
        scores, boxes = {}, {}
        for level, one in zip(layout.levels, rows, strict=True):
            found = layout.maps(one, level, NUMPY)
            scores[level.name], boxes[level.name] = (np.ascontiguousarray(x[0]) for x in found)
        return HeadOutput(scores, boxes)

    def _drawn(self, found: Detections) -> HeadOutput:
        drawn = decoding.rasterise(found, self._spec, self._size)
        return HeadOutput({name: values[None] for name, values in drawn.items()}, {},
                          of_classes=False)  # fmt: skip


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

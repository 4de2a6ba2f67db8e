"""The ``onnx`` adapter: a detector as two ONNX graphs, run by onnxruntime alone.

``edge.onnx`` maps the network's input to the pyramid's levels, ``server.onnx`` the levels to the
detector's raw outputs. A JSON configuration says everything else: tensor names, pre-processing,
decoding, labels and what extraction costs.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fpcodec.detections import Detections
from fpcodec.detectors.base import HeadOutput, Image
from fpcodec.detectors.head_decoder import HeadDecoder
from fpcodec.detectors.layouts import Candidates, Layout
from fpcodec.detectors.layouts.tensors import shapes_of
from fpcodec.detectors.onnx_session import SubgraphSessions, first_line, open_session, run_session
from fpcodec.detectors.preprocess import Preprocess
from fpcodec.errors import InputError, ModelError
from fpcodec.files import file_sha256
from fpcodec.pyramid import MAX_IMAGE_PIXELS, Array, ImageGeometry, Pyramid, PyramidSpec, derive

ROLES = ("edge", "server", "both")
EDGE_FILE = "edge.onnx"
SERVER_FILE = "server.onnx"
LIGHT_EDGE, EDGE_PRECISION = "light_edge", "edge_precision"
"""Keys of a configuration whose edge graph stands for another: what was taught, what quantised."""


class OnnxDetector:
    """A detector cut at its pyramid, from two graph files and a configuration.

    Keeps the ``Detector`` protocol. One half may be absent; calling it is a ModelError.

    Args:
        config: What ``export`` returns: ``spec``, ``tensors`` (level to tensor name), ``input``,
            ``preprocess``, ``decode``, ``labels``, ``macs``, ``files`` (name to sha256).
        folder: Where the graph files lie.
        role: ``edge``, ``server`` or ``both``: the halves to load.
        threads: Threads within an operator; None for onnxruntime's choice.
        providers: Execution providers in order of preference; none means the CPU's.
        max_pixels: Most pixels of an image.

    Raises:
        ModelError: The configuration is incomplete, a file is absent or unusable, or a provider
            is not available.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        folder: Path,
        *,
        role: str = "both",
        threads: int | None = None,
        providers: Sequence[str] = (),
        max_pixels: int = MAX_IMAGE_PIXELS,
    ) -> None:
        if role not in ROLES:
            raise ModelError(f"role {role!r} is not one of {', '.join(ROLES)}")
        self.config: dict[str, Any] = dict(config)
        self._folder = Path(folder)
        self._max_pixels = max_pixels
        try:
            self._spec = PyramidSpec.from_dict(config["spec"])
            self._tensors: dict[str, str] = dict(config["tensors"])
            self._preprocess = Preprocess.from_dict(config["preprocess"])
            self._decoder = HeadDecoder.from_config(config)
            self._labels = tuple(config.get("labels", ()))
            self._macs: Mapping[str, Any] = config.get("macs") or {}
        except (KeyError, TypeError, InputError) as error:
            raise ModelError(f"detector configuration is unusable: {first_line(error)}") from error
        absent = [name for name in self._spec.coded_names if name not in self._tensors]
        if absent:
            raise ModelError(f"detector configuration names no tensor for {', '.join(absent)}")
        self._edge: SubgraphSessions | None = None
        self._server = None
        if role != "server":
            self._edge = SubgraphSessions(self._folder / EDGE_FILE, threads, providers)
        if role != "edge":
            self._server = open_session(self._folder / SERVER_FILE, threads, providers)

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        folder: Path,
        role: str = "both",
        threads: int | None = None,
        providers: Sequence[str] = (),
    ) -> OnnxDetector:
        """Open what ``export`` wrote; see the class."""
        return cls(config, folder, role=role, threads=threads, providers=providers)

    @property
    def spec(self) -> PyramidSpec:
        """The pyramid at the cut."""
        return self._spec

    @property
    def labels(self) -> Sequence[str]:
        """Class names; empty where unknown."""
        return self._labels

    @property
    def folder(self) -> Path:
        """Where its graph files lie."""
        return self._folder

    @property
    def preprocess(self) -> Preprocess:
        """How images become the network's input."""
        return self._preprocess

    @property
    def network_size(self) -> tuple[int, int]:
        """``(width, height)`` of the network's input in pixels: fixed for an ONNX detector."""
        return self._preprocess.size

    def export(self, folder: Path) -> dict[str, Any]:
        """Copy the graph files that are there into a profile's folder; return the configuration.

        Raises:
            ModelError: A file cannot be copied.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        files = {}
        for name in (EDGE_FILE, SERVER_FILE):
            source = self._folder / name
            if not source.is_file():
                continue
            try:
                if source.resolve() != (target / name).resolve():
                    scratch = target / f".{name}.part"
                    shutil.copyfile(source, scratch)
                    scratch.replace(target / name)
            except OSError as error:
                raise ModelError(f"{target / name}: cannot be written: {error}") from error
            files[name] = file_sha256(target / name)
        return {**self.config, "kind": "onnx", "files": files}

    def geometry(
        self, image_size: tuple[int, int], network_size: tuple[int, int] | None = None
    ) -> ImageGeometry:
        """How an image lies in the input; see ``Detector.geometry``.

        Raises:
            InputError: A side is out of range, or the network size is not this detector's.
        """
        if network_size is not None and tuple(network_size) != self.network_size:
            raise InputError(
                f"network size {tuple(network_size)} is not this detector's {self.network_size}"
            )
        return self._preprocess.geometry(image_size)

    def extract(self, image: Image, levels: Sequence[str] | None = None) -> Pyramid:
        """Run backbone and pyramid on one image; see ``Detector.extract``.

        Raises:
            InputError: The image cannot be used, or a level is unknown or derived.
            ModelError: The edge half is not loaded, or fails.
        """
        self._edge_half()
        tensor, geometry = self._preprocess(image, self._max_pixels)
        return self.extract_input(tensor, geometry, levels)

    def extract_input(
        self, tensor: Array, geometry: ImageGeometry, levels: Sequence[str] | None = None
    ) -> Pyramid:
        """``extract`` on an input that ``preprocess`` has made, (1, 3, H, W).

        Raises:
            InputError: A level is unknown or derived.
            ModelError: The edge half is not loaded, or fails.
        """
        edge, names = self._edge_half(), self._coded(levels)
        input_name = self.config.get("input") or edge.inputs[0]
        found = edge.run({input_name: tensor}, [self._tensors[name] for name in names])
        features = {
            name: np.ascontiguousarray(found[self._tensors[name]][0], np.float32) for name in names
        }
        try:
            return Pyramid(self._spec, features, geometry)
        except InputError as error:
            raise ModelError(f"edge graph does not fit its configuration: {error}") from error

    def macs(self, levels: Sequence[str] | None = None) -> int | None:
        """Multiply-accumulates of ``extract`` for these levels; None where not counted."""
        table = self._macs.get("edge") or {}
        value = table.get(",".join(self._coded(levels)))
        return None if value is None else int(value)

    @property
    def server_macs(self) -> int | None:
        """Multiply-accumulates of the head; None where not counted."""
        value = self._macs.get("server")
        return None if value is None else int(value)

    def head(self, pyramid: Pyramid) -> HeadOutput:
        """Run the head on a pyramid; derived levels that are absent are computed.

        Where the decoding is one of ``layouts``, scores are those of classes, shape (K, H, W), of
        each class the highest over a cell's anchors, and boxes the layout's values, of shape
        (anchors * 4, H, W); levels that the head makes itself are in it too. For ``detections``
        scores are the graph's objectness outputs and there are no boxes. Where a graph has no
        objectness outputs, and for a user's decoder, scores are the detections rasterised, shape
        (1, H, W).

        Raises:
            InputError: A level is missing or of another network size.
            ModelError: The server half is not loaded, or fails.
        """
        return self._decoder.head(self._run_server(pyramid))

    def response(self, pyramid: Pyramid) -> Mapping[str, Array]:
        """Response S per level, shape (H, W), float32; see ``Detector.response``."""
        return self._strongest(self.head(pyramid))

    def detect(self, pyramid: Pyramid) -> Detections:
        """Run the head and select boxes; see ``Detector.detect``.

        Raises:
            InputError: A level is missing or of another network size.
            ModelError: The server half is not loaded, or fails.
        """
        outputs = self._run_server(pyramid)
        return _in_image(self._decoder.detections(outputs), pyramid.geometry)

    @property
    def layout(self) -> Layout[Any] | None:
        """How its head's tensors are read; None where the graph or a user selects boxes."""
        return self._decoder.layout

    def candidates(self, pyramid: Pyramid) -> Candidates:
        """Run the head: boxes in network pixels, before suppression.

        Raises:
            InputError: A level is missing or of another network size.
            ModelError: The server half is not loaded or fails, or ``layout`` is None.
        """
        return self._decoder.candidates(self._run_server(pyramid))

    def try_head(self) -> tuple[dict[str, str], int]:
        """Run the head on a pyramid of zeros, to see whether its outputs are the layout's.

        Returns:
            Role to output name, and the number of classes.

        Raises:
            ModelError: The outputs do not fit, or ``layout`` is None.
        """
        levels = {
            name: np.zeros(self._spec.shape(name, self.network_size), np.float32)
            for name in self._spec.coded_names
        }
        pyramid = Pyramid(self._spec, levels, self.geometry(self.network_size))
        outputs = self._run_server(pyramid)
        rows = self._decoder.read(outputs)
        layout = cast("Layout[Any]", self.layout)
        return layout.find(shapes_of(outputs)), rows[0].scores.shape[2]

    def detect_and_response(self, pyramid: Pyramid) -> tuple[Detections, Mapping[str, Array]]:
        """``detect`` and ``response`` from one run of the head."""
        outputs = self._run_server(pyramid)
        found, head = self._decoder.detections_and_head(outputs)
        return _in_image(found, pyramid.geometry), self._strongest(head)

    def _strongest(self, head: HeadOutput) -> dict[str, Array]:
        """Of the cut's levels alone."""
        return {
            name: np.asarray(head.scores[name].max(axis=0), np.float32) for name in self._spec.names
        }

    def _edge_half(self) -> SubgraphSessions:
        if self._edge is None:
            raise ModelError("this detector was opened as server: it has no edge half to extract")
        return self._edge

    def _coded(self, levels: Sequence[str] | None) -> tuple[str, ...]:
        coded = self._spec.coded_names
        if levels is None:
            return coded
        for name in levels:
            source = self._spec[name].derived_from
            if source is not None:
                raise InputError(f"level {name} derives from {source} and is never extracted; "
                                 f"ask for {source}")  # fmt: skip
        if not levels:
            raise InputError(f"no level asked for; give some of {', '.join(coded)}")
        return tuple(name for name in coded if name in levels)

    def _run_server(self, pyramid: Pyramid) -> dict[str, npt.NDArray[Any]]:
        if self._server is None:
            raise ModelError("this detector was opened as edge: it has no server half to detect")
        if pyramid.geometry.network_size != self.network_size:
            raise InputError(
                f"the pyramid's network size {pyramid.geometry.network_size} is not this "
                f"detector's {self.network_size}"
            )
        full = derive(pyramid)
        inputs = {item.name for item in self._server.get_inputs()}
        feeds = {}
        for name in self._spec.names:
            tensor = self._tensors.get(name, "")
            if tensor not in inputs:
                continue
            if name not in full.levels:
                raise InputError(f"level {name} is missing; reconstruct it before the head runs")
            feeds[tensor] = np.ascontiguousarray(full.levels[name][None])
        return run_session(self._server, feeds)


def _in_image(found: Detections, geometry: ImageGeometry) -> Detections:
    return Detections(geometry.to_image(found.boxes), found.scores, found.labels)

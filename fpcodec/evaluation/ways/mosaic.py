"""Send the pyramid as a still picture through a video coder: the field's naive baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.mosaic import (
    BITS,
    MosaicLayout,
    read_header,
    tile,
    untile,
    write_header,
)
from fpcodec.evaluation.rivals.video_coding import PRESETS, QP_RANGES, decode_still, encode_still
from fpcodec.evaluation.ways.base import Outcome, Scene, Workplace, stopwatch
from fpcodec.pyramid import Pyramid, derive

MOSAIC_QPS = {"x265": (22, 26, 29, 32, 35, 38, 41), "svtav1": (38, 43, 47, 51, 54, 57, 60)}
"""Codec to the qps of a default run."""


@dataclass(frozen=True)
class MosaicWay:
    """Tile all coded levels into one 10-bit frame and code it as a still picture.

    Attributes:
        codec: ``x265`` or ``svtav1``.
        qp: Constant quantiser; more is fewer bytes.
    """

    codec: str
    qp: int
    kind: str = "mosaic"

    def __post_init__(self) -> None:
        if self.codec not in QP_RANGES:
            raise InputError(f"mosaic codec {self.codec!r} is not one of {', '.join(QP_RANGES)}")
        low, high = QP_RANGES[self.codec]
        if not low <= self.qp <= high:
            raise InputError(f"{self.codec} qp {self.qp} is not in {low}..{high}")

    @classmethod
    def parse(cls, text: str) -> MosaicWay:
        """Read ``x265:30`` or ``svtav1:40``.

        Raises:
            InputError: The codec is unknown or its qp is out of range.
        """
        codec, _, qp = text.partition(":")
        if not (qp.isascii() and qp.isdigit()):
            raise InputError(f"mosaic {text!r} has no whole number for its qp; use x265:30")
        return cls(codec, int(qp))

    @property
    def name(self) -> str:
        """Such as ``x265 qp30``."""
        return f"{self.codec} qp{self.qp}"

    @property
    def family(self) -> str:
        """The codec."""
        return self.codec

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Codec, qp, preset and bits a value."""
        return {
            "codec": self.codec, "qp": self.qp, "preset": PRESETS[self.codec], "bits": BITS,
        }  # fmt: skip

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Tile, code, decode, untile and detect; everything received comes from the bytes."""
        geometry, spec = scene.pyramid.geometry, scene.pyramid.spec
        names = spec.coded_names
        scene.pyramid.require_finite()
        times = {"extract": scene.extract_ms}
        with stopwatch(times, "encode"):
            layout = MosaicLayout.of(spec, geometry.network_size, names)
            frame, ranges = tile(scene.pyramid.levels, layout)
            header = write_header(geometry.image_size, geometry.network_size, ranges)
            payload = encode_still(self.codec, frame, self.qp)
        sent = header + payload
        with stopwatch(times, "decode"):
            image_size, network_size, ranges, coded = read_header(sent, len(names))
            layout = MosaicLayout.of(spec, network_size, names)
            levels = untile(decode_still(self.codec, coded), ranges, layout)
            received = workplace.detector.geometry(image_size, network_size)
            pyramid = derive(Pyramid(spec, levels, received))
        with stopwatch(times, "head"):
            found = workplace.detector.detect(pyramid)
        parts = {"header": len(header)}
        return Outcome(found, len(sent), parts, times, payload_bytes=len(payload))

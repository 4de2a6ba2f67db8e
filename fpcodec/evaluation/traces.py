"""What a way did over a data set, image by image; in memory and on disk."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.detections import Detections
from fpcodec.errors import InputError
from fpcodec.evaluation.detection_files import read_detections, write_detections
from fpcodec.evaluation.results import Spread
from fpcodec.evaluation.ways import Outcome
from fpcodec.files import replacing
from fpcodec.pyramid import Pyramid

_NUMBERS = ("sent_bytes", "payload_bytes", "symbols", "bits_per_element", "bpp")


@dataclass
class Trace:
    """What one way did over a data set, image by image.

    Attributes:
        detections: One per image.
        sent_bytes: One per image, as the next four.
        payload_bytes: None where not told apart.
        symbols: None where not counted.
        bits_per_element: Sent bits by the pyramid's feature values, all levels.
        bpp: Sent bits by the pixels of the network's input, padding included.
        level_bytes: Level to one value per image that sent it.
        times_ms: Stage to one value per image.
    """

    detections: list[Detections] = field(default_factory=list)
    sent_bytes: list[int] = field(default_factory=list)
    payload_bytes: list[int | None] = field(default_factory=list)
    symbols: list[int | None] = field(default_factory=list)
    bits_per_element: list[float] = field(default_factory=list)
    bpp: list[float] = field(default_factory=list)
    level_bytes: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    times_ms: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def add(self, outcome: Outcome, pyramid: Pyramid) -> None:
        """Append one image's outcome."""
        found = outcome.detections
        # Masks of a whole data set would fill the memory, and no measure here looks at them.
        self.detections.append(Detections(found.boxes, found.scores, found.labels))
        self.sent_bytes.append(outcome.sent_bytes)
        self.payload_bytes.append(outcome.payload_bytes)
        self.symbols.append(outcome.symbols)
        size, bits = pyramid.geometry.network_size, 8 * outcome.sent_bytes
        self.bits_per_element.append(bits / pyramid.spec.elements(size))
        self.bpp.append(bits / (size[0] * size[1]))
        for level, chunk_bytes in outcome.level_bytes.items():
            self.level_bytes[level].append(chunk_bytes)
        for stage, time in outcome.times_ms.items():
            self.times_ms[stage].append(time)

    def extend(self, other: Trace) -> None:
        """Append what another trace holds of the images that follow."""
        self.detections += other.detections
        for name in _NUMBERS:
            getattr(self, name).extend(getattr(other, name))
        for name in ("level_bytes", "times_ms"):
            for key, values in getattr(other, name).items():
                getattr(self, name)[key] += values

    def summary(self) -> dict[str, Any]:
        """Bytes and times as ``ResultRow`` takes them; nothing sent means no bytes."""
        images, sent = len(self.detections), any(self.sent_bytes)
        return {
            "sent_bytes": Spread.of(self.sent_bytes) if sent else None,
            "payload_bytes": _spread(self.payload_bytes),
            "symbols": _spread(self.symbols),
            "bits_per_element": float(np.mean(self.bits_per_element)) if sent else None,
            "bpp": float(np.mean(self.bpp)) if sent else None,
            "level_bytes": {name: sum(sizes) / images for name, sizes in self.level_bytes.items()},
            "times_ms": {stage: Spread.of(times) for stage, times in self.times_ms.items()},
        }


def _spread(values: Iterable[int | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


def write_traces(path: Path, traces: Mapping[str, Trace]) -> None:
    """Write traces as ``path`` (JSON) and, beside it, their detections as ``.npz``.

    The JSON is written last: where it is, all is.

    Raises:
        InputError: A file cannot be written.
    """
    write_detections(path.with_suffix(".npz"), {k: v.detections for k, v in traces.items()})
    numbers = {
        name: {
            **{key: getattr(trace, key) for key in _NUMBERS},
            "level_bytes": trace.level_bytes,
            "times_ms": trace.times_ms,
        }
        for name, trace in traces.items()
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(numbers, allow_nan=False), "utf-8")


def read_traces(path: Path) -> dict[str, Trace]:
    """Read what ``write_traces`` wrote.

    Raises:
        InputError: A file is missing or damaged.
    """
    detections = read_detections(path.with_suffix(".npz"))
    try:
        numbers = json.loads(path.read_text("utf-8"))
        traces = {}
        for name, values in numbers.items():
            # Of several types, which only running tells apart.
            parts: dict[str, Any] = {key: list(values[key]) for key in _NUMBERS}
            for key in ("level_bytes", "times_ms"):
                parts[key] = defaultdict(list, {k: list(v) for k, v in values[key].items()})
            traces[name] = Trace(detections[name], **parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); delete it and run again") from error
    return traces

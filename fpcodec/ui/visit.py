"""What one visitor of the page looks at, and the answers to what they do; no gradio in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError
from fpcodec.evaluation.profile_curve import ProfileCurve
from fpcodec.profile import Profile
from fpcodec.ui.charts import bytes_part, sentence, summary_part
from fpcodec.ui.curve import curve_part
from fpcodec.ui.markup import text
from fpcodec.ui.operating_point import OperatingPoint
from fpcodec.ui.pictures import (
    SIDES,
    bits_part,
    describe,
    detections_part,
    levels_part,
    reasons_part,
    shown_indices,
)
from fpcodec.ui.results import Result, Subject
from fpcodec.ui.workbench import Workbench

PARTS = ("summary", "boxes", "bytes", "levels", "bits", "curve")
"""Parts of the page that every operating point draws anew, from the top."""

WELCOME = "Choose a picture."


@dataclass
class Visit:
    """A visitor's picture and its last result.

    Attributes:
        subject: The picture.
        result: At the last operating point; None before the first.
    """

    subject: Subject
    result: Result | None = None


@dataclass(frozen=True)
class Studio:
    """Draws the page's parts with one workbench.

    Attributes:
        bench: Does the work.
        curve: The profile's; None where it has none.
    """

    bench: Workbench
    curve: ProfileCurve | None

    @property
    def profile(self) -> Profile:
        """The workbench's."""
        return self.bench.profile

    def open(self, name: str, image: Image) -> Visit:
        """Take a picture; the whole detector runs on it."""
        return Visit(self.bench.open(name, image))

    def draw(self, visit: Visit, point: OperatingPoint) -> dict[str, str]:
        """Run at an operating point.

        Returns:
            HTML of each of PARTS.
        """
        visit.result = self.bench.run(visit.subject, point)
        return self._parts(visit.subject, visit.result)

    def compare(self, visit: Visit) -> Iterator[int]:
        """Measure the picture as picture files; yields how many were made."""
        return self.bench.compare(visit.subject)

    def bytes_of(self, visit: Visit) -> str:
        """The bars alone, once more."""
        if visit.result is None:
            return ""
        return bytes_part(visit.subject, visit.result, self.profile.spec)

    def first_parts(self) -> dict[str, str]:
        """What stands there before there is a picture."""
        empty = dict.fromkeys(PARTS, "")
        return {**empty, "curve": curve_part(self.curve, None, self.profile.measured)}

    def choices(self, visit: Visit) -> list[tuple[str, str]]:
        """Boxes that can be explained: their text and their key."""
        labels = self.profile.labels
        return [
            (f"{side} {number}: {describe(found, i, labels)}", f"{side}:{i}")
            for side, found in self._sides(visit).items()
            for number, i in enumerate(shown_indices(found), 1)
        ]

    def explain(self, visit: Visit, key: str) -> str:
        """Why a box was found, as HTML.

        Args:
            visit: With a result.
            key: As ``choices`` gives them.

        Raises:
            InputError: There is no such box.
            MissingDependency: torch is not installed.
            ModelError: The detector has no gradients.
        """
        if visit.result is None or key not in [known for _, known in self.choices(visit)]:
            raise InputError("this box is not there any more; choose one of the list")
        side, _, index = key.partition(":")
        found, i = self._sides(visit)[side], int(index)
        pyramid = visit.subject.pyramid if side == SIDES[0] else visit.result.pyramid
        reasons = self.bench.explain(visit.subject, pyramid, found, i)
        caption = f"{side.capitalize()}: {describe(found, i, self.profile.labels)}"
        return reasons_part(visit.subject, reasons, found.boxes[i], caption)

    def _sides(self, visit: Visit) -> dict[str, Detections]:
        if visit.result is None:
            return {}
        return dict(zip(SIDES, (visit.subject.unsplit, visit.result.found), strict=True))

    def _parts(self, subject: Subject, result: Result) -> dict[str, str]:
        spec, labels = self.profile.spec, self.profile.labels
        return {
            "summary": summary_part(subject, result),
            "boxes": detections_part(subject, result, labels),
            "bytes": bytes_part(subject, result, spec),
            "levels": levels_part(result, spec),
            "bits": bits_part(subject, result),
            "curve": curve_part(self.curve, result, self.profile.measured),
        }

    def heading(self) -> str:
        """What is being looked at."""
        spec = self.profile.spec
        size = (self.profile.detector_config.get("preprocess") or {}).get("size")
        facts = [
            f"profile <b>{text(self.profile.name)}</b>",
            f"levels {text(', '.join(spec.names))}",
            *([f"network input {size[0]} × {size[1]}"] if size else []),
            f"stream {self.profile.stream_id.hex()[:12]}",
        ]
        return f'<p class="fpc soft">{" · ".join(facts)}</p>'


def told(visit: Visit) -> str:
    """The result as a sentence, for the message line."""
    if visit.result is None:
        return message(WELCOME)
    return message(sentence(visit.subject, visit.result))


def message(words: str) -> str:
    """A line of the message region."""
    return f'<p class="fpc message">{text(words)}</p>'


def failure(error: FpcodecError) -> str:
    """An expected error as a line: its type and what to do."""
    words = " ".join(str(error).split())
    return f'<p class="fpc message error"><b>{type(error).__name__}:</b> {text(words)}</p>'

"""What one visitor of the page looks at, and the answers to what they do; no gradio in here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fpcodec.data import CLASS_NAMES
from fpcodec.detections import Detections
from fpcodec.detectors.base import Image
from fpcodec.errors import FpcodecError, InputError, MissingDependency, ModelError
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

NO_TORCH = (
    "needs torch, which is not installed; pip install 'fpcodec[torch]', then start the page again"
)

_NAMED_CLASSES = 6


@dataclass
class Visit:
    """A visitor's picture and its last result.

    Attributes:
        subject: The picture.
        result: At the last operating point; None before the first.
        point: The last operating point.
    """

    subject: Subject
    result: Result | None = None
    point: OperatingPoint | None = None


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

    def open(self, name: str, image: Image, *, brought: bool = False) -> Visit:
        """Take a picture; the whole detector runs on it.

        Args:
            name: For people.
            image: Shape (H, W, 3), uint8, RGB.
            brought: Whether the visitor brought it.
        """
        subject = self.bench.open(name, image)
        subject.brought = brought
        return Visit(subject)

    def draw(self, visit: Visit, point: OperatingPoint) -> dict[str, str]:
        """Run at an operating point.

        Returns:
            HTML of each of PARTS.
        """
        visit.result = self.bench.run(visit.subject, point)
        visit.point = point
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
        try:
            reasons = self.bench.explain(visit.subject, pyramid, found, i)
        except MissingDependency as error:
            raise MissingDependency(NO_TORCH) from error
        except ModelError as error:
            raise ModelError("this profile's detector cannot be explained by ODAM") from error
        caption = f"{side.capitalize()}: {describe(found, i, self.profile.labels)}"
        return reasons_part(visit.subject, reasons, found.boxes[i], caption)

    def _sides(self, visit: Visit) -> dict[str, Detections]:
        if visit.result is None:
            return {}
        return dict(zip(SIDES, (visit.subject.unsplit, visit.result.found), strict=True))

    def _parts(self, subject: Subject, result: Result) -> dict[str, str]:
        spec, labels = self.profile.spec, self.profile.labels
        return {
            "summary": shown_part(subject, self.known() if subject.brought else "")
            + summary_part(subject, result),
            "boxes": detections_part(subject, result, labels),
            "bytes": bytes_part(subject, result, spec),
            "levels": levels_part(result, spec),
            "bits": bits_part(subject, result),
            "curve": curve_part(self.curve, result, self.profile.measured),
        }

    @property
    def is_of_scenes(self) -> bool:
        """Whether the detector knows the generated scenes' shapes and nothing else."""
        labels = set(self.profile.labels)
        return bool(labels) and labels <= set(CLASS_NAMES)

    def known(self) -> str:
        """What the profile's boxes and curve are good for, as HTML."""
        labels = self.profile.labels
        more = len(labels) - _NAMED_CLASSES
        names = ", ".join(labels[:_NAMED_CLASSES]) + (f" and {more} more" if more > 0 else "")
        words = (
            f"Profile <b>{text(self.profile.name)}</b> knows only: {text(names or 'no names')}. On "
            "pictures without these its boxes mean nothing"
        )
        if self.curve is not None:
            words += ", and the curve is of its own test images, not of yours"
        if not self.is_of_scenes:
            return words + "."
        return (
            f"{words}. For photographs load another: <code>fpcodec profiles get yolox_nano --out "
            "yolox_nano</code>, then <code>fpcodec ui --profile yolox_nano</code>."
        )

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
    words = sentence(visit.subject, visit.result)
    budget = None if visit.point is None else visit.point.max_bytes
    if budget is not None and len(visit.result.frame) > budget:
        words += f" The budget is {budget:,}: no frame of this picture is smaller than this one."
    return message(words)


def shown_part(subject: Subject, warning: str) -> str:
    """Which picture all below is of.

    Args:
        subject: The picture.
        warning: HTML of what is to be known of it; empty for nothing.
    """
    banner = f'<p class="fpc banner">{warning}</p>' if warning else ""
    return f'<p class="fpc" id="fpc-shown">Shown: <b>{text(subject.name)}</b></p>{banner}'


def message(words: str) -> str:
    """A line of the message region."""
    return f'<p class="fpc message">{text(words)}</p>'


def failure(error: FpcodecError, visit: Visit | None = None) -> str:
    """An expected error as a line: its type, what to do, and whose result still stands below."""
    words = " ".join(str(error).split())
    if visit is not None and visit.result is not None:
        words = f"{words.rstrip('.')}. Below is still {visit.subject.name}."
    return f'<p class="fpc message error"><b>{type(error).__name__}:</b> {text(words)}</p>'

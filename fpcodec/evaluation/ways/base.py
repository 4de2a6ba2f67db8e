"""What a way of getting detections over a link is, what it is given, and what it yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from time import process_time
from typing import Any, Protocol

from fpcodec.codecs.base import Codec
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.detectors.onnx import EDGE_PRECISION, LIGHT_EDGE
from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.pictures import content_picture
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.split import ServerHalf


@dataclass(frozen=True)
class Scene:
    """One image with what every way shares: its pyramid and the unsplit detections.

    Attributes:
        image: Shape (H, W, 3), uint8, RGB.
        pyramid: All coded levels, extracted once.
        unsplit: Detections without any codec.
        extract_ms: What the extraction took of CPU time.
        head_ms: What the head took of CPU time.
    """

    image: Image
    pyramid: Pyramid
    unsplit: Detections
    extract_ms: float
    head_ms: float

    @classmethod
    def of(cls, detector: Detector, image: Image) -> Scene:
        """Extract and detect once, timed."""
        start = process_time()
        pyramid = detector.extract(image)
        extracted = process_time()
        unsplit = detector.detect(pyramid)
        done = process_time()
        return cls(image, pyramid, unsplit, 1000 * (extracted - start), 1000 * (done - extracted))

    @cached_property
    def picture(self) -> Image:
        """The picture at the network's own size, resized once for all picture formats."""
        return content_picture(self.image, self.pyramid.geometry)

    @property
    def image_size(self) -> tuple[int, int]:
        """``(width, height)`` in pixels."""
        return self.image.shape[1], self.image.shape[0]


@dataclass(frozen=True)
class Outcome:
    """What one way did with one image.

    Attributes:
        detections: In pixels of the original image.
        sent_bytes: Everything that went to the server, without transport headers.
        level_bytes: The part of each level, where there are levels, and of the ``header``.
        times_ms: Stage to milliseconds of this process's CPU time, so that what else the machine
            does weighs on no way; with one thread that is the time on an idle machine.
        payload_bytes: ``sent_bytes`` less container and headers; None where not told apart.
        symbols: Entropy-coded symbols; None where not counted.
    """

    detections: Detections
    sent_bytes: int
    level_bytes: Mapping[str, int] = field(default_factory=dict)
    times_ms: Mapping[str, float] = field(default_factory=dict)
    payload_bytes: int | None = None
    symbols: int | None = None


class Answer(Protocol):
    """What a server half says about one frame."""

    @property
    def detections(self) -> Detections:
        """Boxes in pixels of the original image."""

    @property
    def timings_ms(self) -> Mapping[str, float]:
        """Stage (decode, reconstruct, head) to milliseconds."""


@dataclass(frozen=True)
class OpenProfile:
    """A profile at work.

    Attributes:
        profile: What it is; its codec encodes.
        infer: Takes a frame to a server half, in this process or over a network.
        infer_partial: The same for the first bytes of a frame; None where the server takes whole
            frames alone.
        other_edge: Extracts in place of the detector's own edge half; None where that does it.
    """

    profile: Profile
    infer: Callable[[bytes], Answer]
    infer_partial: Callable[[bytes], Answer] | None = None
    other_edge: Detector | None = None

    @property
    def codec(self) -> Codec:
        """The profile's."""
        return self.profile.codec

    @classmethod
    def locally(cls, profile: Profile, threads: int | None = None) -> OpenProfile:
        """With a server half in this process."""
        half = ServerHalf(profile, threads=threads, clock=process_time)

        def infer(frame: bytes) -> Answer:
            return half.infer(frame)

        def infer_partial(frame: bytes) -> Answer:
            return half.infer(frame, partial=True)

        other = profile.open_detector("edge", threads=threads) if stands_for(profile) else None
        return cls(profile, infer, infer_partial, other)


@dataclass(frozen=True)
class Workplace:
    """What ways need to run: opened once, shared by all of them.

    Attributes:
        detector: Both halves.
        profiles: Label to opened profile; all were made for this detector.
    """

    detector: Detector
    profiles: Mapping[str, OpenProfile] = field(default_factory=dict)

    @classmethod
    def open(cls, folders: Mapping[str, Path], threads: int | None = None) -> Workplace:
        """Open profiles that share one detector.

        Args:
            folders: Label to profile folder; the first with the detector's own edge opens it.
            threads: For the networks; None for the runtime's default.

        Raises:
            InputError: There is no profile, all have other edges, or two were made for different
                detectors.
            ProfileError: A folder is no profile.
        """
        profiles = load_profiles(folders)
        detector = reference_profile(profiles).open_detector("both", threads=threads)
        opened = {label: OpenProfile.locally(x, threads) for label, x in profiles.items()}
        return cls(detector, opened)

    def profile(self, label: str) -> OpenProfile:
        """A profile by its label.

        Raises:
            InputError: No profile was opened under that label.
        """
        if label not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise InputError(f"no profile is called {label!r} here; known: {known}")
        return self.profiles[label]


class Way(Protocol):
    """One way at one setting: a plain value that can be sent to another process."""

    @property
    def name(self) -> str:
        """Unique within a run, for people."""

    @property
    def kind(self) -> str:
        """``features``, ``picture``, ``boxes``, ``mosaic``, ``seed`` and so on."""

    @property
    def family(self) -> str:
        """What the settings of one curve share."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The setting, JSON-able."""

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Do it for one image."""


def load_profiles(folders: Mapping[str, Path]) -> dict[str, Profile]:
    """Load profiles and make sure that they were made for one detector.

    Raises:
        InputError: There is none, or two differ in their detector.
        ProfileError: A folder is no profile.
    """
    if not folders:
        raise InputError("no profile was named; give at least one")
    profiles = {label: Profile.load(folder) for label, folder in folders.items()}
    first_label, first = next(iter(profiles.items()))
    for label, profile in profiles.items():
        if detector_identity(profile) != detector_identity(first):
            raise InputError(
                f"profiles {first_label} and {label} were made for different detectors; "
                "compare them in two runs"
            )
    return profiles


def reference_profile(profiles: Mapping[str, Profile]) -> Profile:
    """The first whose detector has its own edge half: what everything is compared with.

    Raises:
        InputError: All have light edges, or edges of lower precision.
    """
    for profile in profiles.values():
        if not stands_for(profile):
            return profile
    raise InputError(
        f"profiles {', '.join(profiles)} have light edges alone, or edges of lower precision, and "
        "nothing to compare them with; name a profile of the full detector too"
    )


def stands_for(profile: Profile) -> dict[str, str]:
    """Files of the detector that this profile's stand for: name to sha256; empty for its own.

    The edge may compute the pyramid with a network that ``fpcodec distill`` taught, or in lower
    precision.
    """
    config, files = profile.detector_config, {}
    # A light edge may be quantised; the graph that it was taught by is the detector's own.
    for key in (EDGE_PRECISION, LIGHT_EDGE):
        files.update(config.get(key, {}).get("stands_for", {}))
    return files


def detector_identity(profile: Profile) -> list[Any]:
    """What makes a profile's detector the same, wherever its files lie; JSON-able.

    Another edge counts as the one that it stands for.
    """
    config = profile.detector_config
    files = {**(config.get("files") or {}), **stands_for(profile)}
    return [config.get("kind"), config.get("source"), files or None, profile.spec.to_dict()]


@contextmanager
def stopwatch(times_ms: dict[str, float], stage: str) -> Iterator[None]:
    """Add the CPU time that the block takes to ``times_ms[stage]``."""
    start = process_time()
    yield
    times_ms[stage] = times_ms.get(stage, 0.0) + 1000 * (process_time() - start)

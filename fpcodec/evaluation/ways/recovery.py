"""Keep some levels as they are, unquantised, and recover the others: what recovery alone does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fpcodec.errors import InputError
from fpcodec.evaluation.ways.base import OpenProfile, Outcome, Scene, Workplace, stopwatch
from fpcodec.evaluation.ways.seed import SEED_LEVELS
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.base import Recoverer
from fpcodec.reconstruct.interpolation import CANDIDATES, InterpolationRecoverer
from fpcodec.reconstruct.learned import LearnedRecoverer

LEARNED = "learned"
METHODS = (LEARNED, *CANDIDATES)


@dataclass(frozen=True)
class RecoveryWay:
    """Recover a pyramid from some of its levels; nothing is quantised, the whole head sees it.

    Attributes:
        method: ``learned``, the synthesis of the profile's codec, or one of the key-level study's
            candidates ``finer``, ``coarser`` and ``mix`` with the profile's fitted weights.
        levels: Levels that are kept, finest first.
        profile: The profile's label.
    """

    method: str
    levels: tuple[str, ...] = SEED_LEVELS
    profile: str = "fpc"
    kind: str = "recovery"

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"recovery {self.method!r} is not one of {', '.join(METHODS)}")

    @property
    def name(self) -> str:
        """Such as ``fpc recovery learned p3+p5``."""
        return f"{self.profile} recovery {self.method} {'+'.join(self.levels)}"

    @property
    def family(self) -> str:
        """Every method is a curve of one point."""
        return self.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Profile, method, and the levels that are kept."""
        return {"profile": self.profile, "method": self.method, "levels": list(self.levels)}

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Drop levels, recover them, detect.

        Raises:
            InputError: A level is unknown or derived, or the profile has no learned recovery.
        """
        opened, whole = workplace.profile(self.profile), scene.pyramid
        names = opened.profile.spec.coded_names
        if not set(self.levels) <= set(names):
            raise InputError(f"levels {'+'.join(self.levels)} are not among {'+'.join(names)}")
        kept = {name: whole.levels[name] for name in self.levels}
        times = {"extract": scene.extract_ms}
        with stopwatch(times, "reconstruct"):
            part = Pyramid(whole.spec, kept, whole.geometry)
            full = self._recoverer(opened).recover([part])[0]
        with stopwatch(times, "head"):
            found = workplace.detector.detect(full)
        sizes = {name: values.nbytes for name, values in kept.items()}
        return Outcome(found, sum(sizes.values()), sizes, times)

    def _recoverer(self, opened: OpenProfile) -> Recoverer:
        if self.method != LEARNED:
            profile = opened.profile
            return InterpolationRecoverer(profile.spec, profile.recovery, self.method)
        recoverer = getattr(opened.codec, "recoverer", None)
        if not isinstance(recoverer, LearnedRecoverer):
            raise InputError(
                f"profile {self.profile!r} has no learned recovery; name one that fpcodec train "
                "wrote"
            )
        return recoverer

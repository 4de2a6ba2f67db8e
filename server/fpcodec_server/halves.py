"""What a worker does: frames to serialised answers, with the server halves of its profiles."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fpcodec.codecs.base import Decoded, Limits
from fpcodec.errors import FpcodecError, ProfileMismatch, Timeout
from fpcodec_server.answers import Answer, to_response
from fpcodec_server.jobs import Job, Outcome

if TYPE_CHECKING:
    from fpcodec.explain.odam_nms import OdamRule


class InferenceHalf(Protocol):
    """The server's half of a detector; ``fpcodec.split.ServerHalf`` is one.

    Several threads may call it at the same time.
    """

    def infer_batch(
        self,
        frames: Sequence[bytes | Decoded],
        partial: Sequence[bool],
        checkpoints: Sequence[Checkpoint],
    ) -> Sequence[Answer | FpcodecError]:
        """Decode frames, recover what is missing, run the head.

        Args:
            frames: The bytes of each frame, or its integers.
            partial: Which of them may end early or be damaged.
            checkpoints: Called between the stages, one for each frame; what it raises ends that
                frame's work.

        Returns:
            For each frame an answer, or why it cannot be used.
        """


Checkpoint = Callable[[], None]


class UnexpectedFailure(Exception):
    """A worker met an error that is a fault of the program; its text is for the log alone."""


class Halves:
    """The halves of the profiles that a worker serves.

    Args:
        halves: Stream id to half.
        clock: Monotonic seconds.
        odam: Stream id to the half whose boxes Odam-NMS selects; empty where that is not offered.
    """

    def __init__(
        self,
        halves: Mapping[bytes, InferenceHalf],
        clock: Callable[[], float] = time.monotonic,
        odam: Mapping[bytes, InferenceHalf] | None = None,
    ) -> None:
        self._halves, self._clock, self._odam = dict(halves), clock, dict(odam or {})

    def answer(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Answer jobs of one profile; errors are returned, not raised."""
        start_s = self._clock()
        odam_nms = jobs[0].odam_nms
        half = (self._odam if odam_nms else self._halves).get(jobs[0].stream_id)
        if half is None:
            lost = ProfileMismatch("this profile is served no more; negotiate again")
            return [lost] * len(jobs)
        try:
            answers = half.infer_batch(
                [job.decoded or job.frame for job in jobs],
                [job.partial for job in jobs],
                [self._checkpoint(job, start_s) for job in jobs],
            )
            return [x if isinstance(x, FpcodecError) else _serialised(x, odam_nms) for x in answers]
        except Exception:
            if len(jobs) == 1:
                return [UnexpectedFailure(traceback.format_exc())]
        # One of them is at fault, and the others' clients have nothing to do with it.
        return [outcome for job in jobs for outcome in self.answer([job])]

    def _checkpoint(self, job: Job, start_s: float) -> Checkpoint:
        def require_wanted() -> None:
            worked_s = self._clock() - start_s
            if job.seconds_left is not None and worked_s >= job.seconds_left:
                raise Timeout(
                    f"the request's deadline passed after {1e3 * worked_s:.0f} ms of work; allow "
                    "more time or send less often"
                )

        return require_wanted


def _serialised(answer: Answer, odam_nms: bool) -> bytes:
    response = to_response(answer)
    response.odam_nms = odam_nms
    return response.SerializeToString()


@dataclass(frozen=True)
class LoadHalves:
    """Loads profiles where a worker runs; can be sent there.

    Attributes:
        folders: Profile folders.
        threads: Threads of the inference runtime; None for its own choice.
        providers: Execution providers of the inference runtime; empty for its own choice.
        limits: What a frame may ask for.
        odam: Of Odam-NMS; None where it is not offered.
    """

    folders: tuple[Path, ...]
    threads: int | None = None
    providers: tuple[str, ...] = ()
    limits: Limits = Limits()
    odam: OdamRule | None = None

    def __call__(self) -> Halves:
        """Load, and prove each profile with a frame without features.

        Raises:
            FpcodecError: A profile or its detector cannot be loaded.
        """
        # They bring the inference runtime, which the front of the server does without.
        from fpcodec.profile import Profile
        from fpcodec.split import ServerHalf

        halves: dict[bytes, InferenceHalf] = {}
        odam: dict[bytes, InferenceHalf] = {}
        for folder in self.folders:
            profile = Profile.load(folder)
            half = ServerHalf(
                profile, threads=self.threads, providers=self.providers, limits=self.limits
            )
            # It also pays for the first run's set-up.
            side = profile.spec.size_divisor
            blank = profile.codec.blank_frame(half.detector.geometry((side, side)))
            half.infer(blank)
            halves[profile.stream_id] = half
            if self.odam is not None:
                other = half.with_odam_nms(self.odam)
                other.infer(blank)
                odam[profile.stream_id] = other
        return Halves(halves, odam=odam)

"""Retries: capped, jittered exponential backoff inside one deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from fpcodec.errors import FpcodecError, InputError, Overloaded
from fpcodec.status import status_of

T = TypeVar("T")


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again.

    Attributes:
        max_attempts: Attempts in all; 1 never retries.
        initial_backoff_s: Longest wait before the second attempt.
        max_backoff_s: Longest wait before any attempt.
        multiplier: Growth of the wait from attempt to attempt, in [1, 100].
        jitter: Share of each wait that is random, in [0, 1], so that clients which failed
            together do not return together.
    """

    max_attempts: int = 10
    initial_backoff_s: float = 0.1
    max_backoff_s: float = 1.0
    multiplier: float = 2.0
    jitter: float = 0.5

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise InputError(f"{self.max_attempts} attempts is not possible; use 1 or more")
        if not 0 <= self.initial_backoff_s <= self.max_backoff_s:
            raise InputError(
                f"backoff from {self.initial_backoff_s} s to {self.max_backoff_s} s does not "
                "grow from 0; use 0 <= initial <= max"
            )
        if not 1 <= self.multiplier <= 100 or not 0 <= self.jitter <= 1:
            raise InputError(
                f"multiplier {self.multiplier} or jitter {self.jitter} is out of range; "
                "use a multiplier in [1, 100] and a jitter in [0, 1]"
            )

    def backoff_s(self, failures: int, rng: random.Random) -> float:
        """Seconds to wait after so many failed attempts, 1 or more."""
        # The exponent is bounded: a float power overflows before `min` could cap the product.
        growth = self.multiplier ** min(failures - 1, 100)
        longest = min(self.max_backoff_s, self.initial_backoff_s * growth)
        return longest * (1 - self.jitter * rng.random())


def call_with_retry(
    attempt: Callable[[float], T],
    policy: RetryPolicy,
    deadline_s: float,
    *,
    rng: random.Random,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call until it succeeds, fails for good, or the deadline comes before the next attempt.

    Args:
        attempt: Called with the seconds left; an error whose status is retryable is retried.
        policy: When to try again.
        deadline_s: Seconds for everything, waits included.
        rng: Source of jitter.
        clock: Monotonic seconds.
        sleep: Waits so many seconds.

    Raises:
        FpcodecError: What the last attempt raised.
    """
    end_s = clock() + deadline_s
    failures = 0
    while True:
        try:
            return attempt(end_s - clock())
        except FpcodecError as error:
            failures += 1
            wait_s = max(policy.backoff_s(failures, rng), _told_wait_s(error))
            if (
                not status_of(error).retryable
                or failures >= policy.max_attempts
                or clock() + wait_s >= end_s
            ):
                raise
        sleep(wait_s)


def _told_wait_s(error: FpcodecError) -> float:
    """Seconds that the server asked for."""
    told_ms = error.retry_after_ms if isinstance(error, Overloaded) else None
    return (told_ms or 0) / 1000

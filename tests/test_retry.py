"""Retries on a clock that the test moves."""

from __future__ import annotations

import random

import pytest

from fpcodec import errors
from fpcodec_edge.retry import RetryPolicy, call_with_retry

STEADY = RetryPolicy(
    max_attempts=10, initial_backoff_s=0.1, max_backoff_s=0.5, multiplier=2.0, jitter=0.0
)


class World:
    """A clock, and a server that fails in a given way."""

    def __init__(self, failures: list[Exception], attempt_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.waits_s: list[float] = []
        self.budgets_s: list[float] = []
        self._failures = failures
        self._attempt_s = attempt_s

    def sleep(self, seconds: float) -> None:
        self.waits_s.append(round(seconds, 6))
        self.now_s += seconds

    def attempt(self, seconds_left: float) -> str:
        self.budgets_s.append(round(seconds_left, 6))
        self.now_s += self._attempt_s
        if self._failures:
            raise self._failures.pop(0)
        return "answer"

    def call(self, policy: RetryPolicy, deadline_s: float) -> str:
        return call_with_retry(
            self.attempt,
            policy,
            deadline_s,
            rng=random.Random(7),
            clock=lambda: self.now_s,
            sleep=self.sleep,
        )


def test_waits_double_up_to_the_cap() -> None:
    world = World([errors.Unavailable("gone")] * 5)
    assert world.call(STEADY, deadline_s=60) == "answer"
    assert world.waits_s == [0.1, 0.2, 0.4, 0.5, 0.5]


def test_each_attempt_gets_what_is_left_of_the_deadline() -> None:
    world = World([errors.Overloaded("busy"), errors.Unavailable("gone")], attempt_s=0.05)
    world.call(STEADY, deadline_s=2)
    assert world.budgets_s == [2.0, 1.85, 1.6]


def test_a_wait_that_would_outlast_the_deadline_is_not_begun() -> None:
    world = World([errors.Unavailable(f"gone {n}") for n in range(9)])
    with pytest.raises(errors.Unavailable, match="gone 2"):
        world.call(STEADY, deadline_s=0.65)
    assert world.now_s == pytest.approx(100.3)


def test_attempts_are_bounded() -> None:
    world = World([errors.Unavailable(f"gone {n}") for n in range(9)])
    with pytest.raises(errors.Unavailable, match="gone 2"):
        world.call(RetryPolicy(max_attempts=3), deadline_s=60)
    assert len(world.budgets_s) == 3


@pytest.mark.parametrize(
    "error",
    [
        errors.Timeout("late"),
        errors.ChecksumMismatch("damaged"),
        errors.LimitExceeded("long"),
        errors.ProfileMismatch("other"),
        errors.Unauthenticated("who"),
        errors.TransportError("odd"),
        RuntimeError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    world = World([error])
    with pytest.raises(type(error)):
        world.call(STEADY, deadline_s=60)
    assert world.waits_s == []


def test_jitter_spreads_waits_below_the_backoff() -> None:
    policy = RetryPolicy(initial_backoff_s=0.4, max_backoff_s=0.4, jitter=0.5)
    rng = random.Random(1)
    waits = [policy.backoff_s(1, rng) for _ in range(500)]
    assert 0.2 <= min(waits) < 0.22
    assert 0.38 < max(waits) <= 0.4


def test_backoff_never_overflows() -> None:
    policy = RetryPolicy(multiplier=100, jitter=0.0)
    assert policy.backoff_s(10_000, random.Random(0)) == policy.max_backoff_s


@pytest.mark.parametrize(
    "options",
    [
        {"max_attempts": 0},
        {"initial_backoff_s": -1.0},
        {"initial_backoff_s": 2.0, "max_backoff_s": 1.0},
        {"multiplier": 0.5},
        {"multiplier": 1e6},
        {"jitter": 1.5},
        {"jitter": float("nan")},
    ],
)
def test_impossible_policies_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(errors.InputError):
        RetryPolicy(**options)  # type: ignore[arg-type]

"""The benchmark's link: its rate, delay, losses and buffer, on a virtual clock."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def emulated(repository: Path) -> Iterator[ModuleType]:
    """``benchmarks/emulated_link.py``."""
    if not (repository / "benchmarks").is_dir():
        pytest.skip("benchmarks/ is not part of an installed package")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module("emulated_link")


def arrivals(emulated: ModuleType, plan: object, packets: int, seconds: float) -> list[float]:
    """When each of so many packets of 1,000 bytes arrives that come at once."""
    shaper = emulated.Shaper(plan, 1.0, 0)
    for _ in range(packets):
        shaper.put(bytes(1000))
    now_s, times = 0.0, []
    while now_s < seconds:
        arrived, next_s = shaper.take(now_s, 0.0)
        times += [now_s] * len(arrived)
        assert next_s > now_s
        now_s = next_s
    return times


def test_packets_take_their_time_and_the_delay(emulated: ModuleType) -> None:
    plan = emulated.LinkPlan([emulated.LinkStep(10, 80e3)], delay_s=0.05)
    times = arrivals(emulated, plan, 5, 2)
    assert times == pytest.approx([0.15, 0.25, 0.35, 0.45, 0.55], abs=0.03)


def test_steps_change_the_rate(emulated: ModuleType) -> None:
    steps = [emulated.LinkStep(0.2, 80e3), emulated.LinkStep(1, 8e3)]
    plan = emulated.LinkPlan(steps, delay_s=0.0)
    times = arrivals(emulated, plan, 4, 4)
    assert times == pytest.approx([0.1, 0.2, 1.2, 2.2], abs=0.06)
    assert plan.at(float("-inf")).bps == 80e3
    assert plan.at(99).bps == 8e3


def test_a_full_buffer_and_losses_cost_packets(emulated: ModuleType) -> None:
    plan = emulated.LinkPlan([emulated.LinkStep(1, 8e6)], buffer_bytes=3000)
    assert len(arrivals(emulated, plan, 10, 1)) == 3
    lossy = emulated.LinkPlan([emulated.LinkStep(1, 8e6, 0.5)], buffer_bytes=10**6)
    assert 60 < len(arrivals(emulated, lossy, 200, 1)) < 140

"""Rate control on a virtual clock and a virtual link."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from link_kit import Delivery, SimulatedCamera

from fpcodec import errors
from fpcodec_edge.link_estimate import LinkEstimate
from fpcodec_edge.rate_control import RateController, RateTarget

STEPS = ((0.0, 4e6), (15.0, 1e6), (30.0, 256e3), (45.0, 64e3), (60.0, 2e6))


def during(deliveries: list[Delivery], since_s: float, until_s: float) -> list[Delivery]:
    return [x for x in deliveries if since_s <= x.captured_s < until_s]


def sent_bps(deliveries: list[Delivery], seconds: float) -> float:
    return 8 * sum(x.frame_bytes for x in deliveries) / seconds


@pytest.mark.parametrize(("round_trip_s", "retransmit"), [(0.04, 0.0), (0.1, 0.0), (0.04, 0.02)])
def test_a_link_that_steps_is_followed(round_trip_s: float, retransmit: float) -> None:
    camera = SimulatedCamera(
        STEPS, full_bytes=12_000, round_trip_s=round_trip_s, retransmit=retransmit
    )
    found = camera.run(75.0)
    gaps = [b.answered_s - a.answered_s for a, b in pairwise(found)]
    assert max(gaps) < 1.0
    for (since_s, bps), until_s in zip(STEPS, (15.0, 30.0, 45.0, 60.0, 75.0), strict=True):
        settled = during(found, since_s + 3, until_s)
        in_bound = [x for x in settled if x.latency_s <= 0.5]
        assert len(in_bound) >= 0.98 * len(settled)
        assert sent_bps(settled, until_s - since_s - 3) <= bps
    # Where frames could be better, the link is put to use.
    for since_s, bps in ((15.0, 1e6), (30.0, 256e3), (45.0, 64e3)):
        assert sent_bps(during(found, since_s + 3, since_s + 15), 12) > 0.55 * bps


def test_frames_are_as_good_as_asked_where_there_is_room_and_no_better() -> None:
    found = SimulatedCamera(((0.0, 20e6),), full_bytes=3000).run(10.0)
    settled = during(found, 2, 10)
    assert sum(x.frame_bytes for x in settled) / len(settled) == pytest.approx(3000, rel=0.05)
    assert len(settled) == pytest.approx(12.5 * 8, abs=3)


def test_a_target_in_bits_per_second_is_kept() -> None:
    target = RateTarget(max_bps=128e3)
    found = SimulatedCamera(((0.0, 4e6),), target, full_bytes=12_000).run(20.0)
    assert 0.85 * 128e3 < sent_bps(during(found, 5, 20), 15) <= 1.02 * 128e3


def test_a_target_in_bytes_per_frame_is_kept_and_only_the_frame_rate_follows_the_link() -> None:
    target = RateTarget(max_frame_bytes=1000)
    found = SimulatedCamera(((0.0, 4e6), (10.0, 64e3)), target, full_bytes=12_000).run(20.0)
    assert {x.frame_bytes for x in found} == {1000}
    assert len(during(found, 2, 10)) > 12 * 8
    assert 4 * 7 < len(during(found, 13, 20)) < 8 * 7


def test_rather_fewer_frames_than_worthless_ones() -> None:
    found = SimulatedCamera(((0.0, 64e3),), full_bytes=12_000).run(20.0)
    settled = during(found, 5, 20)
    assert sum(x.frame_bytes for x in settled) / len(settled) > 1000
    assert len(settled) > 2 * 15


@settings(max_examples=15, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(
    st.lists(st.floats(64e3, 4e6), min_size=1, max_size=3),
    st.floats(0.005, 0.12),
    st.integers(500, 40_000),
    st.floats(5, 30),
)
def test_no_link_makes_it_stall(
    rates: list[float], round_trip_s: float, full_bytes: int, fps: float
) -> None:
    steps = tuple((8.0 * index, bps) for index, bps in enumerate(rates))
    camera = SimulatedCamera(steps, fps=fps, round_trip_s=round_trip_s, full_bytes=full_bytes)
    found = camera.run(8.0 * len(rates))
    for since_s, _ in steps:
        settled = during(found, since_s + 4, since_s + 8)
        assert settled
        late = [x for x in settled if x.latency_s > 0.75]
        assert len(late) <= 0.1 * len(settled) + 1


def test_frames_that_are_small_at_full_quality_come_as_often_as_the_link_allows() -> None:
    target = RateTarget(max_bps=40e3)
    found = SimulatedCamera(((0.0, 4e6),), target, full_bytes=600).run(20.0)
    settled = during(found, 5, 20)
    assert sent_bps(settled, 15) > 0.8 * 40e3
    assert len(settled) > 6 * 15


def test_an_overdue_answer_holds_frames_back_before_it_comes() -> None:
    link = LinkEstimate(1e6)
    link.connected(0.05, 0.0)
    link.sent(1, 5000, 0.0)
    assert link.goodput_bps(0.09) == 1e6
    assert link.goodput_bps(1.05) == pytest.approx(40e3)
    assert link.free_at_s(1.05) == pytest.approx(1.0)
    link.lost(1, 1.05)
    assert link.goodput_bps(1.06) == pytest.approx(40e3)


def test_a_partial_answer_counts_what_arrived() -> None:
    whole, part = LinkEstimate(1e6), LinkEstimate(1e6)
    for link, delivered in ((whole, None), (part, 1000)):
        link.connected(0.0, 0.0)
        link.sent(1, 10_000, 0.0)
        link.answered(1, 0.2, 0.0, delivered)
    assert part.goodput_bps(0.2) < whole.goodput_bps(0.2)


def test_answers_are_due_within_the_bound() -> None:
    controller = RateController(RateTarget(latency_s=0.5), lambda: 10.0)
    controller.link.connected(0.1, 9.0)
    assert controller.answer_within_s(9.9) == pytest.approx(0.3)
    assert controller.answer_within_s(5.0) == pytest.approx(0.05)


def test_an_outcome_of_an_unknown_frame_changes_nothing() -> None:
    link = LinkEstimate(1e6)
    link.answered(7, 1.0, 0.0)
    link.lost(7, 1.0)
    assert link.goodput_bps(1.0) == 1e6


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 1.5}, {"latency_s": 0}, {"max_bps": 0}, {"max_frame_bytes": 10},
        {"min_fps": -1}, {"worthwhile_bytes": 0},
    ],
)  # fmt: skip
def test_targets_without_sense_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(errors.InputError):
        RateTarget(**options)  # type: ignore[arg-type]


def test_a_link_of_nothing_is_refused() -> None:
    with pytest.raises(errors.InputError):
        LinkEstimate(0)

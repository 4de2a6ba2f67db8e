"""Credits, pending frames and the queue: nothing is lost, nothing is settled twice."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fpcodec import errors
from fpcodec_edge.frame_queue import FrameQueue
from fpcodec_edge.ledger import FrameLedger
from fpcodec_edge.outbox import Outbox, to_parts

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(0, 5)),
        st.tuples(st.just("begin"), st.floats(0.1, 5)),
        st.tuples(st.just("settle"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.floats(0.0, 2.0)),
        st.tuples(st.just("lose"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 6))
def test_every_frame_begun_is_settled_exactly_once(
    steps: list[tuple[str, float]], max_pending: int
) -> None:
    now_s, begun, settled, credits = 0.0, [], [], 0
    ledger = FrameLedger(max_pending, lambda: now_s)
    for what, value in steps:
        if what == "grant":
            credits += int(value)
            ledger.grant(int(value))
        elif what == "begin" and ledger.may_begin:
            credits -= 1
            begun.append(ledger.begin(10, value).frame_id)
        elif what == "begin":
            with pytest.raises(errors.Overloaded):
                ledger.begin(10, value)
        elif what == "settle":
            frame = ledger.settle(int(value))
            settled += [frame.frame_id] if frame else []
        elif what == "wait":
            now_s += value
            late = ledger.take_expired()
            assert all(x.expires_s <= now_s for x in late)
            settled += [x.frame_id for x in late]
        else:
            settled += [x.frame_id for x in ledger.take_all()]
            credits = 0
        assert ledger.pending == len(begun) - len(settled) <= max_pending
        assert ledger.may_begin == (credits > 0 and ledger.pending < max_pending)
    settled += [x.frame_id for x in ledger.take_all()]
    assert begun == sorted(set(begun))
    assert sorted(settled) == begun


@given(st.binary(max_size=5000), st.integers(1, 1500))
def test_parts_join_to_the_frame(frame: bytes, part_bytes: int) -> None:
    parts = to_parts(7, frame, part_bytes, answer_within_ms=3, expires_after_ms=9, request_id="r")
    assert b"".join(x.data for x in parts) == frame
    assert [x.last for x in parts] == [False] * (len(parts) - 1) + [True]
    assert {x.frame_id for x in parts} == {7}
    assert all(len(x.data) <= part_bytes for x in parts)
    assert (parts[0].answer_within_ms, parts[0].expires_after_ms) == (3, 9)
    assert all(x.answer_within_ms == 0 for x in parts[1:])


def test_the_outbox_leaves_out_what_nobody_wants() -> None:
    wanted, unsent = {1, 2, 3}, []
    outbox = Outbox(lambda frame_id: frame_id in wanted, lambda: unsent.append(1))
    for frame_id in (1, 2, 3):
        outbox.put(to_parts(frame_id, b"abcdef", 2))
    assert next(outbox).data == b"ab"
    wanted -= {1, 2}
    assert [(x.frame_id, x.data) for x in (next(outbox), next(outbox), next(outbox))] == [
        (3, b"ab"), (3, b"cd"), (3, b"ef"),
    ]  # fmt: skip
    assert unsent == [1]  # of frame 1 a part had been sent, of frame 2 none
    outbox.close()
    assert list(outbox) == []


@given(st.lists(st.booleans(), max_size=50), st.integers(1, 4))
def test_the_queue_drops_the_oldest_and_says_which(puts: list[bool], capacity: int) -> None:
    queue: FrameQueue[int] = FrameQueue(capacity)
    expected: list[int] = []
    for number, put in enumerate(puts):
        if put:
            expected.append(number)
            dropped = queue.put_newest(number)
            assert dropped == (expected.pop(0) if len(expected) > capacity else None)
        else:
            assert queue.take() == (expected.pop(0) if expected else None)
        assert len(queue) == len(expected)
    queue.close()
    assert queue.put_newest(99) == 99
    assert [queue.take() for _ in expected] == expected


def test_the_queue_can_wait_instead() -> None:
    queue: FrameQueue[int] = FrameQueue(1)
    results = []
    thread = threading.Thread(target=lambda: results.extend(map(queue.put_when_free, range(3))))
    thread.start()
    taken = []
    while len(taken) < 2:
        item = queue.take()
        taken += [] if item is None else [item]
    queue.close()
    thread.join(5)
    assert taken == [0, 1]
    assert results in ([True, True, True], [True, True, False])


def test_a_queue_of_nothing_is_refused() -> None:
    with pytest.raises(errors.InputError, match="1 or more"):
        FrameQueue(0)

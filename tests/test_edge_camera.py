"""The camera's loop against a real connection: every frame is accounted for, whatever happens."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from camera_kit import FakeEncoder, Pictures, Rig
from stream_kit import (
    ArrivedFrame,
    Outcome,
    StreamServicer,
    answer_one_box,
    stream_client,
    stream_server,
)
from wire_kit import LoopThread, free_port

from fpcodec import errors
from fpcodec.split import EncodedFrame
from fpcodec.v1 import codec_pb2
from fpcodec_edge import CameraOptions, RateTarget, Spool, StreamClient, StreamOptions
from fpcodec_edge.retry import RetryPolicy

QUICK = RetryPolicy(initial_backoff_s=0.02, max_backoff_s=0.05)


def offline_client() -> StreamClient:
    options = StreamOptions(reconnect=QUICK)
    return StreamClient(f"127.0.0.1:{free_port()}", bytes(32), options=options)


def test_a_folder_is_sent_whole_and_in_order(loop_thread: LoopThread) -> None:
    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Pictures(30, unreadable=[3, 7]))
        rig.run()
    assert rig.tally.answered == 28
    assert dict(rig.tally.failed) == {"InputError": 2}
    assert sorted([*rig.results.numbers("detections"), 3, 7]) == list(range(30))
    assert [len(x.data) for x in server.servicer.frames] == [400] * 28
    assert server.servicer.uncredited == 0
    assert len(rig.levels.observed) == 28
    line = next(x for x in rig.results.lines if x["frame"] == 5)
    assert line["latency_ms"] > 0
    assert line["level_bytes"]["p5"] == 10
    assert {"encode", "round_trip", "head"} <= set(line["timings_ms"])
    report = rig.camera.accounts.report()
    assert report["latency_ms"]["p50"] <= report["latency_ms"]["max"]


def test_a_live_source_drops_what_the_server_has_no_time_for(loop_thread: LoopThread) -> None:
    async def slow(frame: ArrivedFrame) -> Outcome:
        await asyncio.sleep(0.03)
        return await answer_one_box(frame)

    servicer = StreamServicer(slow, credits=1)
    with stream_server(loop_thread, servicer) as server:
        rig = Rig(stream_client(server), Pictures(60, is_live=True, interval_s=0.005))
        rig.run()
    dropped = rig.tally.dropped["queue_full"]
    assert dropped > 20
    assert rig.tally.answered == 60 - dropped
    assert sorted(rig.results.numbers("detections") + rig.results.numbers("dropped")) == list(
        range(60)
    )
    # An answer is due within the bound only where somebody waits for it now.
    assert all(0 < x.first.answer_within_ms <= 500 for x in servicer.frames)


def test_frames_errors_are_counted_by_name_and_refused_ones_sent_again(
    loop_thread: LoopThread,
) -> None:
    seen: dict[int, int] = {}

    async def fail(frame: ArrivedFrame) -> Outcome:
        number = len(seen)
        seen[frame.frame_id] = number
        if number == 1:
            return codec_pb2.FrameError(name="ChecksumMismatch", message="damaged")
        if number in (2, 4):
            return codec_pb2.FrameError(name="Overloaded", message="busy", retry_after_ms=20)
        if number == 3:
            return codec_pb2.FrameError(name="NeedsRefresh", message="lost the one before")
        return await answer_one_box(frame)

    with stream_server(loop_thread, StreamServicer(fail)) as server:
        rig = Rig(stream_client(server), Pictures(8))
        rig.run()
    assert dict(rig.tally.failed) == {"ChecksumMismatch": 1, "NeedsRefresh": 1}
    assert rig.tally.answered == 6
    assert rig.tally.sent_again == 2
    assert rig.encoder.refreshes == 1


def test_a_frame_is_not_sent_again_for_ever(loop_thread: LoopThread) -> None:
    async def refuse(frame: ArrivedFrame) -> Outcome:
        return codec_pb2.FrameError(name="Overloaded", message="busy", retry_after_ms=1)

    with stream_server(loop_thread, StreamServicer(refuse)) as server:
        rig = Rig(stream_client(server), Pictures(2))
        rig.run()
    assert dict(rig.tally.failed) == {"Overloaded": 2}
    assert len(server.servicer.frames) == 6


def test_frames_of_a_folder_survive_a_lost_connection(loop_thread: LoopThread) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    port = free_port()
    with stream_server(loop_thread, StreamServicer(never), port) as first:
        rig = Rig(stream_client(first), Pictures(12))
        thread = threading.Thread(target=rig.run)
        thread.start()
        while not first.servicer.frames:
            time.sleep(0.005)
    with stream_server(loop_thread, StreamServicer(), port):
        thread.join(10)
        assert not thread.is_alive()
    assert rig.tally.answered == 12
    assert rig.tally.sent_again > 0
    rig.check()


def test_frames_of_a_camera_in_flight_fail_with_the_connection(loop_thread: LoopThread) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    port, source = free_port(), Pictures(40, is_live=True, interval_s=0.02)
    with stream_server(loop_thread, StreamServicer(never), port) as first:
        rig = Rig(stream_client(first), source)
        thread = threading.Thread(target=rig.run)
        thread.start()
        while len(first.servicer.frames) < 1:
            time.sleep(0.005)
    with stream_server(loop_thread, StreamServicer(), port):
        thread.join(10)
    assert rig.tally.failed["Unavailable"] >= 1
    assert rig.tally.answered > 5
    rig.check()


def test_the_spool_keeps_frames_while_offline_and_sends_them_in_order_after_a_restart(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    options = CameraOptions(spool_after_s=0.0)
    rig = Rig(offline_client(), Pictures(10), options=options, spool=Spool(tmp_path, 10**6))
    rig.run()
    assert rig.tally.spooled == 10
    assert rig.encoder.refreshes == 10
    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Pictures(3), spool=Spool(tmp_path, 10**6))
        rig.run()
    assert rig.tally.resumed == 10
    assert rig.tally.answered == 13
    assert rig.tally.spooled == 0
    spooled = [x["frame"] for x in rig.results.lines if x.get("from_spool")]
    assert spooled == list(range(10))
    assert list(tmp_path.iterdir()) == []
    assert len(rig.levels.observed) == 3


def test_a_busy_server_costs_the_spool_nothing(loop_thread: LoopThread, tmp_path: Path) -> None:
    refused: list[int] = []

    async def busy_at_first(frame: ArrivedFrame) -> Outcome:
        if len(refused) < 20:
            refused.append(frame.frame_id)
            return codec_pb2.FrameError(name="Overloaded", message="busy", retry_after_ms=1)
        return await answer_one_box(frame)

    spool = Spool(tmp_path, 10**6)
    for number in range(4):
        spool.put(b"frame", {"frame": number})
    with stream_server(loop_thread, StreamServicer(busy_at_first)) as server:
        rig = Rig(stream_client(server), Pictures(0), spool=spool)
        rig.run()
    assert rig.tally.answered == 4
    assert list(tmp_path.iterdir()) == []


def test_a_full_spool_and_a_damaged_file_are_counted(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    options = CameraOptions(spool_after_s=0.0)
    rig = Rig(offline_client(), Pictures(20), options=options, spool=Spool(tmp_path, 6000))
    rig.run()
    kept = rig.tally.spooled
    assert 0 < kept < 20
    assert rig.tally.dropped["spool_full"] == 20 - kept
    damaged = min(tmp_path.iterdir())
    damaged.write_bytes(damaged.read_bytes()[:-3])
    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Pictures(0), spool=Spool(tmp_path, 6000))
        rig.run()
    assert dict(rig.tally.failed) == {"DamagedSpoolFile": 1}
    assert rig.tally.answered == kept - 1


def test_what_is_in_flight_goes_to_the_spool_when_the_connection_is_lost(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    source = Pictures(6, is_live=True, interval_s=0.05)
    with stream_server(loop_thread, StreamServicer(never)) as server:
        rig = Rig(stream_client(server), source, spool=Spool(tmp_path, 10**6))
        thread = threading.Thread(target=rig.run)
        thread.start()
        while not server.servicer.frames:
            time.sleep(0.005)
    thread.join(10)
    assert rig.tally.spooled > 0
    assert rig.tally.answered == 0
    rig.check()


def test_frames_that_lean_on_a_lost_one_are_not_kept(
    loop_thread: LoopThread, tmp_path: Path
) -> None:
    async def never(frame: ArrivedFrame) -> Outcome:
        return None

    class Leaning(FakeEncoder):
        def encode(self, *arguments: Any, **options: Any) -> EncodedFrame:
            made = super().encode(*arguments, **options)
            return replace(made, data=made.data[:3] + bytes([2]) + made.data[4:])

    source = Pictures(1)
    with stream_server(loop_thread, StreamServicer(never)) as server:
        rig = Rig(stream_client(server), source, Leaning(), spool=Spool(tmp_path, 10**6))
        thread = threading.Thread(target=rig.run)
        thread.start()
        while not server.servicer.frames:
            time.sleep(0.005)
    thread.join(10)
    assert dict(rig.tally.failed) == {"Unavailable": 1}
    assert rig.tally.spooled == 0
    rig.check()


def test_stopping_ends_soon_with_everything_counted(loop_thread: LoopThread) -> None:
    async def slow(frame: ArrivedFrame) -> Outcome:
        await asyncio.sleep(0.1)
        return await answer_one_box(frame)

    release = threading.Event()
    source = Pictures(5, is_live=True, interval_s=0.02, release=release)
    with stream_server(loop_thread, StreamServicer(slow)) as server:
        rig = Rig(stream_client(server), source)
        thread = threading.Thread(target=rig.run)
        thread.start()
        while not server.servicer.frames:
            time.sleep(0.005)
        rig.stop.set()
        release.set()
        start_s = time.monotonic()
        thread.join(10)
        assert time.monotonic() - start_s < 2
    assert rig.tally.answered >= 1
    rig.check()


def test_another_profile_ends_the_run_with_its_error(loop_thread: LoopThread) -> None:
    servicer = StreamServicer(outcome=codec_pb2.NEGOTIATION_OUTCOME_UNKNOWN_STREAM)
    with stream_server(loop_thread, servicer) as server:
        rig = Rig(stream_client(server), Pictures(5))
        with pytest.raises(errors.ProfileMismatch):
            rig.run()
    rig.check()


def test_a_source_that_fails_is_an_error_after_its_frames(loop_thread: LoopThread) -> None:
    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Pictures(9, fail_after=4))
        with pytest.raises(errors.InputError, match="cable"):
            rig.run()
    assert rig.tally.answered == 4
    rig.check()


def test_a_limit_in_bytes_holds_for_every_frame(loop_thread: LoopThread) -> None:
    encoder = FakeEncoder(size=350)
    target = RateTarget(max_frame_bytes=400, quality=0.4)

    class Growing(Pictures):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for item in super().__iter__():
                encoder.size = 350 if item.number < 10 else 900
                yield item
                time.sleep(0.01)

    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Growing(20), encoder, target)
        rig.run()
    assert max(len(x.data) for x in server.servicer.frames) <= 400
    assert rig.tally.answered == 20


def test_a_budget_below_the_smallest_frame_sends_the_smallest(loop_thread: LoopThread) -> None:
    encoder = FakeEncoder(size=900, smallest=700)
    target = RateTarget(max_frame_bytes=500)
    with stream_server(loop_thread) as server:
        rig = Rig(stream_client(server), Pictures(3), encoder, target)
        rig.run()
    assert {len(x.data) for x in server.servicer.frames} == {700}

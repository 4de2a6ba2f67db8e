"""A camera on a network that stalls, slows, cuts and resets: nothing is lost without a word."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from camera_kit import Pictures, Rig
from flaky_kit import Relay, relay_to
from stream_kit import QUICK, stream_server
from wire_kit import STREAM_ID, LoopThread

from fpcodec_edge import CameraOptions, Spool, StreamClient, StreamOptions

OPTIONS = StreamOptions(reconnect=QUICK, expires_after_s=0.4, silence_s=0.6, connect_s=0.5)


def do_harm(relay: Relay, rng: random.Random, until: threading.Event) -> None:
    """One mishap after the other."""
    while not until.wait(rng.uniform(0.02, 0.2)):
        harm = rng.choice(["cut", "reset", "stall", "slow", "truncate", "nothing"])
        if harm in ("cut", "reset"):
            relay.cut(reset=harm == "reset")
        elif harm == "stall":
            relay.stall()
            until.wait(rng.uniform(0.05, 0.8))
        elif harm == "slow":
            relay.bytes_per_s, relay.delay_s = 4000.0, 0.01
        elif harm == "truncate":
            relay.cut_after_bytes = rng.randrange(300)
        until.wait(rng.uniform(0.02, 0.1))
        relay.flow()


def run_badly(rig: Rig, relay: Relay, seed: int) -> None:
    over = threading.Event()
    harm = threading.Thread(target=do_harm, args=(relay, random.Random(seed), over))
    harm.start()
    try:
        rig.run()
    finally:
        over.set()
        harm.join()
        relay.flow()


@pytest.mark.parametrize("seed", range(3))
def test_every_image_of_a_live_camera_is_accounted_for(loop_thread: LoopThread, seed: int) -> None:
    with stream_server(loop_thread) as server, relay_to(loop_thread, server.address) as relay:
        client = StreamClient(relay.address, STREAM_ID, options=OPTIONS)
        rig = Rig(client, Pictures(150, is_live=True, interval_s=0.015))
        run_badly(rig, relay, seed)
    tally = rig.tally
    assert tally.captured == 150
    assert tally.answered > 0
    numbers = sorted(line["frame"] for line in rig.results.lines)
    assert numbers == list(range(150))


@pytest.mark.parametrize("seed", range(2))
def test_a_spool_brings_all_of_them_through(
    loop_thread: LoopThread, tmp_path: Path, seed: int
) -> None:
    options = CameraOptions(max_attempts=1000, spool_after_s=0.05)
    with stream_server(loop_thread) as server, relay_to(loop_thread, server.address) as relay:
        client = StreamClient(relay.address, STREAM_ID, options=OPTIONS)
        spool = Spool(tmp_path, 10**7)
        rig = Rig(client, Pictures(60, interval_s=0.02), options=options, spool=spool)
        run_badly(rig, relay, seed)
        answered = set(rig.results.numbers("detections"))
        deadline_s = time.monotonic() + 20
        while rig.tally.spooled and time.monotonic() < deadline_s:
            client = StreamClient(server.address, STREAM_ID, options=OPTIONS)
            rig = Rig(client, Pictures(0), options=options, spool=Spool(tmp_path, 10**7))
            rig.run()
            answered |= set(rig.results.numbers("detections"))
    assert answered == set(range(60))
    assert list(tmp_path.iterdir()) == []

"""Odam-NMS over the wire: asked for, offered, always, or refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from wire_kit import FakeHalf, FakeProfile, LoopThread, client_of

from fpcodec import embedded_profile_path
from fpcodec.cli.app import app
from fpcodec.data.scenes import CROWDED, generate_scene
from fpcodec.errors import InputError
from fpcodec.explain.odam_nms import OdamRule
from fpcodec.profile import Profile
from fpcodec.split import EdgeHalf, ServerHalf
from fpcodec_server import CodecServer, Halves
from fpcodec_server.answers import to_response
from fpcodec_server.config import OdamConfig
from fpcodec_server.jobs import Job
from fpcodec_server.server_config import server_of


def served(loop_thread: LoopThread, mode: str) -> CodecServer:
    """Two halves that say which they are by the frames they have seen."""
    profile = FakeProfile()
    plain, odam = FakeHalf(), FakeHalf()
    server = CodecServer(
        [profile], listen="127.0.0.1:0", executor="threads", odam=OdamConfig(mode=mode),
        load=lambda: Halves({profile.stream_id: plain}, odam={profile.stream_id: odam}),
    )  # fmt: skip
    server.halves = plain, odam  # type: ignore[attr-defined]
    loop_thread.run(server.start())
    return server


@pytest.fixture
def serve(loop_thread: LoopThread) -> Iterator[Any]:
    servers: list[CodecServer] = []

    def start(mode: str) -> CodecServer:
        servers.append(served(loop_thread, mode))
        return servers[-1]

    yield start
    for server in servers:
        loop_thread.run(server.stop(0))


def seen(server: Any) -> tuple[int, int]:
    return tuple(len(half.frames) for half in server.halves)  # type: ignore[return-value]


def test_a_server_that_does_not_offer_it_refuses(serve: Any) -> None:
    server = serve("off")
    with client_of(server) as client:
        with pytest.raises(InputError, match=r"odam\.mode"):
            client.infer(b"frame", odam_nms=True)
        client.infer(b"frame")
    assert seen(server) == (1, 0)


def test_where_offered_calls_choose(serve: Any) -> None:
    server = serve("offered")
    with client_of(server) as client:
        client.infer(b"frame")
        client.infer(b"frame", odam_nms=True)
    assert seen(server) == (1, 1)


def test_always_asks_nobody(serve: Any) -> None:
    server = serve("always")
    with client_of(server) as client:
        client.infer(b"frame")
    assert seen(server) == (0, 1)


def test_calls_that_differ_share_no_batch() -> None:
    plain = Job(bytes(32), b"frame")
    assert plain.fits(Job(bytes(32), b"other"))
    assert not plain.fits(Job(bytes(32), b"frame", odam_nms=True))


def test_a_server_that_does_not_know_it_is_found_out(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An old server answers and does not set the field.
    def serialised(answer: Any, odam_nms: bool) -> bytes:
        return to_response(answer).SerializeToString()

    monkeypatch.setattr("fpcodec_server.halves._serialised", serialised)
    with client_of(serve("offered")) as client, pytest.raises(InputError, match="upgrade it"):
        client.infer(b"frame", odam_nms=True)


@pytest.mark.parametrize(
    "wrong", [{"mode": "on"}, {"candidates": 0}, {"candidates": 1000}, {"low": 0.9}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="odam"):
        OdamConfig(**wrong)


def test_off_has_no_rule() -> None:
    assert OdamConfig().rule is None
    assert OdamConfig(mode="offered", low=0.1).rule == OdamRule(0.1, 0.8, 100)


def test_a_half_with_it_leaves_the_other_as_it_is() -> None:
    pytest.importorskip("torchvision", reason="needs the torch extra")
    profile = Profile.load(embedded_profile_path())
    frame = EdgeHalf(profile, threads=1).encode(generate_scene(7, CROWDED).image).data
    half = ServerHalf(profile, threads=1)
    before = half.infer(frame).detections
    off = half.with_odam_nms(OdamRule(-np.inf, np.inf, 1)).infer(frame).detections
    np.testing.assert_array_equal(off.labels, before.labels)
    np.testing.assert_allclose(off.boxes, before.boxes, atol=2e-3)
    # With these thresholds nothing is unlike: of the best boxes every class keeps one.
    assert len(half.with_odam_nms(OdamRule(0, 0, 10)).infer(frame).detections) < len(before)
    np.testing.assert_array_equal(half.infer(frame).detections.boxes, before.boxes)


def test_detect_and_decode_agree_on_it(loop_thread: LoopThread, tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="needs the torch extra")
    from PIL import Image

    from fpcodec_server.config import ServerConfig

    photo = tmp_path / "crowd.png"
    Image.fromarray(generate_scene(7, CROWDED).image).save(photo)
    config = ServerConfig(
        listen="127.0.0.1:0", executor="threads", workers=1, threads=1,
        odam=OdamConfig(mode="offered"),
    )  # fmt: skip
    server = server_of(config, [Profile.load(embedded_profile_path())])
    loop_thread.run(server.start())
    try:
        found = [
            run("detect", photo, "--server", server.address, "--deadline", 60, "--nms", nms)
            for nms in ("nms", "odam")
        ]
    finally:
        loop_thread.run(server.stop(0))
    run("encode", photo)
    local = [
        run("decode", photo.with_suffix(".fpc"), "--nms", nms, "--json") for nms in ("nms", "odam")
    ]
    boxes = [[x["box"] for x in answer["detections"]] for answer in (*found, *local)]
    assert boxes[:2] == boxes[2:]
    assert boxes[0] != boxes[1]


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(x) for x in arguments])
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout) if result.stdout.startswith("{") else None

"""The wire API: lint, drift of the committed stubs, and bytes that must not change."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from fpcodec.v1 import codec_pb2

ROOT = Path(__file__).resolve().parent.parent
TOOLS_VERSION = "1.80.0"


def _tools_python() -> str | None:
    """An interpreter with the stubs' generator: this one, or what PROTO_PYTHON names."""
    named = os.environ.get("PROTO_PYTHON")
    if named:
        return named
    if importlib.util.find_spec("grpc_tools") and metadata.version("grpcio-tools") == TOOLS_VERSION:
        return sys.executable
    return None


def _check(root: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "scripts" / "proto", "--check"],
        env={**os.environ, "PYTHON": python},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def tools_python() -> str:
    python = _tools_python()
    if python is None:
        pytest.skip(f"grpcio-tools {TOOLS_VERSION} is not installed (nor named by PROTO_PYTHON)")
    return python


def test_committed_stubs_match_the_proto(tools_python: str) -> None:
    done = _check(ROOT, tools_python)
    assert done.returncode == 0, done.stdout + done.stderr


def test_drift_is_noticed(tools_python: str, tmp_path: Path) -> None:
    for folder in ("proto", "scripts", "fpcodec/v1"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    proto = tmp_path / "proto/fpcodec/v1/codec.proto"
    proto.write_text(proto.read_text().replace("string request_id", "string request_name"))
    done = _check(tmp_path, tools_python)
    assert done.returncode == 1
    assert "run scripts/proto" in done.stderr


def test_a_wrong_generator_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 1.0.0\n")
    fake.chmod(0o755)
    done = _check(ROOT, str(fake))
    assert done.returncode == 3
    assert f"grpcio-tools=={TOOLS_VERSION}" in done.stderr


def test_proto_is_lint_clean() -> None:
    beside = Path(_tools_python() or sys.executable).parent / "buf"
    buf = str(beside) if beside.exists() else shutil.which("buf")
    if buf is None:
        pytest.skip("buf is not installed (package buf-bin)")
    done = subprocess.run(
        [buf, "lint", ROOT / "proto"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


# Bytes as version 1 writes them. A change here breaks devices in the field.
REQUEST = bytes.fromhex("0a04616263641203465043")
RESPONSE = bytes.fromhex(
    "0a0461626364"
    "121b" "0d0000803f" "1500000040" "1d00004040" "2500008040" "2d0000003f" "3007"
    "1a027033" "22027034" "2a0a" "0a027035" "120462697473"
    "3214" "0d0000803f" "1500000040" "1d00004040" "2500008040"
)  # fmt: skip


def test_request_bytes_are_frozen() -> None:
    request = codec_pb2.InferRequest(request_id="abcd", frame=b"FPC")
    assert request.SerializeToString(deterministic=True) == REQUEST


def test_response_bytes_are_frozen() -> None:
    response = codec_pb2.InferResponse.FromString(RESPONSE)
    assert response.request_id == "abcd"
    (found,) = response.detections
    assert (found.x1, found.y1, found.x2, found.y2, found.score) == (1, 2, 3, 4, 0.5)
    assert found.label == 7
    assert not found.HasField("mask")
    assert not response.HasField("image_size")
    assert list(response.levels_used) == ["p3"]
    assert list(response.levels_recovered) == ["p4"]
    assert [(x.name, x.reason) for x in response.levels_ignored] == [("p5", "bits")]
    times = response.timings
    assert (times.queue_ms, times.decode_ms, times.reconstruct_ms, times.head_ms) == (1, 2, 3, 4)
    assert response.SerializeToString(deterministic=True) == RESPONSE


def test_fields_of_a_newer_peer_are_ignored() -> None:
    request = codec_pb2.InferRequest.FromString(REQUEST + bytes.fromhex("f2070568656c6c6f"))
    assert (request.request_id, request.frame) == ("abcd", b"FPC")


@pytest.mark.parametrize("enum", codec_pb2.DESCRIPTOR.enum_types_by_name.values())
def test_no_enum_gives_zero_a_meaning(enum: object) -> None:
    assert enum.values_by_number[0].name.endswith("_UNSPECIFIED")  # type: ignore[attr-defined]

"""Certificates, tokens and bare connections for tests of who is let in."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import trustme
from wire_kit import ONCE

from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge import ChannelSecurity, EdgeClient
from fpcodec_server import CodecServer
from fpcodec_server.operations import Operations
from fpcodec_server.tls import ReloadingTls, TlsFiles
from fpcodec_server.tokens import Tokens

TOKEN = "b7c1f6a0d2e34958-secret"
OTHER_TOKEN = "00112233445566778899-other"


class Authority:
    """A certificate authority whose certificates are files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self._folder = folder
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.ca)

    def issue(
        self, name: str, *identities: str, days: tuple[int, int] = (-1, 1), common_name: Any = None
    ) -> tuple[Path, Path]:
        """Certificate and key files, valid from and until so many days from now."""
        now = datetime.datetime.now(datetime.timezone.utc)
        begin, end = (now + datetime.timedelta(days=x) for x in days)
        leaf = self._ca.issue_cert(
            *(identities or ("127.0.0.1", "localhost")),
            not_before=begin,
            not_after=end,
            common_name=common_name,
        )
        certificate, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        write_secret(certificate, b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        write_secret(key, leaf.private_key_pem.bytes())
        return certificate, key

    def server_tls(self, *identities: str, mutual: bool = False, **more: Any) -> ReloadingTls:
        certificate, key = self.issue("server", *identities, **more)
        return ReloadingTls(TlsFiles(certificate, key, self.ca if mutual else None))


def write_secret(path: Path, content: bytes) -> Path:
    """A file that only its owner can read, replaced in one step."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.chmod(0o600)
    os.replace(temporary, path)
    return path


def tokens_file(folder: Path, *lines: str) -> Path:
    return write_secret(folder / "tokens", "\n".join(lines or (f"camera {TOKEN}",)).encode())


def with_tokens(folder: Path, **more: Any) -> Operations:
    return Operations(tokens=Tokens(tokens_file(folder)), **more)


def infer(
    server: CodecServer, security: ChannelSecurity | None = None, frame: bytes = b"frame"
) -> int:
    """How many objects a new client with these credentials is told of."""
    with EdgeClient(server.address, deadline_s=5, retry=ONCE, security=security) as client:
        return len(client.infer(frame).detections)


def call_with_metadata(
    server: CodecServer, metadata: Sequence[tuple[str, str]] = (), request_id: str = "r"
) -> tuple[str, dict[str, str]]:
    """Status code and trailing metadata of an inference without a client's comforts."""
    with grpc.insecure_channel(server.address) as channel:
        stub = codec_pb2_grpc.CodecServiceStub(channel)
        request = codec_pb2.InferRequest(frame=b"frame", request_id=request_id)
        try:
            _, call = stub.Infer.with_call(request, metadata=tuple(metadata), timeout=5)
        except grpc.RpcError as error:
            call = error
        return call.code().name, dict(call.trailing_metadata())

"""The way to the server: reachable, known by its certificate, lets this device in, same profile."""

from __future__ import annotations

import math
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc

from fpcodec import __version__
from fpcodec.address import split_address
from fpcodec.errors import FpcodecError
from fpcodec.handshake import handshake_cause
from fpcodec.status import TIME_KEY, from_rpc_error
from fpcodec.v1 import codec_pb2, codec_pb2_grpc
from fpcodec_edge.channel import CHANNEL_OPTIONS, ChannelSecurity, is_here, open_channel, read_token
from fpcodec_edge.client import FRAME_VERSIONS
from fpcodec_edge.doctor.check import Check, State
from fpcodec_edge.replies import to_agreement

CERTIFICATE_DAYS = 14
"""A certificate that ends sooner is warned of."""

MOST_SKEW_S, WRONG_SKEW_S = 5.0, 3600.0
"""Of this clock against the server's, beyond the round trip: warned of, and failed."""

_ROOTS = Path(grpc.__file__).parent / "_cython" / "_credentials" / "roots.pem"


@dataclass(frozen=True)
class ServerWanted:
    """The server that a device is to talk to.

    Attributes:
        address: ``host:port``.
        security: How both know each other, without the token.
        token_file: Where the token lies; None for ``token``.
        token: From the environment; None for none.
        stream_id: The profile's; None where it is not known.
        timeout_s: Of each step.
        clock: Seconds since 1970.
    """

    address: str
    security: ChannelSecurity = field(default_factory=ChannelSecurity)
    token_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    stream_id: bytes | None = None
    timeout_s: float = 5.0
    clock: Callable[[], float] = time.time


def check_server(wanted: ServerWanted) -> Iterator[Check]:
    """Go to a server step by step; what cannot be reached is not looked at."""
    reached = _reach(wanted)
    yield reached
    token_check, token = _read_token(wanted)
    if token_check is not None:
        yield token_check
    if reached.state is State.fail:
        return
    safe = _handshake(wanted) if wanted.security.uses_tls else _plain(wanted)
    yield safe
    if safe.state is State.fail or (token_check is not None and token_check.state is State.fail):
        return
    yield from _negotiate(wanted, token)


def _reach(wanted: ServerWanted) -> Check:
    """Name and port, without a word of gRPC."""
    host, port = split_address(wanted.address)
    start = time.perf_counter()
    try:
        with socket.create_connection((host, port), wanted.timeout_s):
            spent_ms = 1e3 * (time.perf_counter() - start)
    except socket.gaierror as error:
        return Check("server", State.fail, f"{host}: no such name ({error.strerror})",
                     "correct --server, or the machine's DNS")  # fmt: skip
    except OSError as error:
        return Check(
            "server", State.fail, f"{wanted.address}: {error.strerror or error}",
            "start it (fpcodec serve --listen), open its port in firewalls between, or correct "
            "--server; TLS, token and the server's profile were not checked",
        )  # fmt: skip
    return Check("server", State.ok, f"{wanted.address} takes connections ({spent_ms:.1f} ms)")


def _plain(wanted: ServerWanted) -> Check:
    host, _ = split_address(wanted.address)
    if is_here(host):
        return Check("tls", State.ok, "none, and none is needed on this machine itself")
    return Check("tls", State.warn, "none: everybody on the way can read the frames",
                 "serve with --tls-cert and --tls-key, and name the CA with --tls-ca")  # fmt: skip


def _handshake(wanted: ServerWanted) -> Check:
    """Dates and name of the server's certificate, as this device sees them."""
    security, (host, port) = wanted.security, split_address(wanted.address)
    name = security.server_name or host
    try:
        context = _context(security)
        with (
            socket.create_connection((host, port), wanted.timeout_s) as connection,
            context.wrap_socket(connection, server_hostname=name) as encrypted,
        ):
            version, certificate = encrypted.version(), encrypted.getpeercert() or {}
    except OSError as error:  # ssl.SSLError is one; so is a file that cannot be read
        text, _, fix = (handshake_cause(str(error)) or "").partition("; ")
        return Check("tls", State.fail, text or f"no handshake: {error}",
                     fix or "check the PEM files, and whether the server wants TLS")  # fmt: skip
    ends_s = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    days = (ends_s - wanted.clock()) / 86400
    text = f"{version}, certificate for {name} valid for {math.floor(days)} more days"
    if days < CERTIFICATE_DAYS:
        return Check("tls", State.warn, text, "renew it on the server, which then needs no restart")
    return Check("tls", State.ok, text)


def _context(security: ChannelSecurity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if security.ca is None and not _ROOTS.is_file():
        context.load_default_certs()
    else:  # the authorities that gRPC will believe
        context.load_verify_locations(security.ca or _ROOTS)
    if security.certificate is not None:
        context.load_cert_chain(security.certificate, security.key, password="")
    return context


def _read_token(wanted: ServerWanted) -> tuple[Check | None, str | None]:
    """The token, and what is wrong with where it lies."""
    if wanted.token_file is None:
        return None, wanted.token
    try:
        token = read_token(wanted.token_file)
    except FpcodecError as error:
        return Check("token", State.fail, str(error), "put the token there"), None
    if wanted.token_file.stat().st_mode & 0o077:
        fix = f"chmod 600 {wanted.token_file}"
        return Check("token", State.warn, f"{wanted.token_file} is open to others", fix), token
    return None, token


def _negotiate(wanted: ServerWanted, token: str | None) -> Iterator[Check]:
    """Ask as an edge would: does the server let this device in, and has it the profile?"""
    asked = codec_pb2.NegotiateRequest(
        stream_ids=[wanted.stream_id or b""], frame_versions=FRAME_VERSIONS,
        client_version=__version__,
    )  # fmt: skip
    started_s = wanted.clock()
    try:
        security = replace(wanted.security, token=token)
        with closing(open_channel(wanted.address, security, CHANNEL_OPTIONS)) as channel:
            stub = codec_pb2_grpc.CodecServiceStub(channel)
            response, call = stub.Negotiate.with_call(asked, timeout=wanted.timeout_s)
            trailers = dict(call.trailing_metadata() or ())
    except FpcodecError as error:
        yield Check("token", State.fail, str(error), "see --help for the flags of the connection")
        return
    except grpc.RpcError as error:
        yield _refused(error, wanted.address)
        return
    ended_s = wanted.clock()
    yield Check("token", State.ok, "the server lets this device in")
    yield from _clock(trailers.get(TIME_KEY), started_s, ended_s)
    if wanted.stream_id is None:
        return
    try:
        agreement = to_agreement(response, wanted.address)
    except FpcodecError as error:
        yield Check("match", State.fail, str(error), "both sides need one profile and release")
        return
    yield Check("match", State.ok, f"the server has this profile as {agreement.profile_name}, and "
                f"fpcodec {agreement.server_version}")  # fmt: skip


def _refused(error: Any, address: str) -> Check:
    refusal = from_rpc_error(error, address)
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return Check("token", State.fail, str(refusal),
                     "put this device's token, as the server's file has it, where --token-file "
                     "says")  # fmt: skip
    return Check("server", State.fail, str(refusal), "see the server's log")


def _clock(told: Any, started_s: float, ended_s: float) -> Iterator[Check]:
    """This clock against the server's; servers from before it was told say nothing."""
    if told is None or not str(told).isdigit():
        return
    skew_s = (started_s + ended_s) / 2 - int(told) / 1000
    known_s = (ended_s - started_s) / 2
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the server's"
    beyond_s = abs(skew_s) - known_s
    fix = "turn on NTP on the side that is wrong (timedatectl set-ntp true)"
    if beyond_s > WRONG_SKEW_S:
        yield Check("clock", State.fail, text, fix)
    elif beyond_s > MOST_SKEW_S:
        yield Check("clock", State.warn, text, fix)
    else:
        yield Check("clock", State.ok, text)

"""The way to the server: plain text or TLS, with or without a token."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from fpcodec.address import split_address
from fpcodec.errors import InputError

CHANNEL_OPTIONS = [
    # Retries are made here, where an answer from the server and the whole deadline are known.
    ("grpc.enable_retries", 0),
    # A ping a minute keeps the mapping of a NAT alive and finds dead links; the server allows it.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # By default the channel waits one second after a first failure and up to two minutes later,
    # and fails every call in between.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    # Answers with masks are longer than any frame.
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),
]


@dataclass(frozen=True)
class ChannelSecurity:
    """How the server is known, and how this device makes itself known.

    Attributes:
        tls: Whether to use TLS; a file below implies it.
        ca: PEM file of the authorities that sign servers; None for those that gRPC brings.
        certificate: PEM file of this device's certificate chain, for servers that want one.
        key: PEM file of its private key.
        token: Bearer token. Never logged, nor part of this object's text.
        server_name: Name that the server's certificate has, where the address is another.
        token_in_plain_text: Whether the token may be sent without TLS to another machine,
            where everybody on the way can read it.

    Raises:
        InputError: The parts do not fit together.
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token: str | None = field(default=None, repr=False)
    server_name: str | None = None
    token_in_plain_text: bool = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("a client certificate and its key go together; give both or neither")
        if self.server_name is not None and not self.uses_tls:
            raise InputError("a server name is checked with TLS alone; turn TLS on or leave it out")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise InputError("the token is not one line of printable ASCII; check its file")

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.tls or self.ca is not None or self.certificate is not None


def read_token(path: Path) -> str:
    """The token in a file: its only line.

    Raises:
        InputError: The file cannot be read or holds none.
    """
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the token ({error}); correct the path") from error
    if not token or len(token.split()) != 1:
        raise InputError(f"{path}: not a single token; put the token alone on one line")
    return token


def open_channel(
    address: str,
    security: ChannelSecurity | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> Any:
    """A ``grpc.Channel`` to a server; its first call connects.

    Args:
        address: ``host:port``.
        security: None for plain text without a token.
        options: The channel's options.

    Raises:
        InputError: A file cannot be used, or the token would cross the network unencrypted.
    """
    host, _ = split_address(address)
    security = security or ChannelSecurity()
    if security.uses_tls:
        name = security.server_name
        renamed = [] if name is None else [("grpc.ssl_target_name_override", name)]
        channel = grpc.secure_channel(
            address, _credentials(security), [*options, *renamed], grpc.Compression.NoCompression
        )
    else:
        if security.token is not None and not (security.token_in_plain_text or is_here(host)):
            raise InputError(
                f"the token would cross the network to {address} unencrypted; turn on TLS, or "
                "allow it where the network itself is trusted"
            )
        channel = grpc.insecure_channel(address, options, grpc.Compression.NoCompression)
    if security.token is None:
        return channel
    return grpc.intercept_channel(channel, _Bearer(security.token))


def _credentials(security: ChannelSecurity) -> Any:
    _require_usable(security)
    ca, key, certificate = map(_bytes_of, (security.ca, security.key, security.certificate))
    return grpc.ssl_channel_credentials(ca, key, certificate)


def _require_usable(security: ChannelSecurity) -> None:
    """gRPC takes any bytes and fails at the first call, without saying which file was at fault."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for path in (security.ca, security.certificate, security.key):
        if path is not None and not path.is_file():
            raise InputError(f"{path}: no such file; name a PEM file")
    if security.ca is not None:
        _checked(lambda: context.load_verify_locations(security.ca), security.ca)
    if security.certificate is not None and security.key is not None:
        pair = (security.certificate, security.key)
        # Without a password, OpenSSL would ask for one at the terminal.
        _checked(lambda: context.load_cert_chain(*pair, password=""), *pair)


def _checked(load: Callable[[], None], *paths: Path) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        cause = getattr(error, "reason", None) or error
        raise InputError(
            f"{' and '.join(map(str, paths))}: of no use for TLS ({cause}); give PEM "
            "certificates, and with a certificate its own unencrypted key"
        ) from error


def _bytes_of(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def is_here(host: str) -> bool:
    """Whether a host is this machine, by any way that never leaves it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True)
class _Details(grpc.ClientCallDetails):  # type: ignore[misc]  # gRPC has no types
    """Details of a call, with metadata of our own."""

    method: str
    timeout: float | None
    metadata: tuple[tuple[str, Any], ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Bearer(
    grpc.UnaryUnaryClientInterceptor,  # type: ignore[misc]
    grpc.StreamStreamClientInterceptor,  # type: ignore[misc]
):
    """Sends a token with every call.

    gRPC's own call credentials refuse plain text, even to the loopback.
    """

    def __init__(self, token: str) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(self._with_token(details), requests)

    def _with_token(self, details: Any) -> _Details:
        return _Details(
            details.method, details.timeout, (*(details.metadata or ()), *self._metadata),
            details.credentials, details.wait_for_ready, details.compression,
        )  # fmt: skip

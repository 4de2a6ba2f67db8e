"""Network addresses as users write them: ``host:port``."""

from __future__ import annotations

from fpcodec.errors import InputError


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``host:port`` or ``[ipv6]:port``; the host comes without brackets.

    Raises:
        InputError: The text has another form or the port is out of range.
    """
    host, colon, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not colon or not host or (":" in host) != bracketed or not _is_port(port):
        raise InputError(
            f"address {address!r} is not host:port with a port in 0..65535; "
            "use 127.0.0.1:50051 or [::1]:50051"
        )
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """The form that ``split_address`` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535

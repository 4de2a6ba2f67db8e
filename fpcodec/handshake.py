"""What a failed TLS handshake means: gRPC only says that there was one."""

from __future__ import annotations

from fpcodec.errors import FpcodecError, Unauthenticated, Unavailable

_CONNECTING = "failed to connect to all addresses"
"""Begins gRPC's message where no connection was made, other than where one was lost."""

# What gRPC, its OpenSSL and Python's write, to what it means. Each ends the call for good: the same
# files fail the same way. In this order: the first that is found is meant.
_CAUSES = (
    ("certificate has expired", "its certificate has expired; renew it on the server, or set this "
     "machine's clock"),
    ("certificate is not yet valid", "its certificate is not valid yet; set this machine's clock, "
     "or the server's certificate is dated wrongly"),
    *((sign, "its certificate is for another name; connect by the name in it, or give that name "
       "with --tls-server-name")
      for sign in ("Hostname Verification", "Hostname mismatch", "IP address mismatch")),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is signed by nobody in the CA file; give the "
     "CA that signed it with --tls-ca"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS; start it with --tls-cert and --tls-key, or "
     "connect without TLS"),
)  # fmt: skip


def handshake_error(message: str, address: str) -> FpcodecError | None:
    """The error behind a call that gRPC calls UNAVAILABLE; None where TLS is not the cause.

    Args:
        message: gRPC's details.
        address: The server.
    """
    if _CONNECTING not in message:
        return None
    meaning = handshake_cause(message)
    if meaning is not None:
        return Unauthenticated(f"no safe connection to {address}: {meaning}")
    if not message.endswith("Socket closed"):
        return None
    # With TLS 1.3 a client learns of a refused certificate only by being cut off, as it does of
    # a server that is going away: so this may be tried again.
    return Unavailable(
        f"{address} closed the connection at once; it may want TLS (--tls-ca), or a client "
        "certificate that it accepts (--tls-cert, --tls-key)"
    )


def handshake_cause(message: str) -> str | None:
    """What a failed handshake's message means, and what to do; None where it is not known."""
    return next((meaning for sign, meaning in _CAUSES if sign in message), None)

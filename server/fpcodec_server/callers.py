"""Who calls: a name for logs and limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import unquote

MAX_NAME_CHARS = 100

_CERTIFICATE_NAMES = ("x509_common_name", "x509_subject_alternative_name")


def client_name(
    token_name: str | None, certificate: Mapping[str, Iterable[bytes]], peer: str
) -> str:
    """The caller's name: its token's, else its certificate's, else its address.

    A prefix tells them apart, so that no certificate can pass for a token's owner.

    Args:
        token_name: Whose token the call has; None for none.
        certificate: The connection's ``auth_context()``.
        peer: The connection's ``peer()``, as ``ipv4:192.0.2.7:40112``.
    """
    if token_name is not None:
        return f"token:{token_name}"
    for key in _CERTIFICATE_NAMES:
        for value in certificate.get(key, ()):
            return f"cert:{value.decode(errors='replace')[:MAX_NAME_CHARS]}"
    address = unquote(peer)
    # The port is another one with every connection. A local socket has none.
    return address.rpartition(":")[0] if address.startswith("ip") else address

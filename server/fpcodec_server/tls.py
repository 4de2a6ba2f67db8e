"""TLS for the server, from files that are read again when they change."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from fpcodec.errors import InputError
from fpcodec_server.files import WatchedFiles, read_file, warn_if_open_to_all


@dataclass(frozen=True)
class TlsFiles:
    """Where the server's identity lies.

    Attributes:
        certificate: The certificate chain, PEM, the server's own first.
        key: Its private key, PEM, without a passphrase.
        client_ca: Authorities whose clients are let in, PEM; every client needs a certificate
            then. None lets in clients without one.
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        """All of the files."""
        both = (self.certificate, self.key)
        return both if self.client_ca is None else (*both, self.client_ca)


@dataclass(frozen=True)
class _Pem:
    certificate: bytes
    key: bytes
    client_ca: bytes | None


class ReloadingTls:
    """Server credentials that follow their files: new connections get the new certificate.

    Files that do not fit together, as in the middle of a change, are logged and left alone:
    the last good ones serve on.

    Raises:
        InputError: The files cannot be used as they are now.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._mutual = files.client_ca is not None
        self._pem = WatchedFiles(files.paths, lambda: _read(files))
        warn_if_open_to_all(files.key, "private key")

    def credentials(self) -> Any:
        """``grpc.ServerCredentials`` for ``add_secure_port``."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._changed, require_client_authentication=self._mutual
        )

    def _changed(self) -> Any:
        # gRPC asks at every handshake, on a thread of its own; None is "as before".
        return self._configuration() if self._pem.refresh() else None

    def _configuration(self) -> Any:
        pem = self._pem.value
        return grpc.ssl_server_certificate_configuration(
            [(pem.key, pem.certificate)], root_certificates=pem.client_ca
        )


def _read(files: TlsFiles) -> _Pem:
    before = _bytes_of(files)
    _require_usable(files)
    # What was checked is what is used: the check itself reads the files by their names.
    if _bytes_of(files) != before:
        raise InputError(f"{files.certificate}: changed while it was read; will be read again")
    return before


def _bytes_of(files: TlsFiles) -> _Pem:
    return _Pem(
        read_file(files.certificate, "certificate"),
        read_file(files.key, "private key"),
        None if files.client_ca is None else read_file(files.client_ca, "client authorities"),
    )


def _require_usable(files: TlsFiles) -> None:
    """gRPC says only "handshake failed", and says it to the clients; OpenSSL says more."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password, OpenSSL would ask for one at the terminal.
        context.load_cert_chain(files.certificate, files.key, password="")
    except (ssl.SSLError, ValueError) as error:
        raise InputError(
            f"{files.certificate} and {files.key} cannot be used together ({_cause(error)}); "
            "give a PEM certificate chain and its unencrypted PEM key"
        ) from error
    if files.client_ca is not None:
        try:
            context.load_verify_locations(files.client_ca)
        except (ssl.SSLError, ValueError) as error:
            raise InputError(
                f"{files.client_ca}: no client authorities in it ({_cause(error)}); give the "
                "PEM certificates of the authorities that sign clients"
            ) from error


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", None)
    return reason.lower().replace("_", " ") if reason else str(error)

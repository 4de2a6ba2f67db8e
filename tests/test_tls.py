"""TLS between client and server: who is believed, who is not, and how they learn of it."""

from __future__ import annotations

import logging
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from tls_kit import Authority, infer, write_secret
from wire_kit import FakeHalf, StartServer

from fpcodec import errors
from fpcodec.handshake import handshake_error
from fpcodec_edge import ChannelSecurity, EdgeClient
from fpcodec_server import CodecServer
from fpcodec_server.operations import Operations
from fpcodec_server.tls import ReloadingTls, TlsFiles


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody here has heard of."""
    return Authority(tmp_path / "stranger")


def tls_server(start: StartServer, authority: Authority, *names: str, **more: Any) -> CodecServer:
    tls = authority.server_tls(*names, **more)
    return start(FakeHalf(), operations=Operations(tls=tls))


def refusal(server: CodecServer, security: ChannelSecurity | None) -> errors.TransportError:
    """How a patient client fails: at once, where trying again is of no use."""
    start_s = time.monotonic()
    with (
        EdgeClient(server.address, deadline_s=1, security=security) as client,
        pytest.raises(errors.TransportError) as caught,
    ):
        client.infer(b"frame")
    if isinstance(caught.value, errors.Unauthenticated):
        assert time.monotonic() - start_s < 0.8
    assert server.address in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_known_authority_is_believed(start_server: StartServer, authority: Authority) -> None:
    server = tls_server(start_server, authority)
    assert infer(server, ChannelSecurity(ca=authority.ca)) == 3


def test_an_unknown_authority_is_not(
    start_server: StartServer, authority: Authority, stranger: Authority
) -> None:
    server = tls_server(start_server, authority)
    for security in (ChannelSecurity(ca=stranger.ca), ChannelSecurity(tls=True)):
        error = refusal(server, security)
        assert isinstance(error, errors.Unauthenticated)
        assert "--tls-ca" in str(error)


@pytest.mark.parametrize(
    ("days", "says"), [((-3, -1), "has expired"), ((1, 3), "not valid yet")], ids=str
)
def test_a_certificate_out_of_its_time_is_refused(
    start_server: StartServer, authority: Authority, days: tuple[int, int], says: str
) -> None:
    server = tls_server(start_server, authority, days=days)
    error = refusal(server, ChannelSecurity(ca=authority.ca))
    assert isinstance(error, errors.Unauthenticated)
    assert says in str(error)
    assert "clock" in str(error)


def test_a_certificate_for_another_name_needs_that_name(
    start_server: StartServer, authority: Authority
) -> None:
    server = tls_server(start_server, authority, "detector.example")
    error = refusal(server, ChannelSecurity(ca=authority.ca))
    assert isinstance(error, errors.Unauthenticated)
    assert "--tls-server-name" in str(error)
    assert infer(server, ChannelSecurity(ca=authority.ca, server_name="detector.example")) == 3


def test_tls_and_plain_text_do_not_meet(start_server: StartServer, authority: Authority) -> None:
    encrypted = tls_server(start_server, authority)
    error = refusal(encrypted, None)
    assert isinstance(error, errors.Unavailable)
    assert "--tls-ca" in str(error)
    plain = start_server(FakeHalf())
    error = refusal(plain, ChannelSecurity(ca=authority.ca))
    assert isinstance(error, errors.Unauthenticated)
    assert "does not speak TLS" in str(error)


def test_mutual_tls_lets_in_signed_clients_alone(
    start_server: StartServer, authority: Authority, stranger: Authority
) -> None:
    server = tls_server(start_server, authority, mutual=True)
    certificate, key = authority.issue("camera", "camera-7.example")
    assert infer(server, ChannelSecurity(ca=authority.ca, certificate=certificate, key=key)) == 3
    foreign = stranger.issue("camera", "camera-7.example")
    stale = authority.issue("stale", "camera-7.example", days=(-3, -1))
    for pair in ((None, None), foreign, stale):
        security = ChannelSecurity(ca=authority.ca, certificate=pair[0], key=pair[1])
        error = refusal(server, security)
        assert isinstance(error, errors.Unavailable)
        assert "--tls-cert" in str(error)


def test_a_new_certificate_is_used_without_a_restart(
    start_server: StartServer,
    authority: Authority,
    stranger: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = tls_server(start_server, authority)
    old, new = ChannelSecurity(ca=authority.ca), ChannelSecurity(ca=stranger.ca)
    with EdgeClient(server.address, security=old) as connected:
        connected.infer(b"frame")
        certificate, key = stranger.issue("server")
        folder = authority.ca.parent
        with caplog.at_level(logging.INFO):
            # Half a change: the pair does not fit together, and the old one serves on.
            write_secret(folder / "server.crt", certificate.read_bytes())
            assert infer(server, old) == 3
            assert "cannot be used together" in caplog.text
            write_secret(folder / "server.key", key.read_bytes())
            assert infer(server, new) == 3
        assert "read anew" in caplog.text
        assert isinstance(refusal(server, old), errors.Unauthenticated)
        # Connections that stand are left standing.
        connected.infer(b"frame")


def test_files_without_use_are_found_before_the_start(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    other_certificate, _ = authority.issue("other")
    text = write_secret(tmp_path / "text", b"hello")
    for files in (
        TlsFiles(tmp_path / "absent", key),
        TlsFiles(certificate, text),
        TlsFiles(text, key),
        TlsFiles(other_certificate, key),
        TlsFiles(certificate, key, text),
    ):
        with pytest.raises(errors.InputError) as caught:
            ReloadingTls(files)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_encrypted_key_is_refused_and_not_asked_for(
    authority: Authority, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization as form

    certificate, key = authority.issue("server")
    secret = form.load_pem_private_key(key.read_bytes(), None)
    locked = secret.private_bytes(
        form.Encoding.PEM, form.PrivateFormat.PKCS8, form.BestAvailableEncryption(b"x")
    )
    with pytest.raises(errors.InputError, match="unencrypted"):
        ReloadingTls(TlsFiles(certificate, write_secret(tmp_path / "locked", locked)))


def test_a_key_that_everybody_can_read_is_told_of(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = authority.issue("server")
    ReloadingTls(TlsFiles(certificate, key))
    assert not caplog.records
    key.chmod(0o644)
    ReloadingTls(TlsFiles(certificate, key))
    assert "chmod" in caplog.text


@pytest.mark.parametrize(
    "parts",
    [{"certificate": "c"}, {"key": "k"}, {"server_name": "x"}, {"token": "two\nlines"}],
    ids=str,
)
def test_parts_that_do_not_fit_together_are_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(errors.InputError):
        ChannelSecurity(**parts)


def test_client_files_without_use_are_found_before_the_first_call(
    authority: Authority, tmp_path: Path
) -> None:
    certificate, _ = authority.issue("one")
    _, key = authority.issue("two")
    text = write_secret(tmp_path / "text", b"hello")
    for security in (
        ChannelSecurity(ca=tmp_path / "absent"),
        ChannelSecurity(ca=text),
        ChannelSecurity(certificate=certificate, key=key),
    ):
        with pytest.raises(errors.InputError, match=str(tmp_path)):
            EdgeClient("127.0.0.1:1", security=security)


def test_only_what_a_handshake_caused_is_blamed_on_it() -> None:
    refused = "failed to connect to all addresses; last error: Connection refused"
    assert handshake_error(refused, "a:1") is None
    assert handshake_error("Socket closed", "a:1") is None
    assert handshake_error("certificate has expired", "a:1") is None


def test_no_server_at_all_is_still_said_so(authority: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        EdgeClient(address, deadline_s=0.5, security=ChannelSecurity(ca=authority.ca)) as client,
        pytest.raises(errors.Unavailable, match="fpcodec serve"),
    ):
        client.infer(b"frame")

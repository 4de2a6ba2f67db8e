"""Bearer tokens: who is let in, how they change, and that they are written nowhere."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import pytest
from tls_kit import (
    OTHER_TOKEN,
    TOKEN,
    Authority,
    call_with_metadata,
    infer,
    tokens_file,
    with_tokens,
    write_secret,
)
from wire_kit import FakeHalf, StartServer

from fpcodec import errors
from fpcodec_edge import ChannelSecurity
from fpcodec_edge.channel import open_channel, read_token
from fpcodec_server import tokens as tokens_module
from fpcodec_server.callers import client_name
from fpcodec_server.operations import Operations
from fpcodec_server.tokens import OneToken, Tokens, authenticate


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_the_right_token_is_let_in(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(FakeHalf(), operations=with_tokens(tmp_path))
    assert infer(server, ChannelSecurity(token=TOKEN)) == 3


def test_no_token_and_a_wrong_one_are_refused(start_server: StartServer, tmp_path: Path) -> None:
    half = FakeHalf()
    server = start_server(half, operations=with_tokens(tmp_path))
    with pytest.raises(errors.Unauthenticated, match="wants a bearer token"):
        infer(server)
    with pytest.raises(errors.Unauthenticated, match="not one of this server's") as caught:
        infer(server, ChannelSecurity(token=OTHER_TOKEN))
    assert OTHER_TOKEN not in str(caught.value)
    assert half.frames == []


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([("authorization", f"bearer {TOKEN}")], "OK"),
        ([("authorization", f"Basic {TOKEN}")], "UNAUTHENTICATED"),
        ([("authorization", TOKEN)], "UNAUTHENTICATED"),
        ([("authorization", "Bearer ")], "UNAUTHENTICATED"),
        ([("authorization", f"Bearer {TOKEN}")] * 2, "UNAUTHENTICATED"),
        ([("authorization", f"Bearer {TOKEN} x")], "UNAUTHENTICATED"),
        ([], "UNAUTHENTICATED"),
    ],
)
def test_headers_of_other_forms(
    start_server: StartServer, tmp_path: Path, sent: Any, code: str
) -> None:
    server = start_server(FakeHalf(), operations=with_tokens(tmp_path))
    got, trailing = call_with_metadata(server, sent)
    assert got == code
    assert trailing.get("fpcodec-error") == (None if code == "OK" else "Unauthenticated")


def test_tls_and_tokens_together(start_server: StartServer, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    operations = with_tokens(tmp_path, tls=authority.server_tls())
    server = start_server(FakeHalf(), operations=operations)
    assert infer(server, ChannelSecurity(ca=authority.ca, token=TOKEN)) == 3
    with pytest.raises(errors.Unauthenticated):
        infer(server, ChannelSecurity(ca=authority.ca))


def test_tokens_are_exchanged_without_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    known = Tokens(tokens_file(tmp_path), clock)
    assert (known.name_of(TOKEN), known.name_of(OTHER_TOKEN)) == ("camera", None)
    tokens_file(tmp_path, f"camera {TOKEN}", f"camera {OTHER_TOKEN}")
    clock.now_s = 2
    assert {known.name_of(TOKEN), known.name_of(OTHER_TOKEN)} == {"camera"}
    tokens_file(tmp_path, f"camera {OTHER_TOKEN}")
    clock.now_s = 4
    assert (known.name_of(TOKEN), known.name_of(OTHER_TOKEN)) == (None, "camera")


@pytest.mark.parametrize("damaged", ["", "camera", f"camera {TOKEN} more", "camera short"])
def test_a_damaged_new_file_leaves_the_old_tokens(
    tmp_path: Path, damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    known = Tokens(tokens_file(tmp_path), clock)
    write_secret(tmp_path / "tokens", damaged.encode())
    for clock.now_s in (2, 4):
        assert known.name_of(TOKEN) == "camera"
    assert len(caplog.records) == 1, "said once, not at every look"
    assert caplog.records[0].levelno == logging.ERROR
    assert TOKEN not in caplog.text


def test_a_file_may_hold_hashes_comments_and_several_names(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    lines = ("# cameras", "", f"front-door sha256:{digest.upper()}  # north", f"yard {OTHER_TOKEN}")
    known = Tokens(tokens_file(tmp_path, *lines))
    assert known.name_of(TOKEN) == "front-door"
    assert known.name_of(OTHER_TOKEN) == "yard"
    assert known.name_of(f"sha256:{digest}") is None


@pytest.mark.parametrize(
    "line",
    [
        "two words more",
        "na/me " + TOKEN,
        "name sha256:00",
        "name tooshort",
        "name kürzer-als-nötig",
    ],
)
def test_a_line_of_another_form_is_named_and_not_quoted(tmp_path: Path, line: str) -> None:
    path = tokens_file(tmp_path, f"camera {OTHER_TOKEN}", line)
    with pytest.raises(errors.InputError, match="line 2") as caught:
        Tokens(path)
    assert str(path) in str(caught.value)
    assert line.split()[1] not in str(caught.value)


def test_an_absent_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(errors.InputError, match="absent"):
        Tokens(tmp_path / "absent")


def test_a_file_that_everybody_can_read_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tokens_file(tmp_path)
    Tokens(path)
    assert not caplog.records
    path.chmod(0o644)
    Tokens(path)
    assert "chmod" in caplog.text


def test_every_entry_is_compared_whichever_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"camera-{n} {TOKEN}{n}" for n in range(5)]
    known = Tokens(tokens_file(tmp_path, *lines))
    compared = []
    compare = tokens_module.hmac.compare_digest

    def counting(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare(a, b)

    monkeypatch.setattr(tokens_module.hmac, "compare_digest", counting)
    for token in (f"{TOKEN}0", f"{TOKEN}4", "unknown"):
        compared.clear()
        known.name_of(token)
        assert compared == [(32, 32)] * 5


def test_tokens_are_not_in_any_text_of_the_objects(tmp_path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    things = (Tokens(tokens_file(tmp_path)), OneToken(TOKEN), ChannelSecurity(token=TOKEN))
    for thing in (*things, Operations(tokens=things[1])):
        assert TOKEN not in repr(thing)
        assert digest not in repr(thing)


def test_one_token_from_a_variable() -> None:
    assert authenticate([("authorization", f"Bearer {TOKEN}")], OneToken(TOKEN)) == "default"
    with pytest.raises(errors.InputError, match="16"):
        OneToken("short")


@pytest.mark.parametrize(
    ("token", "certificate", "peer", "name"),
    [
        ("door", {"x509_common_name": [b"cam"]}, "ipv4:1.2.3.4:5", "token:door"),
        (None, {"x509_common_name": [b"cam"]}, "ipv4:1.2.3.4:5", "cert:cam"),
        (None, {"x509_subject_alternative_name": [b"a", b"b"]}, "ipv4:1.2.3.4:5", "cert:a"),
        (None, {"transport_security_type": [b"ssl"]}, "ipv4:1.2.3.4:5", "ipv4:1.2.3.4"),
        (None, {}, "ipv6:%5B::1%5D:40", "ipv6:[::1]"),
        (None, {}, "unix:/run/fpcodec", "unix:/run/fpcodec"),
    ],
)
def test_callers_have_names(token: Any, certificate: Any, peer: str, name: str) -> None:
    assert client_name(token, certificate, peer) == name


def test_a_token_does_not_cross_a_network_in_plain_text() -> None:
    for address in ("server.example:50051", "192.0.2.1:1", "localhost.example:1"):
        with pytest.raises(errors.InputError, match="unencrypted") as caught:
            open_channel(address, ChannelSecurity(token=TOKEN))
        assert TOKEN not in str(caught.value)
        open_channel(address, ChannelSecurity(token=TOKEN, token_in_plain_text=True)).close()
        open_channel(address, ChannelSecurity(tls=True, token=TOKEN)).close()
    for address in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        open_channel(address, ChannelSecurity(token=TOKEN)).close()


def test_a_token_file_holds_one_token(tmp_path: Path) -> None:
    assert read_token(write_secret(tmp_path / "good", f"{TOKEN}\n".encode())) == TOKEN
    for content in (b"", b"two tokens", b"\xff\xfe"):
        with pytest.raises(errors.InputError, match="bad"):
            read_token(write_secret(tmp_path / "bad", content))
    with pytest.raises(errors.InputError, match="absent"):
        read_token(tmp_path / "absent")

"""Bearer tokens: who has one, compared in constant time, never written anywhere."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError, Unauthenticated
from fpcodec_server.files import WatchedFiles, read_file, warn_if_open_to_all

MIN_TOKEN_CHARS = 16
HASH_PREFIX = "sha256:"

_LOOK_S = 1.0
"""Seconds between looks at the file: a look at every request would be a system call each."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_HASH = re.compile(r"[0-9a-f]{64}")

_Entries = tuple[tuple[str, bytes], ...]


class Tokens:
    """The tokens that are let in, from a file that is read again when it changes.

    One ``NAME TOKEN`` or ``NAME sha256:HEX`` per line; ``#`` begins a comment. A name may have
    several tokens, so that a new one can be handed out before the old one is taken back. Only
    digests are kept in memory.

    Args:
        path: The file.
        clock: Monotonic seconds.

    Raises:
        InputError: The file cannot be read or has a line of another form.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = WatchedFiles((path,), lambda: _read(path))
        self._clock = clock
        self._looked_s = clock()
        warn_if_open_to_all(path, "tokens")

    def __repr__(self) -> str:
        return f"Tokens({len(self._entries.value)})"

    def name_of(self, token: str) -> str | None:
        """Whose token this is; None for nobody's.

        Takes the same time whichever entry it is, or none.
        """
        now_s = self._clock()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._entries.refresh()
        return _match(token, self._entries.value)


class OneToken:
    """A single token, out of a variable of the environment rather than a file.

    Raises:
        InputError: The token is too short or has characters that no header can carry.
    """

    def __init__(self, token: str, name: str = "default") -> None:
        self._entries = ((name, _digest_of(token, "the token")),)

    def __repr__(self) -> str:
        return "OneToken()"

    def name_of(self, token: str) -> str | None:
        """The token's name; None for any other token."""
        return _match(token, self._entries)


def authenticate(metadata: Iterable[tuple[str, Any]], tokens: Tokens | OneToken) -> str:
    """The name behind a call's bearer token.

    Args:
        metadata: The call's metadata, keys in lower case.
        tokens: Those that are let in.

    Raises:
        Unauthenticated: There is none, or it is not one of these.
    """
    sent = [value for key, value in metadata if key == "authorization"]
    scheme, _, token = str(sent[0]).partition(" ") if len(sent) == 1 else ("", "", "")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated(
            "this server wants a bearer token and the call has none; give one with "
            "--token-file, or the metadata `authorization: Bearer TOKEN`"
        )
    name = tokens.name_of(token.strip())
    if name is None:
        raise Unauthenticated(
            "the bearer token is not one of this server's; ask its operator for a valid one"
        )
    return name


def _match(token: str, entries: _Entries) -> str | None:
    digest = hashlib.sha256(token.encode(errors="backslashreplace")).digest()
    found = None
    for name, known in entries:
        # No early end: the time must not tell which entry a guess came close to.
        if hmac.compare_digest(digest, known):
            found = name
    return found


def _read(path: Path) -> _Entries:
    try:
        text = read_file(path, "tokens").decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file; give lines of NAME TOKEN") from error
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if words:
            entries.append(_entry(words, f"{path}, line {number}"))
    if not entries:
        raise InputError(
            f"{path}: has no tokens and would keep everybody out; give lines of NAME TOKEN"
        )
    return tuple(entries)


def _entry(words: list[str], where: str) -> tuple[str, bytes]:
    # The line itself is not quoted: it holds a secret.
    if len(words) != 2 or not _NAME.fullmatch(words[0]):
        raise InputError(
            f"{where}: not NAME TOKEN with a name of letters, digits and ._@-; see "
            "docs/operations.md"
        )
    name, token = words
    if not token.startswith(HASH_PREFIX):
        return name, _digest_of(token, where)
    digest = token.removeprefix(HASH_PREFIX).lower()
    if not _HASH.fullmatch(digest):
        raise InputError(f"{where}: {HASH_PREFIX} is not followed by 64 hex digits")
    return name, bytes.fromhex(digest)


def _digest_of(token: str, where: str) -> bytes:
    if len(token) < MIN_TOKEN_CHARS or not _TOKEN.fullmatch(token):
        raise InputError(
            f"{where}: a token has {MIN_TOKEN_CHARS} or more printable ASCII characters without "
            "spaces; make one with: openssl rand -hex 32"
        )
    return hashlib.sha256(token.encode()).digest()

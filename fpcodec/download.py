"""One file from the web: of a known size and SHA-256, or not at all."""

from __future__ import annotations

import hashlib
import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from fpcodec.errors import InputError, ModelError, Timeout, TransportError, Unavailable
from fpcodec.files import replacing

TIMEOUT_S = 30.0
"""Longest silence of the server, not the longest download."""

_BLOCK_BYTES = 64 * 1024
_BY_HAND = "download the file yourself and name it with --model"

Progress = Callable[[int, int], None]


def download(
    url: str,
    target: Path,
    *,
    size_bytes: int,
    sha256: str,
    timeout_s: float = TIMEOUT_S,
    progress: Progress | None = None,
) -> None:
    """Fetch a file; it lies at ``target`` whole and verified, or nothing does.

    Args:
        url: ``https`` or ``http``: what was fetched is known by its hash.
        target: The file to write.
        size_bytes: Its length; not a byte more is read.
        sha256: Its hash, hexadecimal.
        timeout_s: Longest wait for an answer and for each further piece of it.
        progress: Called with bytes read and ``size_bytes``.

    Raises:
        InputError: The URL is of another scheme, or the file cannot be written.
        TransportError: The server cannot be reached, refuses, falls silent, or sends more or
            fewer bytes.
        ModelError: The bytes are others.
    """
    if urlsplit(url).scheme not in ("https", "http"):
        raise InputError(f"{url} is no http(s) address; {_BY_HAND}")
    with replacing(target) as part:
        try:
            found = _fetch(url, part, size_bytes, timeout_s, progress)
        except urllib.error.HTTPError as error:
            with error:
                said = f"{error.code} {error.reason}"
            raise Unavailable(f"{url} answered {said}; {_BY_HAND}") from error
        except TimeoutError as error:
            raise _silent(url, timeout_s) from error
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise _silent(url, timeout_s) from error
            raise Unavailable(f"{url} cannot be reached ({error.reason}); {_BY_HAND}") from error
        except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
            raise TransportError(
                f"{url}: the connection broke ({type(error).__name__}); try again, or {_BY_HAND}"
            ) from error
        if found != sha256:
            raise ModelError(f"{url} has sha256 {found}, not {sha256}: another file; {_BY_HAND}")


def _fetch(
    url: str, part: Path, size_bytes: int, timeout_s: float, progress: Progress | None
) -> str:
    """Write what a URL sends; the SHA-256 of it."""
    digest, done = hashlib.sha256(), 0
    # The scheme was checked, and redirections keep to http(s) and ftp.
    answer = urllib.request.urlopen(url, timeout=timeout_s)  # noqa: S310
    with answer, part.open("wb") as file:
        # One byte too many is enough to know.
        while block := answer.read(min(_BLOCK_BYTES, size_bytes + 1 - done)):
            done += len(block)
            if done > size_bytes:
                raise TransportError(f"{url} sends more than the {size_bytes} bytes expected; "
                                     f"{_BY_HAND}")  # fmt: skip
            file.write(block)
            digest.update(block)
            if progress is not None:
                progress(done, size_bytes)
    if done < size_bytes:
        raise TransportError(f"{url} ended after {done} of {size_bytes} bytes; try again, or "
                             f"{_BY_HAND}")  # fmt: skip
    return digest.hexdigest()


def _silent(url: str, timeout_s: float) -> Timeout:
    return Timeout(f"{url} was silent for {timeout_s:g} s; try again, or {_BY_HAND}")

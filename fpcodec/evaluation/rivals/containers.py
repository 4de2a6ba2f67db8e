"""How many bytes of an image file are container and headers, not coded pixels.

A fixed cost of some hundred bytes matters where a picture takes a few kilobytes: figures with and
without it stand side by side.
"""

from __future__ import annotations

from collections.abc import Iterator

from fpcodec.errors import InputError
from fpcodec.evaluation.rivals.jpeg_xl import SIGNATURES

_VP8_HEADER_BYTES = 10
_VP8L_HEADER_BYTES = 5
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_STANDALONE = frozenset((0x01, *range(0xD0, 0xDA)))
_JPEG_END, _JPEG_SCAN = 0xD9, 0xDA


def container_bytes(data: bytes) -> int:
    """Bytes of an image file that are not coded pixels.

    - JPEG: all but the entropy-coded data of scans: markers, tables, frame and scan headers.
    - WebP: the RIFF and chunk headers, padding, metadata, and the frame header (VP8 10 bytes,
      VP8L 5).
    - AVIF: all but what the ``mdat`` boxes hold.
    - JPEG XL: the signature of a bare codestream; in a container all but the codestream.
    - PNG: all but what the ``IDAT`` chunks hold.

    Raises:
        InputError: The bytes are none of these, or end too early.
    """
    return len(data) - _payload_bytes(data)


def _payload_bytes(data: bytes) -> int:
    if data[:2] == b"\xff\xd8":
        return _jpeg_scan_bytes(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _webp_payload_bytes(data)
    if data[:8] == _PNG_SIGNATURE:
        return _png_payload_bytes(data)
    if data[:2] == SIGNATURES[0]:
        return len(data) - 2
    if data.startswith(SIGNATURES[1]):
        return sum(
            size - 4 if kind == b"jxlp" else size
            for kind, size in _boxes(data)
            if kind in (b"jxlc", b"jxlp")
        )
    if data[4:8] == b"ftyp":
        return sum(size for kind, size in _boxes(data) if kind == b"mdat")
    raise InputError(f"{len(data)} bytes are not a JPEG, WebP, AVIF, JPEG XL or PNG file")


def _jpeg_scan_bytes(data: bytes) -> int:
    position, scans = 2, 0
    while True:
        start = position
        position = _next_marker(data, position)
        scans += position - start
        marker = data[position + 1]
        position += 2
        if marker == _JPEG_END:
            return scans
        if marker in _JPEG_STANDALONE:
            continue
        position += int.from_bytes(data[position : position + 2], "big")
        if marker != _JPEG_SCAN and data[position : position + 1] != b"\xff":
            raise _truncated(data, "JPEG")


def _next_marker(data: bytes, position: int) -> int:
    """Where the next marker's 0xFF stands; a stuffed 0xFF00 is coded data."""
    while True:
        position = data.find(b"\xff", position)
        if not 0 <= position < len(data) - 1:
            raise _truncated(data, "JPEG")
        if data[position + 1] not in (0x00, 0xFF):
            return position
        position += 1 + (data[position + 1] == 0)


def _webp_payload_bytes(data: bytes) -> int:
    position, payload = 12, 0
    while position + 8 <= len(data):
        kind = data[position : position + 4]
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
        if position > len(data):
            raise _truncated(data, "WebP")
        if kind == b"VP8 ":
            payload += size - _VP8_HEADER_BYTES
        elif kind == b"VP8L":
            payload += size - _VP8L_HEADER_BYTES
    if payload <= 0:
        raise _truncated(data, "WebP")
    return payload


def _png_payload_bytes(data: bytes) -> int:
    position, payload = 8, 0
    while position + 12 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        position += 12 + size
        if position > len(data):
            break
        if kind == b"IDAT":
            payload += size
        if kind == b"IEND":
            return payload
    raise _truncated(data, "PNG")


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and content bytes of each top-level ISO base media box."""
    position = 0
    while position < len(data):
        size, header = int.from_bytes(data[position : position + 4], "big"), 8
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16], "big"), 16
        elif size == 0:
            size = len(data) - position
        if size < header or position + size > len(data):
            raise _truncated(data, "boxed")
        yield data[position + 4 : position + 8], size - header
        position += size


def _truncated(data: bytes, kind: str) -> InputError:
    return InputError(f"{kind} file of {len(data)} bytes ends too early; send it again")

"""A compact packet of boxes: what an edge that runs the whole detector sends."""

from __future__ import annotations

import zlib

import numpy as np

from fpcodec.detections import Detections
from fpcodec.errors import InputError

_MOST_BOXES = 0xFFFF


def pack_boxes(
    detections: Detections, image_size: tuple[int, int], min_score: float = 0.05
) -> bytes:
    """Boxes alone, as small as is easily done.

    One flag byte (bit 0: deflated, bit 1: labels of two bytes), then, deflated if that is
    smaller: image width and height, the number of boxes (two bytes each, little-endian), all
    labels, all scores (one byte), and the corners as shares of the image (two bytes each), left
    edges first.

    Args:
        detections: Of the whole detector, in image pixels.
        image_size: ``(width, height)`` of the image in pixels.
        min_score: Boxes below are left out.

    Raises:
        InputError: There are more than 65,535 boxes, or a label is outside 0..65,535.
    """
    keep = detections.scores >= min_score
    boxes, labels = detections.boxes[keep], detections.labels[keep]
    if len(boxes) > _MOST_BOXES or (len(labels) and not 0 <= labels.min() <= labels.max() < 65536):
        raise InputError(f"{len(boxes)} boxes cannot be packed: two bytes hold count and label")
    wide = bool(len(labels)) and int(labels.max()) > 255
    corners = boxes / np.array(image_size * 2, np.float32)
    body = b"".join(
        part.tobytes()
        for part in (
            np.array([*image_size, len(boxes)], "<u2"),
            labels.astype("<u2" if wide else "u1"),
            np.round(np.clip(detections.scores[keep], 0, 1) * 255).astype("u1"),
            np.round(np.clip(corners, 0, 1) * 65535).astype("<u2").T,
        )
    )
    deflater = zlib.compressobj(9, wbits=-15)
    squeezed = deflater.compress(body) + deflater.flush()
    deflated = len(squeezed) < len(body)
    return bytes([deflated | wide << 1]) + (squeezed if deflated else body)


def unpack_boxes(data: bytes) -> Detections:
    """Read what ``pack_boxes`` wrote.

    Raises:
        InputError: The bytes are not such a packet.
    """
    if not data or data[0] > 3:
        raise InputError(f"{len(data)} bytes are not packed boxes")
    body = data[1:]
    if data[0] & 1:
        longest = 6 + _MOST_BOXES * 11
        inflater = zlib.decompressobj(wbits=-15)
        try:
            body = inflater.decompress(body, longest + 1)
        except zlib.error as error:
            raise InputError(f"packed boxes cannot be inflated: {error}") from error
    label_bytes = 2 if data[0] & 2 else 1
    count = int.from_bytes(body[4:6], "little")
    if len(body) < 6 or len(body) != 6 + count * (label_bytes + 9):
        raise InputError(f"packed boxes hold {len(body)} bytes, which {count} boxes do not take")
    labels, scores, corners = np.split(
        np.frombuffer(body[6:], np.uint8), [count * label_bytes, count * (label_bytes + 1)]
    )
    image_size = np.frombuffer(body[:4], "<u2").astype(np.float32)
    shares = corners.view("<u2").reshape(4, count).T.astype(np.float32) / 65535
    return Detections(
        (shares * np.tile(image_size, 2)).astype(np.float32),
        scores.astype(np.float32) / np.float32(255),
        labels.view("<u2" if label_bytes == 2 else "u1").astype(np.int64),
    )

"""``fpcodec detect``: the edge's half against a running server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import (
    Images,
    Levels,
    MaxBytes,
    Nms,
    NmsOption,
    ProfileFolder,
    Providers,
    QualityOrBudget,
    Threads,
    check_folder,
    check_images,
    check_rate,
    open_profile,
)
from fpcodec.cli.output import note, print_json, track, write_png
from fpcodec.cli.security_options import (
    Tls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsServerName,
    TokenFile,
    TokenInPlainText,
    channel_security,
    quiet_grpc,
)

if TYPE_CHECKING:
    from fpcodec.detectors.base import Image
    from fpcodec.split import EncodedFrame
    from fpcodec_edge import InferReply

DRAWN_SIDE = 1280
"""Pixels of the longer side up to which a small image is enlarged, a whole number of times."""


def detect(
    images: Images,
    server: Annotated[
        str, typer.Option("--server", "-s", metavar="HOST:PORT", help="A running `fpcodec serve`.")
    ],
    profile: ProfileFolder = None,
    quality: QualityOrBudget = None,
    max_bytes: MaxBytes = None,
    levels: Levels = "all",
    nms: NmsOption = Nms.NMS,
    min_score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out boxes of lower scores.")
    ] = 0.0,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write each image with its boxes there, as PNG."),
    ] = None,
    deadline: Annotated[
        float, typer.Option(metavar="SECONDS", help="For each request, retries included.")
    ] = 5.0,
    threads: Threads = None,
    provider: Providers = None,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    token_file: TokenFile = None,
    token_in_plain_text: TokenInPlainText = False,
) -> None:
    """Send images' features to a server; print one JSON line per image.

    Example:  fpcodec detect a.jpg b.jpg --server 127.0.0.1:50051 --levels auto
    """
    quiet_grpc()
    check_images(images)
    check_folder(draw)
    check_rate(quality, max_bytes)
    security = channel_security(
        tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file, token_in_plain_text
    )
    loaded = open_profile(profile)
    from fpcodec.cli.level_choice import LevelChoice, unless_all
    from fpcodec.errors import InputError
    from fpcodec.images import load_image
    from fpcodec.split import EdgeHalf
    from fpcodec_edge import EdgeClient

    choice = LevelChoice(levels, loaded)
    drawn = {} if draw is None else _picture_files(images, draw)
    unread = 0
    with EdgeClient(server, deadline_s=deadline, security=security) as client:
        client.negotiate(loaded.stream_id)
        edge = EdgeHalf(loaded, threads=threads, providers=provider or ())
        for path in track(images, "Detecting", len(images)):
            try:
                picture = load_image(path)
            except InputError as error:
                # One bad file must not cost the answers to all that follow it.
                note(f"error: {error}")
                unread += 1
                continue
            levels_now = unless_all(choice.next(), loaded)
            frame = edge.encode(picture, quality=quality, levels=levels_now, max_bytes=max_bytes)
            reply = client.infer(frame.data, odam_nms=nms is Nms.ODAM)
            choice.observe(reply.detections)
            if draw is not None:
                _draw(picture, reply, loaded.labels, drawn[path])
            report = _report(frame, reply, loaded.labels, min_score)
            print_json({"image": str(path), **report}, indent=None)
    if unread:
        raise InputError(f"{unread} of {len(images)} images could not be read; see above")


def _picture_files(images: Sequence[Path], folder: Path) -> dict[Path, Path]:
    """Where each image is drawn.

    Raises:
        InputError: Two images would be drawn in one file, or one over itself.
    """
    from fpcodec.errors import InputError

    files: dict[Path, Path] = {}
    for image in dict.fromkeys(images):
        file = folder / f"{image.stem}.png"
        if file in files.values() or file.resolve() == image.resolve():
            raise InputError(f"{image} would be drawn in {file}, which is taken; give --draw "
                             "another folder, or draw images of one name apart")  # fmt: skip
        files[image] = file
    return files


def _draw(picture: Image, reply: InferReply, labels: Sequence[str], file: Path) -> None:
    import numpy as np
    from PIL import Image as Pillow

    from fpcodec.drawing import draw_detections

    height, width = picture.shape[:2]
    scale = max(1, DRAWN_SIDE // max(height, width))
    shown = Pillow.fromarray(picture).resize((width * scale, height * scale))
    write_png(file, draw_detections(np.asarray(shown), reply.detections, labels, scale=scale))


def _report(
    frame: EncodedFrame, reply: InferReply, labels: Sequence[str], min_score: float
) -> dict[str, Any]:
    """What was found in one image, and what it cost."""
    found = [x for x in reply.detections.to_dicts(labels) if x["score"] >= min_score]
    times = {**frame.timings_ms, **reply.timings_ms, "round_trip": reply.round_trip_ms}
    return {
        "detections": found,
        "bytes": len(frame.data),
        "level_bytes": dict(frame.chunk_bytes),
        "levels_used": list(reply.levels_used),
        "levels_recovered": list(reply.levels_recovered),
        "levels_ignored": dict(reply.levels_ignored),
        "timings_ms": {stage: round(ms, 3) for stage, ms in times.items()},
    }

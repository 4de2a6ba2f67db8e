"""``fpcodec decode``: the server's half without a network."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import (
    Json,
    Nms,
    NmsOption,
    ProfileFolder,
    Providers,
    Threads,
    open_profile,
)
from fpcodec.cli.output import print_json, print_table, write_bytes, write_json

if TYPE_CHECKING:
    from fpcodec.profile import Profile

SHOWN_SCORE = 0.3
"""Detections below are only counted in the table; JSON has them all."""


def decode(
    frame: Annotated[Path, typer.Argument(metavar="FRAME.fpc", help="A frame of this profile.")],
    profile: ProfileFolder = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Write the answer there as JSON.")
    ] = None,
    symbols: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Write the decoded integers there as arrays."),
    ] = None,
    nms: NmsOption = Nms.NMS,
    threads: Threads = None,
    provider: Providers = None,
    as_json: Json = False,
) -> None:
    """Decode a frame, recover what was not sent, and detect.

    Example:  fpcodec decode photo.fpc --profile my-profile --json
    """
    loaded = open_profile(profile)
    data = read_frame_file(frame)
    from fpcodec.split import ServerHalf

    with naming(frame):
        half = ServerHalf(loaded, threads=threads, providers=provider or ())
        answer = (half.with_odam_nms() if nms is Nms.ODAM else half).infer(data)
    report = {
        "frame": str(frame),
        "bytes": len(data),
        "detections": answer.detections.to_dicts(loaded.labels),
        "levels_used": list(answer.levels_used),
        "levels_recovered": list(answer.levels_recovered),
        "levels_ignored": dict(answer.levels_ignored),
        "timings_ms": {stage: round(ms, 3) for stage, ms in answer.timings_ms.items()},
    }
    if symbols is not None:
        write_bytes(symbols, _symbol_archive(loaded, data))
    if out is not None:
        write_json(out, report)
    if as_json:
        print_json(report)
    elif out is None:
        _print(report)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's name before what is wrong with the frame in it."""
    from fpcodec.errors import FormatError, ProfileMismatch

    try:
        yield
    except (FormatError, ProfileMismatch) as error:
        raise type(error)(f"{path}: {error}") from error


def read_frame_file(path: Path) -> bytes:
    """Bytes of a frame's file.

    Raises:
        InputError: It is no file, or longer than any receiver would read.
    """
    from fpcodec.codecs.base import Limits
    from fpcodec.errors import InputError

    if path.is_dir():
        raise InputError(f"{path} is a folder; name an .fpc frame in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file; name an .fpc frame")
    limit = Limits().max_frame_bytes
    if path.stat().st_size > limit:
        raise InputError(f"{path}: {path.stat().st_size} bytes are above the limit of {limit}")
    return path.read_bytes()


def _symbol_archive(profile: Profile, data: bytes) -> bytes:
    """An .npz with ``LEVEL`` (K, H, W) int32 and, where sent, ``LEVEL_steps`` (H, W) uint8."""
    import numpy as np

    decoded = profile.codec.decode(data)
    arrays: dict[str, Any] = dict(decoded.symbols)
    arrays |= {f"{name}_steps": steps for name, steps in decoded.step_maps.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    shown = [x for x in report["detections"] if x["score"] >= SHOWN_SCORE]
    table = Table(title=f"{report['frame']}: detections")
    table.add_column("label")
    table.add_column("score", justify="right")
    table.add_column("x1 y1 x2 y2 in pixels", justify="right")
    for found in shown:
        corners = " ".join(f"{value:.1f}" for value in found["box"])
        table.add_row(found["label"], f"{found['score']:.2f}", corners)
    print_table(table)
    typer.echo(f"{len(report['detections']) - len(shown)} more score below {SHOWN_SCORE:g}")
    used = ", ".join(report["levels_used"]) or "none"
    added = ", ".join(report["levels_recovered"]) or "none"
    typer.echo(f"levels from the frame: {used}; recovered or derived: {added}")
    for name, reason in report["levels_ignored"].items():
        typer.echo(f"level {name} was not used: {reason}")

"""``fpcodec inspect``: what is in a frame, from its header alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.completion import profiles_to_run
from fpcodec.cli.decode import naming, read_frame_file
from fpcodec.cli.options import Json, open_profile
from fpcodec.cli.output import print_json, print_table

if TYPE_CHECKING:
    from fpcodec.bitstream import Frame
    from fpcodec.profile import Profile


def inspect(
    frame: Annotated[Path, typer.Argument(metavar="FRAME.fpc", help="Any .fpc frame.")],
    profile: Annotated[
        Path | None,
        typer.Option(
            "--profile", "-p", metavar="DIR", show_default=False, autocompletion=profiles_to_run,
            help="Profile folder: names the levels and says whether the frame is of this profile.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Show a frame's header, directory and overhead; damaged chunks are named.

    Example:  fpcodec inspect photo.fpc
    """
    from fpcodec.bitstream import read_frame
    from fpcodec.codecs.base import Limits

    data = read_frame_file(frame)
    # Nothing is allocated from these sizes here, so the format's own limits will do.
    everything = Limits(max_image_pixels=2**31, max_network_pixels=2**31)
    with naming(frame):
        parsed = read_frame(data, everything, partial=True)
    loaded: Profile | None = open_profile(profile)
    if loaded and profile is None and not loaded.stream_id.startswith(parsed.stream_prefix):
        loaded = None  # the embedded profile has nothing to say of other profiles' frames
    report = {"frame": str(frame), "bytes": len(data), **describe(parsed, loaded)}
    if as_json:
        print_json(report)
    else:
        _print(report)


def describe(frame: Frame, profile: Profile | None = None) -> dict[str, Any]:
    """A parsed frame as JSON-able data; levels have names where the profile is known."""
    from fpcodec.bitstream import STREAM_PREFIX_BYTES, VERSION

    is_ours = profile is not None and frame.stream_prefix == profile.stream_id[:STREAM_PREFIX_BYTES]

    def name(level: int) -> str:
        known = profile.spec.names if profile is not None and is_ours else ()
        return known[level] if level < len(known) else f"#{level}"

    chunks = []
    for chunk in frame.chunks:
        parent = frame.parent_of(chunk)
        chunks.append({
            "level": name(chunk.level),
            "bytes": len(chunk.data) if chunk.data is not None else None,
            "parent": name(parent.level) if parent is not None else None,
            "step_map": chunk.has_map,
            "problem": chunk.problem or None,
        })  # fmt: skip
    report: dict[str, Any] = {
        "version": VERSION,
        "codec_id": frame.codec_id,
        "stream": frame.stream_prefix.hex(),
        "quality": frame.quality,
        "image_size": list(frame.image_size),
        "network_size": list(frame.network_size),
        "chunks": chunks,
        "overhead_bytes": frame.overhead_bytes,
    }
    if profile is not None:
        report["profile"] = profile.name
        report["profile_matches"] = is_ours
    return report


def _print(report: dict[str, Any]) -> None:
    from rich.table import Table

    image, network = (
        "x".join(str(side) for side in report[key]) for key in ("image_size", "network_size")
    )
    typer.echo(
        f"{report['frame']}: {report['bytes']:,} bytes, of them "
        f"{report['overhead_bytes']} overhead; "
        f"frame version {report['version']}, codec {report['codec_id']}, "
        f"stream {report['stream']}, quality {report['quality']}/255 "
        f"(--quality {report['quality'] / 255:.2f})"
    )
    typer.echo(f"image {image} pixels, network input {network} pixels")
    if "profile" in report:
        verdict = "of" if report["profile_matches"] else "NOT of"
        typer.echo(f"the frame is {verdict} profile {report['profile']}")
    table = Table()
    for title in ("level", "bytes", "contexts from", "step map", "problem"):
        table.add_column(title, justify="right" if title == "bytes" else "left")
    for chunk in report["chunks"]:
        size = "lost" if chunk["bytes"] is None else f"{chunk['bytes']:,}"
        step_map = "yes" if chunk["step_map"] else "no"
        table.add_row(
            chunk["level"], size, chunk["parent"] or "itself", step_map, chunk["problem"] or ""
        )
    print_table(table)

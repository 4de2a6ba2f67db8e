"""``fpcodec encode``: the edge's half without a network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.options import (
    Images,
    Json,
    Levels,
    MaxBytes,
    ProfileFolder,
    Providers,
    QualityOrBudget,
    Threads,
    check_folder,
    check_images,
    check_rate,
    open_profile,
)
from fpcodec.cli.output import note, print_json, track, write_bytes


def encode(
    images: Images,
    profile: ProfileFolder = None,
    quality: QualityOrBudget = None,
    max_bytes: MaxBytes = None,
    levels: Levels = "all",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the frames; without it beside each image."),
    ] = None,
    threads: Threads = None,
    provider: Providers = None,
    as_json: Json = False,
) -> None:
    """Write one .fpc frame per image, of a quality or of at most so many bytes.

    Example:  fpcodec encode photo.jpg --max-bytes 2000 --levels medium,large --out frames
    """
    check_images(images)
    check_folder(out)
    check_rate(quality, max_bytes)
    loaded = open_profile(profile)
    from fpcodec.cli.level_choice import fixed_levels, unless_all
    from fpcodec.images import load_image
    from fpcodec.split import EdgeHalf

    chosen = unless_all(fixed_levels(levels, loaded), loaded)
    edge = EdgeHalf(loaded, threads=threads, providers=provider or ())
    for path, target in track(frame_files(images, out), "Encoding", len(images)):
        frame = edge.encode(load_image(path), quality=quality, levels=chosen, max_bytes=max_bytes)
        write_bytes(target, frame.data)
        report = {
            "image": str(path),
            "frame": str(target),
            "bytes": len(frame.data),
            "level_bytes": dict(frame.chunk_bytes),
            "timings_ms": {stage: round(ms, 3) for stage, ms in frame.timings_ms.items()},
        }
        if as_json:
            print_json(report, indent=None)
        else:
            sizes = ", ".join(f"{name} {size:,}" for name, size in frame.chunk_bytes.items())
            note(f"{path} -> {target}: {len(frame.data):,} bytes ({sizes})")


def frame_files(images: Sequence[Path], out: Path | None) -> list[tuple[Path, Path]]:
    """Each image with the file of its frame; no two images share one."""
    pairs: dict[Path, Path] = {}
    for path in images:
        folder = out if out is not None else path.parent
        target, number = folder / f"{path.stem}.fpc", 2
        while target in pairs:
            target, number = folder / f"{path.stem}-{number}.fpc", number + 1
        pairs[target] = path
    return [(path, target) for target, path in pairs.items()]

"""``fpcodec bench rd``: rate-accuracy curves of profiles and of what people use today."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.completion import profiles_to_run
from fpcodec.cli.options import Annotations, Threads, check_quality, profile_folder
from fpcodec.cli.output import note, print_json, stage_progress

if TYPE_CHECKING:
    from fpcodec.evaluation.ways import Way

Profiles = Annotated[
    list[str] | None,
    typer.Option(
        "--profile", "-p", metavar="[NAME=]DIR", show_default=False,
        autocompletion=profiles_to_run,
        help="Profile folder and what rows call it; several of one detector, side by side. "
        "Without it the embedded one.",
    ),
]  # fmt: skip
Codecs = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES", show_default=False,
        help="Such as fpc,webp,boxes. Without it all: fpc, jpeg, webp, avif, jxl, boxes, x265, "
        "svtav1 and, for a uniform profile, seed; what is not installed is left out.",
    ),
]  # fmt: skip
Sizes = Annotated[
    str | None,
    typer.Option(
        metavar="SIZES", show_default=False,
        help="Of pictures: network, original or factors of the network's, as network,0.5. Without "
        "it network, original, 0.75 and 0.5.",
    ),
]  # fmt: skip
Pictures = Annotated[
    str | None,
    typer.Option(
        metavar="SETTINGS", show_default=False,
        help="Picture settings in place of the grid's, as avif:35@original,jpeg:70:444.",
    ),
]  # fmt: skip
Limit = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Only the first N images.", show_default=False),
]
Workers = Annotated[int, typer.Option(metavar="K", min=1, help="Processes that measure.")]


def rd(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.")],
    annotations: Annotations,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for rows.json and shards.")],
    profile: Profiles = None,
    codecs: Codecs = None,
    quality: Annotated[
        list[float] | None,
        typer.Option(
            "--quality",
            "-q",
            metavar="Q",
            help="Our qualities, 0 to 1; several times.",
            show_default=False,
        ),
    ] = None,
    parts: Annotated[
        bool, typer.Option(help="Measure our frames with parts of the levels too.")
    ] = True,
    sizes: Sizes = None,
    pictures: Pictures = None,
    limit: Limit = None,
    workers: Workers = 1,
    executor: Annotated[str, typer.Option(metavar="local|ray", help="Where they run.")] = "local",
    draws: Annotated[int, typer.Option(metavar="N", help="Bootstrap draws, at least 200.")] = 500,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the bootstrap.")] = 0,
    threads: Threads = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Measure bytes against AP: profiles, pictures, boxes and baselines, all on the same images.

    A killed run goes on where it was when the same command is given again.

    Example:  fpcodec bench rd --images val --annotations val.json --out runs/rd --workers 2

    Then:  fpcodec bench report runs/rd --out runs/report
    """  # fmt: skip
    from fpcodec.data.coco import load_coco
    from fpcodec.evaluation.environment import Environment
    from fpcodec.evaluation.results import ROWS
    from fpcodec.evaluation.scoring import Bootstrap
    from fpcodec.evaluation.study import Study, run_study
    from fpcodec.executor import open_executor

    bootstrap = Bootstrap(draws, seed)
    folders = label_profiles(profile or [])
    qualities = [check_quality(q) for q in quality or ()]
    ways = choose_ways(folders, codecs, qualities, sizes, pictures, parts)
    dataset = load_coco(annotations, images, limit=limit)
    environment = Environment.capture(shlex.join(["fpcodec", *sys.argv[1:]]), threads)
    study = Study(folders, dataset, ways, threads)
    note(f"{len(ways)} settings on {len(dataset)} images")
    pool = open_executor(workers, executor)
    try:
        with stage_progress() as progress:
            result = run_study(
                study, out, pool, environment=environment, bootstrap=bootstrap, progress=progress
            )
    finally:
        pool.close()
    if json:
        print_json([row.to_dict() for row in result.rows])
    note(f"{len(result.rows)} rows in {out / ROWS}; look at them: fpcodec bench report {out} "
         f"--out {out / 'report'}")  # fmt: skip


def label_profiles(texts: Sequence[str]) -> dict[str, Path]:
    """What rows call each profile: as told, ``fpc`` where there is one, else its folder's name.

    Raises:
        InputError: Two profiles would have one name.
    """
    from fpcodec.errors import InputError

    labels: dict[str, Path] = {}
    for text in texts:
        label, equals, rest = text.partition("=")
        folder = profile_folder(Path(rest if equals else text))
        if not equals:
            label = "fpc" if len(texts) == 1 else folder.resolve().name
        if not label or label in labels:
            raise InputError(f"profile {text!r} needs a name of its own; write NAME=DIR")
        labels[label] = folder
    return labels or {"fpc": profile_folder(None)}


def choose_ways(
    folders: dict[str, Path],
    codecs: str | None,
    qualities: Sequence[float],
    sizes: str | None,
    pictures: str | None,
    parts: bool,
) -> tuple[Way, ...]:
    """The settings to measure; what was not asked for by name may be left out.

    Raises:
        InputError: A codec, a size or a picture setting is unknown.
        MissingDependency: A codec that was asked for by name is not installed.
    """
    from fpcodec.evaluation.grid import (
        CODECS,
        PICTURE_SIZES,
        QUALITIES,
        default_ways,
        parse_size,
    )
    from fpcodec.evaluation.rivals.pictures import PICTURE_CODECS, PictureFormat
    from fpcodec.evaluation.ways import PictureWay
    from fpcodec.evaluation.ways.base import load_profiles

    names = [name.strip() for name in codecs.split(",")] if codecs else list(CODECS)
    names = [name for name in names if codecs or _installed(name)]
    chosen = [parse_size(x) for x in sizes.split(",")] if sizes else PICTURE_SIZES
    if pictures is not None:
        names = [name for name in names if name not in PICTURE_CODECS]
    ways = default_ways(load_profiles(folders), names, qualities or QUALITIES, chosen, parts=parts)
    asked = pictures.split(",") if pictures else ()
    return (*ways, *(PictureWay(PictureFormat.parse(text.strip())) for text in asked))


def _installed(name: str) -> bool:
    """Whether a codec's package is there; says so where it is not."""
    from fpcodec.errors import MissingDependency
    from fpcodec.evaluation.grid import require_codec

    try:
        require_codec(name)
    except MissingDependency as error:
        note(f"{name} is left out: {error}")
        return False
    return True

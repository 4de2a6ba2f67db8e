"""``fpcodec profiles quantise``: a profile with an edge graph of lower precision."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.options import Json, Replace, profile_folder
from fpcodec.cli.output import note, print_json, stage_progress
from fpcodec.image_folder import choose_images
from fpcodec.precision import DEFAULT_ERROR


class Precision(str, Enum):
    """Of the edge graph."""

    fp16 = "fp16"
    int8 = "int8"


def quantise(
    profile: Annotated[
        Path, typer.Argument(metavar="NAME|DIR", help="An embedded one, or a folder.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The profile folder to write.")],
    precision: Annotated[
        Precision, typer.Option(help="Of the edge graph's arithmetic.")
    ] = Precision.int8,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False,
            help="Typical images to calibrate int8 on; no labels. fp16 needs none.",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Use at most so many of the images.")
    ] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Chooses which images.")] = 0,
    max_error: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of int8: most mean squared error of a level, by its variance. Convolutions that "
            "would bring more stay float.",
        ),
    ] = DEFAULT_ERROR,
    replace: Replace = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a profile whose edge half computes in fp16 or INT8; the server keeps the old one.

    Its frames have the same stream id, so a server with the profile it was made of answers them.
    Measure what it costs before use: fpcodec bench rd takes both profiles side by side.

    Example:  fpcodec profiles quantise bccd --precision int8 --images photos --out bccd-int8
    """
    from fpcodec.errors import InputError
    from fpcodec.precision.edge import quantise_profile
    from fpcodec.profile import Profile
    from fpcodec.profile_folder import require_free

    if precision is Precision.int8 and images is None:
        raise InputError("int8 is calibrated on typical images; give --images, or take fp16")
    require_free(out, replace=replace)
    loaded = Profile.load(profile_folder(profile))
    paths = [] if images is None else choose_images(images, limit, seed)
    with stage_progress() as progress:
        made = quantise_profile(
            loaded, out, precision.value, paths, max_error=max_error, progress=progress
        )
    if as_json:
        new, old = made.graph_bytes
        print_json({
            "profile": str(out), "stream_id": made.profile.stream_id.hex(),
            "edge_bytes": new, "full_edge_bytes": old, **made.facts,
        })  # fmt: skip
        return
    new, old = made.graph_bytes
    note(f"{out}: edge graph {precision.value}, {new / 1e6:.1f} of {old / 1e6:.1f} MB; stream "
         f"{made.profile.stream_id.hex()[:12]} as before")  # fmt: skip
    if precision is Precision.int8:
        kept = made.facts["kept"]
        note(f"{made.facts['quantised']} convolutions in INT8, {len(kept)} stay float; largest "
             f"error of a level {made.facts['error']:.2g} of its variance")  # fmt: skip

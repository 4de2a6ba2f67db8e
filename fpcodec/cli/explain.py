"""``fpcodec explain``: why a detector found what it found in one picture."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.options import DETECTOR_HELP, Json, Threads, check_images
from fpcodec.cli.output import print_json, progress_callback, write_png


class Method(str, Enum):
    """What is asked."""

    odam = "odam"
    levels = "levels"
    frs = "frs"
    drise = "drise"
    drise_features = "drise-features"


def explain(
    image: Annotated[Path, typer.Option(metavar="FILE", help="The picture.")],
    out: Annotated[Path, typer.Option(metavar="PNG", help="Where the explanation is drawn.")],
    detector: Annotated[str, typer.Option(metavar="SPEC", help=DETECTOR_HELP)] = "tiny",
    method: Annotated[
        Method,
        typer.Option(
            help="odam: which places made each score and box, by gradients. levels: "
            "which pyramid level each box is from. These two need the extra torch. frs: the "
            "head's highest score on every level. drise, drise-features: what is lost when parts "
            "of the picture, or of "
            "the pyramid, are hidden at random (any detector, slow)."
        ),
    ] = Method.odam,
    min_score: Annotated[
        float, typer.Option(metavar="S", min=0.0, max=1.0, help="Leave lower scores out.")
    ] = 0.3,
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="At most so many boxes, best first.")
    ] = 8,
    sigma: Annotated[
        float,
        typer.Option(metavar="CELLS", help="odam: smooth the gradients by a Gaussian; 0 for none."),
    ] = 0.0,
    masks: Annotated[
        int, typer.Option(metavar="N", min=1, help="drise: random masks; more is less noise.")
    ] = 500,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="drise: of the masks.")] = 0,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Draw why a detector found what it found in one picture.

    Example:  fpcodec explain --detector tiny --image photo.jpg --method odam --out why.png
    """
    check_images([image])
    from fpcodec.cli.explain_methods import Question, answer
    from fpcodec.detectors.factory import open_detector
    from fpcodec.images import load_image

    picture = load_image(image)
    question = Question(
        open_detector(detector, threads=threads), picture, min_score, limit, sigma, masks, seed
    )
    with progress_callback("Explaining") as progress:
        found = answer(method.value, question, progress)
    write_png(out, found.figure)
    report = {"image": str(image), "detector": detector, "method": method.value,
              "picture": str(out), **found.report}  # fmt: skip
    if as_json:
        print_json(report)
    else:
        found.print()
        typer.echo(f"wrote {out}")

"""``fpcodec calibrate``: make a profile for a detector from a folder of images."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import DETECTOR_HELP, Json, Replace, Threads
from fpcodec.cli.output import note, print_json, progress_callback
from fpcodec.image_folder import choose_images

FEW_IMAGES = 100
"""Below, calibration says so."""

if TYPE_CHECKING:
    from fpcodec.profile import Profile


class CodecFamily(str, Enum):
    """Codecs that can be fitted in one pass."""

    pca = "pca"
    uniform = "uniform"


def calibrate(
    detector: Annotated[str, typer.Option(metavar="SPEC", help=DETECTOR_HELP)],
    images: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder of typical images; some hundred are good.")
    ],
    out: Annotated[Path, typer.Option(metavar="PROFILE", help="The profile folder to write.")],
    limit: Annotated[
        int, typer.Option(metavar="N", min=1, help="Use at most so many of the images.")
    ] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Chooses which of the images.")] = 0,
    replace: Replace = False,
    codec: Annotated[CodecFamily, typer.Option(help="The codec to fit.")] = CodecFamily.pca,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Fit a codec to a detector and write the profile that edge and server deploy.

    One pass over unlabelled images, on a CPU; minutes for a few hundred. It also measures which
    levels each object scale needs.

    Example:  fpcodec calibrate --detector tiny --images photos --out my-profile

    Torchvision's:  fpcodec calibrate --images photos --out mine --detector
    "torchvision:fasterrcnn_resnet50_fpn?weights=DEFAULT"

    A file:  fpcodec calibrate --images photos --out nano --detector
    "onnx:yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"
    """
    paths = choose_images(images, limit, seed)
    from fpcodec.calibration import calibrate as run
    from fpcodec.calibration.findings import findings_line
    from fpcodec.detectors.factory import open_detector
    from fpcodec.profile_folder import require_free

    require_free(out, replace=replace)
    opened = open_detector(detector, threads=threads)
    with progress_callback("Calibrating") as progress:
        profile = run(opened, paths, out, codec=codec.value, seed=seed, progress=progress)
    if as_json:
        print_json({"images": len(paths), "codec": codec.value, **_report(profile, out)})
        return
    note(f"{out}: codec {codec.value}, {len(paths)} images, stream {profile.stream_id.hex()[:12]}")
    note(findings_line(profile.measured["found"]))
    for scale, names in profile.key_levels.items():
        note(f"key levels for {scale} objects: {', '.join(names)}")
    if len(paths) < FEW_IMAGES:
        note(f"so few images fit a codec loosely; give {FEW_IMAGES} or more, of the camera's kind")
    note(
        f"try it: fpcodec demo --profile {out} --image PHOTO; for fewer bytes: "
        f"fpcodec train --start {out}"
    )


def _report(profile: Profile, folder: Path) -> dict[str, Any]:
    return {
        "profile": str(folder),
        "name": profile.name,
        "stream_id": profile.stream_id.hex(),
        "key_levels": {scale: list(names) for scale, names in profile.key_levels.items()},
        "measured": dict(profile.measured),
    }

"""``fpcodec export``: a torch detector as two ONNX graphs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from fpcodec.cli.options import Threads
from fpcodec.cli.output import note

MIN_IOU, MIN_SCORE = 0.5, 0.3


def export(
    detector: Annotated[
        str, typer.Option(metavar="SPEC", help="torchvision:BUILDER?key=value&.. or a JSON file.")
    ],
    image: Annotated[
        Path,
        typer.Option(metavar="FILE", help="One in which it finds something; all have its size."),
    ],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The detector folder to write.")],
    threads: Threads = None,
) -> None:
    """Cut a torchvision detector into two ONNX graphs, so that neither side needs torch.

    The folder written is a detector like any other: onnx:FOLDER. Its input has one fixed size,
    which follows from the image's; images of another shape are letterboxed into it. Masks are not
    exported. It needs torch, the extra torch: pip install "fpcodec\\[torch]".

    Example:  fpcodec export --image photo.jpg --out cells-cut --detector
    "torchvision:fasterrcnn_resnet50_fpn?weights=cells.pth&num_classes=4&norm_eps=0"

    Then:  fpcodec calibrate --detector onnx:cells-cut --images photos --out my-profile
    """
    from fpcodec.detectors.factory import CONFIG_FILE, DetectorSpec, open_detector, parse_spec
    from fpcodec.errors import InputError
    from fpcodec.evaluation.agreement import agreement
    from fpcodec.images import load_image

    spec = parse_spec(detector)
    if spec.kind != "torchvision":
        raise InputError(f"detector kind {spec.kind} cannot be exported, only torchvision; onnx "
                         "and tiny are ONNX graphs already")  # fmt: skip
    if out.exists():
        raise InputError(f"{out} exists; name a new folder")
    picture = load_image(image)
    opened: Any = open_detector(spec, threads=threads)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        scratch = Path(folder) / "detector"
        config = opened.export_onnx(scratch, (picture.shape[1], picture.shape[0]), picture)
        (scratch / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n")
        cut = open_detector(DetectorSpec("onnx", str(scratch)), threads=threads)
        wanted, found = (x.detect(x.extract(picture)) for x in (opened, cut))
        same = agreement(wanted, found, min_score=MIN_SCORE, min_iou=MIN_IOU)
        scratch.rename(out)
    note(f"{out}: two ONNX graphs; agreement with torch on {image.name} {same.f1:.3f} (F1 of boxes "
         f"that score {MIN_SCORE:g} or more)")  # fmt: skip

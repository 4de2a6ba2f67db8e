"""Arguments that several commands share, and what they are turned into."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.completion import profiles_to_run

if TYPE_CHECKING:
    from fpcodec.profile import Profile

DETECTOR_HELP = (
    "The detector: KIND:ARGUMENT?key=value&.. of kind onnx (a file), torchvision (a builder), "
    "detectron2 (a configuration) or tiny (embedded); or a JSON file of it. Keys of "
    "onnx: p3=TENSOR and so on (fpcodec tensors FILE lists them); decode=yolox, yolov5, yolov8, "
    "nanodet, picodet, retinanet, detections or module:function; labels=coco, a,b,c or FILE.txt; "
    "size=WxH; and where decode= does not say, mode, align, channel_order, value_scale, mean, std, "
    "pad_value. Of torchvision and detectron2, which need the extra torch: weights=DEFAULT or FILE."
)
Images = Annotated[
    list[Path], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)
]
ProfileFolder = Annotated[
    Path | None,
    typer.Option(
        "--profile", "-p", metavar="DIR", show_default=False, autocompletion=profiles_to_run,
        help="Profile folder, or an embedded one: tiny (the default: drawn shapes only), bccd "
        "(blood cells). For photographs: fpcodec profiles get yolox_nano --out yolox_nano.",
    ),
]  # fmt: skip
Quality = Annotated[
    float,
    typer.Option("--quality", "-q", metavar="Q", help="0 (smallest frames) to 1 (best)."),
]
QualityOrBudget = Annotated[
    float | None,
    typer.Option(
        "--quality", "-q", metavar="Q", show_default=False,
        help="0 (smallest frames) to 1 (best); 0.5 unless --max-bytes is given.",
    ),
]  # fmt: skip
MaxBytes = Annotated[
    int | None,
    typer.Option(
        "--max-bytes", metavar="N", min=1, show_default=False,
        help="Longest frame, in place of --quality: the best that fits. Of 'all' levels the "
        "finest are left out where there is no room for them.",
    ),
]  # fmt: skip
Levels = Annotated[
    str,
    typer.Option(
        "--levels", "-l", metavar="LEVELS",
        help="What to send: names (p3,p5), object scales (small,large), 'all', or 'auto', which "
        "follows what a server found in the images before.",
    ),
]  # fmt: skip
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads per network.", show_default=False),
]
PROVIDER_HELP = (
    "What the networks run on: cpu, cuda, tensorrt, openvino, or onnxruntime's own name; several "
    "by preference. The CPU takes what is left."
)
Providers = Annotated[
    list[str] | None,
    typer.Option(
        "--provider", metavar="NAME", show_default=False,
        help=PROVIDER_HELP,
    ),
]  # fmt: skip
Annotations = Annotated[
    Path,
    typer.Option(
        metavar="FILE", help="Their boxes: COCO's JSON, or VOC's list (ImageSets/Main/val.txt)."
    ),
]
Replace = Annotated[
    bool, typer.Option("--replace", help="Even where the folder to write is a profile already.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs, not a table.")]


def open_profile(folder: Path | None) -> Profile:
    """Load a profile folder, or the embedded profile for None.

    Raises:
        ProfileError: The folder is no profile.
    """
    from fpcodec.profile import Profile

    return Profile.load(profile_folder(folder))


def profile_folder(folder: Path | None) -> Path:
    """The folder itself; an embedded profile's for None, or for its name where no folder has it.

    Raises:
        ProfileError: It is a recipe: there is no detector to run.
    """
    from fpcodec.embedded import EMBEDDED, RECIPES, embedded_folder
    from fpcodec.errors import ProfileError
    from fpcodec.recipes import RECIPE

    if folder is None:
        return embedded_folder()
    name, exists = str(folder), folder.exists()
    if (folder / RECIPE).is_file() if exists else name in RECIPES:
        raise ProfileError(f"profile {name} lacks its detector, which its publisher offers; get "
                           f"both with: fpcodec profiles get {name} --out DIR")  # fmt: skip
    return embedded_folder(name) if name in EMBEDDED and not exists else folder


def check_quality(quality: float) -> float:
    """The quality itself, once it is known to be in [0, 1].

    Raises:
        InputError: It is not.
    """
    from fpcodec.codecs.base import quality_byte

    quality_byte(quality)
    return quality


def check_rate(quality: float | None, max_bytes: int | None) -> None:
    """Find a useless quality or budget before any work starts.

    Raises:
        InputError: The quality is not in [0, 1], or a budget was given besides.
    """
    from fpcodec.errors import InputError

    if quality is not None:
        check_quality(quality)
        if max_bytes is not None:
            raise InputError("--quality and --max-bytes exclude each other; give one of them")


class Nms(str, Enum):
    """What selects boxes."""

    NMS = "nms"
    ODAM = "odam"


NmsOption = Annotated[
    Nms,
    typer.Option(
        "--nms",
        help="What selects boxes: the detector's own nms, or odam, which is slower and keeps "
        "objects that hide one another.",
    ),
]


def check_images(paths: Sequence[Path]) -> None:
    """Find missing files before any work starts.

    Raises:
        InputError: A path is no file.
    """
    from fpcodec.errors import InputError

    for path in paths:
        if path.is_dir():
            raise InputError(f"{path} is a folder; name image files, as {path}/*.jpg")
        if not path.is_file():
            raise InputError(f"{path}: no such file; name an image file")


def check_folder(folder: Path | None) -> None:
    """Find a file where a folder is to be written, before any work starts.

    Raises:
        InputError: There is one.
    """
    from fpcodec.errors import InputError

    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder to write to")

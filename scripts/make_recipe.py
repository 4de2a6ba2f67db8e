#!/usr/bin/env python3
"""Makes a recipe of a profile: everything but the detector's halves, which its publisher has.

python scripts/make_recipe.py runs/learned_nano fpcodec/assets/yolox_nano \\
    --model ../shared/models/yolox_nano.onnx

The recipe is tried before it takes its place: completed with the model's file, it must give the
profile's stream, and it says whether the halves come out to the byte.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from fpcodec import Profile
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.errors import FpcodecError, InputError
from fpcodec.files import file_sha256
from fpcodec.profile_folder import MANIFEST, TENSORS, require_free
from fpcodec.recipes import RECIPE, PublishedModel, Recipe, complete

PUBLISHER = "Megvii-BaseDetection/YOLOX"
LICENCE = "Apache-2.0"
URL = f"https://github.com/{PUBLISHER}/releases/download/0.1.1rc0/yolox_nano.onnx"
DETECTOR = "onnx:yolox_nano.onnx?p3=input.471&p4=input.531&p5=input.591&decode=yolox"

KEPT = (MANIFEST, TENSORS, ANALYSIS_FILE, SYNTHESIS_FILE, "NOTICE")


def make_recipe(source: Path, folder: Path, recipe: Recipe, model: Path) -> Recipe:
    """Write a recipe and try it; ``recipe.folder`` is not looked at."""
    profile = Profile.load(source)
    profile.verify()
    fresh = folder / "recipe"
    replace(profile, name=recipe.folder.name).save(fresh)
    for file in list(fresh.iterdir()):
        if file.name not in KEPT:
            file.unlink()
    made = replace(recipe, folder=fresh)
    (fresh / RECIPE).write_text(json.dumps(made.to_dict(), indent=1) + "\n")
    completed = complete(made, folder / "completed", model)
    if completed.stream_id != profile.stream_id:
        raise InputError(f"{source}: the completed recipe is of another stream; it is not written")
    same = completed.detector_config["files"] == profile.detector_config["files"]
    print(f"the halves come out {'to the byte' if same else 'as other bytes'}", file=sys.stderr)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path, help="a whole profile of an onnx detector")
    parser.add_argument("out", type=Path, help="the recipe's folder; its name is the profile's")
    parser.add_argument("--model", type=Path, required=True, help="the detector's file")
    parser.add_argument("--url", default=URL)
    parser.add_argument("--publisher", default=PUBLISHER)
    parser.add_argument("--licence", default=LICENCE)
    parser.add_argument("--detector", default=DETECTOR, help="its SPEC")
    told = parser.parse_args()
    out = told.out.resolve()
    try:
        require_free(out)
        model = PublishedModel(
            Path(told.url).name, file_sha256(told.model), told.model.stat().st_size,
            told.url, told.publisher, told.licence,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
            wanted = Recipe(out, model, told.detector)
            made = make_recipe(told.profile, Path(scratch), wanted, told.model)
            if out.exists():
                shutil.rmtree(out)
            made.folder.rename(out)
    except (FpcodecError, OSError) as error:
        sys.exit(f"error: {error}")
    size = sum(x.stat().st_size for x in out.iterdir())
    print(f"{out}: {size:,} bytes, stream {Profile.load(out).stream_id.hex()[:12]}")


if __name__ == "__main__":
    main()

"""Profiles with edge graphs of lower precision, and what each of them is.

    python benchmarks/edge_precision.py bccd --images cells/train/images --variant fp16 \\
        --variant int8=int8:0.01 --variant int8-near=int8:0.0005 \\
        --folder runs/bccd --out benchmarks/results/precision_bccd/profiles.json

Writes a profile per variant, ``FOLDER_NAME``, as ``fpcodec profiles quantise`` does, and their
facts. ``fpcodec bench rd`` then measures them beside the float one, in one run.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fpcodec.cli.options import open_profile
from fpcodec.cli.output import note, stage_progress
from fpcodec.detectors.onnx import EDGE_FILE
from fpcodec.evaluation.environment import Environment
from fpcodec.files import file_sha256, replacing
from fpcodec.image_folder import choose_images
from fpcodec.precision import DEFAULT_ERROR
from fpcodec.precision.edge import quantise_profile


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("profile", type=Path)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=48)
    parser.add_argument("--variant", action="append", required=True,
                        metavar="[NAME=]PRECISION[:MAX_ERROR]")  # fmt: skip
    parser.add_argument("--folder", required=True, help="begins the profiles' folders")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    args = parser.parse_args(argv)
    command = shlex.join(["python", "benchmarks/edge_precision.py", *(argv or sys.argv[1:])])
    profile = open_profile(args.profile)
    paths = choose_images(args.images, args.limit, 0)
    rows: list[dict[str, Any]] = []
    for variant in args.variant:
        name, _, setting = variant.rpartition("=")
        precision, _, limit = setting.partition(":")
        out = Path(f"{args.folder}_{name or precision}")
        with stage_progress() as progress:
            made = quantise_profile(
                profile, out, precision, paths if precision == "int8" else (),
                max_error=float(limit or DEFAULT_ERROR), progress=progress,
            )  # fmt: skip
        new, old = made.graph_bytes
        rows.append({
            "name": name or precision, **made.facts, "edge_bytes": new, "full_edge_bytes": old,
            "sha256": file_sha256(out / EDGE_FILE),
        })  # fmt: skip
        note(f"{out}: {new / 1e6:.1f} of {old / 1e6:.1f} MB")
    result = {"profiles": rows, "environment": asdict(Environment.capture(command, threads=1))}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(args.out) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()

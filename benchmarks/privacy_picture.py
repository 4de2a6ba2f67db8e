"""Draws docs/pictures/privacy.png: generated scenes beside what is recovered of them.

    python benchmarks/privacy_picture.py --profile runs/learned_nano --inverter runs/inverter \\
        --out docs/pictures/privacy.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont
from privacy import ORIGINAL, UNCODED, frame_ways
from privacy_words import SIDE

from fpcodec.data.scenes import SceneConfig, generate_scene
from fpcodec.detectors.base import Image
from fpcodec.evaluation.privacy.inverter_files import read_inverter
from fpcodec.files import replacing
from fpcodec.profile import Profile

_CELL, _CAPTION, _GAP = 208, 26, 6
_INK, _PAPER = (30, 30, 30), (255, 255, 255)


def draw(lines: list[list[tuple[Image, str]]]) -> PillowImage.Image:
    """Pictures with a caption below each, line by line."""
    wide, high = _CELL + _GAP, _CELL + _CAPTION
    canvas = PillowImage.new("RGB", (len(lines[0]) * wide - _GAP, len(lines) * high), _PAPER)
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(15)
    for row, line in enumerate(lines):
        for column, (picture, caption) in enumerate(line):
            small = PillowImage.fromarray(picture).resize((_CELL, _CELL))
            canvas.paste(small, (column * wide, row * high))
            pen.text((column * wide + 2, row * high + _CELL + 3), caption, _INK, font)
    return canvas


def main() -> None:
    """Read the flags and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--inverter", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[3, 14], help="of the scenes")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ways = frame_ways(Profile.load(options.profile), *read_inverter(options.inverter))
    lines = []
    for seed in options.seeds:
        scene = generate_scene(seed, SceneConfig(size=SIDE)).image
        line = [(np.asarray(scene), ORIGINAL)]
        for name, way in ways.items():
            picture, sent_bytes = way(scene)
            text = UNCODED if sent_bytes is None else f"{name}, {sent_bytes:,} bytes"
            line.append((picture, text))
        lines.append(line)
    with replacing(options.out) as temporary:
        draw(lines).save(temporary, optimize=True)


if __name__ == "__main__":
    main()

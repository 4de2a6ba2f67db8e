"""Make more pictures of few: mirrored, cropped, brighter or darker variants, to train a codec on.

    python scripts/vary_pictures.py photos --count 16 --out runs/photos-varied

A codec trains without labels, so a variant needs none: the detector itself says what is in it. The
first variant of each picture is the picture. The output folder, which must be new, receives PNG
files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from rich.progress import track

from fpcodec.cli.calibrate import choose_images
from fpcodec.errors import InputError

LEAST_CROP = 0.6
"""Smallest side of a crop, of the picture's; crops are resized to the picture's size."""

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
STRENGTH = 0.2
"""Furthest that brightness, contrast and colour go, either way."""


def vary(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One variant, as large as the picture."""
    width, height = picture.size
    side = rng.uniform(LEAST_CROP, 1)
    left, top = rng.uniform(0, 1 - side, 2) * picture.size
    box = (left, top, left + side * width, top + side * height)
    out = picture.resize(picture.size, Image.Resampling.BILINEAR, box=box)
    for turn in (ImageOps.mirror, ImageOps.flip):
        out = turn(out) if rng.random() < 0.5 else out
    for enhance in ENHANCERS:
        out = enhance(out).enhance(rng.uniform(1 - STRENGTH, 1 + STRENGTH))
    return out


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of pictures")
    parser.add_argument("--count", type=int, default=16, help="variants of each picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise InputError(f"{args.out} exists; name a new folder")
    args.out.mkdir(parents=True)
    paths = choose_images(args.images, None, 0)
    for number, path in enumerate(track(paths, description="varying")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        rng = np.random.default_rng((args.seed, number))
        for index in range(args.count):
            variant = vary(picture, rng) if index else picture
            variant.save(args.out / f"{path.stem}-{index:02d}.png", compress_level=1)


if __name__ == "__main__":
    main()

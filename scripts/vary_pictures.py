"""Make more pictures of few, to train a codec on: turned, scaled, blurred, recoloured variants.

    python scripts/vary_pictures.py photos --count 32 --out runs/photos-varied

A codec trains without labels, so a variant needs none: the detector itself says what is in it. The
first variant of each picture is the picture. The output folder, which must be new, receives PNG
files.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from rich.progress import track

from fpcodec.errors import InputError
from fpcodec.image_folder import choose_images

SCALE = 1.4
"""Furthest that a variant is larger or smaller; what then lies beyond the edges is mirrored in."""

ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
STRENGTH = 0.25
"""Furthest that brightness, contrast and colour go, either way."""

MOST_BLUR = 1.2
"""Largest deviation of the blur that half the variants get, in pixels."""


def vary(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """One variant, as large as the picture."""
    out = _turned(picture, rng.uniform(0, 2 * np.pi), SCALE ** rng.uniform(-1, 1), rng)
    out = ImageOps.mirror(out) if rng.random() < 0.5 else out
    for enhance in ENHANCERS:
        out = enhance(out).enhance(rng.uniform(1 - STRENGTH, 1 + STRENGTH))
    if rng.random() < 0.5:
        out = out.filter(ImageFilter.GaussianBlur(rng.uniform(0, MOST_BLUR)))
    return out


def _turned(
    picture: Image.Image, angle: float, scale: float, rng: np.random.Generator
) -> Image.Image:
    """The picture turned by an angle in radians and scaled, about a point near its middle."""
    width, height = picture.size
    around = ((height, height), (width, width), (0, 0))
    padded = Image.fromarray(np.pad(np.asarray(picture), around, mode="symmetric"))
    x, y = rng.uniform(1.3, 1.7, 2) * picture.size
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    rows = (
        (cos, -sin, x - cos * width / 2 + sin * height / 2),
        (sin, cos, y - sin * width / 2 - cos * height / 2),
    )
    return padded.transform(
        picture.size, Image.Transform.AFFINE, (*rows[0], *rows[1]), Image.Resampling.BICUBIC
    )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path, help="folder of pictures")
    parser.add_argument("--count", type=int, default=32, help="variants of each picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise InputError(f"{args.out} exists; name a new folder")
    # A run that was broken off leaves no folder that looks whole.
    unfinished = args.out.with_name(f"{args.out.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    paths = choose_images(args.images, None, 0)
    for number, path in enumerate(track(paths, description="varying")):
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        rng = np.random.default_rng((args.seed, number))
        for index in range(args.count):
            variant = vary(picture, rng) if index else picture
            variant.save(unfinished / f"{path.stem}-{index:02d}.png", compress_level=1)
    unfinished.rename(args.out)


if __name__ == "__main__":
    main()

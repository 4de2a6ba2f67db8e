"""The picture that explains: rows of tiles with captions, and a legend for the colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fpcodec.drawing import (
    BACKGROUND,
    INK,
    MARGIN,
    PALETTE,
    TEXT_SIZE,
    Colour,
    LegendRow,
    draw_box,
    draw_legend_line,
    wrap_legend,
)
from fpcodec.explain.heatmaps import heat_colour
from fpcodec.pyramid import PyramidSpec

TILE_SIDE = 320
_LEAST_COLUMN = 220
_LINE = TEXT_SIZE + 9
_WHITE: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One picture.

    Attributes:
        image: Shape (H, W, 3), uint8, RGB.
        boxes: In pixels of the image, ``x1 y1 x2 y2``.
        colours: One per box; white for all where there are none.
    """

    image: npt.NDArray[np.uint8]
    boxes: Sequence[npt.NDArray[np.float32]] = ()
    colours: Sequence[Colour] = ()


@dataclass(frozen=True)
class TileRow:
    """Tiles side by side under one caption.

    Attributes:
        caption: One line above them; empty for none.
        tiles: From left to right.
        colour: Of a patch before the caption; None for no patch.
    """

    caption: str
    tiles: Sequence[Tile]
    colour: Colour | None = None


def draw_figure(
    title: str,
    rows: Sequence[TileRow],
    columns: Sequence[str] = (),
    legend: Sequence[LegendRow] = (),
) -> Image.Image:
    """Draw a title, column headings, the rows, and a legend below.

    Args:
        title: One line.
        rows: From the top; all tiles are drawn in the size of the first.
        columns: A heading per column; none to leave them out.
        legend: Rows below the tiles; long ones are wrapped.
    """
    font = ImageFont.load_default(size=TEXT_SIZE)
    height, width = rows[0].tiles[0].image.shape[:2]
    scale = TILE_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # A narrow picture still needs room for its heading.
    column = max(size[0], _LEAST_COLUMN)
    count = max(len(row.tiles) for row in rows)
    total = max(count * column + (count + 1) * MARGIN, int(font.getlength(title)) + 2 * MARGIN)
    lines = wrap_legend([LegendRow(((None, title),))], font, total) + wrap_legend(
        legend, font, total - 2 * MARGIN
    )
    first_row = MARGIN + _LINE + (_LINE if columns else 0)
    captions = [_LINE if row.caption else 0 for row in rows]
    bottom = first_row + sum(captions) + (size[1] + MARGIN) * len(rows)
    canvas = Image.new("RGB", (total, bottom + _LINE * (len(lines) - 1) + MARGIN), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    draw_legend_line(draw, lines[0], font, MARGIN)
    for index, heading in enumerate(columns):
        draw.text((MARGIN + index * (column + MARGIN), MARGIN + _LINE), heading, INK, font)
    top = first_row
    for row, caption in zip(rows, captions, strict=True):
        draw_legend_line(draw, [(0.0, row.colour, row.caption)], font, top)
        for place, tile in enumerate(row.tiles):
            left = MARGIN + place * (column + MARGIN)
            canvas.paste(_draw_tile(tile, size), (left, top + caption))
        top += caption + size[1] + MARGIN
    for index, line in enumerate(lines[1:]):
        draw_legend_line(draw, line, font, bottom + index * _LINE)
    return canvas


def level_colour(spec: PyramidSpec, level: str) -> Colour:
    """The colour of a level: the same in every figure of one pyramid."""
    return PALETTE[spec.index(level) % len(PALETTE)]


def level_legend(spec: PyramidSpec, levels: Sequence[str]) -> LegendRow:
    """What the colours of levels mean."""
    return LegendRow(
        [(None, "Level:")]
        + [(level_colour(spec, x), f"{x}, a cell per {spec[x].stride} pixels") for x in levels]
    )


def heat_legend(meaning: str, highest: float | None = None) -> LegendRow:
    """What the colours of heat mean: shares of the highest value, or values up to it."""
    steps = (0.25, 0.5, 0.75, 1.0)
    texts = [f"{x:.0%}" if highest is None else f"{x * highest:.2f}" for x in steps]
    return LegendRow([(None, f"{meaning}:"), *zip(map(heat_colour, steps), texts, strict=True)])


def closer(tile: Tile) -> Tile:
    """The surroundings of a tile's one box, thrice its size, in the proportions of the whole."""
    height, width = tile.image.shape[:2]
    x1, y1, x2, y2 = (float(value) for value in tile.boxes[0])
    share = float(np.clip(3 * max((x2 - x1) / width, (y2 - y1) / height), 0.15, 1.0))
    side_x, side_y = max(1, round(share * width)), max(1, round(share * height))
    left = int(np.clip(round((x1 + x2 - side_x) / 2), 0, width - side_x))
    top = int(np.clip(round((y1 + y2 - side_y) / 2), 0, height - side_y))
    shift = np.asarray((left, top, left, top), np.float32)
    part = tile.image[top : top + side_y, left : left + side_x]
    return Tile(np.ascontiguousarray(part), [tile.boxes[0] - shift], tile.colours)


def _draw_tile(tile: Tile, size: tuple[int, int]) -> Image.Image:
    picture = Image.fromarray(tile.image).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    scale = np.asarray((size[0] / tile.image.shape[1], size[1] / tile.image.shape[0]) * 2)
    for i, box in enumerate(tile.boxes):
        x1, y1, x2, y2 = (float(value) for value in box * scale)
        x2, y2 = max(x1, x2), max(y1, y2)
        if tile.colours:
            draw_box(draw, (x1, y1, x2, y2), tile.colours[i])
        else:
            # Thin: a map must stay visible under the box it explains.
            draw.rectangle((x1, y1, x2, y2), outline=_WHITE, width=1)
    return picture

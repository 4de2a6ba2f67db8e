"""Pictures of detections: two panels side by side with a legend that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from fpcodec.detections import Detections

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
LegendEntry = tuple[Colour | None, str]
"""A patch of colour, where there is one, and its text."""

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0),
    (204, 121, 167), (144, 238, 144), (255, 105, 97), (178, 132, 255), (64, 224, 208),
    (255, 182, 193),
)  # fmt: skip
"""Class colours, by label index modulo their number; the first seven are Okabe and Ito's."""

BACKGROUND: Colour = (250, 250, 250)
INK: Colour = (25, 25, 25)
_PANEL_SIDE = 640
MARGIN = 16
TEXT_SIZE = 15
_DASH = 9


@dataclass(frozen=True)
class Panel:
    """One half of the picture.

    Attributes:
        title: One line above the image.
        detections: Boxes in pixels of the image.
        confirmed: Shape (N,), bool: False for the boxes to draw dashed. None draws all solid.
        colours: One per box; None for those of the classes.
    """

    title: str
    detections: Detections
    confirmed: npt.NDArray[np.bool_] | None = None
    colours: Sequence[Colour] | None = None

    def colour(self, i: int) -> Colour:
        """Of one box and its tag."""
        if self.colours is not None:
            return self.colours[i]
        return class_colour(int(self.detections.labels[i]))


@dataclass(frozen=True)
class LegendRow:
    """One line below the panels: coloured patches with a text each, or one text alone."""

    entries: Sequence[LegendEntry] = ()


def class_colour(label: int) -> Colour:
    """The colour of a label index."""
    return PALETTE[label % len(PALETTE)]


def draw_comparison(
    image: npt.NDArray[np.uint8],
    panels: Sequence[Panel],
    labels: Sequence[str] = (),
    legend: Sequence[LegendRow] = (),
    min_score: float = 0.3,
) -> Image.Image:
    """Draw the same image once per panel, each with its own boxes, and a legend below.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        panels: From left to right.
        labels: Class names; an index without a name is drawn as a number.
        legend: Rows below the panels; long rows are wrapped.
        min_score: Boxes below are left out.
    """
    height, width = image.shape[:2]
    scale = _PANEL_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    # A narrow picture still needs room for the titles and the legend.
    column = max(size[0], _PANEL_SIDE * 3 // 4)
    total_width = len(panels) * column + (len(panels) + 1) * MARGIN
    font = ImageFont.load_default(size=TEXT_SIZE)
    lines = wrap_legend(legend, font, total_width - 2 * MARGIN)
    row_height = TEXT_SIZE + 9
    top = MARGIN + row_height
    canvas = Image.new(
        "RGB", (total_width, top + size[1] + MARGIN + row_height * len(lines) + MARGIN // 2),
        BACKGROUND,
    )  # fmt: skip
    draw = ImageDraw.Draw(canvas)
    picture = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    for index, panel in enumerate(panels):
        left = MARGIN + index * (column + MARGIN)
        draw.text((left, MARGIN // 2 + 3), panel.title, INK, font)
        canvas.paste(_draw_panel(picture, panel, labels, scale, min_score), (left, top))
    for index, line in enumerate(lines):
        draw_legend_line(draw, line, font, top + size[1] + MARGIN + index * row_height)
    return canvas


def draw_detections(
    image: npt.NDArray[np.uint8],
    detections: Detections,
    labels: Sequence[str] = (),
    min_score: float = 0.3,
    scale: float = 1.0,
    confirmed: npt.NDArray[np.bool_] | None = None,
) -> Image.Image:
    """Draw boxes on an image of its own size.

    Args:
        image: Shape (H, W, 3), uint8, RGB.
        detections: Boxes in pixels of the image, or of one of another size, see ``scale``.
        labels: Class names; an index without a name is drawn as a number.
        min_score: Boxes below are left out.
        scale: Pixels of the image per pixel of the boxes.
        confirmed: Shape (N,), bool: False for the boxes to draw dashed; None draws all solid.
    """
    panel = Panel("", detections, confirmed)
    return _draw_panel(Image.fromarray(image), panel, labels, scale, min_score)


def _draw_panel(
    picture: Image.Image, panel: Panel, labels: Sequence[str], scale: float, min_score: float
) -> Image.Image:
    """One copy of the picture with its boxes, then their tags, so that no box hides a tag."""
    panel_image = picture.copy()
    draw = ImageDraw.Draw(panel_image)
    font = ImageFont.load_default(size=TEXT_SIZE)
    found = panel.detections
    shown = [int(i) for i in np.flatnonzero(found.scores >= min_score)]
    boxes = found.boxes * np.float32(scale)
    for i in reversed(shown):
        solid = panel.confirmed is None or bool(panel.confirmed[i])
        draw_box(draw, _rectangle(boxes[i]), panel.colour(i), solid)
    taken: list[Rectangle] = []
    for i in shown:
        label = int(found.labels[i])
        name = labels[label] if 0 <= label < len(labels) else str(label)
        text = f"{name} {found.scores[i]:.2f}"
        text_width = draw.textlength(text, font)
        place = _place_tag(_rectangle(boxes[i]), text_width, panel_image.size, taken)
        taken.append(place)
        draw.rectangle(place, panel.colour(i))
        draw.text((place[0] + 3, place[1] + 1), text, _ink_on(panel.colour(i)), font)
    return panel_image


def _rectangle(box: npt.NDArray[np.float32]) -> Rectangle:
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1, y1, max(x1, x2), max(y1, y2)


def draw_box(draw: ImageDraw.ImageDraw, box: Rectangle, colour: Colour, solid: bool = True) -> None:
    """A box with a dark rim, visible on any background; dashed where it is not solid."""
    x1, y1, x2, y2 = box
    if solid:
        draw.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=(0, 0, 0), width=5)
        draw.rectangle(box, outline=colour, width=3)
        return
    for (ax, ay), (bx, by) in (
        ((x1, y1), (x2, y1)), ((x1, y2), (x2, y2)), ((x1, y1), (x1, y2)), ((x2, y1), (x2, y2)),
    ):  # fmt: skip
        length = max(abs(bx - ax), abs(by - ay), 1.0)
        for start in np.arange(0.0, length, 2 * _DASH):
            a, b = start / length, min(start + _DASH, length) / length
            dash = (
                ax + (bx - ax) * a, ay + (by - ay) * a, ax + (bx - ax) * b, ay + (by - ay) * b,
            )  # fmt: skip
            draw.line(dash, (0, 0, 0), 5)
            draw.line(dash, colour, 3)


def _place_tag(
    box: Rectangle, text_width: float, size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """Where a tag of this width goes: the first place at its box that hides no other tag."""
    width, height = text_width + 6, TEXT_SIZE + 5
    x1, y1, x2, y2 = box
    candidates = (
        (x1, y1 - height), (x2 - width, y1 - height), (x1, y2), (x2 - width, y2),
        (x1, y1), (x2 - width, y2 - height), (x2, y1), (x1 - width, y1),
    )  # fmt: skip
    places = []
    for left, top in candidates:
        left = min(max(left, 0.0), max(0.0, size[0] - width))
        top = min(max(top, 0.0), max(0.0, size[1] - height))
        places.append((left, top, left + width, top + height))
    return next((p for p in places if not any(_overlaps(p, other) for other in taken)), places[0])


def _overlaps(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _ink_on(colour: Colour) -> Colour:
    """Black on light colours, white on dark ones, by Rec. 601 luma."""
    luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    return INK if luma > 140 else (255, 255, 255)


LegendLine = list[tuple[float, Colour | None, str]]


def wrap_legend(
    rows: Sequence[LegendRow], font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: float
) -> list[LegendLine]:
    """Lay the entries of each row out from left to right, on as many lines as they need."""
    lines: list[LegendLine] = []
    for row in rows:
        line: LegendLine = []
        x = 0.0
        for colour, text in row.entries:
            entry_width = font.getlength(text) + (22 if colour else 0)
            if line and x + entry_width > width:
                lines.append(line)
                line, x = [], 0.0
            line.append((x, colour, text))
            x += entry_width + 22
        lines.append(line)
    return lines


def draw_legend_line(
    draw: ImageDraw.ImageDraw,
    line: LegendLine,
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
    y: float,
) -> None:
    """One line of a legend, ``y`` pixels from the top."""
    for x, colour, text in line:
        left = MARGIN + x
        if colour:
            draw.rectangle((left, y + 2, left + 14, y + 16), colour, (90, 90, 90))
            left += 20
        draw.text((left, y), text, INK, font)

"""The parts of the page that are pictures: boxes, levels, bits, reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fpcodec.detections import SCALES, Detections
from fpcodec.drawing import draw_detections
from fpcodec.explain.figure import Tile, closer, level_colour
from fpcodec.explain.heatmaps import blend, heat_colour, in_colour
from fpcodec.explain.metrics import energy_in_box
from fpcodec.pyramid import Array, PyramidSpec
from fpcodec.ui.markup import css_colour, details, image, section, table, text
from fpcodec.ui.results import LevelReport, Reasons, Result, Subject
from fpcodec.ui.rivals import MIN_SCORE

SIDES = ("unsplit", "split")
_REASON_TEXTS = (
    ("ODAM heat map over the whole picture", "the places it owes its score and its edges to"),
    ("The same heat map, closer to the box", "the same, closer"),
)
_HOTTEST_PERCENTILE = 99
_SMALLEST_SHARE = 0.01
_BLOCK = 16  # pixels a side of the network's input, for the unit of the heat map


def detections_part(subject: Subject, result: Result, labels: Sequence[str]) -> str:
    """Unsplit and split boxes side by side; each box is a button too."""
    size = f"{len(result.frame):,} bytes"
    panels = "".join(
        _panel(subject, side, title, found, confirmed, labels)
        for side, title, found, confirmed in (
            ("unsplit", "Unsplit: the whole detector, no codec", subject.unsplit,
             result.unsplit_confirmed),
            ("split", f"Split: {size} went over the link", result.found, result.split_confirmed),
        )
    )  # fmt: skip
    note = (
        f'<p class="soft">Dashed: no such box on the other side. Scores below {MIN_SCORE:g} are '
        "not drawn. Choose a box to see below why it was found.</p>"
    )
    return section("boxes", "What is found", f'<div class="two">{panels}</div>{note}')


def _panel(
    subject: Subject,
    side: str,
    title: str,
    found: Detections,
    confirmed: npt.NDArray[np.bool_],
    labels: Sequence[str],
) -> str:
    drawn = draw_detections(subject.shown, found, labels, MIN_SCORE, subject.scale, confirmed)
    shown = shown_indices(found)
    alone = sum(not confirmed[i] for i in shown)
    alt = f"{title}. {count(len(shown), 'box', 'boxes')}, {alone} of them on this side alone."
    height, width = subject.image.shape[:2]
    # Small boxes lie above large ones, so that each can be clicked.
    order = sorted(shown, key=lambda i: -float(found.areas[i]))
    buttons = "".join(
        f'<button type="button" class="box" data-side="{side}" data-index="{i}" '
        f'style="{_place(found.boxes[i], width, height)}" '
        f'aria-label="{text(f"{side}: why {describe(found, i, labels)}?")}"></button>'
        for i in order
    )
    rows = [
        (name_of(found, i, labels), f"{found.scores[i]:.2f}", SCALES[found.scale_indices[i]],
         "yes" if confirmed[i] else "no")
        for i in shown
    ]  # fmt: skip
    listed = table(title, ("class", "score", "object size", "on the other side too"), rows)
    return (
        f"<figure><figcaption>{text(title)}</figcaption>"
        f'<div class="over">{image(drawn, alt)}{buttons}</div>'
        f"{details('These boxes as a table', listed)}</figure>"
    )


def _place(box: npt.NDArray[np.float32], width: int, height: int) -> str:
    x1, y1, x2, y2 = (float(x) for x in box / np.array((width, height) * 2) * 100)
    return f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%"


def levels_part(result: Result, spec: PyramidSpec) -> str:
    """What became of every level, with thumbnails of both its sides."""
    cards = "".join(_level_card(level, spec) for level in result.levels)
    note = (
        '<p class="soft">Each thumbnail shows how much goes on in each cell: the mean magnitude of '
        "its channels, both sides of a level on one scale. The codec keeps what the head needs, "
        "which is less than the whole.</p>"
    )
    return section("levels", "Levels: sent and recovered", f'<ul class="cards">{cards}</ul>{note}')


def _level_card(level: LevelReport, spec: PyramidSpec) -> str:
    fate = {
        "sent": f"sent, {level.sent_bytes:,} bytes",
        "recovered": "not sent, recovered by the server",
        "derived": f"computed from {level.source}",
    }[level.fate]
    top = max(float(x.max()) for x in (level.edge, level.server) if x is not None) or 1.0
    rows, columns = level.server.shape
    thumbs = "".join(
        f"<figure>{image(in_colour(x / top), f'{level.name} {where}', lossless=True)}"
        f"<figcaption>{where}</figcaption></figure>"
        for x, where in ((level.edge, "at the edge"), (level.server, "at the server"))
        if x is not None
    )
    colour = css_colour(level_colour(spec, level.name))
    return (
        f'<li class="card {level.fate}"><h3><span class="patch" style="background:{colour}">'
        f"</span>{text(level.name)}</h3><p><b>{text(fate)}</b><br>"
        f'<span class="soft">{columns} × {rows} cells of {level.stride} pixels</span></p>'
        f'<div class="thumbs">{thumbs}</div></li>'
    )


def bits_part(subject: Subject, result: Result) -> str:
    """Where in the picture the bits went."""
    bits = result.bits_per_pixel
    # A few hot cells would leave all others dark.
    top = float(np.percentile(bits, _HOTTEST_PERCENTILE))
    heat = np.clip(bits / top, 0, 1) if top else bits
    order = np.sort(bits, axis=None)[::-1]
    half = int(np.searchsorted(np.cumsum(order, dtype=np.float64), order.sum(dtype=np.float64) / 2))
    inside = _share_inside(bits, result.found, subject.scale)
    share = (half + 1) / bits.size
    place = "under 1%" if share < _SMALLEST_SHARE else f"{share:.0%}"
    words = f"Half of the bits went to {place} of the picture"
    words += f", {inside:.0%} of all into boxes that were found." if inside is not None else "."
    legend = _legend(
        "bits per 16 × 16 pixels of the network's input, the last or more", top * _BLOCK**2
    )
    figure = image(blend(subject.shown, heat), f"Heat map of the bits over the picture. {words}")
    content = f"<figure>{figure}<figcaption>{text(words)}</figcaption></figure>{legend}"
    return section("bits", "Where the bits went", content)


def _share_inside(bits: Array, found: Detections, scale: float) -> float | None:
    """Part of the bits inside boxes; None where there is no box."""
    shown = shown_indices(found)
    if not shown or not bits.any():
        return None
    mask = np.zeros(bits.shape, np.bool_)
    for i in shown:
        x1, y1, x2, y2 = (max(0, round(float(x) * scale)) for x in found.boxes[i])
        mask[y1:y2, x1:x2] = True
    return float(bits[mask].sum(dtype=np.float64) / bits.sum(dtype=np.float64))


def reasons_part(
    subject: Subject, reasons: Reasons, box: npt.NDArray[np.float32], caption: str
) -> str:
    """Why one box was found: its map over the picture, and from near by."""
    shown_box = box * np.float32(subject.scale)
    inside = energy_in_box(reasons.heat, shown_box)
    words = (
        f"{caption}, from level {reasons.level}. {inside:.0%} of what made it lies inside its box."
    )
    whole = Tile(blend(subject.shown, reasons.heat), [shown_box])
    near = closer(whole)
    # Of a box that fills the picture there is nothing closer.
    tiles = [whole] if near.image.shape == whole.image.shape else [whole, near]
    pictures = "".join(
        f"<figure>{image(_outlined(tile), alt)}<figcaption>{title}</figcaption></figure>"
        for tile, (alt, title) in zip(tiles, _REASON_TEXTS, strict=False)
    )
    legend = _legend("part in it, of the greatest", None)
    content = f'<p>{text(words)}</p><div class="two near">{pictures}</div>{legend}'
    return f'<div class="fpc">{content}</div>'


def _outlined(tile: Tile) -> npt.NDArray[np.uint8]:
    """A map under a thin white box, which hides nothing of it."""
    pixels = tile.image.copy()
    height, width = pixels.shape[:2]
    x1, y1, x2, y2 = (int(x) for x in tile.boxes[0])
    x1, x2 = (int(np.clip(x, 0, width - 1)) for x in (x1, x2))
    y1, y2 = (int(np.clip(y, 0, height - 1)) for y in (y1, y2))
    pixels[y1 : y2 + 1, [x1, x2]] = 255
    pixels[[y1, y2], x1 : x2 + 1] = 255
    return np.asarray(pixels, np.uint8)


def _legend(meaning: str, top: float | None) -> str:
    steps = "".join(
        f'<li><span class="patch" style="background:{css_colour(heat_colour(x))}"></span>'
        f"{f'{x:.0%}' if top is None else f'{x * top:.0f}'}</li>"
        for x in (0.25, 0.5, 0.75, 1.0)
    )
    return f'<p class="soft legend">{text(meaning)}:</p><ul class="legend">{steps}</ul>'


def shown_indices(found: Detections) -> list[int]:
    """Boxes that are sure enough to be drawn, best first."""
    return [int(i) for i in np.flatnonzero(found.scores >= MIN_SCORE)]


def name_of(found: Detections, i: int, labels: Sequence[str]) -> str:
    """A box's class; its number where it has no name."""
    label = int(found.labels[i])
    return labels[label] if 0 <= label < len(labels) else f"class {label}"


def describe(found: Detections, i: int, labels: Sequence[str]) -> str:
    """A box in words."""
    scale = SCALES[found.scale_indices[i]]
    return f"{name_of(found, i, labels)} {found.scores[i]:.2f}, {scale}"


def count(number: int, one: str, many: str) -> str:
    """A number with its noun."""
    return f"{number} {one if number == 1 else many}"

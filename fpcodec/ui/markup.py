"""Small pieces of HTML; whatever is not markup is escaped here."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage


def text(value: object) -> str:
    """Text as HTML; braces too, which the page's templates would take for their own."""
    return html.escape(str(value)).replace("{", "&#123;").replace("}", "&#125;")


def image(
    pixels: npt.NDArray[np.uint8] | PillowImage.Image, alt: str, *, lossless: bool = False
) -> str:
    """A picture inside the page.

    Args:
        pixels: Shape (H, W, 3), uint8, RGB.
        alt: What a person who does not see it should know.
        lossless: For maps of a few cells.
    """
    picture = pixels if isinstance(pixels, PillowImage.Image) else PillowImage.fromarray(pixels)
    buffer = io.BytesIO()
    form = "png" if lossless else "jpeg"
    picture.save(buffer, form, **({} if lossless else {"quality": 88, "subsampling": 0}))
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = picture.size
    return (
        f'<img src="data:image/{form};base64,{data}" alt="{text(alt)}" '
        f'width="{width}" height="{height}">'
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of text; the first cell of a row is its heading."""
    titles = "".join(f'<th scope="col">{text(title)}</th>' for title in head)
    body = "".join(
        f'<tr><th scope="row">{text(row[0])}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f"<table><caption>{text(caption)}</caption>"
        f"<thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table>"
    )


def details(summary: str, content: str) -> str:
    """Content that is folded away."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def section(name: str, title: str, content: str) -> str:
    """A part of the page under a heading."""
    return (
        f'<section class="fpc" aria-labelledby="{name}-title">'
        f'<h2 id="{name}-title">{text(title)}</h2>{content}</section>'
    )


def css_colour(colour: tuple[int, int, int]) -> str:
    """As style sheets write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)

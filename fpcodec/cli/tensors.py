"""``fpcodec tensors``: where an ONNX detector can be cut, and how its outputs may be read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fpcodec.cli.options import Json
from fpcodec.cli.output import note, print_json, print_table
from fpcodec.errors import InputError

if TYPE_CHECKING:
    from fpcodec.detectors.onnx_levels import Outline


def tensors(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX detector.")],
    size: Annotated[
        str, typer.Option(metavar="WxH", help="For a graph whose input size is dynamic.")
    ] = "",
    as_json: Json = False,
) -> None:
    """List where an ONNX detector can be cut, level by level, and what its outputs look like.

    Example:  fpcodec tensors yolox_nano.onnx

    Each tensor of a level is a valid cut, the nearest to the head first. decode= says how the
    outputs are read; where several layouts fit, the family of the detector decides, and
    fpcodec calibrate says what it finds. It needs the onnx package.
    """
    from fpcodec.detectors.onnx_levels import outline

    found = outline(model, _read_size(size))
    if as_json:
        print_json(asdict(found))
        return
    width, height = found.network_size
    note(f"{model}: input {width}x{height}")
    for name, shape in found.outputs.items():
        note(f"output {name} {shape}")
    if not found.levels:
        note("no level found: this is not a one-stage head that fpcodec can cut")
        return
    _print(found)
    note(f"shapes fit: decode={', '.join(found.layouts) or 'none of the layouts'}")
    if len(found.layouts) > 1:
        note("take the one of the detector's family; calibrate says what it then finds")
    cut = "&".join(f"{level}={ways[0].name}" for level, ways in found.levels.items())
    kind = found.layouts[0] if found.layouts else "MODULE:FUNCTION"
    note("any tensor of a level can be the cut; compare cuts by bytes at equal AP (fpcodec eval)")
    note(f'try: --detector "onnx:{model}?{cut}&decode={kind}"')


def _read_size(text: str) -> tuple[int, int] | None:
    if not text:
        return None
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise InputError(f"size {text!r} is not WxH, as 640x640")
    return int(width), int(height)


def _print(found: Outline) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("level", "tensor", "shape", "made by", "read by"):
        table.add_column(
            heading, overflow="fold", justify="right" if heading == "read by" else "left"
        )
    for level, ways in found.levels.items():
        for i, way in enumerate(ways):
            shape = "x".join(map(str, way.shape[1:]))
            table.add_row(level if i == 0 else "", way.name, shape, way.made_by, str(way.read_by))
    print_table(table)

"""``fpcodec drift``: whether evidence stays in place between an image and its pyramid."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fpcodec.cli.options import DETECTOR_HELP, Annotations, Json, Threads
from fpcodec.cli.output import note, print_json, print_table, stage_progress

_TITLES = {
    "drift": "drift of the evidence",
    "centre_bias": "nearer to the centre by",
    "noise": "drift by the masks' luck",
    "squared_drift": "drift squared, without luck",
    "squared_bias": "nearer, of squares, without luck",
    "plain_drift": "drift of plain centroids",
    "probe_to_features": "class slice to features",
    "probe_to_image": "class slice to image",
}
_BY_SCALE = ("drift", "centre_bias", "squared_drift")


def drift(
    detector: Annotated[str, typer.Option(metavar="SPEC", help=DETECTOR_HELP)],
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.")],
    annotations: Annotations,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results; a killed run goes on there.")],
    objects: Annotated[
        int, typer.Option(metavar="N", min=1, help="Right, sure detections to measure.")
    ] = 200,
    per_image: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most of them in one image, the best.")
    ] = 3,
    masks: Annotated[
        int, typer.Option(metavar="N", min=2, help="Random masks per image and space.")
    ] = 500,
    grid: Annotated[int, typer.Option(metavar="S", min=1, help="Cells a side of a mask.")] = 16,
    seed: Annotated[int, typer.Option(min=0, help="Of the masks.")] = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Compare which places of the image and which places of its features detections depend on.

    Example:  fpcodec drift --detector tiny --images val --annotations val.json --out drift

    Where drift is large, a map made on the image does not say which features matter.
    """
    from fpcodec.data.coco import load_coco
    from fpcodec.evaluation.environment import Environment
    from fpcodec.evaluation.levels.detector_source import DetectorSource
    from fpcodec.explain.drift_plot import draw_drift, require_matplotlib
    from fpcodec.explain.drift_study import DriftStudy, run_drift
    from fpcodec.explain.drise import SaliencyConfig

    # Rather now than after an hour of masks.
    require_matplotlib()
    environment = Environment.capture(shlex.join(["fpcodec", *sys.argv[1:]]), threads)
    study = DriftStudy(
        DetectorSource(None, detector, threads or 1), load_coco(annotations, images), out,
        objects, per_image, SaliencyConfig(masks=masks, grid=grid, seed=seed), environment,
    )  # fmt: skip
    with stage_progress() as progress:
        result = run_drift(study, progress)
    caption = f"{result['data']}: {result['objects']} objects, {masks} masks"
    picture = draw_drift(result, out, caption)
    if as_json:
        print_json(result)
        return
    _print(result, caption)
    if result["objects"] < objects:
        note(f"the data set has only {result['objects']} such objects of the {objects} asked for")
    note(f"picture: {picture}")


def _print(result: Mapping[str, Any], caption: str) -> None:
    from rich.table import Table

    table = Table(title=f"{caption}; in box diagonals")
    for title in ("objects", "", "n", "mean", "95 % of draws"):
        table.add_column(title, justify="left" if title in ("objects", "") else "right",
                         no_wrap=True)  # fmt: skip
    for group, found in result["summary"].items():
        for measure, interval in found.items():
            if group == "all" or measure in _BY_SCALE:
                table.add_row(group, _TITLES[measure], *_cells(interval))
    print_table(table)


def _cells(interval: Mapping[str, float]) -> tuple[str, str, str]:
    between = f"{interval['low']:.3f} to {interval['high']:.3f}"
    return f"{interval['n']}", f"{interval['mean']:.3f}", between

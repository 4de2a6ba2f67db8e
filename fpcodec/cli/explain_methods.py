"""The methods of ``fpcodec explain``: each a figure, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from fpcodec.cli.output import print_table
from fpcodec.detections import Detections
from fpcodec.detectors.base import Detector, Image
from fpcodec.drawing import Colour, LegendRow, Panel, draw_comparison
from fpcodec.errors import InputError
from fpcodec.explain.figure import (
    Tile,
    TileRow,
    closer,
    draw_figure,
    heat_legend,
    level_colour,
    level_legend,
)
from fpcodec.explain.heatmaps import blend, normalised, to_image
from fpcodec.explain.metrics import energy_in_box, peak
from fpcodec.pyramid import Array, Pyramid

Progress = Callable[[int, int], None]

_EDGES = ("x1", "y1", "x2", "y2")
_BOX: Colour = (230, 159, 0)


@dataclass(frozen=True)
class Question:
    """What is to be explained.

    Attributes:
        detector: With both halves.
        image: Shape (H, W, 3), uint8, RGB.
        min_score: Boxes below are left out.
        limit: Most boxes, best first.
        sigma: Of ODAM's smoothing, in cells.
        masks: Random masks of D-RISE.
        seed: Of the masks.
    """

    detector: Detector
    image: Image
    min_score: float
    limit: int
    sigma: float
    masks: int
    seed: int

    def wanted(self, found: Detections) -> npt.NDArray[np.int64]:
        """Indices of the boxes to explain, best first.

        Raises:
            InputError: None scores enough.
        """
        indices = np.flatnonzero(found.scores >= self.min_score)[: self.limit]
        if not len(indices):
            best = f"the best is {found.scores[0]:.2f}" if len(found) else "nothing was found"
            raise InputError(
                f"no box scores {self.min_score:g} or more ({best}); lower --min-score, or see "
                "every level's scores with --method frs"
            )
        return indices.astype(np.int64)

    def name(self, label: int) -> str:
        """Of a class; its number where it has none."""
        labels = self.detector.labels
        return labels[label] if 0 <= label < len(labels) else str(label)


@dataclass(frozen=True)
class Answer:
    """An explanation.

    Attributes:
        figure: For people.
        report: For programs.
    """

    figure: PillowImage.Image
    report: Mapping[str, Any]

    def print(self) -> None:
        """The report's list as a table."""
        from rich.table import Table

        (rows,) = (value for value in self.report.values() if isinstance(value, list))
        names = [name for name in rows[0] if name not in ("box", "shares")]
        table = Table(*names)
        for row in rows:
            table.add_row(*(_cell(row[name]) for name in names))
        print_table(table)


def answer(method: str, question: Question, progress: Progress) -> Answer:
    """Explain by a method of the command line.

    Raises:
        InputError: There is nothing to explain, or an argument is out of range.
        ModelError: The detector has no gradients, where the method needs them.
    """
    pyramid = question.detector.extract(question.image)
    if method == "frs":
        return _frs(question, pyramid)
    if method in ("odam", "levels"):
        return _by_gradients(method, question, pyramid, progress)
    return _drise(method, question, pyramid, progress)


def _by_gradients(method: str, question: Question, pyramid: Pyramid, progress: Progress) -> Answer:
    """ODAM's maps, or of them the level of each box alone."""
    from fpcodec.explain.odam import ATTRIBUTES, explain
    from fpcodec.explain.predictions import open_predictor

    predictions = open_predictor(question.detector)(pyramid)
    found = predictions.detections
    indices = question.wanted(found)
    explanations = []
    for done, index in enumerate(indices):
        attributes = ATTRIBUTES if method == "odam" else ("score",)
        explanations.append(explain(predictions, int(index), attributes, question.sigma))
        progress(done + 1, len(indices))
    kept = _part(found, indices)
    levels = [x.level for x in explanations]
    colours = [level_colour(pyramid.spec, level) for level in levels]
    legend = level_legend(pyramid.spec, pyramid.spec.coded_names)
    entries: list[dict[str, Any]] = kept.to_dicts(question.detector.labels)
    for entry, explanation in zip(entries, explanations, strict=True):
        entry["level"] = explanation.level
        entry["shares"] = {name: round(x, 4) for name, x in explanation.shares.items()}
    if method == "levels":
        panel = Panel("Which level of the pyramid each box is from", kept, colours=colours)
        figure = draw_comparison(
            question.image, [panel], question.detector.labels, [legend], min_score=0
        )
        return Answer(figure, {"detections": entries})
    rows = []
    for i, explanation in enumerate(explanations):
        together = explanation.on_image()
        entries[i].update(_of_map(together, kept.boxes[i]))
        maps = [*(explanation.on_image(x) for x in (("score",), _EDGES)), together]
        tiles = _tiles(question.image, kept.boxes[i], colours[i], maps)
        caption = f"{_caption(question, kept, i)}, from level {explanation.level}"
        rows.append(TileRow(caption, tiles, colours[i]))
    columns = ("what was found", "what made its score", "what placed its edges",
               "both together, closer")  # fmt: skip
    figure = draw_figure(
        "ODAM: the places that one detection owes its score and its box to", rows, columns,
        [heat_legend("Part in it, of the greatest"), legend],
    )  # fmt: skip
    return Answer(figure, {"sigma": question.sigma, "detections": entries})


def _frs(question: Question, pyramid: Pyramid) -> Answer:
    """Response S of every level, on one scale."""
    detector, spec = question.detector, pyramid.spec
    response = detector.response(pyramid)
    found = detector.detect(pyramid)
    boxes = list(found.boxes[found.scores >= question.min_score][: question.limit])
    highest = max(float(x.max()) for x in response.values())
    tiles, entries = [], []
    for name, values in response.items():
        stride = spec[name].stride if name in spec.names else None
        heat = to_image(np.maximum(values, 0), pyramid.geometry, stride)
        tiles.append(Tile(blend(question.image, heat / highest if highest > 0 else heat), boxes))
        entries.append({
            "level": name, "stride": stride, "highest": round(float(values.max()), 4),
            "mean": round(float(values.mean()), 6),
        })  # fmt: skip
    figure = draw_figure(
        "Response S: the head's highest score at each place of each level",
        [TileRow("", tiles)],
        [f"{x['level']}: {x['stride']} pixels a cell, at most {x['highest']:.2f}" for x in entries],
        [
            heat_legend("Score", highest),
            LegendRow([(None, f"White: boxes that score {question.min_score:g} or more")]),
        ],
    )
    return Answer(figure, {"levels": entries})


def _drise(method: str, question: Question, pyramid: Pyramid, progress: Progress) -> Answer:
    """D-RISE's saliency, from masked pictures or from masked pyramids."""
    from fpcodec.explain.drise import SaliencyConfig, saliency_on_features, saliency_on_image

    found = question.detector.detect(pyramid)
    kept = _part(found, question.wanted(found))
    config = SaliencyConfig(masks=question.masks, seed=question.seed)
    if method == "drise":
        maps = saliency_on_image(question.detector, question.image, kept, config, progress)
        hidden = "the picture"
    else:
        maps = saliency_on_features(question.detector, pyramid, kept, config, progress)
        hidden = "the pyramid"
    entries: list[dict[str, Any]] = kept.to_dicts(question.detector.labels)
    rows = []
    for i, values in enumerate(maps):
        heat = normalised(values)
        entries[i].update(_of_map(heat, kept.boxes[i]))
        tiles = _tiles(question.image, kept.boxes[i], _BOX, [heat, heat])
        rows.append(TileRow(_caption(question, kept, i), tiles))
    figure = draw_figure(
        f"D-RISE: what each box needs of {hidden}, by {question.masks:,} masks", rows,
        ("what was found", "what it needs", "the same, closer"),
        [heat_legend("Need, of the greatest")],
    )  # fmt: skip
    return Answer(figure, {"masks": question.masks, "seed": question.seed, "detections": entries})


def _part(found: Detections, indices: npt.NDArray[np.int64]) -> Detections:
    return Detections(found.boxes[indices], found.scores[indices], found.labels[indices])


def _tiles(
    image: Image, box: npt.NDArray[np.float32], colour: Colour, maps: Sequence[Array]
) -> list[Tile]:
    """The picture with a box, and its maps, the last from near by."""
    shown = [Tile(blend(image, heat), [box]) for heat in maps]
    return [Tile(image, [box], [colour]), *shown[:-1], closer(shown[-1])]


def _caption(question: Question, found: Detections, i: int) -> str:
    return f"{i + 1}. {question.name(int(found.labels[i]))} {found.scores[i]:.2f}"


def _of_map(heat: Array, box: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Where a map is highest, and how much of it lies in the box."""
    return {"peak": list(peak(heat)), "energy_in_box": round(energy_in_box(heat, box), 4)}


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

"""What an output layout is: from a head's tensors to scores and boxes per row, and to boxes.

A row is what one anchor, or one cell of a head without anchors, says. Rows are numbered through
all levels, finest first.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from fpcodec.detectors.layouts.levels import HeadLevel, describe, head_levels
from fpcodec.detectors.layouts.maths import NUMPY, Maths
from fpcodec.detectors.layouts.options import LayoutOptions
from fpcodec.errors import InputError, ModelError
from fpcodec.pyramid import Array, PyramidSpec

Shapes = Mapping[str, tuple[int, ...]]
"""Of a graph's outputs, by name, batch included."""

OptionsOf = TypeVar("OptionsOf", bound=LayoutOptions)


@dataclass(frozen=True)
class Rows:
    """What a head says of one level.

    Attributes:
        scores: Class probabilities, (N, P, K).
        values: Box values as ``Layout.boxes`` reads them, (N, P, B).
    """

    scores: Any
    values: Any


@dataclass(frozen=True)
class Candidates:
    """Boxes of one image before anything is suppressed.

    Attributes:
        boxes: Shape (N, 4), float32, ``x1 y1 x2 y2`` in network pixels.
        scores: Shape (N,), float32.
        labels: Shape (N,), int64.
        rows: Shape (N,), int64: the row of each.
        cells: Shape (N, 3), int64: number of the head's level, row and column of the cell.
        priors: Shape (N, D): what ``Layout.boxes`` wants of each.
    """

    boxes: Array
    scores: Array
    labels: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    cells: npt.NDArray[np.int64]
    priors: npt.NDArray[Any]

    def __getitem__(self, keep: npt.NDArray[np.int64]) -> Candidates:
        """Some of them."""
        return Candidates(
            self.boxes[keep], self.scores[keep], self.labels[keep],
            self.rows[keep], self.cells[keep], self.priors[keep],
        )  # fmt: skip


class Layout(ABC, Generic[OptionsOf]):
    """One detector family's outputs.

    Args:
        options: As ``Options.read`` takes them.
        outputs: Role to output name, for what cannot be found by shape or is named otherwise.
        spec: The pyramid at the cut.
        network_size: ``(width, height)`` of the network input.

    Attributes:
        kind: What ``decode=`` calls it.
        Options: The class of its options.
        anchors_first: Rows run through all cells of one anchor, then the next; else through all
            anchors of one cell.

    Raises:
        InputError: An option is unknown or cannot be used.
    """

    kind: ClassVar[str]
    Options: ClassVar[type[LayoutOptions]] = LayoutOptions
    anchors_first: ClassVar[bool] = False

    def __init__(
        self,
        options: Mapping[str, Any],
        outputs: Mapping[str, str],
        spec: PyramidSpec,
        network_size: tuple[int, int],
    ) -> None:
        self.options = cast(OptionsOf, self.Options.read(options))
        self.names = dict(outputs)
        self.spec = spec
        self.network_size = network_size
        self._kept: dict[tuple[str, int], npt.NDArray[Any]] = {}
        self.levels = head_levels(spec, network_size, self.options.strides)
        absent = {x.name for x in spec.levels} - {x.name for x in self.levels}
        if absent:
            raise InputError(
                f"decode strides {self.options.strides} leave out {', '.join(sorted(absent))}; "
                "give the strides of all levels of the head"
            )

    @classmethod
    def defaults(cls, options: Mapping[str, Any]) -> dict[str, float | int]:
        """Keys of ``DecodeConfig`` where a SPEC says nothing: the family's own for measuring AP."""
        return {}

    @classmethod
    def preprocess(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Keys of ``Preprocess`` that the family's networks are trained with."""
        return {}

    @abstractmethod
    def find(self, shapes: Shapes) -> dict[str, str]:
        """Which output plays which role.

        Raises:
            ModelError: An output is missing, or the shapes do not tell.
        """

    @abstractmethod
    def rows(self, outputs: Mapping[str, Any], maths: Maths) -> list[Rows]:
        """Read the tensors: per level class scores and box values.

        Raises:
            ModelError: The tensors do not fit; the message says what was expected.
        """

    @abstractmethod
    def boxes(self, values: Any, priors: Any, stride: Any, maths: Maths) -> Any:
        """Boxes in network pixels, (M, 4), ``x1 y1 x2 y2``.

        Args:
            values: Box values of some rows, (M, B).
            priors: What ``priors`` says of them, (M, D).
            stride: Of their level; a number, or one per row (M, 1).
            maths: Of the arrays.
        """

    def priors(self, level: HeadLevel, anchors: int) -> npt.NDArray[Any]:
        """What a box is relative to, per row of a level, (P, D): here column and row."""
        return np.tile(level.cells, (anchors, 1)) if anchors > 1 else level.cells

    def maps(self, rows: Rows, level: HeadLevel, maths: Maths) -> tuple[Any, Any]:
        """A level's rows as maps: scores (N, K, H, W), the highest of a cell's anchors for each
        class; and box values (N, anchors * B, H, W)."""
        scores = self._grid(rows.scores, level, maths)
        values = self._grid(rows.values, level, maths)
        batch, _, _, anchors, width = values.shape
        highest = maths.highest(scores, 3) if anchors > 1 else scores[:, :, :, 0]
        scores = maths.permute(highest, (0, 3, 1, 2))
        flat = values.reshape(batch, level.height, level.width, anchors * width)
        return scores, maths.permute(flat, (0, 3, 1, 2))

    def _grid(self, x: Any, level: HeadLevel, maths: Maths) -> Any:
        """Rows as (N, H, W, anchors, C)."""
        batch, count, channels = x.shape
        anchors = count // level.count
        if not self.anchors_first:
            return x.reshape(batch, level.height, level.width, anchors, channels)
        shaped = x.reshape(batch, anchors, level.height, level.width, channels)
        return maths.permute(shaped, (0, 2, 3, 1, 4))

    def candidates(self, rows: Sequence[Rows], threshold: float) -> Candidates:
        """All boxes of the first image that score the threshold or more, level by level."""
        found = []
        first = 0
        for number, (level, one) in enumerate(zip(self.levels, rows, strict=True)):
            scores, count = one.scores[0], one.scores.shape[1]
            chosen, labels = self._chosen(scores, threshold)
            priors = self._all_priors(level, count // level.count)[chosen]
            boxes = self.boxes(one.values[0][chosen], priors, level.stride, NUMPY)
            if self.options.clip:
                boxes = np.clip(boxes, 0, self.network_size * 2)
            per = level.count
            cell = chosen % per if self.anchors_first else chosen // (count // per)
            place = np.stack(
                [np.full_like(cell, number), cell // level.width, cell % level.width], 1
            )
            found.append((boxes, scores[chosen, labels], labels, first + chosen, place, priors))
            first += count
        boxes, values, labels, numbers, cells, priors = map(
            np.concatenate, zip(*found, strict=True)
        )
        return Candidates(
            boxes.astype(np.float32), values.astype(np.float32), labels.astype(np.int64),
            numbers, cells, priors,
        )  # fmt: skip

    def _all_priors(self, level: HeadLevel, anchors: int) -> npt.NDArray[Any]:
        """``priors``, made once."""
        key = (level.name, anchors)
        if key not in self._kept:
            self._kept[key] = self.priors(level, anchors)
        return self._kept[key]

    def _chosen(
        self, scores: Array, threshold: float
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Rows and labels of a level's candidates."""
        if self.options.multi_label:
            rows, labels = np.nonzero(scores >= threshold)
        else:
            every = scores.argmax(axis=1)
            best = np.take_along_axis(scores, every[:, None], axis=1)[:, 0]
            rows = np.flatnonzero(best >= threshold)
            labels = every[rows]
        if self.options.pre_nms and len(rows) > self.options.pre_nms:
            order = np.argsort(-scores[rows, labels], kind="stable")[: self.options.pre_nms]
            rows, labels = rows[order], labels[order]
        return rows, labels

    def strides(self, cells: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Stride of each cell's level, (M, 1)."""
        return np.asarray([x.stride for x in self.levels], np.float32)[cells[:, 0], None]

    def activated(self, scores: Any, maths: Maths) -> Any:
        """Scores as probabilities."""
        return maths.sigmoid(scores) if self.options.activation == "sigmoid" else scores

    def with_objectness(self, rows: Any, maths: Maths) -> Any:
        """Objectness times class, of rows that have them after four box values."""
        found = self.activated(rows[..., 4:], maths)
        return maths.floats(found[..., :1] * found[..., 1:])

    def misfit(self, wanted: str, shapes: Shapes, remedy: str = "") -> ModelError:
        """The error of outputs that are not this layout's."""
        there = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())
        return ModelError(
            f"decode={self.kind} wants {wanted} for levels {describe(self.levels)}; the graph has "
            f"{there or 'no output'}; {remedy or 'check the level tensors and the decode option'}"
        )

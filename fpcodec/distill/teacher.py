"""The teacher's side of a step: views, the network's input, the pyramid of the full edge half.

None of it needs a gradient, so it is made ahead, in a thread beside the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fpcodec.detectors.base import Image
from fpcodec.detectors.onnx import OnnxDetector
from fpcodec.distill.views import Views

_VIEW_KEY = 11


@dataclass(frozen=True)
class Lesson:
    """A batch of views with what the teacher made of them.

    Attributes:
        images: The network's input, (N, 3, H, W).
        levels: The coded levels, (N, C, H, W).
    """

    images: Tensor
    levels: dict[str, Tensor]


class Teacher:
    """Makes lessons, one ahead of the one asked for.

    Args:
        detector: Its edge half.
        views: Of the photographs.
        batch: Views of a lesson.
        seed: With a lesson's number, decides its views.
    """

    def __init__(self, detector: OnnxDetector, views: Views, batch: int, seed: int) -> None:
        self.detector, self._views, self._batch, self._seed = detector, views, batch, seed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fpcodec-teacher")
        self._ahead: dict[int, Future[Lesson]] = {}

    def lesson(self, number: int) -> Lesson:
        """The lesson of a step; the next one is begun.

        Raises:
            InputError: A photograph cannot be read.
        """
        for wanted in (number, number + 1):
            if wanted not in self._ahead:
                self._ahead[wanted] = self._thread.submit(self._draw, wanted)
        return self._ahead.pop(number).result()

    def close(self) -> None:
        """Drop what is ahead."""
        self._thread.shutdown(cancel_futures=True)

    def _draw(self, number: int) -> Lesson:
        rng = np.random.default_rng((self._seed, _VIEW_KEY, number))
        return self.teach([self._views.draw(rng) for _ in range(self._batch)])

    def teach(self, images: Sequence[Image]) -> Lesson:
        """The lesson of given views."""
        inputs = [self.detector.preprocess(x) for x in images]
        pyramids = [self.detector.extract_input(*x) for x in inputs]
        levels = {
            name: torch.from_numpy(np.stack([p.levels[name] for p in pyramids]))
            for name in self.detector.spec.coded_names
        }
        tensors = [torch.from_numpy(tensor) for tensor, _ in inputs]
        return Lesson(torch.cat(tensors), levels)

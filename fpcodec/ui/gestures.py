"""What the page answers to each thing that a visitor does.

Answers are lists of gradio's updates: DRAWN of them for what is drawn of a picture (the message,
the parts, the list of boxes, the reasons), and where a picture was opened its visit, its file and
the clip's slider besides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from fpcodec.errors import FpcodecError, InputError
from fpcodec.ui.controls import Controls
from fpcodec.ui.inputs import SCENES, UPLOAD_LABEL, Picked, scene
from fpcodec.ui.markup import text
from fpcodec.ui.rivals import FILES
from fpcodec.ui.visit import PARTS, Studio, Visit, failure, told

DRAWN = len(PARTS) + 3
OPENED = DRAWN + 3

NO_REASONS = '<p class="fpc soft">No box is chosen.</p>'

_log = logging.getLogger(__name__)


class Gestures:
    """Answers with one studio; ``values`` are those of the controls.

    Args:
        studio: Does the work.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._scene = lru_cache(len(SCENES))(lambda name: studio.open(name, scene(name)).subject)

    def open_scene(self, visit: Visit | None, name: str, *values: Any) -> list[Any]:
        """A generated scene, by its name."""
        return self._opened(visit, lambda: Visit(self._scene(name)), values)

    def return_to_scene(self, visit: Visit | None, name: str, *values: Any) -> list[Any]:
        """The chosen scene again, once the visitor is done with a picture of their own."""
        if visit is None or not visit.subject.brought:
            return [gr.skip()] * OPENED
        return self.open_scene(visit, name, *values)

    def open_file(self, visit: Visit | None, path: str, *values: Any) -> list[Any]:
        """A picture or a clip; last, the field it came from, free again and with its name."""
        picked, problem = _tried(lambda: Picked.of(path), visit)
        if picked is None:
            opened = [problem, *[gr.skip()] * (OPENED - 1)]
        else:
            opened = self._opened(visit, lambda: self._clip(picked, 1), values, picked)
        fate = "Shown" if isinstance(opened[DRAWN], Visit) else "Refused"
        label = f"{fate}: {Path(path).name}. {UPLOAD_LABEL}"
        return [*opened, gr.update(value=None, label=label)]

    def open_moment(
        self, visit: Visit | None, picked: Picked | None, number: float, *values: Any
    ) -> list[Any]:
        """Another picture of the clip."""
        if picked is None:
            return [gr.skip()] * OPENED
        opened = self._opened(visit, lambda: self._clip(picked, int(number)), values, picked)
        return [*opened[:-1], gr.skip()]

    def open_camera(self, visit: Visit | None, path: str | None, *values: Any) -> list[Any]:
        """What the camera took."""
        if path is None:
            return [gr.skip()] * OPENED
        taken = Picked(Path(path), "Camera")
        return self._opened(visit, lambda: self._clip(taken, 1), values)

    def _clip(self, picked: Picked, number: int) -> Visit:
        number = min(max(number, 1), picked.frames)
        one = picked.frames == 1
        name = picked.name if one else f"{picked.name}, picture {number} of the clip"
        return self._studio.open(name, picked.load(number - 1), brought=True)

    def _opened(
        self,
        before: Visit | None,
        visit: Callable[[], Visit],
        values: Sequence[Any],
        picked: Picked | None = None,
    ) -> list[Any]:
        """What is drawn of a picture, its visit, clip and its slider; a failure leaves all."""
        found, problem = _tried(visit, before)
        if found is None:
            return [problem, *[gr.skip()] * (OPENED - 1)]
        count = 1 if picked is None else picked.frames
        slider = gr.update(visible=count > 1, maximum=max(count, 2), value=1)
        return [*self.draw(found, *values), found, picked, slider]

    def draw(self, visit: Visit | None, *values: Any) -> list[Any]:
        """The present picture at the controls' operating point; nothing where that is the last."""
        nothing = [gr.skip()] * DRAWN
        if visit is None or (visit.result is not None and not Controls.are_complete(*values)):
            return nothing
        point, problem = _tried(lambda: Controls.read(*values), visit)
        if point is None:
            visit.point = None
            return [problem, *nothing[1:]]
        if point == visit.point:
            return nothing
        parts, problem = _tried(lambda: self._studio.draw(visit, point), visit)
        if parts is None:
            visit.point = None
            return [problem, *nothing[1:]]
        boxes = gr.update(choices=self._studio.choices(visit), value=None)
        return [told(visit), *(parts[name] for name in PARTS), boxes, NO_REASONS]

    def compare(
        self,
        visit: Visit | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        """The bars, once the present picture was measured as picture files."""
        if visit is None:
            return gr.skip()
        _, problem = _tried(lambda: list(_shown(self._studio.compare(visit), progress)))
        return problem or self._studio.bytes_of(visit)

    def explain(
        self,
        visit: Visit | None,
        key: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        """Why a box was found."""
        if visit is None or key is None:
            return gr.skip()
        progress(0, desc="Taking gradients; the first time torch is loaded")
        html, problem = _tried(lambda: self._studio.explain(visit, key))
        # The page marks the box and scrolls here by this key.
        return f'<div data-key="{text(key)}">{html or problem}</div>'


def _shown(steps: Iterator[int], progress: gr.Progress) -> Iterator[int]:
    for done in steps:
        progress((done, FILES), desc="Measuring pictures", unit="files")
        yield done


def chosen_box(event: gr.EventData) -> str:
    """The key of the box that was chosen in a picture."""
    data = event._data or {}
    return f"{data.get('side')}:{data.get('index')}"


def _tried(work: Callable[[], Any], visit: Visit | None = None) -> tuple[Any, str]:
    """What work gives, or None and the line that says why not, and what of a visit remains."""
    try:
        return work(), ""
    except FpcodecError as error:
        return None, failure(error, visit)
    except Exception:
        _log.exception("an answer could not be made")
        problem = InputError("this could not be done; the page's log says why. Try another picture")
        return None, failure(problem, visit)

"""The page's layout, and what happens when something on it is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import gradio as gr
import numpy as np
import numpy.typing as npt

from fpcodec.data import CLASS_NAMES
from fpcodec.errors import FpcodecError, InputError
from fpcodec.ui.controls import Controls
from fpcodec.ui.inputs import CLIP_SUFFIXES, SCENES, Picked, scene
from fpcodec.ui.rivals import FILES
from fpcodec.ui.visit import PARTS, WELCOME, Studio, Visit, failure, message, told

_log = logging.getLogger(__name__)

_SESSION_S = 1800
_KEPT_SCENES = len(SCENES)
_STATUS_S = 3.0

_ANNOUNCE = """
const live = document.createElement('div');
live.setAttribute('role', 'status');
live.className = 'fpc-live';
document.body.append(live);
const tell = () => { live.textContent = element.innerText; };
watch('value', tell);
"""
"""A region that stays while the line in it changes: what screen readers wait for."""

_CHOOSE = """
element.addEventListener('click', (event) => {
  const box = event.target.closest('button.box');
  if (box) trigger('select', {side: box.dataset.side, index: box.dataset.index});
});
"""


class Page:
    """The page over one studio.

    Args:
        studio: Does the work.
        status: What is said of a server that the page stands beside, a line and tables; the page
            then takes no uploads.
    """

    def __init__(self, studio: Studio, status: Callable[[], tuple[str, str]] | None = None) -> None:
        self._studio, self._status = studio, status
        self._scene = lru_cache(_KEPT_SCENES)(lambda name: studio.open(name, scene(name)).subject)

    def blocks(self) -> Any:
        """Everything, laid out and wired."""
        title = f"fpcodec: {self._studio.profile.name}"
        with gr.Blocks(
            analytics_enabled=False, title=title, delete_cache=(600, 3600), fill_width=True
        ) as blocks:
            gr.HTML(_INTRODUCTION + self._studio.heading())
            if self._status is not None:
                self._lay_out_status(self._status)
            self._visit = gr.State(None, time_to_live=_SESSION_S)
            with gr.Row(elem_classes="fpc-columns"):
                with gr.Column(scale=1, min_width=300, elem_classes="fpc-side"):
                    self._lay_out_sources()
                    with gr.Group():
                        self._controls = Controls.lay_out(self._studio.profile)
                with gr.Column(scale=3, min_width=320):
                    self._lay_out_results()
            self._wire(blocks)
        return blocks

    def _lay_out_status(self, status: Callable[[], tuple[str, str]]) -> None:
        line, tables = status()
        shown = [gr.HTML(line, elem_id="fpc-server")]
        with gr.Accordion("More about this server", open=False):
            shown.append(gr.HTML(tables))
        gr.Timer(_STATUS_S).tick(
            status, None, shown, show_progress="hidden", api_visibility="private"
        )

    def _lay_out_sources(self) -> None:
        with gr.Tabs():
            with gr.Tab("Scene"):
                known = set(self._studio.profile.labels) <= set(CLASS_NAMES)
                self._scenes = gr.Dropdown(
                    list(SCENES), value=next(iter(SCENES)), label="Generated scene",
                    info=None if known else _UNKNOWN_SCENES, filterable=False,
                )  # fmt: skip
            if self._status is None:
                with gr.Tab("File"):
                    self._file = gr.File(
                        label="Picture or clip, at most 64 MB", height=180, elem_id="fpc-file",
                        file_types=["image", *CLIP_SUFFIXES],
                    )  # fmt: skip
                with gr.Tab("Camera"):
                    self._camera = gr.Image(
                        sources=["webcam"], type="numpy", label="Camera", height=240
                    )
        self._frame = gr.Slider(
            0, 1, 0, step=1, label="Frame of the clip", visible=False, elem_id="fpc-frame"
        )
        self._picked = gr.State(None)

    def _lay_out_results(self) -> None:
        first = self._studio.first_parts()
        self._message = gr.HTML(message(WELCOME), js_on_load=_ANNOUNCE, elem_id="fpc-message")
        self._parts = {}
        for name in ("summary", "boxes"):
            script = _CHOOSE if name == "boxes" else None
            self._parts[name] = gr.HTML(first[name], js_on_load=script, elem_id=f"fpc-{name}")
        with gr.Row():
            for name in ("bytes", "curve"):
                with gr.Column(min_width=320):
                    self._parts[name] = gr.HTML(first[name], elem_id=f"fpc-{name}")
        with gr.Row():
            with gr.Column(min_width=320):
                self._parts["bits"] = gr.HTML(first["bits"], elem_id="fpc-bits")
            with gr.Column(min_width=320):
                gr.HTML('<h2 class="fpc" id="reasons-title">Why one box was found</h2>')
                self._box = gr.Dropdown(
                    [], label="Box to explain by ODAM", filterable=False, elem_id="fpc-box",
                    info="Or choose a box in the pictures above.",
                )  # fmt: skip
                self._reasons = gr.HTML(_NO_REASONS, elem_id="fpc-reasons")
        self._parts["levels"] = gr.HTML(first["levels"], elem_id="fpc-levels")

    @property
    def _outputs(self) -> list[Any]:
        """What an operating point changes, in the order of ``_drawn``."""
        return [self._message, *(self._parts[name] for name in PARTS), self._box, self._reasons]

    def _wire(self, blocks: gr.Blocks) -> None:
        quiet: dict[str, Any] = {
            "api_visibility": "private", "concurrency_id": "work", "concurrency_limit": 1,
        }  # fmt: skip
        working = {**quiet, "show_progress": "minimal", "show_progress_on": self._message}
        controls = self._controls.all
        taken = [*self._outputs, self._visit, self._picked, self._frame]
        events = [
            gr.on([blocks.load, self._scenes.input], self._open_scene, [self._scenes, *controls],
                  taken, **working)
        ]  # fmt: skip
        if self._status is None:
            events += [
                self._file.upload(
                    self._open_file, [self._file, *controls], [*taken, self._file], **working
                ),
                self._frame.input(
                    self._open_frame, [self._picked, self._frame, *controls], taken,
                    trigger_mode="always_last", **working,
                ),
                self._camera.input(
                    self._open_camera, [self._camera, *controls], taken, **working
                ),
            ]  # fmt: skip
        for event in events:
            event.then(
                self._compare, self._visit, self._parts["bytes"], show_progress="minimal", **quiet
            )
        gr.on(
            [control.input for control in controls], self._draw, [self._visit, *controls],
            self._outputs, trigger_mode="always_last", **working,
        )  # fmt: skip
        self._parts["boxes"].select(
            _chosen, None, self._box, show_progress="hidden", queue=False, api_visibility="private"
        )
        self._box.change(
            self._explain, [self._visit, self._box], self._reasons, show_progress="full",
            trigger_mode="always_last", **quiet,
        )  # fmt: skip

    def _open_scene(self, name: str, *values: Any) -> list[Any]:
        return self._opened(lambda: Visit(self._scene(name)), values)

    def _open_file(self, path: str, *values: Any) -> list[Any]:
        picked, problem = _tried(lambda: Picked.of(path))
        if picked is None:
            return [problem, *[gr.skip()] * (len(self._outputs) + 2), None]
        return [*self._opened(lambda: self._clip(picked, 0), values, picked), None]

    def _open_frame(self, picked: Picked | None, frame: float, *values: Any) -> list[Any]:
        if picked is None:
            return [gr.skip()] * (len(self._outputs) + 3)
        opened = self._opened(lambda: self._clip(picked, int(frame)), values, picked)
        return [*opened[:-1], gr.skip()]

    def _open_camera(self, image: npt.NDArray[np.uint8] | None, *values: Any) -> list[Any]:
        if image is None:
            return [gr.skip()] * (len(self._outputs) + 3)
        return self._opened(
            lambda: self._studio.open("Camera", np.ascontiguousarray(image)), values
        )

    def _clip(self, picked: Picked, frame: int) -> Visit:
        name = picked.name if picked.frames == 1 else f"{picked.name}, frame {frame}"
        return self._studio.open(name, picked.load(frame))

    def _opened(
        self, visit: Callable[[], Visit], values: Sequence[Any], picked: Picked | None = None
    ) -> list[Any]:
        """What is drawn of a picture, its visit, clip and frame slider; a failure leaves all."""
        found, problem = _tried(visit)
        if found is None:
            return [problem, *[gr.skip()] * (len(self._outputs) + 2)]
        last = 0 if picked is None else picked.frames - 1
        slider = gr.update(visible=last > 0, maximum=max(last, 1), value=0)
        return [*self._draw(found, *values), found, picked, slider]

    def _draw(self, visit: Visit | None, *values: Any) -> list[Any]:
        """The outputs of a picture at the controls' operating point."""
        nothing = [gr.skip()] * len(self._outputs)
        if visit is None:
            return nothing
        parts, problem = _tried(lambda: self._studio.draw(visit, Controls.read(*values)))
        if parts is None:
            return [problem, *nothing[1:]]
        boxes = gr.update(choices=self._studio.choices(visit), value=None)
        return [told(visit), *(parts[name] for name in PARTS), boxes, _NO_REASONS]

    def _compare(
        self,
        visit: Visit | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        if visit is None:
            return gr.skip()
        _, problem = _tried(lambda: list(_shown(self._studio.compare(visit), progress)))
        return problem or self._studio.bytes_of(visit)

    def _explain(
        self,
        visit: Visit | None,
        key: str | None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Any:
        if visit is None or key is None:
            return gr.skip()
        progress(0, desc="Taking gradients; the first time torch is loaded")
        html, problem = _tried(lambda: self._studio.explain(visit, key))
        return html or problem


def _shown(steps: Iterator[int], progress: gr.Progress) -> Iterator[int]:
    for done in steps:
        progress((done, FILES), desc="Measuring pictures", unit="files")
        yield done


def _chosen(event: gr.EventData) -> str:
    """The key of the box that was chosen in a picture."""
    data = event._data or {}
    return f"{data.get('side')}:{data.get('index')}"


def _tried(work: Callable[[], Any]) -> tuple[Any, str]:
    """What work gives, or None and the line that says why not."""
    try:
        return work(), ""
    except FpcodecError as error:
        return None, failure(error)
    except Exception:
        _log.exception("an answer could not be made")
        problem = InputError("this could not be done; the page's log says why. Try another picture")
        return None, failure(problem)


_UNKNOWN_SCENES = "Drawn shapes, which this detector was not made for. Bring a picture of its kind."

_NO_REASONS = '<p class="fpc soft">No box is chosen.</p>'

_INTRODUCTION = """<header class="fpc"><h1>What crosses the link</h1>
<p>The edge runs a detector's first half and sends its feature pyramid; the server recovers what was
not sent and finds the boxes. Move the controls and see what that costs and what it changes.</p>
</header>"""

"""The page's layout, and what happens when something on it is used."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import gradio as gr

from fpcodec.ui.controls import Controls
from fpcodec.ui.gestures import NO_REASONS, Gestures, chosen_box
from fpcodec.ui.inputs import CLIP_SUFFIXES, SCENES, UPLOAD_LABEL
from fpcodec.ui.visit import NO_TORCH, PARTS, WELCOME, Studio, message

_SESSION_S = 1800
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
  if (!box) return;
  const again = box.classList.contains('chosen');
  const live = document.querySelector('.fpc-live');
  if (again) {
    document.getElementById('reasons-title').scrollIntoView({block: 'start'});
    live.textContent = 'This box is explained below.';
    return;
  }
  for (const other of element.querySelectorAll('button.chosen')) other.classList.remove('chosen');
  box.classList.add('chosen');
  trigger('select', {side: box.dataset.side, index: box.dataset.index});
  live.textContent = 'Working on the explanation.';
});
"""

_EXPLAINED = """
watch('value', () => {
  for (const box of document.querySelectorAll('button.box.chosen')) box.classList.remove('chosen');
  const shown = element.querySelector('[data-key]');
  if (!shown) return;
  const [side, index] = shown.dataset.key.split(':');
  const box = document.querySelector(`button.box[data-side="${side}"][data-index="${index}"]`);
  if (box) box.classList.add('chosen');
  document.getElementById('reasons-title').scrollIntoView({block: 'start'});
  document.querySelector('.fpc-live').textContent = 'Explanation below: ' + element.innerText;
});
"""
"""Marks the box that is explained, and brings the explanation into view."""

_WITHIN_CLIP = """(visit, picked, number, ...controls) => {
  const most = Number(document.querySelector('#fpc-frame input[type=range]').max);
  return [visit, picked, Math.min(Math.max(Math.round(number) || 1, 1), most), ...controls];
}"""
"""What is typed passes through values out of range; gradio would answer with an error."""


class Page:
    """The page over one studio.

    Args:
        studio: Does the work.
        status: What is said of a server that the page stands beside, a line and tables; the page
            then takes no uploads.
    """

    def __init__(self, studio: Studio, status: Callable[[], tuple[str, str]] | None = None) -> None:
        self._studio, self._status = studio, status

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
            with gr.Tab("Scene") as self._scene_tab:
                self._scenes = gr.Dropdown(
                    list(SCENES), value=next(iter(SCENES)), label="Generated scene",
                    info=None if self._studio.is_of_scenes else _UNKNOWN_SCENES, filterable=False,
                )  # fmt: skip
            if self._status is None:
                with gr.Tab("File"):
                    gr.HTML(f'<p class="fpc soft">{self._studio.known()}</p>')
                    self._file = gr.File(
                        label=UPLOAD_LABEL, height=180, elem_id="fpc-file",
                        file_types=["image", *CLIP_SUFFIXES],
                    )  # fmt: skip
                with gr.Tab("Camera"):
                    gr.HTML(f'<p class="fpc soft">{self._studio.known()}</p>')
                    # As a file, so that nothing is decoded before it was looked at.
                    self._camera = gr.Image(
                        sources=["webcam"], type="filepath", image_mode=None, label="Camera",
                        height=240,
                    )  # fmt: skip
        self._frame = gr.Slider(
            1, 2, 1, step=1, label="Picture of the clip", visible=False, elem_id="fpc-frame"
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
                gr.HTML(f'<p class="fpc soft">{_ODAM}</p>')
                without = find_spec("torch") is None
                self._box = gr.Dropdown(
                    [], label="Box to explain by ODAM", filterable=False, elem_id="fpc-box",
                    info=f"This {NO_TORCH}." if without else "Or choose a box in the pictures.",
                )  # fmt: skip
                self._reasons = gr.HTML(
                    NO_REASONS, js_on_load=_EXPLAINED, elem_id="fpc-reasons"
                )  # fmt: skip
        self._parts["levels"] = gr.HTML(first["levels"], elem_id="fpc-levels")

    @property
    def _outputs(self) -> list[Any]:
        """What an operating point changes, as ``Gestures.draw`` answers."""
        return [self._message, *(self._parts[name] for name in PARTS), self._box, self._reasons]

    def _wire(self, blocks: gr.Blocks) -> None:
        # What takes long has a queue of its own: the controls go on meanwhile.
        quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1}
        working = {
            **quiet, "concurrency_id": "work", "show_progress": "minimal",
            "show_progress_on": self._message,
        }  # fmt: skip
        does, controls = Gestures(self._studio), self._controls.all
        taken = [*self._outputs, self._visit, self._picked, self._frame]
        events = [
            gr.on([blocks.load, self._scenes.input], does.open_scene,
                  [self._visit, self._scenes, *controls],
                  taken, **working)
        ]  # fmt: skip
        if self._status is None:
            events += [
                self._scene_tab.select(
                    does.return_to_scene, [self._visit, self._scenes, *controls], taken, **working
                ),
                self._file.upload(
                    does.open_file, [self._visit, self._file, *controls],
                    [*taken, self._file], **working
                ),
                self._frame.input(
                    does.open_moment, [self._visit, self._picked, self._frame, *controls], taken,
                    js=_WITHIN_CLIP, trigger_mode="always_last", **working,
                ),
                self._camera.input(
                    does.open_camera, [self._visit, self._camera, *controls], taken, **working
                ),
            ]  # fmt: skip
        for event in events:
            event.then(
                does.compare, self._visit, self._parts["bytes"], show_progress="minimal",
                concurrency_id="files", **quiet,
            )  # fmt: skip
        gr.on(
            # The last value counts, also where an input came while another was being answered.
            [*(control.input for control in controls),
             self._controls.quality.release, self._controls.budget.release],
            does.draw, [self._visit, *controls], self._outputs,
            trigger_mode="always_last", **working,
        )  # fmt: skip
        self._parts["boxes"].select(
            chosen_box,
            None,
            self._box,
            show_progress="hidden",
            queue=False,
            api_visibility="private",
        )
        self._box.change(
            does.explain, [self._visit, self._box], self._reasons, show_progress="full",
            trigger_mode="always_last", concurrency_id="reasons", **quiet,
        )  # fmt: skip


_UNKNOWN_SCENES = "Drawn shapes, which this detector was not made for. Bring a picture of its kind."

_ODAM = (
    "ODAM follows a box's score and edges back through the network by gradients, and shows which "
    "places of the picture they came from."
)

_INTRODUCTION = """<header class="fpc"><h1>What crosses the link</h1>
<p>A camera too weak to run the whole detector sends compact features instead of a picture; here is
how many bytes that takes and which objects are lost.</p>
</header>"""

"""Puts the edge's parts together, runs them, and tells people how it goes."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fpcodec.cli.level_choice import LevelChoice, unless_all
from fpcodec.cli.output import live_line, note, print_json
from fpcodec.cli.units import format_bit_rate
from fpcodec_edge import StreamClient, StreamOptions
from fpcodec_edge.camera import Camera, FrameEncoder
from fpcodec_edge.rate_control import RateController, RateTarget
from fpcodec_edge.recording import DrawnVideo, JsonLines, Recorders
from fpcodec_edge.spool import Spool

if TYPE_CHECKING:
    from fpcodec.detections import Detections
    from fpcodec.profile import Profile
    from fpcodec_edge import ChannelSecurity
    from fpcodec_edge.accounts import Recorder
    from fpcodec_edge.sources import Source

_CONNECT_S = 10.0
_LIVE_EXPIRES_S, _PATIENT_EXPIRES_S = 2.0, 10.0
_LINE_S = 0.25


@dataclass(frozen=True)
class Results:
    """Where results go.

    Attributes:
        lines: File of the JSON lines; None for stdout.
        video: Drawn video; None for none.
        as_json: Whether the summary is a JSON line on stdout.
    """

    lines: Path | None
    video: Path | None
    as_json: bool


@dataclass(frozen=True)
class EdgeRun:
    """One run of ``fpcodec edge``.

    Attributes:
        source: Where images come from.
        server: ``host:port``.
        security: TLS and token; None for plain text.
        profile: The codec and its detector.
        levels: As ``--levels`` takes it.
        target: The rate controller's.
        inter: Whether frames lean on the one before.
        spool: Folder of the spool; None for none.
        spool_bytes: Its limit.
        threads: Threads of the network; None for the runtime's choice.
        providers: onnxruntime execution providers in order of preference.
        results: Where results go.
    """

    source: Source
    server: str
    security: ChannelSecurity | None
    profile: Profile
    levels: str
    target: RateTarget
    inter: bool
    spool: Path | None
    spool_bytes: int
    threads: int | None
    providers: Sequence[str]
    results: Results


class KeyLevels:
    """``--levels`` as the camera asks for it."""

    def __init__(self, text: str, profile: Profile) -> None:
        self._choice, self._profile = LevelChoice(text, profile), profile

    def next(self) -> Sequence[str] | None:
        """Levels of the next image; None for all, of which a byte budget may leave some out."""
        return unless_all(self._choice.next(), self._profile)

    def observe(self, detections: Detections) -> None:
        """Tell what an answer found."""
        self._choice.observe(detections)


def run_edge(run: EdgeRun) -> None:
    """Run until the source ends or a signal comes, then tell the summary.

    Raises:
        FpcodecError: Something cannot be used, or no server answers and there is no spool.
    """
    levels = KeyLevels(run.levels, run.profile)
    spool = None if run.spool is None else Spool(run.spool, run.spool_bytes)
    expires_s = _LIVE_EXPIRES_S if run.source.is_live else _PATIENT_EXPIRES_S
    options = StreamOptions(expires_after_s=max(expires_s, run.target.latency_s))
    client = StreamClient(run.server, run.profile.stream_id, options=options, security=run.security)
    with ExitStack() as stack:
        stack.enter_context(client)
        if spool is None:
            client.wait_tried(_CONNECT_S)
        stop = stack.enter_context(_signals())
        # They bring the inference runtime.
        from fpcodec.split import EdgeHalf
        from fpcodec.video import VideoEdgeHalf

        half = VideoEdgeHalf if run.inter else EdgeHalf
        encoder: FrameEncoder = half(run.profile, threads=run.threads, providers=run.providers)
        recorder = _open_recorder(run, stack)
        controller = RateController(run.target, time.monotonic)
        camera = Camera(run.source, encoder, client, controller, levels, recorder, spool=spool)
        begun_s = time.monotonic()
        try:
            with live_line() as show:
                camera.run(stop, _Status(camera, controller, client, show))
        finally:
            _tell(camera, client, time.monotonic() - begun_s, run.results.as_json)


def _open_recorder(run: EdgeRun, stack: ExitStack) -> Recorder:
    labels, path = run.profile.labels, run.results.lines
    if path is None:
        lines = JsonLines(sys.stdout, labels)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = JsonLines(stack.enter_context(path.open("w")), labels)
    if run.results.video is None:
        return lines
    video = DrawnVideo(run.results.video, labels)
    stack.callback(video.close)
    return Recorders(lines, video)


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and Ctrl-C set; the second of them ends the process at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def told(number: int, frame: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    for number in before:
        signal.signal(number, told)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Status:
    """The line that a person watches."""

    def __init__(
        self, camera: Camera, controller: RateController, client: StreamClient, show: Any
    ) -> None:
        self._camera, self._controller, self._client = camera, controller, client
        self._show, self._shown_s = show, 0.0

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._shown_s < _LINE_S:
            return
        self._shown_s = now_s
        tally = self._camera.accounts.tally
        words = [
            f"{tally.captured} captured", f"{tally.answered} answered",
            f"{sum(tally.dropped.values())} dropped", f"{sum(tally.failed.values())} failed",
        ]  # fmt: skip
        if tally.spooled:
            words.append(f"{tally.spooled} spooled")
        if self._client.connected:
            words.append(f"link {format_bit_rate(self._controller.goodput_bps)}")
        else:
            words.append(f"offline: {self._client.last_error or 'connecting'}")
        self._show("  ".join(words))


def _tell(camera: Camera, client: StreamClient, seconds: float, as_json: bool) -> None:
    report = camera.accounts.report()
    report["seconds"] = round(seconds, 3)
    report["connections"] = client.connections
    if as_json:
        print_json({"summary": report}, indent=None)
        return
    for line in summary_lines(report):
        note(line)


def summary_lines(report: dict[str, Any]) -> list[str]:
    """A run's report for people: sums that add up, then how quick it was."""

    def parts(name: str) -> str:
        counts = report[name]
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
        return f"{sum(counts.values())} {name}" + (f" ({reasons})" if reasons else "")

    captured = f"{report['captured']} captured"
    if report["resumed"]:
        captured += f" + {report['resumed']} from the spool"
    lines = [f"{captured} = {report['answered']} answered + {parts('dropped')} + "
             f"{parts('failed')} + {report['spooled']} spooled"]  # fmt: skip
    latency = report["latency_ms"]
    if latency:
        lines.append(
            f"latency {latency['p50']:.0f} ms median, {latency['p95']:.0f} ms p95, "
            f"{latency['max']:.0f} ms most; longest gap between answers "
            f"{report['longest_gap_s']:.2f} s"
        )
    if report["answered"] and report["seconds"] > 0:
        bps = 8 * report["sent_bytes"] / report["seconds"]
        lines.append(
            f"{report['sent_bytes']:,} bytes of frames in {report['seconds']:.1f} s "
            f"({format_bit_rate(max(bps, 1))}), {report['connections']} connection(s)"
        )
    return lines

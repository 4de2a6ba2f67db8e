"""``fpcodec edge``: a camera, a video or a folder against a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.options import Json, Levels, ProfileFolder, Providers, Threads, open_profile
from fpcodec.cli.output import note
from fpcodec.cli.security_options import (
    Tls,
    TlsCa,
    TlsCert,
    TlsKey,
    TlsServerName,
    TokenFile,
    TokenInPlainText,
    channel_security,
    quiet_grpc,
)


def edge(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", show_default=False,
                       help="Image folder, video file, /dev/video0 or rtsp://camera/stream."),
    ],
    server: Annotated[
        str, typer.Option("--server", "-s", metavar="HOST:PORT", help="A running `fpcodec serve`.")
    ],
    profile: ProfileFolder = None,
    quality: Annotated[
        float,
        typer.Option("--quality", "-q", metavar="Q",
                     help="Of frames where the link has room, 0 to 1; on slow links it is lower."),
    ] = 0.6,
    levels: Levels = "all",
    rate: Annotated[
        str | None,
        typer.Option("--rate", metavar="RATE", show_default=False,
                     help="Most bits of frames per second, as 256kbps."),
    ] = None,
    frame_bytes: Annotated[
        int | None,
        typer.Option("--frame-bytes", metavar="N", min=1, show_default=False,
                     help="Longest frame; then the frame rate alone follows the link."),
    ] = None,
    latency: Annotated[
        str,
        typer.Option("--latency", metavar="TIME", help="Bound from capture to answer."),
    ] = "500ms",
    fps: Annotated[
        float | None,
        typer.Option("--fps", metavar="N", min=0.01, show_default=False,
                     help="Show a folder or file as a camera of so many images a second would."),
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option("--realtime", help="Show a video file at its own speed, as a camera would."),
    ] = False,
    inter: Annotated[
        bool,
        typer.Option("--inter", help="Code frames against the one before: for cameras that stand "
                     "still, fewer bytes; a frame lost on the way costs a longer one."),
    ] = False,
    spool: Annotated[
        Path | None,
        typer.Option("--spool", metavar="DIR", show_default=False,
                     help="Keep frames here while there is no server; send them later, in order."),
    ] = None,
    spool_mb: Annotated[
        float,
        typer.Option("--spool-mb", metavar="MB", min=0.001,
                     help="Limit of the spool; the oldest frames are given up first."),
    ] = 100.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", show_default=False,
                     help="Where the JSON lines go, in place of stdout."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option("--video", metavar="FILE", show_default=False,
                     help="Also write the answered frames with their boxes, as .mp4 or .mkv; "
                     "needs the extra video."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, show_default=False,
                     help="End after so many images."),
    ] = None,
    threads: Threads = None,
    provider: Providers = None,
    as_json: Json = False,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_server_name: TlsServerName = None,
    token_file: TokenFile = None,
    token_in_plain_text: TokenInPlainText = False,
) -> None:  # fmt: skip
    """Run a camera, a video or a folder against a server; print one JSON line per frame.

    Measures the link, sends what it carries, reconnects by itself, and accounts for every image.
    Ends with its source, or at Ctrl-C or SIGTERM, with a summary on stderr; with --json the summary
    is the last line of stdout.

    Example:  fpcodec edge clip.mp4 --server 10.0.0.5:50051 --levels auto --realtime
    """
    quiet_grpc()
    from fpcodec.cli.edge_run import EdgeRun, Results, run_edge
    from fpcodec.cli.units import parse_bit_rate, parse_duration_ms
    from fpcodec_edge.rate_control import RateTarget
    from fpcodec_edge.sources import choose_source

    target = RateTarget(
        latency_s=parse_duration_ms(latency) / 1000,
        quality=quality,
        max_bps=None if rate is None else parse_bit_rate(rate),
        max_frame_bytes=frame_bytes,
    )
    images = choose_source(
        source, fps=fps, realtime=realtime, limit=limit,
        on_error=lambda error: note(f"warning: {error}; it is opened again"),
    )  # fmt: skip
    security = channel_security(
        tls, tls_ca, tls_cert, tls_key, tls_server_name, token_file, token_in_plain_text
    )
    run_edge(EdgeRun(
        source=images, server=server, security=security, profile=open_profile(profile),
        levels=levels, target=target, inter=inter,
        spool=spool, spool_bytes=round(spool_mb * 1e6), threads=threads,
        providers=tuple(provider or ()), results=Results(out, video, as_json),
    ))  # fmt: skip

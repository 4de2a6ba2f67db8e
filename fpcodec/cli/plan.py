"""``fpcodec plan``: boxes, split or picture, for one link and two machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import Json, ProfileFolder, open_profile
from fpcodec.cli.output import note, print_json, print_table
from fpcodec.cli.units import format_bit_rate, parse_bit_rate, parse_duration_ms
from fpcodec.errors import InputError

if TYPE_CHECKING:
    from fpcodec.evaluation.planning.model import Plan, UplinkRange
    from fpcodec.evaluation.planning.settings import Setting
    from fpcodec.evaluation.results import ResultRow

_SEND = {
    "boxes": "send the boxes", "picture": "send the picture", "split": "split",
    "light split": "split behind a light edge",
}  # fmt: skip


def plan(
    uplink: Annotated[str, typer.Option(metavar="RATE", help="As 256kbps or 1Mbps.")],
    rtt: Annotated[str, typer.Option(metavar="TIME", help="Round trip, as 40ms or 0.2s.")] = "40ms",
    profile: ProfileFolder = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            show_default=False,
            help="Measured rows: a file, or a folder of fpcodec bench rd. "
            "Without it the profile's own (its folder rates).",
        ),
    ] = None,
    edge_speed: Annotated[
        float, typer.Option(metavar="X", help="Edge against one thread of the measuring machine.")
    ] = 1.0,
    server_speed: Annotated[
        float, typer.Option(metavar="X", help="Server against the same thread.")
    ] = 1.0,
    max_drop: Annotated[
        float, typer.Option(metavar="AP", help="Most points of AP that may be lost.")
    ] = 1.0,
    head_on_server: Annotated[
        bool,
        typer.Option("--head-on-server", help="The edge may not run the head: no boxes."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Draw which way wins where.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say whether to split on a link, from measured bytes, drops and times.

    Latency is edge compute, one round trip, the bytes over the uplink, server compute; each way
    is taken at its measured setting of least latency. 0.2 as a speed is five times slower.

    Example:  fpcodec plan --uplink 1Mbps --rtt 40ms --edge-speed 0.2 --results runs/rd

    Another:  fpcodec plan --uplink 256kbps --head-on-server --plot regions.png --results runs/rd
    """
    from fpcodec.evaluation.planning.model import Link, Speeds
    from fpcodec.evaluation.planning.model import plan as choose
    from fpcodec.evaluation.planning.settings import nearest_split

    link = Link(parse_bit_rate(uplink), parse_duration_ms(rtt))
    speeds = Speeds(edge_speed, server_speed)
    rows = _rows(profile, results)
    chosen = choose(rows, link, speeds, max_drop, head_on_server=head_on_server)
    without = None
    if not head_on_server and any(x.way != "boxes" for x in chosen.candidates):
        without = choose(rows, link, speeds, max_drop, head_on_server=True)
    if plot is not None:
        from fpcodec.evaluation.planning.plot import plot_regions

        plot_regions(rows, plot, link=link, speeds=speeds, max_drop=max_drop)
        note(f"drawn: {plot}")
    said = [*_advice(chosen, without, nearest_split(rows)), _source(rows)]
    if as_json:
        print_json(_json(chosen, without, rows, said))
        return
    _print(chosen)
    print("\n".join(said))


def _rows(profile: Path | None, results: Path | None) -> list[ResultRow]:
    """Rows as named, else those in the profile's own folder.

    Raises:
        InputError: There are none, or they are of another profile.
    """
    from fpcodec.embedded import asset_folder
    from fpcodec.evaluation.results import ROWS, read_rows
    from fpcodec.profile_folder import RATES_FOLDER

    loaded = open_profile(profile) if profile is not None or results is None else None
    if results is None:
        folder = (loaded.path if loaded and loaded.path else Path()) / RATES_FOLDER
        if not (folder / ROWS).is_file():
            if folder.resolve().is_relative_to(asset_folder().resolve()):
                raise InputError(
                    "the embedded profile has no measured rates; measure them with "
                    "fpcodec bench rd ... --out runs/rd, and give --results runs/rd"
                )
            raise InputError(
                f"the profile has no measured rates ({folder / ROWS} is missing); measure "
                f"them with fpcodec bench rd ... --out {folder}, or name rows with --results"
            )
        results = folder
    rows = read_rows(results)
    return rows if loaded is None else _of_stream(rows, loaded.stream_id.hex(), results)


def _of_stream(rows: Sequence[ResultRow], stream_id: str, source: Path) -> list[ResultRow]:
    """Rows without frames of other profiles.

    Raises:
        InputError: All frames were of other profiles.
    """
    kept = [x for x in rows if x.parameters.get("stream_id", stream_id) == stream_id]
    if len(kept) < len(rows) and not any(x.kind == "features" for x in kept):
        raise InputError(
            f"{source} was measured with another profile (another stream id); leave --profile "
            "out, or measure this one: fpcodec bench rd"
        )
    return kept


def _advice(plan: Plan, without_boxes: Plan | None, split: Setting | None) -> list[str]:
    """What to do, and where that ends; ``split`` is the split setting of least drop."""
    from fpcodec.evaluation.planning.settings import SPLITS

    best = plan.winner
    others = " and ".join(f"{x.latency_ms:,.0f} ms by {x.name}" for x in plan.candidates[1:])
    send = _SEND[best.way]
    verdict = send.capitalize() if best.way in SPLITS else f"Do not split: {send}"
    reason = {
        "boxes": "the edge can run the whole detector, and nothing is smaller",
        "split": "a frame is small, and the edge is fast enough for its half",
        "light split": "a frame is small, and the edge has no time for its full half",
        "picture": "computing the edge's half takes longer than sending what it saves",
    }[best.way]
    if split is not None and split.drop > plan.max_drop:
        reason = (f"no split setting loses at most {plan.max_drop:g} AP; the nearest is "
                  f"{split.name}, {split.drop:.2f}: raise --max-drop to compare it")  # fmt: skip
    against = f" against {others}" if others else ", the only way left"
    said = [
        f"{verdict} ({best.name}): {best.latency_ms:,.0f} ms{against}; {reason}.",
        f"At these speeds, by uplink: {_ranges(plan.ranges)}.",
    ]
    if without_boxes is not None:
        said.append(
            "Where the edge may not run the head (--head-on-server): "
            f"{_SEND[without_boxes.winner.way]} here; by uplink: {_ranges(without_boxes.ranges)}."
        )
    return said


def _ranges(ranges: Sequence[UplinkRange]) -> str:
    if len(ranges) == 1:
        return f"{ranges[0].way} everywhere from {_span(ranges[0])}"
    parts = [f"{ranges[0].way} below {format_bit_rate(ranges[0].high_bps)}"]
    parts += [f"{x.way} from {_span(x)}" for x in ranges[1:-1]]
    return ", ".join([*parts, f"{ranges[-1].way} above {format_bit_rate(ranges[-1].low_bps)}"])


def _span(range_: UplinkRange) -> str:
    return f"{format_bit_rate(range_.low_bps)} to {format_bit_rate(range_.high_bps)}"


def _source(rows: Sequence[ResultRow]) -> str:
    """What the figures rest on, and what they leave out."""
    first = rows[0]
    environment = first.environment
    threads = "unknown" if environment.threads is None else str(environment.threads)
    return (
        f"Measured on {first.images} images of {first.data}, threads: {threads}, "
        f"{environment.cpu_model}; times scale by the two speeds alone; resizing a picture and "
        "the bytes of gRPC and TLS are not counted."
    )


def _print(plan: Plan) -> None:
    from rich.table import Table

    link, speeds = plan.link, plan.speeds
    table = Table(
        title=f"{format_bit_rate(link.uplink_bps)}, round trip {link.rtt_ms:g} ms, "
        f"edge x{speeds.edge:g}, server x{speeds.server:g}, drop up to {plan.max_drop:g} AP",
        caption="each way at its quickest setting; "
        "times in ms, mean bytes; p95: an image of the 95th percentile's bytes",
    )
    table.add_column("way", no_wrap=True)
    table.add_column("setting")
    for title in ("bytes", "drop", "edge", "link", "server", "ms", "p95", "fps"):
        table.add_column(title, justify="right", no_wrap=True)
    for x in plan.candidates:
        times = (x.edge_ms, x.link_ms, x.server_ms, x.latency_ms, x.latency_p95_ms)
        table.add_row(
            x.way, x.name, f"{x.bytes:,.0f}", f"{x.drop:.2f}",
            *(f"{time:,.0f}" for time in times), f"{min(x.uplink_fps, x.edge_fps):,.1f}",
        )  # fmt: skip
    print_table(table)


def _json(
    plan: Plan, without_boxes: Plan | None, rows: Sequence[ResultRow], said: Sequence[str]
) -> dict[str, Any]:
    from fpcodec.evaluation.planning.settings import SPLITS

    first = rows[0]
    return {
        "split": plan.winner.way in SPLITS,
        "way": plan.winner.way,
        "setting": plan.winner.name,
        "link": asdict(plan.link),
        "speeds": asdict(plan.speeds),
        "max_drop": plan.max_drop,
        "candidates": [asdict(x) for x in plan.candidates],
        "ranges": [asdict(x) for x in plan.ranges],
        "head_on_server": without_boxes
        and {
            "way": without_boxes.winner.way,
            "setting": without_boxes.winner.name,
            "ranges": [asdict(x) for x in without_boxes.ranges],
        },
        "data": {
            "name": first.data, "images": first.images, "environment": asdict(first.environment),
        },
        "text": list(said),
    }  # fmt: skip

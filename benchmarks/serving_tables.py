"""What ``serving_load.py``, ``early_answers.py`` and ``edge_link.py`` found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

Row = Mapping[str, Any]


def serving(paths: Sequence[Path]) -> str:
    """Capacity, latency and goodput of each server that was loaded, and a request's overhead."""
    rows = [row for path in paths if path.is_file() for row in json.loads(path.read_text("utf-8"))]
    if not rows:
        return "Not measured yet."
    return "\n\n".join((
        "Requests as a Poisson process at shares of each server's capacity, deadline "
        f"{rows[0]['deadline_ms']:g} ms. Client, front and workers share the machine's cores.",
        load_table(rows),
        "One request after the other, in turn with echoes of the same bytes by a bare grpc.aio "
        "server; *refusals/s*: calls whose frame a worker refuses at its first byte, so what the "
        "front, the hop to a worker and the client can carry:",
        overhead_table(rows),
        *sources(rows),
    ))  # fmt: skip


def load_table(rows: Sequence[Row]) -> str:
    """One row per server and load."""
    head = ("profile", "executor", "workers", "batch", "capacity/s", "offered/s", "of capacity",
            "answered/s", "p50 ms", "p95 ms", "p99 ms", "refused in p95 ms")  # fmt: skip
    return markdown(head, [
        (
            row["profile_name"], row["executor"], f"{row['workers']}", f"{row['batch']}",
            f"{row['capacity_per_s']:.1f}", f"{load['offered_per_s']:.1f}",
            f"{100 * load['offered_per_s'] / row['capacity_per_s']:.0f} %",
            f"{load['goodput_per_s']:.1f}",
            *(_ms(load["latency_ms"], name) for name in ("p50", "p95", "p99")),
            _ms(load["refusal_ms"], "p95"),
        )
        for row in rows for load in row["loads"]
    ])  # fmt: skip


def overhead_table(rows: Sequence[Row]) -> str:
    """What a request costs beside the work it asks for."""
    head = ("profile", "executor", "workers", "request ms", "stages ms", "the rest ms",
            "of the request", "bare echo ms", "beyond the echo", "refusals/s")  # fmt: skip
    return markdown(head, [
        (
            row["profile_name"], row["executor"], f"{row['workers']}",
            *(f"{row['overhead'][x]:.2f}" for x in ("request_ms", "stages_ms", "overhead_ms")),
            f"{row['overhead']['overhead_percent']:.1f} %",
            f"{row['overhead']['bare_echo_ms']:.2f}",
            f"{row['overhead']['above_bare_echo_percent']:.1f} %",
            f"{row['front_per_s']:,.0f}",
        )
        for row in rows if row["batch"] == 1
    ])  # fmt: skip


def early_answers(path: Path) -> str:
    """Latency and agreement by uplink and patience."""
    if not path.is_file():
        return "Not measured yet."
    found = json.loads(path.read_text("utf-8"))
    head = ("uplink kbit/s", "answered within ms", "p50 ms", "p95 ms", "F1",
            "levels that arrived")  # fmt: skip
    table = markdown(head, [
        (
            f"{row['bps'] / 1e3:g}",
            f"{row['answer_within_ms']}" if row["answer_within_ms"] else "the whole frame",
            f"{row['latency_p50_ms']:.0f}", f"{row['latency_p95_ms']:.0f}", f"{row['f1']:.3f}",
            ", ".join(f"{levels or 'none'} {count}" for levels, count in
                      row["levels_used"].items()),
        )
        for row in found["rows"]
    ])  # fmt: skip
    return "\n\n".join((
        f"{found['images']} photographs, frames of {found['mean_frame_bytes']:,.0f} bytes on "
        f"average; {found['link']}, 20 ms each way.",
        table,
        *sources([found]),
    ))  # fmt: skip


def edge_link(path: Path) -> str:
    """A camera over a link whose rate steps, beside one that sends WebP."""
    if not path.is_file():
        return "Not measured yet."
    found = json.loads(path.read_text("utf-8"))
    head = ("link", "sends", "images", "answered", "p50 ms", "p95 ms", "longest ms", "late",
            "longest gap s", "bytes", "F1 of answers", "F1 in time")  # fmt: skip
    table = markdown(head, [
        (
            f"{step['bps'] / 1e3:g} kbit/s, {100 * step['loss']:g} % lost",
            way, f"{step['captured']}", f"{step['answered']}",
            *(f"{step[f'latency_{x}_ms']:.0f}" for x in ("p50", "p95", "max")),
            f"{step['late']}", f"{step['longest_gap_s']:.2f}", f"{step['mean_bytes']:,.0f}",
            f"{step['answered_f1']:.3f}", f"{step['live_f1']:.3f}",
        )
        for steps in zip(*(x["steps"] for x in found["ways"].values()), strict=True)
        for way, step in zip(found["ways"], steps, strict=True)
    ])  # fmt: skip
    return "\n\n".join((
        f"`{found['video']}`, {found['seconds']:g} s shown again in each step, at its own speed; "
        f"latency bound {1e3 * found['latency_bound_s']:g} ms; {found['link']}, "
        f"{found['delay_ms']:g} ms each way, a buffer of {found['buffer_bytes']:,} bytes. *Late* "
        "are answers beyond the bound; *F1 in time* counts, for every image, what was known one "
        "bound later.",
        table,
        *sources([found]),
    ))  # fmt: skip


def sources(rows: Sequence[Row]) -> list[str]:
    """Where the figures come from, once each."""
    found = {row["environment"]["command"]: row["environment"] for row in rows}
    return [
        f"<sub>`{x['command']}`, commit {(x['git_sha'] or 'unknown')[:7]}, {x['cpu_model']}</sub>"
        for x in found.values()
    ]


def _ms(found: Mapping[str, float] | None, name: str) -> str:
    return "" if found is None else f"{found[name]:.0f}"

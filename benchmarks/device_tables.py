"""The base install, its wheels for arm64, and edge graphs of lower precision, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from markdown_tables import markdown

from fpcodec.evaluation.results import DRAWS, ResultRow, read_rows
from fpcodec.evaluation.scoring import read_draws

_ABSENT = "Not measured yet."
FLOAT = "fp32"
"""Label of the profile that the others were made of."""


def install(path: Path) -> str:
    """What ``device_install.py`` measured."""
    if not path.is_file():
        return _ABSENT
    row = json.loads(path.read_text("utf-8"))
    seconds, peak = row["seconds"], row["peak_mb"]
    largest = ", ".join(f"{name} {size:.0f}" for name, size in list(row["largest_mb"].items())[:6])
    table = markdown(("what", "measured"), [
        ("on disk, with Python's own pip", f"{row['disk_mb']:.0f} MB ({largest})"),
        ("packages", f"{row['packages']}, and none of torch, onnx and ray"),
        ("`import fpcodec`", f"{row['import_by_start']:.1f} times Python's own start "
         f"({1e3 * seconds['import']:.0f} ms), {peak['import']:.0f} MB"),
        ("numpy, onnxruntime, gRPC and Pillow alone",
         f"{1e3 * seconds['libraries']:.0f} ms, {peak['libraries']:.0f} MB"),
        ("peak memory, one frame of `tiny`", f"{peak['frame tiny']:.0f} MB"),
        ("peak memory, one frame of `bccd`", f"{peak['frame bccd']:.0f} MB"),
        ("from start to the first answer", f"{row['answer_by_libraries']:.1f} times the import of "
         f"those libraries ({seconds['answer']:.2f} s)"),
    ], text_columns=(0, 1))  # fmt: skip
    return f"Python {row['python']}.\n\n{table}\n\n{_source(row['environment'])}"


def arm64(path: Path) -> str:
    """What ``check_arm64.py`` found, Python by Python."""
    if not path.is_file():
        return _ABSENT
    row = json.loads(path.read_text("utf-8"))
    shown = ("onnxruntime", "numpy", "grpcio", "protobuf", "pillow")
    lines = [
        (
            found["python"],
            f"{len(found['packages'])}",
            found["problem"] or found["coder"],
            *(found["packages"].get(name, "-").split()[0] for name in shown),
        )
        for found in row["pythons"]
    ]
    table = markdown(("Python", "wheels", "entropy coder", *shown), lines)
    return f"{table}\n\n<sub>`{row['command']}`, {row['date']}</sub>"


def precision(folder: Path) -> str:
    """AP, bytes and time of edge graphs, each beside the float one of the same quality."""
    if not (folder / "rows.json").is_file():
        return _ABSENT
    rows, draws = read_rows(folder), read_draws(folder / DRAWS)
    made = json.loads((folder / "profiles.json").read_text("utf-8"))
    profiles = {x["name"]: x for x in made["profiles"]}
    head = ("edge graph", "quality", "MB", "AP", "below the unsplit detector", f"below {FLOAT}",
            "bytes", f"of {FLOAT}", f"network's time, of {FLOAT}", "with coding")  # fmt: skip
    floats = {row.parameters["quality"]: row for row in rows if _label(row) == FLOAT}
    cells = [_cells(row, floats[row.parameters["quality"]], draws, profiles) for row in rows[1:]]
    environment = rows[0].environment
    return "\n\n".join((
        f"{rows[0].images} photographs, unsplit AP {rows[0].ap['ap']:.1f}; "
        "[95 % of paired draws over the images].",
        markdown(head, cells),
        "\n".join(_kind(x) for x in profiles.values()),
        _source({"command": environment.command, "git_sha": environment.git_sha}),
        _source(made["environment"]),
    ))  # fmt: skip


def _cells(
    row: ResultRow,
    full: ResultRow,
    draws: Mapping[str, npt.NDArray[np.float64]],
    profiles: Mapping[str, Mapping[str, Any]],
) -> tuple[str, ...]:
    drop, lost = row.drop, draws[row.name] - draws[full.name]
    low, high = np.nanpercentile(lost, [2.5, 97.5])
    facts = profiles.get(_label(row))
    size = (
        next(iter(profiles.values()))["full_edge_bytes"] if facts is None else facts["edge_bytes"]
    )
    sent = row.sent_bytes.mean if row.sent_bytes else float("nan")
    of_full = sent / (full.sent_bytes.mean if full.sent_bytes else float("nan"))
    before = (full.ap["ap"] or 0) - (row.ap["ap"] or 0)
    return (
        _label(row), f"{row.parameters['quality']:g}", f"{size / 1e6:.1f}", f"{row.ap['ap']:.1f}",
        "" if drop is None else f"{drop.value:.2f} [{drop.low:.2f}, {drop.high:.2f}]",
        "" if row is full else f"{before:.2f} [{low:.2f}, {high:.2f}]",
        f"{sent:,.0f}", f"{of_full:.3f}",
        *(f"{_ms(row, *x) / _ms(full, *x):.2f}" for x in (("extract",), ("extract", "encode"))),
    )  # fmt: skip


def _label(row: ResultRow) -> str:
    return str(row.parameters.get("profile", ""))


def _ms(row: ResultRow, *stages: str) -> float:
    """CPU time of some stages, medians."""
    return sum(row.times_ms[stage].p50 for stage in stages)


def _kind(facts: Mapping[str, Any]) -> str:
    name = facts["name"]
    if facts["precision"] != "int8":
        return f"- `{name}`: weights and activations in half precision."
    kept = len(facts["kept"])
    which = (
        f"{facts['quantised']} of {facts['quantised'] + kept}, the others float" if kept else "all"
    )
    return (
        f"- `{name}`: convolutions in INT8: {which}; a level's squared error is "
        f"{facts['error']:.2g} of its variance, {facts['max_error']:g} was allowed; calibrated "
        f"on {facts['images']} other photographs."
    )


def _source(environment: Mapping[str, Any]) -> str:
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"<sub>`{environment['command']}`, commit {sha}</sub>"

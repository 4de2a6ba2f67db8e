"""Puts the committed results into the documents, between their ``measured`` marks.

python benchmarks/tables.py          # rewrites the tables
python benchmarks/tables.py --check  # exits 1 where documents and results differ
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from codec_costs_table import codec_costs
from crowding_tables import suppression, training
from device_tables import arm64, install, precision
from distillation_tables import light_edge, students
from drift_table import drift
from explanations_table import explanations
from importance_table import fidelity, importance
from learned_levels_table import key_chunks, progressive, recovery
from markdown_tables import markdown
from privacy_table import privacy
from rate_tables import RESULTS, points
from rate_tables import SECTIONS as RATES
from serving_tables import early_answers, edge_link, serving
from sweep_tables import sweeps
from training_losses_table import training_losses
from video_tables import SECTIONS as VIDEO

from fpcodec.evaluation.report.tables import drop_cell
from fpcodec.evaluation.results import read_rows

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = (
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "crowds",
            "device",
            "distillation",
            "edge",
            "explaining",
            "faq",
            "importance",
            "measurements",
            "privacy",
            "scaling",
        )
    ),
)
LEARNED = {
    "key chunks": (key_chunks, ("yolox_nano", "bccd", "tiny")),
    "recovery": (recovery, ("yolox_nano", "bccd")),
    "progressive": (progressive, ("yolox_nano", "bccd")),
}
"""What ``learned_levels.py`` was run on, part by part."""

LIGHT = ("bccd", "yolox_nano")
"""Detectors whose light edges were measured."""

PRECISION = ("bccd", "yolox_nano")
"""Detectors whose edge graphs were quantised."""

COSTS = ("yolox_nano", "r50")
"""What ``codec_costs.py`` was run on."""


def made_by(command: str | None, sha: str | None) -> str:
    """Where a table comes from."""
    return f"<sub>`{command}`, commit {(sha or 'unknown')[:7]}</sub>"


def levels() -> str:
    """The embedded detector with levels left out."""
    rows = read_rows(RESULTS / "tiny_levels.json")
    table = markdown(
        ("levels kept, candidate", "AP", "small", "medium", "large", "drop [95 %]"),
        [
            (
                row.name,
                *(points(row.ap[key]) for key in ("ap", "ap_small", "ap_medium", "ap_large")),
                drop_cell(row).text,
            )
            for row in rows
        ],
    )
    environment = rows[0].environment
    return (
        f"{rows[0].images} held-out generated scenes.\n\n{table}\n\n"
        f"{made_by(environment.command, environment.git_sha)}"
    )


def speed() -> str:
    """The codec's cost beside its detector's edge half."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / "codec_speed.json").read_text())
    table = markdown(
        (
            "",
            "bytes",
            "symbols",
            "edge half ms",
            "encode",
            "of its network",
            "decode",
            "of its network",
            "edge MMAC",
            "codec MMAC",
        ),
        [
            (
                row["name"],
                f"{row['mean_bytes']:,.0f}",
                f"{row['mean_symbols']:,.0f}",
                f"{row['median_ms']['extract']:.1f}",
                f"{row['encode_share_of_extract']:.0%}",
                f"{row['encode_share_of_network']:.0%}",
                f"{row['decode_share_of_extract']:.0%}",
                f"{row['decode_share_of_network']:.0%}",
                f"{row['edge_macs'] / 1e6:,.0f}",
                f"{row['codec_macs'] / 1e6:,.0f}",
            )
            for row in rows
        ],
    )
    environment = rows[0]["environment"]
    return f"{table}\n\n{made_by(environment['command'], environment['git_sha'])}"


def large() -> str:
    """R50-FPN detectors of the studies' size, random weights."""
    rows: list[dict[str, Any]] = []
    for name in ("torchvision_r50", "detectron2_r50"):
        path = RESULTS / f"{name}.json"
        rows += json.loads(path.read_text()) if path.is_file() else []
    table = markdown(
        ("detector, codec", "levels", "quality", "bytes", "edge half s", "encode", "decode ms",
         "edge peak MB", "server peak MB"),
        [
            (
                f"{row['detector'].split(':')[0]}, {row['codec']}",
                "+".join(row["levels"]),
                f"{row['quality']:g}",
                f"{row['mean_bytes']:,.0f}" if row["mean_bytes"] else "above the limit",
                f"{row['median_ms']['extract'] / 1e3:.1f}" if row["median_ms"] else "",
                f"{row['encode_share_of_extract']:.1%}" if row["median_ms"] else "",
                f"{row['median_ms']['decode']:.0f}" if row["median_ms"] else "",
                f"{row['edge_peak_megabytes']:,.0f}",
                f"{row['server_peak_megabytes']:,.0f}",
            )
            for row in rows
        ],
    )  # fmt: skip
    commands = {row["environment"]["command"]: row["environment"]["git_sha"] for row in rows}
    return f"{table}\n\n" + "\n".join(made_by(*item) for item in commands.items())


def ablation() -> str:
    """What each part of the codec is worth."""
    summary: list[dict[str, Any]] = json.loads((RESULTS / "ablation" / "summary.json").read_text())
    middle = {
        row.parameters["profile"]: row
        for row in read_rows(RESULTS / "ablation")
        if row.parameters.get("quality") == ABLATION_QUALITY
    }
    full = summary[0]["bytes_at_drop"]["bytes"]
    rows = []
    for entry in summary:
        row, reached = middle[entry["variant"]], entry["bytes_at_drop"]["bytes"]
        size, symbols = row.sent_bytes, row.symbols
        rows.append((
            entry["variant"], entry["change"], f"{reached:,.0f}", f"{reached / full:.3f}",
            f"{size.mean:,.0f}" if size else "", drop_cell(row).text,
            f"{symbols.mean:,.0f}" if symbols else "",
        ))  # fmt: skip
    head = ("variant", "what changes", "bytes at 1.0 AP", "of full",
            f"bytes at q{ABLATION_QUALITY:g}", "drop [95 %]", "symbols")  # fmt: skip
    source = made_by_environment(summary[0]["environment"])
    return f"{summary[0]['images']} photographs.\n\n{markdown(head, rows)}\n\n{source}"


ABLATION_QUALITY = 0.5
"""At which bytes and symbols are shown beside the bytes at equal AP."""


def made_by_environment(environment: dict[str, Any]) -> str:
    """Where rows with this environment come from."""
    return made_by(environment["command"], environment["git_sha"])


def peers() -> str:
    """Our entropy coder beside others, on the same symbols."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / "entropy_peers.json").read_text())
    table = markdown(
        (
            "coder, quality",
            "symbols",
            "bytes",
            "of ours",
            "encode time of ours",
            "decode time of ours",
        ),
        [
            (
                row["name"],
                f"{row['mean_symbols']:,.0f}",
                f"{row['mean_bytes']:,.0f}",
                f"{row['bytes_ratio']:.3f}",
                f"{row['encode_time_ratio']:.2f}",
                f"{row['decode_time_ratio']:.2f}",
            )
            for row in rows
        ],
    )
    source = made_by_environment(rows[0]["environment"])
    return f"{rows[0]['images']} photographs.\n\n{table}\n\n{source}"


DRIFT = {
    "bccd": {"ssd": "SSD", "fcos": "FCOS", "retinanet": "RetinaNet", "fasterrcnn": "Faster R-CNN"},
    "coco": {"yolox_nano": "YOLOX-nano"},
}
"""The published study's shifters first."""

SECTIONS: dict[str, Callable[[], str]] = {
    **RATES,
    "ablation": ablation, "peers": peers, "sweeps": sweeps,
    "levels": levels, "speed": speed, "large": large,
    "codec costs": partial(codec_costs, [RESULTS / f"codec_costs_{x}.json" for x in COSTS]),
    "serving": partial(serving, sorted(RESULTS.glob("serving_*.json"))),
    "early answers": partial(early_answers, RESULTS / "early_answers.json"),
    "edge link": partial(edge_link, RESULTS / "edge_link.json"),
    **{mark: partial(render, RESULTS / "video_yolox_nano") for mark, render in VIDEO.items()},
    "training losses": partial(training_losses, RESULTS / "training_losses"),
    "students": partial(students, sorted(RESULTS.glob("frs_*/rows.json"))),
    "suppression": partial(
        suppression,
        {
            "Crowded generated scenes, `tiny`": RESULTS / "crowding" / "tiny.json",
            "Crowded generated scenes, FCOS without Odam-Train":
                RESULTS / "crowding" / "fcos_without.json",
            "Crowded generated scenes, FCOS with Odam-Train":
                RESULTS / "crowding" / "fcos_with.json",
            "COCO val, YOLOX-nano": RESULTS / "crowding" / "yolox_nano_coco.json",
        },
    ),
    "base install": partial(install, RESULTS / "device" / "install.json"),
    "arm64": partial(arm64, RESULTS / "device" / "arm64.json"),
    **{f"precision {x}": partial(precision, RESULTS / f"precision_{x}") for x in PRECISION},
    "odam_training": partial(training, RESULTS / "crowding" / "odam_train.json"),
    "privacy": partial(privacy, RESULTS / "privacy" / "rows.json"),
    "explanations": partial(explanations, RESULTS / "explanations" / "rows.json"),
    **{f"drift {x}": partial(drift, RESULTS / f"drift_{x}", titles) for x, titles in DRIFT.items()},
    **{
        f"fidelity {name}": partial(fidelity, RESULTS / "explanation_fidelity" / f"{name}.json")
        for name in ("yolox_nano", "bccd")
    },
    **{
        f"importance {part}": partial(importance, RESULTS / "importance" / part)
        for part in ("quantisation", "training")
    },
    **{f"light edge {x}": partial(light_edge, RESULTS / f"{x}_light") for x in LIGHT},
    **{
        f"{part} {name}": partial(render, RESULTS / f"learned_levels_{name}")
        for part, (render, names) in LEARNED.items()
        for name in names
    },
}  # fmt: skip


def rendered(text: str) -> str:
    """A document with every measured section made anew.

    Raises:
        KeyError: It has a section that this file does not know.
    """
    mark = re.compile(r"(<!-- measured: ([^>]+) -->\n).*?(<!-- end -->)", re.DOTALL)
    return mark.sub(lambda found: f"{found[1]}{SECTIONS[found[2]]()}\n{found[3]}", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = {path: made for path in DOCUMENTS if (made := rendered(path.read_text("utf-8")))
             != path.read_text("utf-8")}  # fmt: skip
    if options.check:
        sys.exit(f"stale: {', '.join(str(path) for path in stale)}" if stale else 0)
    for path, made in stale.items():
        path.write_text(made, "utf-8")


if __name__ == "__main__":
    main()

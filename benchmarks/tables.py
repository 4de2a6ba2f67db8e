"""Puts the committed results into the documents, between their ``measured`` marks.

python benchmarks/tables.py          # rewrites the tables
python benchmarks/tables.py --check  # exits 1 where documents and results differ
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable
from functools import cache, partial
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
from serving_tables import early_answers, edge_link, serving
from training_losses_table import training_losses
from video_tables import SECTIONS as VIDEO

from fpcodec.evaluation.bd_rate import DEFAULT_DROPS
from fpcodec.evaluation.curves import BEST_PICTURE
from fpcodec.evaluation.report import (
    Comparisons,
    bd_markdown,
    load_results,
    operating_points_markdown,
    rows_markdown,
    source_markdown,
    verdict,
)
from fpcodec.evaluation.report.tables import drop_cell
from fpcodec.evaluation.results import bytes_at_drop, read_rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
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
            "importance",
            "measurements",
            "privacy",
            "scaling",
        )
    ),
)
RUNS = (
    "yolox_nano_coco", "bccd", "tiny", "yolox_nano_learned", "bccd_learned", "tiny_learned",
)  # fmt: skip
"""Folders of results that ``fpcodec bench rd`` wrote."""

BD_DROPS = {
    "yolox_nano_learned": (0.5, 3.0), "bccd_learned": (0.7, 2.2), "tiny_learned": (0.7, 2.1),
}  # fmt: skip
"""Drops that a run's families share, where these are not the usual 0.5 to 4."""

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


def points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


@cache
def report(name: str) -> Comparisons:
    """A committed run, compared within itself."""
    results = load_results(RESULTS / name)
    return Comparisons(results, drops=BD_DROPS.get(name, DEFAULT_DROPS))


def headline(name: str) -> str:
    """Bytes at equal accuracy, a line per codec, and BD-rates against pictures."""
    compared = report(name)
    results = compared.results
    first = results.rows[0]
    shown = shown_families(compared)
    ours = [family for family in shown if family in own_families(compared)]
    closed_form = [x for x in ours[1:] if x.startswith("pca")]
    if closed_form:  # a run that has few settings of any one picture codec
        against, ours = [BEST_PICTURE, *closed_form], [x for x in ours if x not in closed_form]
    else:
        against = [BEST_PICTURE, *(x for x in shown if x in PLAIN_PICTURES)]
    return "\n\n".join((
        f"{first.images} images, unsplit AP {points(first.ap['ap'])}; bytes per image at some "
        "drops of AP, read off each family's lower hull.",
        operating_points_markdown(compared, families=shown),
        bd_markdown(compared, anchors=against, tests=ours),
        source_markdown(compared),
    ))  # fmt: skip


PLAIN_PICTURES = ("webp", "jpeg", "jpeg 4:4:4", "avif", "jxl")
"""At the network's size."""


def shown_families(compared: Comparisons) -> list[str]:
    """All levels, the best choice of some, the pictures at the network's size, and baselines."""
    families = list(dict.fromkeys(row.family for row in compared.results.rows[1:]))
    mine = own_families(compared)
    most = max(x.count("+") for x in mine)
    whole = [x for x in mine if x.count("+") == most]
    some = [x for x in mine if x not in whole and smallest_at(compared, x, 1.0) is not None]
    best = sorted(some, key=lambda x: smallest_at(compared, x, 1.0) or math.inf)[:1]
    wanted = (*PLAIN_PICTURES, "boxes", "x265", "svtav1", "seed mix", "seed finer", "seed coarser")
    return [*whole, *best, BEST_PICTURE, *(x for x in wanted if x in families)]


def own_families(compared: Comparisons) -> list[str]:
    """Families of our frames; ``uniform`` is a baseline, far above every picture's bytes."""
    rows = compared.results.rows[1:]
    mine = (x for x in rows if x.kind == "features" and x.parameters.get("codec_id") != 1)
    return list(dict.fromkeys(row.family for row in mine))


def smallest_at(compared: Comparisons, family: str, drop: float) -> float | None:
    """Bytes of a family at a drop."""
    return bytes_at_drop([row for row in compared.results.rows if row.family == family], drop)


def verdicts(name: str) -> str:
    """The report's verdict in sentences."""
    return "\n".join(f"- {sentence}" for sentence in verdict(report(name)))


def all_rows(name: str) -> str:
    """Every row of a run."""
    return f"{rows_markdown(report(name))}\n\n{source_markdown(report(name))}"


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


SWEEPS = {
    "sweep_bccd": "`bccd`, 159 photographs of blood cells",
    "sweep_yolox_nano": "YOLOX-nano, 500 COCO photographs (one-stage: scope `all` alone)",
}


def sweeps() -> str:
    """Losses of single levels by object scale, and whether the study's reading holds."""
    parts = []
    for folder, title in SWEEPS.items():
        result = json.loads((RESULTS / folder / "sweep.json").read_text())
        parts.append(f"**{title}**")
        parts += [reading_table(kind, found) for kind, found in result["readings"].items()]
        parts.append("\n".join(f"<sub>`{command}`</sub>" for command in result["commands"]))
    return "\n\n".join(parts)


def reading_table(kind: str, reading: dict[str, Any]) -> str:
    """AP lost by degrading one level at the greatest ratio, by object scale."""
    direction = reading["direction"]
    names = list(next(iter(direction.values()))["loss"])
    rows = [
        (
            scale,
            *(f"{found['loss'][name]:.1f}" for name in names),
            "+".join(found["claimed"]),
            "+".join(found["costliest_pair"] or ["-"]),
            VERDICTS[found["verdict"]],
            "+".join(reading["key_levels"][scale]),
        )
        for scale, found in direction.items()
    ]
    scope, resample = kind.split()
    ratio = next(iter(direction.values()))["ratio"]
    head = ("objects", *names, "the study names", "costliest pair", "the reading", "key levels")
    said = f"Scope `{scope}`, resampling `{resample}`: AP lost with one level at 1/{ratio:g}."
    return f"{said}\n\n{markdown(head, rows)}"


VERDICTS = {
    "agrees": "holds",
    "direction": "holds in direction",
    "differs": "does not hold",
    None: "cannot be told",
}

DRIFT = {
    "bccd": {"ssd": "SSD", "fcos": "FCOS", "retinanet": "RetinaNet", "fasterrcnn": "Faster R-CNN"},
    "coco": {"yolox_nano": "YOLOX-nano"},
}
"""The published study's shifters first."""

SECTIONS: dict[str, Callable[[], str]] = {
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
    **{f"headline {name}": partial(headline, name) for name in RUNS},
    **{f"verdict {name}": partial(verdicts, name) for name in RUNS if "learned" in name},
    **{f"rows {name}": partial(all_rows, name) for name in RUNS},
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

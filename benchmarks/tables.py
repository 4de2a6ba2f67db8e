"""Puts the committed results into README.md, between its ``measured`` marks.

python benchmarks/tables.py          # rewrites the tables
python benchmarks/tables.py --check  # exits 1 where README and results differ
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fpcodec.evaluation.results import ResultRow, bytes_at_drop, read_rows

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column is text, the others numbers."""
    lines = [head, ["---", *("---:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def made_by(command: str | None, sha: str | None) -> str:
    """Where a table comes from."""
    return f"<sub>`{command}`, commit {(sha or 'unknown')[:7]}</sub>"


def points(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def drop_text(row: ResultRow) -> str:
    if row.drop is None:
        return ""
    return f"{row.drop.value:.2f} [{row.drop.low:.2f}, {row.drop.high:.2f}]"


def rates() -> str:
    """Bytes against AP beside the rivals, and bytes at equal AP."""
    rows = read_rows(RESULTS / "yolox_nano_coco.json")
    table = markdown(
        ("way", "bytes, mean", "p95", "AP", "small", "medium", "large", "drop [95 %]"),
        [
            (
                row.name,
                f"{row.sent_bytes.mean:,.0f}" if row.sent_bytes else "",
                f"{row.sent_bytes.p95:,.0f}" if row.sent_bytes else "",
                *(points(row.ap[key]) for key in ("ap", "ap_small", "ap_medium", "ap_large")),
                drop_text(row),
            )
            for row in rows
        ],
    )
    families: dict[str, list[ResultRow]] = {}
    for row in rows:
        families.setdefault(row.family, []).append(row)
    ours = next(name for name in families if name.startswith("fpc"))
    at_one = {name: bytes_at_drop(families[name], 1.0) for name in (ours, "webp", "jpeg")}
    said = ", ".join(
        f"{'fpcodec' if name == ours else name} {size:,.0f}" if size else f"{name} out of range"
        for name, size in at_one.items()
    )
    mine, others = at_one[ours], [at_one[x] for x in ("webp", "jpeg") if at_one[x]]
    share = f" ({mine / min(others):.0%} of the better picture)" if mine and others else ""
    environment = rows[0].environment
    return (
        f"{rows[0].images} photographs, unsplit AP {points(rows[0].ap['ap'])}.\n\n{table}\n\n"
        f"At a drop of 1.0 AP, read off the lower hull: {said} bytes{share}.\n"
        f"{made_by(environment.command, environment.git_sha)}"
    )


def levels() -> str:
    """The embedded detector with levels left out."""
    rows = read_rows(RESULTS / "tiny_levels.json")
    table = markdown(
        ("levels kept, candidate", "AP", "small", "medium", "large", "drop [95 %]"),
        [
            (
                row.name,
                *(points(row.ap[key]) for key in ("ap", "ap_small", "ap_medium", "ap_large")),
                drop_text(row),
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


SECTIONS: dict[str, Callable[[], str]] = {
    "rates": rates, "levels": levels, "speed": speed, "large": large,
}  # fmt: skip


def rendered(text: str) -> str:
    """README with every measured section made anew."""
    for name, section in SECTIONS.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if mark.search(text):
            body = section()
            text = mark.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    before = README.read_text("utf-8")
    after = rendered(before)
    if options.check:
        sys.exit(before != after)
    README.write_text(after, "utf-8")


if __name__ == "__main__":
    main()

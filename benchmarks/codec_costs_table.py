"""What codecs cost beside their detectors as Markdown, from ``codec_costs.py``'s rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

CODEC_STAGES = ("analyse", "quantise", "code")
SPLIT_STAGES = ("decode", "reconstruct", "head")

Row = Mapping[str, Any]


def codec_costs(paths: Sequence[Path]) -> str:
    """The edge's and the server's tables, and where the figures come from.

    Args:
        paths: Files of rows; those that are not there are left out.
    """
    rows = [row for path in paths if path.is_file() for row in json.loads(path.read_text("utf-8"))]
    environments = {row["environment"]["command"]: row["environment"] for row in rows}
    return "\n\n".join((
        "On the edge, beside the detector's edge half (image preparation included):",
        edge_table(rows),
        "On the server, one core: decode, reconstruct and head of a frame, beside decoding a JPEG "
        "and the whole detector.",
        server_table(rows),
        "Median of CPU milliseconds on one thread; ratios and images per second with the 5th and "
        "95th percentile over turns. Untrained networks have the sizes that training starts from: "
        "their bytes and symbols mean nothing beyond the time that coding them takes.",
        *(f"<sub>`{x['command']}`, commit {(x['git_sha'] or 'unknown')[:7]}, "
          f"{x['cpu_model']}</sub>" for x in environments.values()),
    ))  # fmt: skip


def edge_table(rows: Sequence[Row]) -> str:
    """MACs and milliseconds of the codec beside the detector's edge half."""
    head = ("detector, codec", "network input", "quality", "bytes", "symbols", "edge half MMAC",
            "analysis MMAC", "share", "edge half ms", *CODEC_STAGES,
            "all three, of the edge half")  # fmt: skip
    return markdown(head, [
        (
            title(row),
            "x".join(str(side) for side in row["network_size"]),
            f"{row['quality']:g}",
            f"{row['mean_bytes']:,.0f}",
            f"{row['symbols']:,}",
            millions(row["macs"]["edge_network"]),
            millions(row["macs"]["edge_analysis"]),
            percent(row["macs"]["edge_analysis_share"]),
            milliseconds(row, "extract"),
            *(milliseconds(row, stage) for stage in CODEC_STAGES),
            spread(row["edge_codec_share_of_extract"], 100, 0, " %"),
        )
        for row in rows
    ])  # fmt: skip


def server_table(rows: Sequence[Row]) -> str:
    """Images per second of a core, of frames and of pictures."""
    head = ("detector, codec", "proposals", "synthesis MMAC", "head MMAC", *SPLIT_STAGES,
            "picture decode", "picture detect", "frames/s", "pictures/s",
            "frames per picture")  # fmt: skip
    return markdown(head, [
        (
            f"{title(row)} q{row['quality']:g}",
            "" if row["proposals"] is None else f"{row['proposals']:,}",
            millions(row["macs"]["server_synthesis"]),
            millions(row["macs"]["server_head"]),
            *(milliseconds(row, stage) for stage in SPLIT_STAGES),
            milliseconds(row, "picture decode"),
            milliseconds(row, "picture detect"),
            spread(row["server_split_images_per_s"]),
            spread(row["server_picture_images_per_s"]),
            spread(row["server_split_over_picture"], digits=2),
        )
        for row in rows
    ])  # fmt: skip


def title(row: Row) -> str:
    """Such as ``nano, pca``, or an untrained network's detector."""
    if row["trained"]:
        return f"{row['name']}, {row['codec']}"
    detector = row["detector"].split(":", 1)[-1].split("?")[0]
    return f"{detector}, {row['codec']}, untrained"


def milliseconds(row: Row, stage: str) -> str:
    """Median of a stage."""
    value = row["cpu_ms"][stage]["median"]
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def millions(count: int | None) -> str:
    """Multiply-accumulates in millions."""
    return "" if count is None else f"{count / 1e6:,.0f}"


def percent(share: float | None) -> str:
    """Such as ``7.8 %``."""
    return "" if share is None else f"{100 * share:.1f} %"


def spread(found: Mapping[str, float], scale: float = 1.0, digits: int = 1, unit: str = "") -> str:
    """Such as ``59.7 [51.0, 62.8]``; small values get digits that tell them apart."""
    if found["median"] * scale < 1:
        digits += 2
    middle, low, high = (f"{scale * found[x]:.{digits}f}" for x in ("median", "p5", "p95"))
    return f"{middle}{unit} [{low}, {high}]"

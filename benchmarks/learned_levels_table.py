"""Key chunks, recovery and progressive decoding as Markdown, from what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markdown_tables import markdown

MOST_LOST = 1.0
"""Points of AP-large."""

SCALES = ("all", "small", "medium", "large")

Summary = Mapping[str, Any]


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``learned_levels.py`` wrote into a folder."""
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
    return found


def key_chunks(folder: Path) -> str:
    """Every choice of chunks: bytes, AP, and what leaving the others out costs."""
    summary = read_summary(folder)
    scales, whole = scales_of(summary), whole_levels(summary)
    head = (
        "chunks", "quality", "bytes", "saved %", *(f"AP {x}" for x in scales),
        *(f"lost {x}" for x in scales),
    )  # fmt: skip
    rows = [
        (
            "+".join(entry["levels"]),
            f"{entry['quality']:g}",
            f"{entry['bytes']:,.0f}",
            interval(entry["saved_percent"]) if entry["levels"] != whole else "",
            *values(entry["ap"], scales),
            *(intervals(entry, scales) if entry["levels"] != whole else blank(scales)),
        )
        for entry in summary["keys"]
    ]
    needed = "; ".join(f"{k}: {'+'.join(v)}" for k, v in summary["key_levels"].items())
    return "\n\n".join((
        f"{summary['images']} images; `lost`: points of AP by object scale that leaving the other "
        "chunks out costs beside all chunks at the same quality, `saved`: their bytes, both with "
        f"paired 95 % intervals. The profile's own key chunks are {needed}.",
        markdown(head, rows),
        "\n".join(f"- {x}" for x in large_only(summary)),
        source(summary),
    ))  # fmt: skip


def large_only(summary: Summary) -> list[str]:
    """What leaving fine chunks out is worth where only large objects matter, in sentences."""
    whole, said = whole_levels(summary), []
    for entry in summary["keys"]:
        left_out = whole[: -len(entry["levels"])]
        if not left_out or left_out + entry["levels"] != whole:
            continue
        lost = entry["lost_against_all"].get("large")
        if lost is not None:
            said.append(
                f"Where only large objects matter, leaving {'+'.join(left_out)} out at quality "
                f"{entry['quality']:g} saves {interval(entry['saved_percent'])} % of the bytes "
                f"and costs {interval(lost)} AP-large."
            )
    return [*said, *_cheapest_for_large(summary)]


def _cheapest_for_large(summary: Summary) -> list[str]:
    """The same with the quality free too, if a choice of chunks is the cheapest that will do."""
    best = max(entry["quality"] for entry in summary["keys"])
    enough = [
        entry
        for entry in summary["keys"]
        if entry["lost_against_best"].get("large", {"value": 100.0})["value"] <= MOST_LOST
    ]
    if not enough:
        return []
    found = min(enough, key=lambda entry: float(entry["bytes"]))
    return [
        f"Of all these rows the fewest bytes that keep AP-large within {MOST_LOST:g} of all chunks "
        f"at quality {best:g} are those of {'+'.join(found['levels'])} at quality "
        f"{found['quality']:g}: {interval(found['saved_percent_of_best'])} % saved, "
        f"{interval(found['lost_against_best']['large'])} AP-large lost."
    ]


def whole_levels(summary: Summary) -> list[str]:
    """The chunks of a whole frame, finest first."""
    return max((entry["levels"] for entry in summary["keys"]), key=len)


def recovery(folder: Path) -> str:
    """The learned recovery beside the key-level study's interpolation."""
    summary = read_summary(folder)
    scales = scales_of(summary)
    rows = [
        ("nothing missing", *values(summary["unsplit"], scales), *blank(scales)),
        *(
            (
                entry["method"],
                *values(entry["ap"], scales),
                *(
                    blank(scales)
                    if entry["method"] == "learned"
                    else intervals(entry, scales, "behind_learned")
                ),
            )
            for entry in summary["recovery"]
        ),
    ]
    kept = "+".join(summary["recovery"][0]["levels"])
    head = ("recovered by", *(f"AP {x}" for x in scales), *(f"behind learned, {x}" for x in scales))
    return "\n\n".join((
        f"{summary['images']} images; {kept} arrive unquantised, the other levels are recovered "
        "from them, and every part of the head sees the recovered pyramid. `finer`, `coarser` and "
        "`mix` interpolate as the study does; `behind learned`: points of AP, with paired 95 % "
        "intervals.",
        markdown(head, rows),
        source(summary),
    ))  # fmt: skip


def progressive(folder: Path) -> str:
    """What one frame is worth as it arrives."""
    summary = read_summary(folder)
    scales = scales_of(summary)
    head = ("arrived", "quality", "bytes", *(f"AP {x}" for x in scales), "lost [95 %]",
            "lost beside the whole frame")  # fmt: skip
    rows = [
        (
            arrived(entry),
            f"{entry['quality']:g}",
            f"{entry['bytes']:,.0f}",
            *values(entry["ap"], scales),
            interval(entry["lost"]["all"]),
            interval(entry["lost_against_all"]["all"]),
        )
        for entry in summary["progressive"]
    ]
    return "\n\n".join((
        f"{summary['images']} images, unsplit AP {summary['unsplit']['all']:.1f}; one frame of "
        "all chunks, cut after each chunk and once within the last. `lost`: points of AP, beside "
        "the unsplit detector and beside the whole frame, with paired 95 % intervals.",
        markdown(head, rows),
        source(summary),
    ))  # fmt: skip


def arrived(entry: Mapping[str, Any]) -> str:
    """Such as ``p5, half of p4``, the chunks in the order in which they arrive."""
    words = list(entry["arrived"])
    if entry["arriving"]:
        words.append(f"{entry['part']:.0%} of {entry['arriving']}")
    return ", ".join(words) or "the header"


def scales_of(summary: Summary) -> list[str]:
    """Object scales that the data has boxes of."""
    return [scale for scale in SCALES if scale in summary["unsplit"]]


def values(found: Mapping[str, float], scales: Sequence[str]) -> list[str]:
    """AP by scale."""
    return [f"{found[scale]:.1f}" for scale in scales]


def blank(scales: Sequence[str]) -> list[str]:
    """No value for any scale."""
    return ["" for _ in scales]


def intervals(
    entry: Mapping[str, Any], scales: Sequence[str], key: str = "lost_against_all"
) -> list[str]:
    """Losses by scale."""
    return [interval(entry[key][scale]) for scale in scales]


def interval(found: Mapping[str, float]) -> str:
    """Such as ``1.2 [0.8, 1.7]``."""
    return f"{found['value']:.1f} [{found['low']:.1f}, {found['high']:.1f}]"


def source(summary: Summary) -> str:
    """Where the figures come from."""
    environment = summary["environment"]
    sha = (environment["git_sha"] or "unknown")[:7]
    return f"<sub>`{environment['command']}`, commit {sha}</sub>"

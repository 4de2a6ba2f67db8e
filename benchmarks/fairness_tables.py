"""Puts what committed rows say about the comparison's fairness into docs/fairness.md.

python benchmarks/fairness_tables.py           # rewrite docs/fairness.md
python benchmarks/fairness_tables.py --check   # fail where it differs from the rows
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from markdown_tables import markdown
from measured_run import DROP, Run, drop_of, mean_bytes

from fpcodec.evaluation.bd_rate import BytesRatio
from fpcodec.evaluation.curves import BEST_PICTURE, named_curve, picture_rows
from fpcodec.evaluation.results import ResultRow, bytes_at_drop, log_bytes_at
from fpcodec.evaluation.rivals.jpeg_xl import EFFORT
from fpcodec.evaluation.rivals.pictures import AVIF_SPEED, WEBP_METHOD

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "yolox_nano_coco"
DOCUMENT = ROOT / "docs" / "fairness.md"

WORST_DROP = 2.0
"""Settings that lose more are not looked at where intervals are summed up."""


def fitted(run: Run) -> str:
    """Question 1: what each family was fitted to, and how many heads one frame serves."""
    ours = run.ours
    listed = [ours, BEST_PICTURE, *run.plain_pictures, *run.families_of("mosaic")]
    rows = []
    for name in listed:
        ratio = run.ratio(name, ours)
        reached = _bytes_or_least_drop(run, name)
        rows.append((name, _FITTED_TO.get(_kind(run, name), ""), reached, _ratio_text(ratio)))
    table = markdown(
        ("family", "fitted to", f"bytes at a drop of {DROP:g} AP", f"{ours} takes"), rows, (0, 1)
    )
    best = run.ratio(BEST_PICTURE, ours)
    said = ""
    if best is not None:
        serves = int(1 / best.ratio) + 1
        said = (
            f"\n\nA picture serves any number of detectors, a frame serves the one it was fitted "
            f"to. Here the frames of {serves} such detectors together are larger than one picture "
            "for all of them."
            if best.ratio < 1
            else "\n\nHere a picture is smaller than a frame even for one detector."
        )
    return f"{table}{said}\n\n{run.source}"


_FITTED_TO = {
    "features": "this detector's features",
    "picture": "people's eyes",
    "mosaic": "people's eyes; codes the same features as a grey picture",
}


def edge_share(run: Run) -> str:
    """Question 2: how much of the detector the edge runs anyway."""
    row, unsplit = run.our_row, run.unsplit
    macs = {
        "backbone and pyramid": _macs(row, "edge", "network"),
        "encode": _macs(row, "edge", "codec"),
        "decode, recover": _macs(row, "server", "codec"),
        "head": _macs(row, "server", "head"),
    }
    times = {
        "backbone and pyramid": unsplit.times_ms["extract"].p50,
        "encode": row.times_ms["encode"].p50,
        "decode, recover": row.times_ms["decode"].p50 + row.times_ms["reconstruct"].p50,
        "head": unsplit.times_ms["head"].p50,
    }
    network, head = times["backbone and pyramid"], times["head"]
    sides = {"encode": "edge", "backbone and pyramid": "edge"}
    table = markdown(
        ("part", "runs on", "MMAC", "median ms", "of the whole detector's time"),
        [
            (
                part,
                sides.get(part, "server"),
                f"{macs[part] / 1e6:,.0f}" if macs[part] is not None else "-",
                f"{times[part]:.1f}",
                f"{times[part] / (network + head):.0%}",
            )
            for part in times
        ],
        (0, 1),
    )
    known = macs["backbone and pyramid"], macs["head"]
    share = f"{network / (network + head):.0%} of the detector's time"
    if known[0] is not None and known[1] is not None:
        share += f" and {known[0] / sum(known):.0%} of its multiply-accumulates"
    more = head - times["encode"]
    instead = (
        f"Running the head too would take it {more:.1f} ms more than encoding does"
        if more > 0
        else f"Running the head too would take it {-more:.1f} ms less than encoding does"
    )
    said = f"The edge runs {share}. {instead}.{_boxes_sentence(run)}"
    return f"{table}\n\n{said} Codec at {row.name}.\n\n{run.source}"


def _boxes_sentence(run: Run) -> str:
    boxes = min(run.members("boxes"), key=drop_of, default=None)
    if boxes is None:
        return ""
    return (
        f" What it would send then is {mean_bytes(boxes):,.0f} bytes of boxes at a drop of "
        f"{drop_of(boxes):.2f} AP, against {mean_bytes(run.our_row):,.0f} bytes of features."
    )


def larger_detector(run: Run) -> str:
    """Question 3: how much better the server's own detector must be for a picture to win."""
    pictures = picture_rows(run.rows)
    rows, gaps = [], []
    for row in sorted(run.families[run.ours], key=mean_bytes):
        affordable = [x for x in pictures if mean_bytes(x) <= mean_bytes(row)]
        best = min(affordable, key=drop_of, default=None)
        ours = (row.name, f"{mean_bytes(row):,.0f}", _ap(row))
        if best is None:
            rows.append((*ours, "none is so small", "", "", ""))
            continue
        if drop_of(row) <= WORST_DROP:
            gaps.append(drop_of(best) - drop_of(row))
        rows.append((*ours, best.name, f"{mean_bytes(best):,.0f}", _ap(best), run.gap(best, row)))
    table = markdown(
        ("frame", "bytes", "AP", "best picture of no more bytes", "bytes", "AP",
         "AP it lacks [95 %]"),
        rows, (0, 3),
    )  # fmt: skip
    said = ""
    if gaps:
        said = (
            "\n\nThe last column is what a detector on the server must be better by, on pictures "
            f"as coarse as these, to make up for them: {min(gaps):.1f} to {max(gaps):.1f} AP for "
            f"frames that lose at most {WORST_DROP:g} AP. Below zero the picture wins as it is."
        )
    return f"{table}{said}\n\n{run.source}"


def picture_size(run: Run) -> str:
    """Question 4: pictures at other sizes than the network's."""
    codecs: dict[str, dict[str, str]] = {}
    sizes: list[str] = []
    for name, members in run.families.items():
        if members[0].kind != "picture":
            continue
        codec, _, size = name.partition(" @")
        size = size or "network"
        sizes += [] if size in sizes else [size]
        codecs.setdefault(codec, {})[size] = _bytes_or_least_drop(run, name)
    sizes.sort(key=lambda size: (size != "original", size != "network", _negative(size)))
    heads = [f"x {size}" if size[0].isdigit() else size for size in sizes]
    table = markdown(
        (f"bytes at a drop of {DROP:g} AP", *heads),
        [(codec, *(cells.get(size, "") for size in sizes)) for codec, cells in codecs.items()],
    )
    ours = bytes_at_drop(run.families[run.ours], DROP)
    found = {
        name: size
        for name, members in run.families.items()
        if members[0].kind == "picture" and (size := bytes_at_drop(members, DROP)) is not None
    }
    said = f"{run.ours}: {_bytes_or_least_drop(run, run.ours)} bytes."
    if found and ours is not None:
        best = min(found, key=lambda name: found[name])
        said += (
            f" Of all pictures, {best} is the smallest: a frame is {ours / found[best]:.0%} of it."
        )
    return f"{table}\n\n{said}\n\n{run.source}"


def noise(run: Run) -> str:
    """Question 5: how sure drops and ratios are."""
    near = [x for rows in run.families.values() for x in rows if abs(drop_of(x)) <= WORST_DROP]
    halves = [(x.drop.high - x.drop.low) / 2 for x in near if x.drop is not None]
    if not halves:
        return f"No setting loses {WORST_DROP:g} AP or less.\n\n{run.source}"
    draws = next(x.drop.draws for x in near if x.drop is not None)
    said = (
        f"Over the {len(halves)} settings that lose at most {WORST_DROP:g} AP, half the width of a "
        f"drop's 95 % interval is {np.median(halves):.2f} AP in the median, from "
        f"{min(halves):.2f} to {max(halves):.2f} ({run.unsplit.images} photographs, {draws} draws)."
    )
    names = [BEST_PICTURE, *run.plain_pictures, *run.families_of("mosaic")]
    ratios = [(name, run.ratio(name, run.ours)) for name in names]
    table = markdown(
        (f"bytes of {run.ours} at a drop of {DROP:g} AP", "share", "95 % of draws", "draws"),
        [
            (f"against {name}", f"{x.ratio:.0%}",
             "-" if x.low is None or x.high is None else f"{x.low:.0%} to {x.high:.0%}",
             f"{x.draws_used} of {x.draws}" if x.draws else "-")
            for name, x in ratios
            if x is not None
        ],
    )  # fmt: skip
    return f"{said}\n\n{table}\n\n{run.source}"


def _kind(run: Run, family: str) -> str:
    return "picture" if family == BEST_PICTURE else run.families[family][0].kind


def _bytes_or_least_drop(run: Run, family: str) -> str:
    """Bytes at the drop, or the least drop of a family that does not reach it."""
    curve = named_curve(run.rows, family)
    size = log_bytes_at(curve.hull, DROP)
    if size is not None:
        return f"{np.exp(size):,.0f}"
    low, high = curve.drop_range
    return f"(loses {low:.1f} or more)" if low > DROP else f"(loses {high:.1f} or less)"


def _ratio_text(ratio: BytesRatio | None) -> str:
    if ratio is None:
        return ""
    if ratio.anchor == ratio.test:
        return "100%"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.ratio:.0%}"
    return f"{ratio.ratio:.0%} [{ratio.low:.0%}, {ratio.high:.0%}]"


def _macs(row: ResultRow, side: str, part: str) -> int | None:
    return row.macs.get(side, {}).get(part)


def _ap(row: ResultRow) -> str:
    value = row.ap["ap"]
    return "-" if value is None else f"{value:.1f}"


def _negative(size: str) -> float:
    return -float(size) if size[0].isdigit() else 0.0


def slow_encoders(run: Run) -> str:
    """Question 4, continued: what slower encoders would save, and what that does to the ratio."""
    measured = json.loads(PICTURE_SPEED.read_text("utf-8"))
    rows = []
    for family in run.plain_pictures:
        used = next(
            entry for entry in measured
            if entry["codec"] == family
            and all(USED_SETTINGS[family][k] == v for k, v in entry["setting"].items())
        )  # fmt: skip
        slowest = [x for x in measured if x["codec"] == family][-1]
        over = used["bytes_over_slowest_percent"]
        times = (x["median_encode_cpu_ms"] for x in (used, slowest))
        ratio = run.ratio(family, run.ours)
        shares = ("", "") if ratio is None else (ratio.ratio, ratio.ratio * (1 + over / 100))
        setting = ", ".join(f"{k} {v}" for k, v in used["setting"].items())
        texts = (x if isinstance(x, str) else f"{x:.0%}" for x in shares)
        rows.append((family, setting, *(f"{x:.0f} ms" for x in times), f"{over:.0f}%", *texts))
    head = ("codec", "setting used", "encode", "slowest", "more bytes than the slowest",
            f"{run.ours} takes at {DROP:g} AP", "of the slowest, by that PSNR")  # fmt: skip
    return markdown(head, rows, (0, 1))


PICTURE_SPEED = RESULTS.parent / "picture_speed.json"
USED_SETTINGS: dict[str, dict[str, int | bool]] = {
    "jpeg": {"optimize": True, "progressive": True},
    "webp": {"method": WEBP_METHOD},
    "avif": {"speed": AVIF_SPEED},
    "jxl": {"effort": EFFORT},
}

SECTIONS: dict[str, Callable[[Run], str]] = {
    "fitted": fitted, "edge_share": edge_share, "larger_detector": larger_detector,
    "picture_size": picture_size, "slow_encoders": slow_encoders, "noise": noise,
}  # fmt: skip


def rendered(text: str, run: Run) -> str:
    """The document with every measured section made anew."""
    for name, section in SECTIONS.items():
        mark = re.compile(rf"(<!-- measured: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        if mark.search(text):
            body = section(run)
            text = mark.sub(lambda found, body=body: f"{found[1]}{body}\n{found[2]}", text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    before = DOCUMENT.read_text("utf-8")
    after = rendered(before, Run.read(options.results))
    if options.check:
        sys.exit(before != after)
    DOCUMENT.write_text(after, "utf-8")


if __name__ == "__main__":
    main()

"""What the rows say, in sentences: when to split, when to send the picture, when the boxes."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from fpcodec.evaluation.curves import BEST_PICTURE, is_point
from fpcodec.evaluation.report.comparisons import HEADLINE_DROPS, REFERENCE_DROP, Comparisons
from fpcodec.evaluation.report.source import BOXES, FEATURES
from fpcodec.evaluation.results import ResultRow

_STEP = 0.05
_SCALES = (("small", "ap_small"), ("medium", "ap_medium"), ("large", "ap_large"))


def verdict(comparisons: Comparisons) -> list[str]:
    """Sentences, each from the rows or true of every split."""
    if not comparisons.ours:
        return ["No split was measured here: there is nothing to advise.", *_boxes(comparisons)]
    return [
        *(_beside_pictures(comparisons, drop) for drop in HEADLINE_DROPS),
        *_smaller_range(comparisons),
        *_boxes(comparisons),
        *_noise(comparisons),
        *_scales(comparisons),
        *_edge_times(comparisons),
        "Send the picture where somebody must see it, or where the edge cannot run the backbone. "
        "A pyramid is no privacy measure: assume that the picture can be recovered from it.",
    ]


def _beside_pictures(comparisons: Comparisons, drop: float) -> str:
    """Our best family and the best picture at one drop."""
    sizes = {x: comparisons.bytes_at(x, drop) for x in comparisons.ours}
    reached = {x: size for x, size in sizes.items() if size is not None}
    picture = comparisons.best_picture_at(drop)
    seen = f"At a drop of {drop:.1f} AP"
    if not reached:
        return f"{seen}: no split was measured on both sides of it."
    family, size = min(reached.items(), key=lambda item: item[1])
    said = f"{seen} a frame ({family}) takes {size:,.0f} bytes"
    ratio = comparisons.ratio(BEST_PICTURE, family, drop) if comparisons.pictures else None
    if ratio is None:
        return f"{said}; no picture was measured on both sides of it."
    share = f"{ratio.ratio:.0%} of the best picture's {ratio.anchor_bytes:,.0f}"
    if picture is not None:
        share += f" (best format: {picture[0]})"
    if ratio.low is not None and ratio.high is not None:
        share += f", 95 % of draws between {ratio.low:.0%} and {ratio.high:.0%}"
        if ratio.low <= 1 <= ratio.high:
            share += ", so neither is surely smaller"
    return f"{said}, {share}." if ratio.ratio < 1 else f"{said}, {share}: send the picture."


def _smaller_range(comparisons: Comparisons) -> list[str]:
    """The drops at which a frame is smaller than every picture."""
    if not comparisons.pictures:
        return []
    high = max(comparisons.curve(x).drop_range[1] for x in comparisons.ours)
    drops = np.arange(0.0, high + _STEP, _STEP)
    wins = [(float(x), _is_smaller(comparisons, float(x))) for x in drops]
    spans = []
    for won, run in groupby(wins, key=lambda item: item[1]):
        span = [drop for drop, _ in run]
        if won:
            spans.append(f"{span[0]:.2f} to {span[-1]:.2f}")
    if not spans:
        return ["At no measured drop is a frame smaller than the best picture: do not split here."]
    return [
        f"A frame is smaller than every measured picture at drops of {' and '.join(spans)} points; "
        "outside of that the picture is as small or smaller, or one of both was not measured."
    ]


def _is_smaller(comparisons: Comparisons, drop: float) -> bool:
    picture = comparisons.bytes_at(BEST_PICTURE, drop)
    sizes = [comparisons.bytes_at(name, drop) for name in comparisons.ours]
    ours = [size for size in sizes if size is not None]
    return picture is not None and bool(ours) and min(ours) < picture


def _boxes(comparisons: Comparisons) -> list[str]:
    """The boxes beside a frame that loses as little, or the smallest that was measured."""
    rows = [x for x in comparisons.results.rows if x.kind == BOXES and is_point(x)]
    if not rows:
        return []
    row = min(rows, key=lambda x: x.drop.value if x.drop else 0.0)
    size = row.sent_bytes.mean if row.sent_bytes else 0.0
    lost = row.drop.value if row.drop else 0.0
    said = f"The boxes alone ({row.name}) take {size:,.0f} bytes and lose {lost:.2f} points"
    drop = max(lost, REFERENCE_DROP)
    frames = [comparisons.bytes_at(name, drop) for name in comparisons.ours]
    frame = min((x for x in frames if x is not None), default=None)
    if frame is None:
        return [f"{said}. Where the edge can run the whole detector, send them."]
    if size >= frame:
        return [f"{said}; a frame that loses {drop:.2g} takes {frame:,.0f} bytes."]
    return [
        f"{said}: a frame that loses {drop:.2g} takes {frame / size:,.0f} times as many. Where the "
        "edge can run the whole detector, do not split: send the boxes. Split where the head is "
        "heavy, changes often, is shared, or must stay on the server."
    ]


def _reference_row(comparisons: Comparisons) -> ResultRow | None:
    """The setting of our best family nearest to the reference drop."""
    rows = comparisons.results.families[comparisons.ours[0]]
    near = [row for row in rows if row.kind == FEATURES and row.drop is not None]
    return min(
        near,
        key=lambda row: abs(row.drop.value - REFERENCE_DROP) if row.drop else 0.0,
        default=None,
    )


def _noise(comparisons: Comparisons) -> list[str]:
    row = _reference_row(comparisons)
    if row is None or row.drop is None:
        return []
    return [
        f"{row.name} loses {row.drop.value:.2f} points, 95 % of draws between {row.drop.low:.2f} "
        f"and {row.drop.high:.2f}: with {row.images} images, differences well inside such an "
        "interval are noise."
    ]


def _scales(comparisons: Comparisons) -> list[str]:
    row, unsplit = _reference_row(comparisons), comparisons.results.unsplit
    if row is None or unsplit is None:
        return []
    parts = []
    for scale, key in _SCALES:
        before, after = unsplit.ap.get(key), row.ap.get(key)
        if before is not None and after is not None:
            parts.append(f"{before - after:.1f} on {scale}")
    return [f"{row.name} loses {', '.join(parts)} objects."] if parts else []


def _edge_times(comparisons: Comparisons) -> list[str]:
    row = _reference_row(comparisons)
    encode = row.times_ms.get("encode") if row else None
    extract = row.times_ms.get("extract") if row else None
    if row is None or encode is None or extract is None:
        return []
    threads = row.environment.threads
    where = f"{threads} thread{'s' if threads != 1 else ''}" if threads else "all threads"
    said = (
        f"Before {row.name} can be sent, the measuring machine ({where}) spends "
        f"{extract.p50:.1f} ms on the network's first half and {encode.p50:.1f} ms on coding "
        "(medians)"
    )
    picture = comparisons.best_picture_at(REFERENCE_DROP)
    rows = comparisons.results.families.get(picture[0], []) if picture else []
    times = [x.times_ms["encode"].p50 for x in rows if "encode" in x.times_ms]
    if picture is None or not times:
        return [f"{said}."]
    return [f"{said}; coding {picture[0]} takes {min(times):.1f} to {max(times):.1f} ms."]

"""Key chunks, learned recovery and partly arrived frames of a learned profile, in one pass.

    python benchmarks/learned_levels.py --profile runs/learned_nano --quality 0.4 --quality 0.7 \\
        --images ../shared/data/coco/val --annotations ../shared/data/coco/val.json --workers 2 \\
        --work runs/levels_nano --out benchmarks/results/learned_levels_yolox_nano

Three questions on the same images and bootstrap draws: what every choice of chunks costs and keeps
beside all of them, at the same quality; what the learned recovery makes of unquantised p3 and p5
beside interpolation by the key-level study's candidates (all parts of the head see the recovered
pyramid); and what one and the same frame is worth when only its beginning has arrived. Shards lie
in the work folder: a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from fpcodec.cli.output import stage_progress
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.errors import InputError
from fpcodec.evaluation.bootstrap import Interval, draw_weights
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import DRAWS, ROWS, write_rows
from fpcodec.evaluation.runner import UNSPLIT, Evaluation
from fpcodec.evaluation.scales import ScaleScore, score_scales
from fpcodec.evaluation.scoring import Bootstrap, write_draws
from fpcodec.evaluation.study import Study, run_study
from fpcodec.evaluation.ways import FeaturesWay, PrefixWay, RecoveryWay, Way
from fpcodec.evaluation.ways.recovery import LEARNED, METHODS
from fpcodec.evaluation.ways.seed import SEED_LEVELS
from fpcodec.executor import Executor, open_executor, run_all
from fpcodec.files import replacing
from fpcodec.profile import Profile

PARTS = ("keys", "recovery", "progressive")
QUALITIES = (0.4, 0.7)
SUMMARY = "summary.json"
MID_CHUNK = 0.5
"""Share of the last chunk that has arrived where a frame is cut within a chunk."""


@dataclass(frozen=True)
class Plan:
    """What is measured; several parts share the frames with all chunks.

    Attributes:
        names: Coded levels, finest first.
        qualities: In [0, 1].
        parts: Out of ``PARTS``.
    """

    names: tuple[str, ...]
    qualities: tuple[float, ...] = QUALITIES
    parts: tuple[str, ...] = PARTS

    def wholes(self) -> list[FeaturesWay]:
        """All chunks, at every quality."""
        coded = {"keys", "progressive"} & set(self.parts)
        return [FeaturesWay(quality, self.names) for quality in self.qualities] if coded else []

    def choices(self) -> list[FeaturesWay]:
        """Every choice of some chunks, fewest and coarsest first."""
        if "keys" not in self.parts:
            return []
        sets = [
            levels
            for count in range(1, len(self.names))
            for levels in reversed(list(combinations(self.names, count)))
        ]
        return [FeaturesWay(quality, levels) for quality in self.qualities for levels in sets]

    def recoveries(self) -> list[RecoveryWay]:
        """The learned recovery and the study's candidates, from the study's levels."""
        if "recovery" not in self.parts:
            return []
        if not set(SEED_LEVELS) < set(self.names):
            raise InputError(
                f"levels {'+'.join(self.names)} leave nothing to recover from "
                f"{'+'.join(SEED_LEVELS)}; leave the part recovery out"
            )
        return [RecoveryWay(method) for method in METHODS]

    def prefixes(self) -> list[PrefixWay]:
        """The frame after each chunk but the last, and once within the last."""
        if "progressive" not in self.parts:
            return []
        last = len(self.names) - 1
        cuts = [*((count, 0.0) for count in range(last + 1)), (last, MID_CHUNK)]
        return [PrefixWay(quality, *cut) for quality in self.qualities for cut in cuts]

    def ways(self) -> tuple[Way, ...]:
        """All of them."""
        return (*self.wholes(), *self.choices(), *self.recoveries(), *self.prefixes())


@dataclass(frozen=True)
class Measured:
    """Scores and bytes by the name of a way, all on one set of draws.

    Attributes:
        scores: AP by scale.
        sent: Bytes per image, shape (images,).
        weights: How often each image stands in each draw, shape (draws, images).
    """

    scores: Mapping[str, ScaleScore]
    sent: Mapping[str, Any]
    weights: Any

    @classmethod
    def of(
        cls,
        evaluation: Evaluation,
        dataset: CocoDataset,
        labels: Sequence[str],
        bootstrap: Bootstrap,
        executor: Executor,
    ) -> Measured:
        """Score traces by scale."""
        names = list(evaluation.traces)
        jobs = ((dataset, evaluation.traces[x].detections, labels, bootstrap) for x in names)
        scores = {names[i]: score for i, score in run_all(executor, score_scales, jobs)}
        sent = {name: np.array(trace.sent_bytes) for name, trace in evaluation.traces.items()}
        return cls(scores, sent, draw_weights(len(dataset), bootstrap.draws, bootstrap.seed))

    def lost(self, name: str, reference: str) -> dict[str, Any]:
        """Points of AP below a reference, by scale, with paired intervals."""
        found = self.scores[name].lost_against(self.scores[reference])
        return {scale: asdict(interval) for scale, interval in found.items()}

    def saved_percent(self, name: str, reference: str) -> dict[str, Any]:
        """Bytes saved beside a reference, with a paired interval."""
        mine, whole = self.sent[name], self.sent[reference]
        drawn = 100 * (1 - (self.weights @ mine) / (self.weights @ whole))
        return asdict(Interval.of(float(100 * (1 - mine.sum() / whole.sum())), drawn))

    def facts(self, name: str) -> dict[str, Any]:
        """What every entry of the summary says of its way."""
        return {
            "name": name,
            "bytes": float(self.sent[name].mean()),
            "ap": dict(self.scores[name].own),
            "lost": self.lost(name, UNSPLIT),
        }


def summarise(plan: Plan, measured: Measured) -> dict[str, list[dict[str, Any]]]:
    """Part to entries; ``lost`` is against the unsplit detector, the rest says against what."""
    wholes = {way.quality: way.name for way in plan.wholes()}
    learned = RecoveryWay(LEARNED).name
    recovery = [
        {
            **measured.facts(way.name),
            "method": way.method,
            "levels": list(way.levels),
            "behind_learned": measured.lost(way.name, learned),
        }
        for way in plan.recoveries()
    ]
    return {
        "keys": _keys(plan, measured, wholes) if "keys" in plan.parts else [],
        "recovery": recovery,
        "progressive": _progressive(plan, measured, wholes),
    }


def _keys(plan: Plan, measured: Measured, wholes: Mapping[float, str]) -> list[dict[str, Any]]:
    best = wholes[max(wholes)]
    return [
        {
            **measured.facts(way.name),
            "quality": way.quality,
            "levels": list(way.levels or ()),
            "saved_percent": measured.saved_percent(way.name, wholes[way.quality]),
            "lost_against_all": measured.lost(way.name, wholes[way.quality]),
            "saved_percent_of_best": measured.saved_percent(way.name, best),
            "lost_against_best": measured.lost(way.name, best),
        }
        for way in sorted((*plan.choices(), *plan.wholes()), key=lambda way: way.quality)
    ]


def _progressive(
    plan: Plan, measured: Measured, wholes: Mapping[float, str]
) -> list[dict[str, Any]]:
    coarsest_first = plan.names[::-1]
    ends: list[tuple[float, int, float, str]] = [
        (way.quality, way.chunks, way.part, way.name) for way in plan.prefixes()
    ]
    if ends:
        ends += [(quality, len(plan.names), 0.0, name) for quality, name in wholes.items()]
    return [
        {
            **measured.facts(name),
            "quality": quality,
            "arrived": list(coarsest_first[:chunks]),
            "arriving": coarsest_first[chunks] if part else None,
            "part": part,
            "lost_against_all": measured.lost(name, wholes[quality]),
        }
        for quality, chunks, part, name in sorted(ends)
    ]


def print_summary(summary: Mapping[str, list[dict[str, Any]]]) -> None:
    """A line per way: bytes, AP by scale, and what it lost against the unsplit detector."""
    for part, entries in summary.items():
        print(part)
        for entry in entries:
            cells = " ".join(f"{scale} {value:5.1f}" for scale, value in entry["ap"].items())
            lost = entry["lost"]["all"]
            print(f"  {entry['name']:34}{entry['bytes']:9,.0f} B  {cells}  "
                  f"lost {lost['value']:.2f} [{lost['low']:.2f}, {lost['high']:.2f}]")  # fmt: skip


def write(out: Path, evaluation: Evaluation, summary: Mapping[str, Any]) -> None:
    """Rows, their draws and the summary."""
    out.mkdir(parents=True, exist_ok=True)
    write_rows(out / ROWS, evaluation.rows)
    write_draws(out / DRAWS, evaluation.draws)
    with replacing(out / SUMMARY) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n", "utf-8")


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", type=Path, metavar="DIR", required=True)
    parser.add_argument("--images", type=Path, metavar="DIR", required=True)
    parser.add_argument("--annotations", type=Path, metavar="JSON", required=True)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--quality", type=float, action="append", help="0 to 1; several times")
    parser.add_argument("--part", choices=PARTS, action="append", help="all unless told")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, metavar="DIR", required=True, help="for shards")
    parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="for results")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    environment = Environment.capture(shlex.join(["python", *sys.argv]), threads=1)
    profile = Profile.load(options.profile)
    plan = Plan(
        profile.spec.coded_names,
        tuple(options.quality or QUALITIES),
        tuple(x for x in PARTS if x in (options.part or PARTS)),
    )
    dataset = load_coco(options.annotations, options.images, limit=options.limit)
    study = Study({"fpc": options.profile}, dataset, plan.ways())
    bootstrap = Bootstrap(options.draws)
    pool = open_executor(options.workers)
    try:
        with stage_progress() as progress:
            evaluation = run_study(
                study, options.work, pool,
                environment=environment, bootstrap=bootstrap, progress=progress,
            )  # fmt: skip
        measured = Measured.of(evaluation, dataset, profile.labels, bootstrap, pool)
    finally:
        pool.close()
    summary = summarise(plan, measured)
    print_summary(summary)
    facts = {
        "profile": profile.name,
        "stream_id": profile.stream_id.hex(),
        "key_levels": {scale: list(levels) for scale, levels in profile.key_levels.items()},
        "data": dataset.name,
        "images": len(dataset),
        "unsplit": dict(measured.scores[UNSPLIT].own),
        "bootstrap": asdict(bootstrap),
        "environment": asdict(environment),
    }
    write(options.out, evaluation, {**facts, **summary})


if __name__ == "__main__":
    main()

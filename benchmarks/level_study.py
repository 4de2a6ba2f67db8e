"""AP by object scale with levels left out and recovered by interpolation; nothing is quantised.

    python benchmarks/level_study.py --profile fpcodec/assets/tiny --scenes 1000 \\
        --out benchmarks/results/tiny_levels.json

All levels, each one left out (recovered with the fitted mix), and p3 with p5 by the study's three
candidates; both the RPN and the RoI heads see the recovered pyramid (scope "all").
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from fpcodec.data import SceneConfig, write_coco
from fpcodec.data.coco import CocoDataset, load_coco
from fpcodec.evaluation.environment import Environment
from fpcodec.evaluation.results import ResultRow, write_rows
from fpcodec.evaluation.runner import evaluate_ways
from fpcodec.evaluation.ways import Outcome, Scene, Workplace
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.reconstruct.interpolation import InterpolationRecoverer

FIRST_SEED = 0
"""Scenes below a million are held out: training and calibration draw above."""


@dataclass(frozen=True)
class KeptLevels:
    """Recover a float pyramid from some of its levels."""

    recoverer: InterpolationRecoverer
    levels: tuple[str, ...]
    kind: str = "levels"

    @property
    def name(self) -> str:
        """Such as ``p3+p5 mix``."""
        return f"{'+'.join(self.levels)} {self.recoverer.candidate}"

    @property
    def family(self) -> str:
        """Every set is a curve of one point."""
        return self.name

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Levels kept and the candidate for the others."""
        return {"levels": list(self.levels), "candidate": self.recoverer.candidate}

    def run(self, scene: Scene, workplace: Workplace) -> Outcome:
        """Drop levels, recover them, detect."""
        whole = scene.pyramid
        kept = {name: whole.levels[name] for name in self.levels}
        part = Pyramid(whole.spec, kept, whole.geometry)
        return Outcome(workplace.detector.detect(self.recoverer.recover([part])[0]), 0)


def ways(profile: Profile) -> list[KeptLevels]:
    """All levels, each one left out, and p3 with p5 by the three candidates for p4."""
    names = profile.spec.coded_names
    recoverer = {
        candidate: InterpolationRecoverer(profile.spec, profile.recovery, candidate)
        for candidate in ("finer", "coarser", "mix")
    }
    sets = [names, *(tuple(x for x in names if x != left) for left in names)]
    pairs = [(kept, "mix") for kept in sets]
    if {"p3", "p5"} < set(names):
        pairs += [(("p3", "p5"), candidate) for candidate in recoverer]
    # With three levels, p3 with p5 is one of the sets already.
    return [KeptLevels(recoverer[x], kept) for kept, x in dict.fromkeys(pairs)]


def print_table(rows: tuple[ResultRow, ...]) -> None:
    """AP by scale, a line per way."""
    print(f"{'levels':28}{'AP':>7}{'small':>7}{'medium':>7}{'large':>7}  drop [95 %]")
    for row in rows:
        values = [row.ap[key] for key in ("ap", "ap_small", "ap_medium", "ap_large")]
        cells = "".join(f"{value:7.1f}" if value is not None else f"{'-':>7}" for value in values)
        drop = row.drop
        interval = f"  {drop.value:.2f} [{drop.low:.2f}, {drop.high:.2f}]" if drop else ""
        print(f"{row.name:28}{cells}{interval}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", type=Path, required=True)
    parser.add_argument("--scenes", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    profile = Profile.load(options.profile)
    detector = profile.open_detector("both", threads=1)
    with tempfile.TemporaryDirectory() as folder:
        seeds = range(FIRST_SEED, FIRST_SEED + options.scenes)
        print(f"drawing {options.scenes} scenes", file=sys.stderr)
        annotations = write_coco(Path(folder), seeds, SceneConfig())
        dataset: CocoDataset = load_coco(annotations, annotations.parent / "images")
        bar = track(range(options.scenes), "evaluating")
        steps = iter(bar)
        result = evaluate_ways(
            Workplace(detector),
            dataset,
            ways(profile),
            environment=Environment.capture(shlex.join(["python", *sys.argv]), threads=1),
            progress=lambda done, total: next(steps, None),
        )
    print_table(result.rows)
    write_rows(options.out, result.rows)


if __name__ == "__main__":
    main()

"""What a degradation study says: which levels an object scale needs, and what was claimed of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fpcodec.detections import SCALES
from fpcodec.errors import InputError
from fpcodec.pyramid import PyramidSpec

MEASURES = ("ap", *(f"ap_{scale}" for scale in SCALES))
"""AP over all boxes, then by object scale."""

LOSS_SHARE = 0.9
"""A scale's key levels bear at least this share of what all levels' degradation costs it."""

LEAST_LOSS = 0.5
"""Points of AP: a study whose levels together cost a scale less than that says nothing of it."""

CLAIMED = {"small": ("p2", "p3"), "medium": ("p4", "p5"), "large": ("p5", "p6")}
"""The reading of dbwp031/detectron2's study: the levels whose loss each scale feels most."""

Placed = tuple[tuple[str, float], ...]
"""Levels with their ratios, finest first."""


@dataclass(frozen=True)
class LevelLosses:
    """Points of AP lost in the cells of one study.

    Attributes:
        levels: Names of the pyramid's levels, finest first.
        reference: Measure (see MEASURES) to AP with nothing degraded; None where there is none.
        losses: What was degraded and by which ratio, to measure to points lost.
    """

    levels: tuple[str, ...]
    reference: Mapping[str, float | None]
    losses: Mapping[Placed, Mapping[str, float]]

    @classmethod
    def of(
        cls, levels: Sequence[str], aps: Iterable[tuple[Sequence[float], Mapping[str, Any]]]
    ) -> LevelLosses:
        """From the cells of one scope and resampling.

        Args:
            levels: Names of the pyramid's levels, finest first.
            aps: Ratios of a cell and its AP by measure; the cell of ones must be among them.

        Raises:
            InputError: There is no cell without degradation.
        """
        placed = {
            tuple((x, r) for x, r in zip(levels, ratios, strict=True) if r != 1): ap
            for ratios, ap in aps
        }
        if () not in placed:
            raise InputError("the study has no cell without degradation; measure ratio 1 too")
        reference = {measure: placed[()].get(measure) for measure in MEASURES}
        losses = {}
        for key, ap in placed.items():
            if key:
                losses[key] = {
                    measure: float(whole - ap[measure])
                    for measure, whole in reference.items()
                    if whole is not None and ap.get(measure) is not None
                }
        return cls(tuple(levels), reference, losses)

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ratios at which single levels were degraded, growing."""
        return tuple(sorted({key[0][1] for key in self.losses if len(key) == 1}))

    @property
    def top_ratio(self) -> float | None:
        """The strongest ratio at which every level was degraded alone; None where there is none."""
        whole = [
            ratio
            for ratio in self.ratios
            if all(((level, ratio),) in self.losses for level in self.levels)
        ]
        return whole[-1] if whole else None

    def single(self, level: str, ratio: float, measure: str) -> float | None:
        """Points lost with one level degraded; None where that was not measured."""
        return self.losses.get(((level, ratio),), {}).get(measure)

    def pair(self, levels: tuple[str, str], ratio: float, measure: str) -> float | None:
        """Points lost with two levels degraded by the same ratio; None where not measured."""
        first, second = sorted(levels, key=self.levels.index)
        return self.losses.get(((first, ratio), (second, ratio)), {}).get(measure)

    def singles(self, measure: str) -> dict[str, float]:
        """Level to points lost at the top ratio; empty where the measure has none."""
        top = self.top_ratio
        if top is None:
            return {}
        found = {level: self.single(level, top, measure) for level in self.levels}
        return {level: loss for level, loss in found.items() if loss is not None}

    def pairs(self, measure: str) -> dict[tuple[str, str], float]:
        """Pair of levels to points lost, both at the top ratio."""
        top = self.top_ratio
        return {
            (key[0][0], key[1][0]): loss[measure]
            for key, loss in self.losses.items()
            if len(key) == 2 and {ratio for _, ratio in key} == {top} and measure in loss
        }


def key_level_table(
    losses: LevelLosses, spec: PyramidSpec, share: float = LOSS_SHARE
) -> dict[str, tuple[str, ...]]:
    """Per object scale the fewest levels that bear most of the loss: a profile's key levels.

    Levels are taken by what the strongest degradation of each one alone costs the scale, until
    they bear ``share`` of the sum. A derived level's loss is its source's. A scale that the data
    lacks, or that hardly loses anything, tells nothing and gets every level.

    Args:
        losses: Of one scope and resampling.
        spec: The pyramid.
        share: In (0, 1].

    Raises:
        InputError: The share is out of range, or no ratio was measured for every level.
    """
    if not 0 < share <= 1:
        raise InputError(f"a share of {share:g} of the loss is not in (0, 1]; use 0.9")
    if losses.top_ratio is None:
        raise InputError("key levels need every level degraded alone; run the whole study")
    table = {}
    for scale in SCALES:
        borne = dict.fromkeys(spec.coded_names, 0.0)
        for level, loss in losses.singles(f"ap_{scale}").items():
            borne[spec[level].derived_from or level] += max(loss, 0.0)
        total, taken, chosen = sum(borne.values()), 0.0, set()
        for level in sorted(borne, key=lambda x: -borne[x]):
            if taken < share * total:
                chosen.add(level)
                taken += borne[level]
        told = total >= LEAST_LOSS
        table[scale] = tuple(x for x in spec.coded_names if not told or x in chosen)
    return table


def read_direction(
    losses: LevelLosses, halves: Sequence[LevelLosses] = ()
) -> dict[str, dict[str, Any]]:
    """Whether a study agrees with CLAIMED in direction, per object scale.

    Only the direction is compared: the claim's figures belong to another model. Claimed levels
    that this pyramid lacks are left out.

    Args:
        losses: Of one scope and resampling.
        halves: The same study on parts of the images, to see whether they say the same.

    Returns:
        Scale to: ``verdict``: ``agrees`` where the costliest levels are the claimed ones, alone
        and (where measured) as a pair; ``direction`` where only the claimed levels' mean loss is
        greater than the others'; ``differs`` where it is not; None where nothing can be told.
        Beside it ``claimed`` levels that exist; ``loss`` of each level alone at the top ratio, in
        points; ``claimed_mean`` and ``other_mean`` loss; ``direction``: whether the claimed mean
        is the greater, None where nothing can be told; ``direction_in_parts``: the same per half;
        ``costliest_levels``, as many as are claimed, and ``levels_agree``; ``costliest_pair``,
        its loss, ``claimed_pair_loss`` and ``pair_agrees``, None where pairs were not measured.
    """
    found = {}
    for scale, claimed in CLAIMED.items():
        present = tuple(level for level in claimed if level in losses.levels)
        direction = _direction(losses, scale, present)
        parts = [_direction(half, scale, present)["direction"] for half in halves]
        pairs = _pairs(losses, scale, present)
        found[scale] = {
            "verdict": _verdict(direction, pairs), "claimed": list(present),
            "ratio": losses.top_ratio, **direction, "direction_in_parts": parts, **pairs,
        }  # fmt: skip
    return found


def _verdict(direction: Mapping[str, Any], pairs: Mapping[str, Any]) -> str | None:
    if direction["direction"] is None:
        return None
    if direction["levels_agree"] and pairs["pair_agrees"] is not False:
        return "agrees"
    return "direction" if direction["direction"] else "differs"


def _direction(losses: LevelLosses, scale: str, claimed: Sequence[str]) -> dict[str, Any]:
    """What single levels say."""
    singles = losses.singles(f"ap_{scale}")
    own = [loss for level, loss in singles.items() if level in claimed]
    others = [loss for level, loss in singles.items() if level not in claimed]
    costliest = sorted(singles, key=lambda x: -singles[x])[: len(claimed)]
    told = bool(own and others) and sum(max(x, 0) for x in singles.values()) >= LEAST_LOSS
    own_mean = sum(own) / len(own) if own else None
    other_mean = sum(others) / len(others) if others else None
    greater = own_mean is not None and other_mean is not None and own_mean > other_mean
    return {
        "loss": {level: round(loss, 3) for level, loss in singles.items()},
        "claimed_mean": own_mean,
        "other_mean": other_mean,
        "direction": greater if told else None,
        "costliest_levels": sorted(costliest, key=losses.levels.index),
        "levels_agree": set(costliest) == set(claimed) if told else None,
    }


def _pairs(losses: LevelLosses, scale: str, claimed: Sequence[str]) -> dict[str, Any]:
    """What pairs of levels say; nothing where the claimed pair does not exist here."""
    pairs = losses.pairs(f"ap_{scale}")
    best = max(pairs, key=lambda x: pairs[x], default=None)
    mine = (claimed[0], claimed[1]) if len(claimed) == 2 else None
    if best is None:
        return {"costliest_pair": None, "costliest_pair_loss": None,
                "claimed_pair_loss": None, "pair_agrees": None}  # fmt: skip
    told = mine in pairs and pairs[best] >= LEAST_LOSS
    return {
        "costliest_pair": list(best),
        "costliest_pair_loss": pairs[best],
        "claimed_pair_loss": pairs.get(mine) if mine is not None else None,
        "pair_agrees": best == mine if told else None,
    }


def direction_sentences(direction: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line per object scale, for people."""
    return [_sentence(scale, found) for scale, found in direction.items()]


_VERDICTS = {
    "agrees": "these are the costliest",
    "direction": "holds in direction only",
    "differs": "does not hold",
    None: "this study cannot tell",
}


def _sentence(scale: str, found: Mapping[str, Any]) -> str:
    claimed = "+".join(found["claimed"]) or "none of this pyramid's levels"
    start = f"{scale} objects, claimed {claimed}: {_VERDICTS[found['verdict']]}"
    if found["verdict"] is None:
        return start
    parts = found["direction_in_parts"]
    agreed = sum(part is found["direction"] for part in parts)
    text = (
        f"{start}; mean loss {found['claimed_mean']:.1f} against {found['other_mean']:.1f} of the "
        f"other levels (so in {agreed} of {len(parts)} halves of the images), costliest "
        f"{'+'.join(found['costliest_levels'])}"
    )
    if found["pair_agrees"] is None:
        return text
    return (
        f"{text}; costliest pair {'+'.join(found['costliest_pair'])} "
        f"{found['costliest_pair_loss']:.1f}, claimed pair {found['claimed_pair_loss']:.1f}"
    )

"""``fpcodec sweep``: which levels each object scale needs, by degrading them one by one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import Annotations, Json, ProfileFolder, open_profile, profile_folder
from fpcodec.cli.output import note, print_json, print_table, stage_progress

if TYPE_CHECKING:
    from fpcodec.evaluation.levels.degradation import Degradation
    from fpcodec.evaluation.levels.detector_source import DetectorSource
    from fpcodec.profile import Profile
    from fpcodec.pyramid import PyramidSpec


class Scope(str, Enum):
    """Who sees the degraded pyramid."""

    all = "all"
    rpn = "rpn"


class Resample(str, Enum):
    """How levels are made smaller and larger."""

    seed = "seed"
    area = "area"


class Pairs(str, Enum):
    """Which ratios the levels of a pair take."""

    auto = "auto"
    all = "all"
    equal = "equal"
    none = "none"


def sweep(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the images.")],
    annotations: Annotations,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Results; a killed run goes on there.")],
    profile: ProfileFolder = None,
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="SPEC",
            help="In place of --profile: a detector that has none, as for calibrate.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Only the first N images.", show_default=False),
    ] = None,
    ratios: Annotated[
        str, typer.Option(metavar="R,R,..", help="Degradation ratios of the study.")
    ] = "1,2,4,8,16",
    ratio_set: Annotated[
        list[str] | None,
        typer.Option(
            metavar="R,R,..",
            show_default=False,
            help="Only this combination, one ratio per level: 1,1,4,1,1; several times.",
        ),
    ] = None,
    pairs: Annotated[
        Pairs, typer.Option(help="Ratios of two levels: all combinations, or equal ones.")
    ] = Pairs.auto,
    scope: Annotated[
        Scope, typer.Option(help="Who sees degraded levels: the whole head, or the RPN alone.")
    ] = Scope.all,
    resample: Annotated[
        Resample, typer.Option(help="The published study's bilinear, or means over areas.")
    ] = Resample.seed,
    workers: Annotated[int, typer.Option(metavar="K", min=1, help="Processes.")] = 1,
    into: Annotated[
        Path | None,
        typer.Option(
            metavar="PROFILE",
            show_default=False,
            help="Write the key levels found into this profile.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Degrade levels and pairs of levels, measure AP by object scale, draw heat maps.

    A level degraded by the ratio 4 is shrunk to a quarter of its sides and stretched back.

    Example:  fpcodec sweep --images val --annotations val.json --out sweep --workers 2

    Another:  fpcodec sweep --detector "tiny?runtime=torch" --scope rpn --images val
    --annotations val.json --out sweep

    One combination:  fpcodec sweep --ratio-set 1,1,4,1,1 --images val --annotations val.json
    --out sweep
    """
    from fpcodec.data.coco import load_coco
    from fpcodec.evaluation.environment import Environment
    from fpcodec.evaluation.levels.degradation import parse_ratios
    from fpcodec.evaluation.levels.sweep import Sweep, run_sweep
    from fpcodec.evaluation.scoring import Bootstrap
    from fpcodec.executor import open_executor

    source = _source(profile, detector)
    target = None if into is None else _target(into, scope, ratio_set)
    dataset = load_coco(annotations, images, limit=limit)
    spec = source.open().spec
    if target is not None:
        _require_same_levels(target, spec)
    kind = (scope.value, resample.value)
    if ratio_set:
        cells = _explicit(ratio_set, *kind)
    else:
        cells = _study(spec, parse_ratios(ratios), pairs, kind, len(dataset))
    environment = Environment.capture(shlex.join(["fpcodec", *sys.argv[1:]]), source.threads)
    wanted = Sweep(source, dataset, cells, out, Bootstrap(seed=seed), environment)
    executor = open_executor(workers)
    try:
        with stage_progress() as progress:
            result = run_sweep(wanted, executor, progress)
    finally:
        executor.close()
    _report(result, " ".join(kind), cells, out, as_json)
    if target is not None:
        _store(target, result, " ".join(kind), source)


def _source(profile: Path | None, detector: str | None) -> DetectorSource:
    from fpcodec.errors import InputError
    from fpcodec.evaluation.levels.detector_source import DetectorSource

    if profile is not None and detector is not None:
        raise InputError("both --profile and --detector are given; name one of them")
    if detector is not None:
        return DetectorSource(None, detector)
    return DetectorSource(profile_folder(profile))


def _target(folder: Path, scope: Scope, ratio_set: list[str] | None) -> Profile:
    """The profile that key levels go into, once it is known that there will be some."""
    from fpcodec.errors import InputError
    from fpcodec.profile_folder import require_free

    if ratio_set:
        raise InputError("--into needs key levels, and a ratio set gives none; run the whole study")
    if scope is not Scope.all:
        raise InputError(
            f"--into with --scope {scope.value}: a split detector's whole head sees the levels "
            "that arrive; use --scope all"
        )
    require_free(folder)
    return open_profile(folder)


def _explicit(texts: list[str], scope: str, resample: str) -> tuple[Degradation, ...]:
    from fpcodec.evaluation.levels.degradation import Degradation, parse_ratios

    return tuple(Degradation(parse_ratios(text), scope, resample) for text in texts)


def _study(
    spec: PyramidSpec, ratios: tuple[float, ...], pairs: Pairs, kind: tuple[str, str], images: int
) -> tuple[Degradation, ...]:
    """The cells; says what became of the pairs where that was left open."""
    from fpcodec.evaluation.levels.degradation import MOST_HEAD_RUNS, affordable_pairs, study

    chosen = pairs.value
    if pairs is Pairs.auto:
        chosen = affordable_pairs(spec, ratios, images)
    cells = study(spec, ratios, scope=kind[0], resample=kind[1], pairs=chosen)
    if pairs is Pairs.auto:
        why = "at most" if chosen == "all" else "all combinations would take more than"
        note(f"pairs of levels: {chosen} ratios, {len(cells)} cells x {images} images ({why} "
             f"{MOST_HEAD_RUNS:,} runs of the head; --pairs all or equal decides)")  # fmt: skip
    return cells


def _require_same_levels(profile: Profile, spec: PyramidSpec) -> None:
    from fpcodec.errors import InputError

    if profile.spec != spec:
        raise InputError(
            f"--into {profile.path} is a profile of another pyramid "
            f"({', '.join(profile.spec.names)}); name one of the detector that is measured"
        )


def _report(
    result: Mapping[str, Any], kind: str, cells: tuple[Degradation, ...], out: Path, as_json: bool
) -> None:
    from fpcodec.evaluation.levels.heat_maps import draw_heat_maps
    from fpcodec.evaluation.levels.reading import direction_sentences
    from fpcodec.evaluation.levels.sweep_result import losses_of

    reading = result["readings"].get(kind)
    drawn = []
    if reading is not None:
        scope, resample = kind.split()
        caption = f"{result['data']}, {result['images']} images, scope {scope}, {resample} resizing"
        drawn = draw_heat_maps(losses_of(result, kind), out, kind, caption)
    if as_json:
        print_json(result)
        return
    _print_cells(result, cells)
    if reading is None:
        return
    for scale, names in reading["key_levels"].items():
        note(f"key levels for {scale} objects: {', '.join(names)}")
    for line in direction_sentences(reading["direction"]):
        note(line)
    note("the claim's own figures are of another model and were not reproduced here")
    note(f"heat maps: {drawn[-1]} and {len(drawn) - 1} more")


def _print_cells(result: Mapping[str, Any], cells: tuple[Degradation, ...]) -> None:
    from rich.table import Table

    table = Table(title=f"{result['data']}: {result['images']} images, AP in points")
    table.add_column(f"ratios of {','.join(result['levels'])}", no_wrap=True)
    for title in ("AP", "small", "medium", "large", "drop", "95 % of draws"):
        table.add_column(title, justify="right", no_wrap=True)
    wanted = [cell.key for cell in cells if sum(ratio != 1 for ratio in cell.ratios) != 2]
    # A study has too many pairs for a table; the heat maps and the JSON have them.
    pairs = [cell.key for cell in cells if cell.key not in wanted]
    for key in wanted if len(pairs) > len(wanted) else (*wanted, *pairs):
        cell = result["cells"][key]
        drop = cell["drop"]
        table.add_row(
            key.split()[0],
            *(_points(cell["ap"][x]) for x in ("ap", "ap_small", "ap_medium", "ap_large")),
            _points(drop["value"]) if drop else "",
            f"{drop['low']:.1f} to {drop['high']:.1f}" if drop else "",
        )
    print_table(table)


def _points(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _store(profile: Profile, result: Mapping[str, Any], kind: str, source: DetectorSource) -> None:
    """Write the key levels into the profile; nothing else of it changes."""
    from fpcodec.errors import InputError
    from fpcodec.evaluation.levels.sweep_result import with_key_levels

    if kind not in result["readings"] or profile.path is None:
        raise InputError("--into needs key levels; give --ratios above 1")
    saved = with_key_levels(profile, result, kind, source.open()).save(profile.path)
    note(f"{saved.path}: key levels written, stream {saved.stream_id.hex()[:12]} as before")

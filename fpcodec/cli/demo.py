"""``fpcodec demo``: the whole way of an image over a real connection, drawn and counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fpcodec.cli.options import (
    Json,
    Levels,
    ProfileFolder,
    Quality,
    Threads,
    check_images,
    check_quality,
    open_profile,
)
from fpcodec.cli.output import (
    note,
    print_json,
    print_table,
    track,
    write_bytes,
    write_json,
    write_png,
)

if TYPE_CHECKING:
    from fpcodec.cli.demo_scene import SceneResult
    from fpcodec.detectors.base import Image
    from fpcodec.profile import Profile

SCENE_SEEDS = (11, 12, 13)
"""Among the held-out seeds: the embedded detector never saw these scenes while it was trained."""
MOST_COLUMNS = 4


def demo(
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", metavar="FILE", show_default=False,
                     help="An image; give it several times. Without it three generated scenes."),
    ] = None,
    profile: ProfileFolder = None,
    levels: Levels = "all",
    quality: Quality = 0.5,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where pictures and frames go.")] = Path(
        "demo"
    ),
    threads: Threads = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Split detection over a real connection on this machine: pictures, frames, a table.

    Starts a server process, sends each image's features to it, and draws the whole detector's
    boxes beside the split detector's.

    Example:  fpcodec demo --image photo.jpg --quality 0.3 --levels medium,large --out demo
    """
    check_images(image or ())
    check_quality(quality)
    loaded = open_profile(profile)
    results = _run(loaded, image or (), levels, quality, threads)
    files = _write(results, loaded, out)
    report = _report(results, loaded, levels, quality, files)
    write_json(out / "report.json", report)
    if as_json:
        print_json(report)
        return
    _print(results, loaded, quality)
    for result in results:
        note(f"{files[result.name]['picture']}: look at this")
    note(
        "Boxes are always the smallest: an edge that can run the whole detector should send them. "
        "A frame is for a head that must stay on the server."
    )
    if profile is None and image:
        note("These boxes are of a detector of drawn shapes; --profile takes another one.")


def _run(
    profile: Profile, paths: Sequence[Path], levels: str, quality: float, threads: int | None
) -> list[SceneResult]:
    from fpcodec.cli.demo_scene import run_scene
    from fpcodec.cli.level_choice import LevelChoice
    from fpcodec.cli.loopback import loopback_server
    from fpcodec.profile import embedded_profile_path
    from fpcodec.split import EdgeHalf
    from fpcodec_edge import EdgeClient

    choice = LevelChoice(levels, profile)
    edge = EdgeHalf(profile, threads=threads)
    detector = profile.open_detector("both", threads=threads)
    count = len(paths) or len(SCENE_SEEDS)
    results = []
    with (
        loopback_server(profile.path or embedded_profile_path(), threads) as address,
        EdgeClient(address, deadline_s=60.0) as client,
    ):
        client.negotiate(profile.stream_id)
        for name, picture in track(_pictures(paths), "Detecting", count):
            result = run_scene(
                name, picture, detector, edge, client, quality=quality, levels=choice.next()
            )
            choice.observe(result.reply.detections)
            results.append(result)
    return results


def _pictures(paths: Sequence[Path]) -> Iterator[tuple[str, Image]]:
    """Names, each once, and images: the files', or generated scenes' where there are none."""
    from fpcodec.data import generate_scene
    from fpcodec.images import load_image

    if not paths:
        for number, seed in enumerate(SCENE_SEEDS, 1):
            yield f"scene-{number}", generate_scene(seed).image
    names: set[str] = set()
    for path in paths:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.add(name)
        yield name, load_image(path)


def _write(
    results: Sequence[SceneResult], profile: Profile, out: Path
) -> dict[str, dict[str, str]]:
    from fpcodec.cli.demo_scene import draw_result

    files = {}
    for result in results:
        frame, picture = out / f"{result.name}.fpc", out / f"{result.name}.png"
        write_bytes(frame, result.frame.data)
        write_png(picture, draw_result(result, profile))
        files[result.name] = {"frame": str(frame), "picture": str(picture)}
    return files


def _report(
    results: Sequence[SceneResult],
    profile: Profile,
    levels: str,
    quality: float,
    files: dict[str, dict[str, str]],
) -> dict[str, Any]:
    from fpcodec.cli.demo_scene import to_dict

    return {
        "profile": profile.name,
        "stream_id": profile.stream_id.hex(),
        "quality": quality,
        "levels": levels,
        "images": [{**to_dict(result, profile), **files[result.name]} for result in results],
    }


def _print(results: Sequence[SceneResult], profile: Profile, quality: float) -> None:
    """A table with a row per quantity; a column per image where they are few, and the mean."""
    from rich.table import Table

    from fpcodec.cli.demo_scene import level_fate, rival_title

    table = Table(title=f"profile {profile.name}, quality {quality:g}: bytes per image")
    shown = results if len(results) <= MOST_COLUMNS else ()
    table.add_column("")
    for result in shown:
        table.add_column(result.name, justify="right")
    if len(results) != 1:
        table.add_column(f"mean of {len(results)}", justify="right")

    def add(title: str, values: Sequence[float], form: str, cells: Sequence[str] = ()) -> None:
        texts = list(cells or (format(value, form) for value in values))[: len(shown)]
        mean = [format(sum(values) / len(values), form)] if len(results) != 1 else []
        table.add_row(title, *texts, *mean)

    for level in profile.spec.names:
        sizes = [result.frame.chunk_bytes.get(level, 0) for result in results]
        fates = [level_fate(result, profile, level) for result in results]
        cells = [
            f"{size:,}" if fate == "sent" else fate
            for size, fate in zip(sizes, fates, strict=True)
        ]  # fmt: skip
        add(f"level {level}", sizes, ",.0f", cells)
    add("header", [result.overhead_bytes for result in results], ",.0f")
    add("the .fpc frame in all", [len(result.frame.data) for result in results], ",.0f")
    table.add_section()
    add("fp32 pyramid", [result.frame.pyramid.raw_bytes for result in results], ",.0f")
    for name in results[0].rivals:
        add(rival_title(name), [r.rivals[name].sent_bytes for r in results], ",.0f")
    if all(result.edge_macs is not None for result in results):
        table.add_section()
        add("edge's half, million MACs", [(r.edge_macs or 0) / 1e6 for r in results], ",.0f")
        add("  saved by levels not sent", [(r.edge_macs_saved or 0) / 1e6 for r in results], ",.0f")
        add("  the codec's on top", [r.codec_macs / 1e6 for r in results], ",.1f")
    table.add_section()
    add("agreement (F1) of the frame", [result.agreement.f1 for result in results], ".2f")
    for name in results[0].rivals:
        values = [r.agreement_of(r.rivals[name].detections).f1 for r in results]
        add(f"  of the {rival_title(name)}", values, ".2f")
    print_table(table)

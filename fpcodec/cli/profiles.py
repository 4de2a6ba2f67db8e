"""``fpcodec profiles``: which there are, what is in one, whether it is whole, getting one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fpcodec.cli.completion import all_profiles, embedded_names, profile_folders
from fpcodec.cli.options import Json, Replace
from fpcodec.cli.output import note, print_json, print_table, progress_callback
from fpcodec.cli.profile_facts import (
    codec_name,
    facts_lines,
    facts_of,
    file_bytes,
    first_labels,
    open_named,
)

profiles = typer.Typer(
    help="Profiles that ship with the package, and folders of your own: list, show, verify, get, "
    "remove.\n\nExample:  fpcodec profiles get yolox_nano --out yolox_nano",
    no_args_is_help=True,
)

Named = Annotated[
    str,
    typer.Argument(
        metavar="NAME|DIR", autocompletion=all_profiles, help="As list names it, or a folder."
    ),
]


@profiles.command("list")
def list_profiles(as_json: Json = False) -> None:
    """List what ships with the package, and profiles in this folder.

    A recipe lacks its detector, see get.

    Example:  fpcodec profiles list
    """
    from fpcodec.embedded import EMBEDDED, RECIPES, asset_folder

    # By their folders: one of the same name may lie here too.
    found = [facts_of(str(asset_folder() / name)) for name in (*EMBEDDED, *RECIPES)]
    shipped = len(found)
    found += [facts_of(f"./{name}") for name in profile_folders("")]
    if as_json:
        print_json(found)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("name", "finds", "codec", "levels", "stream", "detector"):
        table.add_column(title, no_wrap=title != "finds")
    for number, facts in enumerate(found):
        detector = "embedded" if facts["recipe"] is None else "fetched by get"
        if number >= shipped:
            detector = "your own"
        levels = f"{facts['levels'][0]}-{facts['levels'][-1]}"
        name = facts["name"] if number < shipped else f"./{facts['folder']}"
        table.add_row(
            name,
            first_labels(facts["labels"]),
            facts["codec"],
            levels,
            facts["stream_id"][:12],
            detector,
        )
    print_table(table)


@profiles.command()
def show(profile: Named, as_json: Json = False) -> None:
    """Show what a profile holds: codec, detector, measured facts, files.

    Example:  fpcodec profiles show tiny
    """
    facts = facts_of(profile)
    if as_json:
        print_json(facts)
    else:
        print("\n".join(facts_lines(facts)))


@profiles.command()
def verify(
    profile: Named,
    absent: Annotated[
        bool,
        typer.Option("--allow-absent", help="Files may be missing, as the other side's may."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every file of a profile against its SHA-256.

    Example:  fpcodec profiles verify my-profile
    """
    loaded, recipe = open_named(profile)
    loaded.verify(skip_absent=absent or recipe is not None)
    files = file_bytes(loaded)
    missing = [name for name, size in files.items() if size is None]
    if as_json:
        print_json({
            "profile": str(loaded.path), "stream_id": loaded.stream_id.hex(),
            "files": [x for x in files if x not in missing], "absent": missing,
        })  # fmt: skip
        return
    also = f"; absent: {', '.join(missing)}" if missing else ""
    print(f"{loaded.path}: {len(files) - len(missing)} files are as written, "
          f"stream {loaded.stream_id.hex()[:12]}{also}")  # fmt: skip


@profiles.command()
def get(
    profile: Annotated[
        str,
        typer.Argument(metavar="NAME", autocompletion=embedded_names, help="As list names it."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The profile folder to write.")],
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False,
            help="The detector's file, where it is at hand; else it is downloaded.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Longest silence of the server.")
    ] = 30.0,
    replace: Replace = False,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Write a profile that ships with the package as a folder to deploy.

    A recipe's detector is downloaded from its publisher, verified by its SHA-256 and cut in two,
    which takes the onnx package.

    Example:  fpcodec profiles get yolox_nano --out yolox_nano

    Without a network:  fpcodec profiles get yolox_nano --out yolox_nano --model yolox_nano.onnx
    """
    from fpcodec.errors import InputError
    from fpcodec.profile_folder import require_free
    from fpcodec.recipes import complete

    require_free(out, replace=replace)
    loaded, recipe = open_named(profile, shipped_first=True)
    if recipe is not None:
        with progress_callback("Downloading, bytes") as progress:
            made = complete(recipe, out, model, timeout_s=timeout, progress=progress)
    elif model is not None:
        raise InputError(f"profile {profile} has its detector; leave out --model")
    else:
        made = loaded.save(out)
    if as_json:
        print_json(facts_of(str(out)))
    else:
        note(f"{out}: codec {codec_name(made)}, stream {made.stream_id.hex()[:12]}; use it with "
             f"--profile {out}")  # fmt: skip

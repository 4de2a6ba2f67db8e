"""What ``privacy.py`` found, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_tables import markdown

_LIKENESS = {
    "ssim": ("SSIM", ".2f"), "psnr_db": ("PSNR dB", ".1f"), "edges": ("edges' correlation", ".2f"),
    "top_1": ("its original found", ".0%"), "top_10": ("among the ten likest", ".0%"),
    "matched": ("matched by features", ".0%"),
}  # fmt: skip
_LEGIBLE = {
    "objects": "objects", "persons": "persons", "faces": "faces",
    "other_faces": "faces where none were", "lines": "lines of text", "letters": "letters",
}  # fmt: skip


def privacy(path: Path) -> str:
    """Likeness, what is found again, and words by height; a line per way."""
    if not path.is_file():
        return "Not measured yet."
    rows: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    environment, training = rows[0]["environment"], rows[0]["training"]
    whole = f"[95 % of draws over pictures]. {rows[0]['pictures']} photographs"
    return "\n\n".join((
        f"Likeness to the original at the network's size, {whole}; by chance an original is found "
        f"in {1 / rows[0]['pictures']:.1%}.",
        markdown(("what arrives", "bytes", *(title for title, _ in _LIKENESS.values())), [
            (
                row["way"], f"{row['bytes']['value']:,.0f}" if row["bytes"] else "",
                *(_cell(row[name], form) for name, (_, form) in _LIKENESS.items()),
            )
            for row in rows
        ]),
        "Of what is found in the original, how much is found again at its place; of faces also how "
        "many are seen where none are, per picture with faces. In brackets of the head how many "
        "there are.",
        markdown(("what arrives", *(
            f"{title} ({_of(rows[0][name])})" for name, title in _LEGIBLE.items()
        )), [
            (row["way"], *(
                _cell(row[name], ".2f" if name == "other_faces" else ".0%") for name in _LEGIBLE
            ))
            for row in rows
        ]),
        *_words(rows),
        f"<sub>`{environment['command']}`, commit {(environment['git_sha'] or '')[:7]}; the "
        f"inverter by `{training['command']}`, {training['steps_done']:,} steps in "
        f"{training['processor_minutes']:g} minutes of one core</sub>",
    ))  # fmt: skip


def _words(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Drawn words, by the height of their capitals."""
    drawn = [x for x in [rows[0]["original_words"], *(row["words"] for row in rows)] if x]
    if not drawn:
        return ()
    count = drawn[0][0]["words"]
    return (
        f"Words of five capitals and digits on plates in generated scenes, {count} of each height "
        "of capitals in pixels: read whole, and in brackets the letters that were read.",
        markdown(("what arrives", *(f"{x['height']} px" for x in drawn[0])), [
            (line[0]["way"], *(f"{x['read']:.0%} ({x['letters']:.0%})" for x in line))
            for line in drawn
        ]),
    )  # fmt: skip


def _of(found: Mapping[str, Any] | None) -> str:
    return "not measured" if found is None else f"{found['of']:,}"


def _cell(found: Mapping[str, Any] | None, form: str) -> str:
    if found is None:
        return "-"
    return f"{found['value']:{form}} [{found['low']:{form}}, {found['high']:{form}}]"

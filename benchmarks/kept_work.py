"""What a long measurement keeps in its ``--work`` folder, so that a killed one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError
from fpcodec.files import replacing

_SETTINGS = "settings.json"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What an earlier run has measured; a line cut short by a kill is dropped."""
    if not path.is_file():
        return []
    entries, whole = [], []
    for line in path.read_text("utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
        whole.append(line)
    with replacing(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in whole), "utf-8")
    return entries


def check_settings(work: Path, settings: Mapping[str, Any]) -> None:
    """Keep an earlier run's measurements only where they were made alike.

    Raises:
        InputError: The folder holds a run of other settings.
    """
    path, text = work / _SETTINGS, json.dumps(settings, indent=1)
    if path.is_file() and path.read_text("utf-8") != text:
        raise InputError(f"{work} holds a run of other settings; give another --work folder")
    with replacing(path) as temporary:
        temporary.write_text(text, "utf-8")

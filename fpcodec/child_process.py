"""Other ``fpcodec`` commands as child processes of this one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_OF_THE_OPERATOR = ("FPCODEC_SERVE_", "FPCODEC_TOKEN")


def child_command(*arguments: str) -> list[str]:
    """A command of this interpreter's ``fpcodec``."""
    return [sys.executable, "-m", "fpcodec.cli", *arguments]


def child_environment() -> dict[str, str]:
    """What a child is told: it imports what this process imports, and knows no secrets."""
    # Not what lies in the working folder.
    paths = [str(Path(entry or ".").resolve()) for entry in sys.path]
    # What an operator set up for a server or client of theirs is not meant for this one.
    kept = {x: y for x, y in os.environ.items() if not x.startswith(_OF_THE_OPERATOR)}
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}

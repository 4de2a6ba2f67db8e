"""The command line: the only place that brings library, edge and server together."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; the entry point of ``fpcodec`` and ``python -m fpcodec.cli``."""
    try:
        from fpcodec.cli.app import app

        app(prog_name="fpcodec")
    except KeyboardInterrupt:  # of the first moments; later ones are the app's
        sys.exit(130)

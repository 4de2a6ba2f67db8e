"""The command line: the only place that brings library, edge and server together."""

from __future__ import annotations


def main() -> None:
    """Run the command line; the entry point of ``fpcodec`` and ``python -m fpcodec.cli``."""
    from fpcodec.cli.app import app

    app(prog_name="fpcodec")

"""``python -m fpcodec.cli`` is ``fpcodec``."""

from __future__ import annotations

from fpcodec.cli import main

main()

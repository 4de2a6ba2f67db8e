"""Pipe tables of Markdown, for the documents that show measurements."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def markdown(
    head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Collection[int] = (0,)
) -> str:
    """A table; text columns are flush left, numbers flush right."""
    aligned = ["---" if i in text_columns else "---:" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, aligned, *rows))

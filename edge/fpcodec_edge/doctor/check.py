"""What one check of the doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a check went: ``warn`` works now, ``fail`` does not."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True)
class Check:
    """One finding, on one line.

    Attributes:
        name: What was looked at.
        state: How it went.
        text: What was found.
        fix: What to do; empty where there is nothing to.
    """

    name: str
    state: State
    text: str
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """For JSON."""
        return {"name": self.name, "state": self.state.value, "text": self.text, "fix": self.fix}

"""All that a run needs to go on, in one file that is whole or absent."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fpcodec.errors import InputError
from fpcodec.training.shortages import disk_full_named

CHECKPOINT = "checkpoint.pt"
FORMAT = 1


@dataclass
class Checkpoint:
    """A run between two steps.

    Attributes:
        step: Steps done.
        seconds: Time spent on them.
        price: Slope and offset; see ``balance.Price``.
        network: Its state.
        optimiser: Its state.
        average: The averaged weights, by the network's names.
        run: What the run trains, and how: a run with other facts cannot go on from here.
    """

    step: int
    seconds: float
    price: tuple[float, float]
    network: Mapping[str, Tensor]
    optimiser: Mapping[str, Any]
    average: Mapping[str, Tensor]
    run: Mapping[str, Any]

    def save(self, folder: Path) -> None:
        """Write it in place of the last one, which stays where writing fails.

        Raises:
            InputError: The disk is full.
        """
        # In memory first: torch's own writer hides why the disk refused.
        buffer = io.BytesIO()
        torch.save({"format": FORMAT, **vars(self)}, buffer)
        target = folder / CHECKPOINT
        temporary = folder / f".{CHECKPOINT}.{os.getpid()}"
        try:
            with disk_full_named(target, "a checkpoint (the last one is kept)"):
                with temporary.open("wb") as file:
                    file.write(buffer.getbuffer())
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, folder: Path, run: Mapping[str, Any]) -> Checkpoint | None:
        """Read what a folder has, if anything, for a run with the same facts.

        Raises:
            InputError: It cannot be read, or it is from another detector, other images or other
                options.
        """
        path = folder / CHECKPOINT
        if not path.is_file():
            return None
        try:
            values = torch.load(path, map_location="cpu", weights_only=True)
            number = values.pop("format")
            found = cls(**values)
        except Exception as error:  # damaged bytes make torch raise nearly anything
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"{path}: not a checkpoint of this release ({reason}); remove it to "
                             "start anew") from error  # fmt: skip
        if number != FORMAT:
            raise InputError(f"{path}: checkpoint format {number} is unknown; remove it to start "
                             "anew")  # fmt: skip
        for fact, value in run.items():
            if found.run.get(fact) != value:
                raise InputError(_difference(path, fact, found.run.get(fact), value))
        return found


def _difference(path: Path, fact: str, found: Any, wanted: Any) -> str:
    remedy = "name another --checkpoint-dir, or remove it to start anew"
    if fact != "config":
        return f"{path}: the checkpoint is from another {fact}; {remedy}"
    names = [key for key in wanted if (found or {}).get(key) != wanted[key]]
    told = ", ".join(f"{key} {(found or {}).get(key)} is now {wanted[key]}" for key in names)
    return f"{path}: the checkpoint was made with other options ({told}); {remedy}"

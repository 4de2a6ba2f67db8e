"""A trained inverter in a folder: its weights, and which rates it learned."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from fpcodec.errors import InputError
from fpcodec.evaluation.privacy.inverter import Inverter, InverterConfig
from fpcodec.files import replacing

WEIGHTS, CARD = "weights.safetensors", "inverter.json"


def write_inverter(model: Inverter, qualities: tuple[float, ...], folder: Path) -> None:
    """Write weights and card.

    Args:
        model: Its last rate is that of uncoded pyramids.
        qualities: Of its other rates.
        folder: Made where it is absent.
    """
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / WEIGHTS) as temporary:
        save_file(tensors, temporary)
    card = {"qualities": qualities, "config": model.config.to_dict()}
    with replacing(folder / CARD) as temporary:
        temporary.write_text(json.dumps(card, indent=2) + "\n", "utf-8")


def read_inverter(folder: Path) -> tuple[Inverter, tuple[float | None, ...]]:
    """The network, ready to run, and the quality of each of its rates; None for uncoded pyramids.

    Raises:
        InputError: The folder holds no inverter, or a damaged one.
    """
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        model = Inverter(InverterConfig(**card["config"]))
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{folder} holds no whole inverter ({error}); train one with "
                         "scripts/train_inverter.py") from error  # fmt: skip
    return model.eval(), (*card["qualities"], None)

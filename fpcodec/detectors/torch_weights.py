"""Reading and writing a torch model's weights, without pickle."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fpcodec.errors import MissingDependency, ModelError
from fpcodec.files import file_sha256

try:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
    from torch import Tensor, nn
except ImportError as error:
    raise MissingDependency(
        "torch weights need torch and safetensors; pip install 'fpcodec[torch]'"
    ) from error

EDGE_FILE = "edge.safetensors"
SERVER_FILE = "server.safetensors"

_CONTAINER_KEYS = ("model", "state_dict")
_WRAPPER = "module."
"""Before every name of a model that was saved in its DistributedDataParallel."""


def load_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dictionary from a ``.safetensors``, ``.pth`` or ``.pt`` file.

    The last two are read with ``weights_only=True``; a training checkpoint's ``model`` or
    ``state_dict`` entry is taken, and names lose a DistributedDataParallel's ``module.``.

    Raises:
        ModelError: The file is absent, damaged, of another kind, or needs pickle to be read.
    """
    file = Path(path)
    if file.suffix == ".pkl":
        raise ModelError(
            f"{file}: a pickle can run any code and is not read; on a machine where you trust it: "
            "safetensors.numpy.save_file({k: numpy.asarray(v) for k, v in "
            "pickle.load(open(FILE, 'rb'), encoding='latin1')['model'].items()}, "
            "'weights.safetensors')"
        )
    if not file.is_file():
        raise ModelError(f"{file}: no such file; name the file of the weights")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        if file.suffix in (".pth", ".pt"):
            with warnings.catch_warnings():
                # A file in an odd format is judged by what it holds.
                warnings.simplefilter("ignore")
                return _state_of(file, torch.load(file, map_location="cpu", weights_only=True))
    except (OSError, SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{file}: weights cannot be read ({reason}); give a .safetensors file, or a .pth that "
            "holds tensors alone"
        ) from error
    raise ModelError(f"{file}: weights end in .safetensors, .pth or .pt; convert the file")


def _state_of(file: Path, loaded: Any) -> dict[str, Tensor]:
    for key in _CONTAINER_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        raise ModelError(f"{file}: holds a {type(loaded).__name__}, not a state dictionary")
    state = {str(name): value for name, value in loaded.items() if isinstance(value, Tensor)}
    if all(name.startswith(_WRAPPER) for name in state):
        state = {name.removeprefix(_WRAPPER): value for name, value in state.items()}
    return state


def apply_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    needed: Callable[[str], bool] = lambda name: True,
) -> None:
    """Load a state dictionary into a model.

    Args:
        model: Changed in place.
        state: Tensors by name; names of older torchvision releases are understood.
        source: Where they came from, for the message of an error.
        needed: Tells which of the model's tensors must be in ``state``.

    Raises:
        ModelError: A needed tensor is missing or has another shape, or there are tensors that
            the model does not have.
    """
    try:
        result = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ModelError(f"{source}: weights of another model ({reason})") from error
    # Batch norm's counter is only used in training, and frozen batch norms do not have one.
    missing = [
        name
        for name in result.missing_keys
        if needed(name) and not name.endswith("num_batches_tracked")
    ]
    unexpected = [n for n in result.unexpected_keys if not n.endswith("num_batches_tracked")]
    for what, names in (("lacks", missing), ("has unknown", unexpected)):
        if names:
            raise ModelError(
                f"{source}: weights of another model ({what} {names[0]}"
                f"{f' and {len(names) - 1} more' if len(names) > 1 else ''}); check the "
                "architecture and the number of classes"
            )


def save_weights(state: Mapping[str, Tensor], path: Path) -> str:
    """Write a state dictionary as safetensors, to a temporary name first; return its sha256."""
    temporary = path.with_name(path.name + ".tmp")
    save_file({name: tensor.detach().contiguous() for name, tensor in state.items()}, temporary)
    os.replace(temporary, path)
    return file_sha256(path)


def save_halves(
    model: nn.Module, is_edge: Callable[[str], bool], folder: str | Path
) -> dict[str, str]:
    """Write the edge's and the server's tensors of a model, each to its own safetensors file.

    Returns:
        File name to sha256.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    state = model.state_dict()
    digests = {}
    for file, edge in ((EDGE_FILE, True), (SERVER_FILE, False)):
        half = {name: tensor for name, tensor in state.items() if is_edge(name) == edge}
        digests[file] = save_weights(half, target / file)
    return digests


def load_halves(
    model: nn.Module, is_edge: Callable[[str], bool], folder: str | Path, role: str
) -> None:
    """Read what ``save_halves`` wrote into a model: one half, or with role ``both`` both.

    Raises:
        ModelError: A file is absent or damaged, or is of another model.
    """
    for half, file in (("edge", EDGE_FILE), ("server", SERVER_FILE)):
        if role not in (half, "both"):
            continue
        path = Path(folder) / file
        names = {name for name in model.state_dict() if is_edge(name) == (half == "edge")}
        apply_weights(model, load_weights(path), str(path), names.__contains__)

"""A trained network as a profile, and the proof that the profile does what the network does."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fpcodec.calibration.calibrate import mean_bytes_by_quality
from fpcodec.calibration.counting import fit_tables
from fpcodec.codecs.base import Decoded
from fpcodec.codecs.graphs import ANALYSIS_FILE, SYNTHESIS_FILE
from fpcodec.codecs.learned import LearnedCodec
from fpcodec.errors import InputError, ModelError
from fpcodec.profile import Profile
from fpcodec.pyramid import Pyramid
from fpcodec.training.export_graphs import export_analysis, export_synthesis
from fpcodec.training.network import LearnedNetwork

Progress = Callable[[int, int], None]

INTEGERS_DIFFER, FEATURES_DIFFER = 1e-3, 1e-3
"""What the check lets pass: share of the non-zero integers, and of a level's largest feature."""

_FEW_INTEGERS = 8
_CHECKED_PYRAMIDS, _CHECKED_QUALITIES = 3, (32, 128, 224)


def export_profile(
    network: LearnedNetwork,
    start: Profile,
    pyramids: Sequence[Pyramid],
    out: Path,
    detector: Any = None,
    *,
    name: str | None = None,
    measured: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Profile:
    """Write a network as a ``learned`` profile, tables counted on some pyramids.

    Args:
        network: With the weights to ship; not changed.
        start: The profile of the same detector that training started from: whatever the network
            does not replace is taken from it.
        pyramids: Unquantised, every coded level: what the tables are counted on.
        out: The profile folder to write.
        detector: Whose files are exported; None for those of ``start``.
        name: For people; the folder's name by default.
        measured: Further facts for the manifest.
        seed: Draws the qualities at which symbols are counted.
        progress: Called with pyramids counted and pyramids in all.

    Returns:
        The profile as it lies in ``out``.

    Raises:
        InputError: There is no pyramid, or the network is for another pyramid specification.
        ModelError: The profile does not do what the network does.
    """
    spec = start.spec
    sizes = tuple(spec[x].channels for x in spec.coded_names)
    if (network.names, network.channels) != (spec.coded_names, sizes):
        raise InputError("the network is for other levels than the profile's detector has; "
                         "export it with the profile it was started from")  # fmt: skip
    if not pyramids:
        raise InputError("tables cannot be counted without pyramids; give at least one")
    frozen = copy.deepcopy(network).float().cpu().eval()
    with _scratch_beside(out) as folder:
        base = start.save(folder, detector)
        export_analysis(frozen, folder / ANALYSIS_FILE)
        export_synthesis(frozen, folder / SYNTHESIS_FILE)
        tensors = codec_tensors(frozen)
        codec = LearnedCodec(spec, tensors, folder)
        tables = fit_tables(codec, pyramids, np.random.default_rng(seed), progress=progress)
        codec = LearnedCodec(spec, {**tensors, **tables.tensors}, folder)
        facts = {
            **start.measured,
            "mean_bytes_by_quality": mean_bytes_by_quality(codec, pyramids[:50]),
            **(measured or {}),
        }
        profile = replace(base, name=name or out.name, codec=codec, measured=facts)
        check_codec(frozen, codec, pyramids[:_CHECKED_PYRAMIDS])
        return profile.save(out)


def codec_tensors(network: LearnedNetwork) -> dict[str, npt.NDArray[np.float32]]:
    """Steps, gains and thresholds of the 256 wire qualities, as ``LearnedCodec`` takes them.

    Per level ``<level>.steps`` (256, classes), ``<level>.gains`` (256, K) and
    ``<level>.thresholds`` (256, classes - 1), which rise along classes.
    """
    quality = torch.arange(256) / 255
    quantiser, out = network.quantiser, {}
    with torch.no_grad():
        for name in network.names:
            out[f"{name}.steps"] = quantiser.at(quantiser.base[name], quality).exp().numpy()
            out[f"{name}.gains"] = quantiser.at(quantiser.gain[name], quality).exp().numpy()
            thresholds = quantiser.at(quantiser.threshold[name], quality)
            out[f"{name}.thresholds"] = thresholds.sort(dim=1).values.numpy()
    return out


def check_codec(network: LearnedNetwork, codec: LearnedCodec, pyramids: Sequence[Pyramid]) -> None:
    """Hold a codec against the network it was made from, frame by frame.

    Raises:
        ModelError: Integers or synthesised features differ.
    """
    differing, nonzero = 0, 0
    names = codec.spec.coded_names
    for pyramid in pyramids:
        for index, wire in enumerate(_CHECKED_QUALITIES):
            sent = names[index % len(names) :]
            for name, wanted in _integers(network, pyramid, wire, sent).items():
                found = np.zeros_like(wanted)
                symbols = codec.quantise(pyramid, wire, [name])[name].symbols
                found[: len(symbols)] = symbols
                differing += int((wanted != found).sum())
                nonzero += int(((wanted != 0) | (found != 0)).sum())
            decoded = codec.decode(codec.encode(pyramid, wire / 255, sent))
            levels = codec.reconstruct([decoded], [pyramid.geometry])[0].levels
            for name, features in _synthesised(network, codec, decoded).items():
                error = float(np.abs(features - levels[name]).max() / np.abs(features).max())
                if not error <= FEATURES_DIFFER:
                    raise ModelError(
                        f"level {name} as the exported profile synthesises it is off by {error:.2g}"
                        f" of its largest value, above {FEATURES_DIFFER}; nothing was written"
                    )
    if differing > max(_FEW_INTEGERS, INTEGERS_DIFFER * nonzero):
        raise ModelError(
            f"{differing} of {nonzero} non-zero integers differ between the exported profile and "
            f"the network, above {INTEGERS_DIFFER:.1%}; nothing was written"
        )


@torch.no_grad()
def _integers(
    network: LearnedNetwork, pyramid: Pyramid, wire: int, names: Sequence[str]
) -> dict[str, npt.NDArray[np.int64]]:
    features = {name: torch.from_numpy(pyramid.levels[name])[None] for name in names}
    components, importance = network.analysis(features)
    quantiser, quality, out = network.quantiser, torch.tensor([wire / 255]), {}
    for name, values in components.items():
        classes, _ = quantiser.classes(name, importance[name], quality)
        log_step = quantiser.log_step(name, classes, quality)
        size = quantiser(name, values, log_step, quality).size
        out[name] = (size * values.sign())[0].round().long().numpy()
    return out


@torch.no_grad()
def _synthesised(
    network: LearnedNetwork, codec: LearnedCodec, decoded: Decoded
) -> dict[str, npt.NDArray[np.float32]]:
    """What the network makes of a frame's integers: the codec's float work, done in torch."""
    quantiser, quality = network.quantiser, torch.tensor([decoded.quality / 255])
    components, log_steps, presence = {}, {}, {}
    for name, count in zip(network.names, network.config.components, strict=True):
        height, width = codec.spec.shape(name, decoded.network_size)[1:]
        components[name] = torch.zeros(1, count, height, width)
        log_steps[name] = torch.zeros(1, 1, height, width)
        presence[name] = torch.full((1, 1, 1, 1), float(name in decoded.symbols))
        if name not in decoded.symbols:
            continue
        base = quantiser.at(quantiser.base[name], quality)[0]
        log_steps[name][0, 0] = base[torch.from_numpy(decoded.step_maps[name]).long()]
        gain = quantiser.at(quantiser.gain[name], quality)[0][:, None, None]
        symbols = torch.from_numpy(decoded.symbols[name]).float()
        components[name][0] = symbols * torch.exp(log_steps[name][0] + gain)
    out = network.synthesis(components, log_steps, presence)
    return {name: x[0].numpy() for name, x in out.items()}


@contextmanager
def _scratch_beside(out: Path) -> Iterator[Path]:
    """A folder for the profile in the making, on the same disk."""
    parent = Path(out).resolve().parent
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, prefix=f".{Path(out).name}.") as name:
        yield Path(name) / "profile"

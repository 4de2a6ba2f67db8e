"""A learned profile before its first training step: real sizes and times, no accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fpcodec.calibration import calibrate
from fpcodec.detectors import factory
from fpcodec.images import load_image
from fpcodec.profile import Profile
from fpcodec.profile_folder import MANIFEST

ZERO_LAYER_DEVIATION = 1e-3
"""Of the weights that training starts from zero."""


def untrained_profile(spec: str, paths: Sequence[Path], folder: Path, seed: int = 0) -> Profile:
    """The network that training starts from, as a profile; made where it is not there yet.

    Args:
        spec: The detector.
        paths: Pictures that the closed form is fitted and the tables are counted on.
        folder: The profile's; the closed form's lies beside it.
        seed: Of both.
    """
    if (folder / MANIFEST).is_file():
        return Profile.load(folder)
    import torch

    from fpcodec.training.export import export_profile
    from fpcodec.training.initial import initial_network

    detector = factory.open_detector(spec, threads=1)
    closed = folder.with_name(f"{folder.name}_closed_form")
    if (closed / MANIFEST).is_file():
        start = Profile.load(closed)
    else:
        start = calibrate(detector, paths, closed, seed=seed, key_level_seconds=0.0)
    pyramids = [detector.extract(load_image(path)) for path in paths]
    network = initial_network(start.spec, start.codec.tensors)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for values in network.parameters():
            # Layers that start at zero would be one shared constant in the graph.
            if not values.any():
                values.normal_(0, ZERO_LAYER_DEVIATION, generator=generator)
    return export_profile(network, start, pyramids, folder, seed=seed)

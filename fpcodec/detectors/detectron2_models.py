"""Which detectron2 detector to build, from a configuration file, a zoo name or a profile."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError, MissingDependency, ModelError

try:
    import torch
    from torch import nn
except ImportError as error:
    raise MissingDependency(
        "detectron2 detectors need torch and torchvision; pip install 'fpcodec[torch]'"
    ) from error

INSTALL_HINT = (
    "install torch first, then 'pip install \"setuptools<81\"' and 'pip install "
    '--no-build-isolation "git+https://github.com/facebookresearch/detectron2"\''
)
_OPTIONS = ("weights", "seed", "threads", "labels", "min_size", "max_size", "num_classes",
            "score_thresh")  # fmt: skip
_CONFIGURED = ("pixel_mean", "pixel_std")


def require_detectron2() -> None:
    """Import detectron2, quietly: it still uses what torch deprecates.

    Raises:
        MissingDependency: detectron2 is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import detectron2.data
            import detectron2.modeling  # noqa: F401
    except ImportError as error:
        raise MissingDependency(f"detectron2 cannot be imported; {INSTALL_HINT}") from error


def read_configuration(argument: str) -> Any:
    """Read a YAML file, or one of the installed package's model zoo, as a ``CfgNode``.

    Raises:
        InputError: It is absent, no configuration, or a user's file that wants to run code.
    """
    import yaml  # type: ignore[import-untyped]
    from detectron2 import model_zoo
    from detectron2.config import get_cfg

    if not argument.endswith((".yaml", ".yml")):
        raise InputError(f"detectron2 configuration {argument!r} is not a .yaml file or zoo name")
    cfg = get_cfg()
    trusted = not Path(argument).is_file()
    try:
        file = model_zoo.get_config_file(argument) if trusted else argument
    except RuntimeError as error:
        raise InputError(
            f"detectron2 configuration {argument}: no such file, nor one of detectron2's model "
            "zoo; your training's is what cfg.dump() gives"
        ) from error
    try:
        cfg.merge_from_file(file, allow_unsafe=trusted)
    except yaml.YAMLError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{argument}: not plain YAML ({reason}); write values out, tags that run code are "
            "only read from the installed package"
        ) from error
    except (RuntimeError, KeyError, ValueError, OSError, AssertionError) as error:
        raise InputError(f"detectron2 configuration {argument}: {error}") from error
    return cfg


def parse_configuration(text: str) -> Any:
    """Read what ``cfg.dump()`` wrote; YAML that runs code is refused.

    Raises:
        ModelError: The text is no configuration of this detectron2.
    """
    import yaml
    from detectron2.config import CfgNode, get_cfg

    cfg = get_cfg()
    try:
        cfg.merge_from_other_cfg(CfgNode.load_cfg(text))
    except (yaml.YAMLError, KeyError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"detectron2 configuration cannot be used: {reason}") from error
    return cfg


def apply_options(cfg: Any, options: Mapping[str, str]) -> None:
    """Change a configuration by a specification's options.

    Raises:
        InputError: An option is unknown or its value cannot be used.
    """
    one_stage = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    part = "MODEL.RETINANET" if one_stage else "MODEL.ROI_HEADS"
    keys = {
        "min_size": "INPUT.MIN_SIZE_TEST",
        "max_size": "INPUT.MAX_SIZE_TEST",
        "num_classes": f"{part}.NUM_CLASSES",
        "score_thresh": f"{part}.SCORE_THRESH_TEST",
    }
    for name, text in options.items():
        if name not in _OPTIONS and "." not in name:
            raise InputError(
                f"detectron2 option {name!r} is unknown; there are {', '.join(_OPTIONS)} and the "
                "configuration's own keys, such as MODEL.RESNETS.DEPTH"
            )
        if name in keys or "." in name:
            try:
                cfg.merge_from_list([keys.get(name, name), text])
            except (KeyError, ValueError, AssertionError) as error:
                raise InputError(f"option {name}={text!r} cannot be used: {error}") from error


def build(cfg: Any, seed: int) -> nn.Module:
    """Build the model on the CPU with random weights; torch's random state is left as it was.

    Raises:
        ModelError: detectron2 cannot build this configuration.
    """
    from detectron2.modeling import build_model

    cfg.MODEL.DEVICE = "cpu"
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            model: nn.Module = build_model(cfg)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise ModelError(f"detectron2 cannot build this configuration: {error}") from error
    return model


def is_configured(name: str) -> bool:
    """Whether old checkpoints keep a tensor that the model takes from its configuration."""
    return name in _CONFIGURED or ".anchor_generator.cell_anchors." in f".{name}"


def class_names(cfg: Any) -> tuple[str, ...]:
    """Class names of the configuration's first test set, where their number is the model's."""
    from detectron2.data import MetadataCatalog

    one_stage = cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    count = cfg.MODEL.RETINANET.NUM_CLASSES if one_stage else cfg.MODEL.ROI_HEADS.NUM_CLASSES
    if not cfg.DATASETS.TEST:
        return ()
    names = MetadataCatalog.get(cfg.DATASETS.TEST[0]).get("thing_classes") or ()
    return tuple(names) if len(names) == count else ()

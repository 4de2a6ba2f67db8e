"""What ``fpcodec --version`` says: the release and what it runs on."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec
from typing import Any

EXTRAS = {
    "torch": ("torch", "torchvision", "onnx2torch"),
    "train": ("torch", "tensorboard"),
    "bench": ("faster_coco_eval", "bjontegaard", "matplotlib", "onnx", "scipy"),
    "video": ("av",),
    "ray": ("ray",),
    "reflection": ("grpc_reflection",),
    "ui": ("gradio",),
}
"""Extra to modules that it brings and others do not."""


def build_facts() -> dict[str, Any]:
    """The release, the commit, and the parts that this installation runs on, JSON-able."""
    import onnxruntime

    from fpcodec import __version__
    from fpcodec.build import commit

    return {
        "fpcodec": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": metadata.version("numpy"),
        "onnxruntime": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
        "entropy_coder": "constriction" if find_spec("constriction") else "python",
        "extras": [name for name, modules in EXTRAS.items() if all(map(find_spec, modules))],
        "platform": platform.platform(),
    }


def facts_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; the first line is the release alone."""
    coder = "native" if facts["entropy_coder"] == "constriction" else "plain Python, slower"
    return [
        f"fpcodec {facts['fpcodec']}",
        f"commit         {facts['commit'] or 'unknown'}",
        f"python         {facts['python']}",
        f"numpy          {facts['numpy']}",
        f"onnxruntime    {facts['onnxruntime']}: {', '.join(facts['providers'])}",
        f"entropy coder  {coder}",
        f"extras         {', '.join(facts['extras']) or 'none'}",
        f"platform       {facts['platform']}",
    ]

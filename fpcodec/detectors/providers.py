"""Execution providers of onnxruntime: short names, where they come from, what they fall to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fpcodec.errors import MissingDependency, ModelError

CPU = "CPUExecutionProvider"
_ENDING = "ExecutionProvider"


@dataclass(frozen=True)
class Provider:
    """One execution provider.

    Attributes:
        name: onnxruntime's.
        package: Of the package index, that brings a build with it.
        falls_to: Providers that take what this one cannot run, in this order, where the build has
            them; the CPU comes last everywhere.
    """

    name: str
    package: str
    falls_to: tuple[str, ...] = ()


PROVIDERS = {
    "cpu": Provider(CPU, "onnxruntime"),
    "cuda": Provider("CUDAExecutionProvider", "onnxruntime-gpu"),
    "tensorrt": Provider(
        "TensorrtExecutionProvider", "onnxruntime-gpu", ("CUDAExecutionProvider",)
    ),
    "openvino": Provider("OpenVINOExecutionProvider", "onnxruntime-openvino"),
}
"""By the short names that ``--provider`` takes besides onnxruntime's own."""


def full_name(name: str) -> str:
    """onnxruntime's name of a provider, whose short name may be given, in any case."""
    known = PROVIDERS.get(name.lower())
    return name if known is None else known.name


def choose_providers(names: Sequence[str], available: Sequence[str]) -> list[str]:
    """Providers to open a session with: those asked for, and what they fall to.

    Args:
        names: In order of preference, short or onnxruntime's; none means the CPU.
        available: What this build of onnxruntime has.

    Raises:
        MissingDependency: The build lacks one; names the package that brings it.
        ModelError: None has this name.
    """
    chosen: list[str] = []
    for name in names or ["cpu"]:
        wanted = full_name(name)
        if wanted not in available:
            raise _absent(name, wanted, available)
        chosen.append(wanted)
    falls = [x for provider in PROVIDERS.values() if provider.name in chosen
             for x in provider.falls_to if x in available]  # fmt: skip
    return list(dict.fromkeys((*chosen, *falls, CPU)))


def available_text(available: Sequence[str]) -> str:
    """What a build has, for people: with the short name where there is one."""
    short = {provider.name: name for name, provider in PROVIDERS.items()}
    return ", ".join(f"{short[x]} ({x})" if x in short else x for x in available)


def _absent(name: str, wanted: str, available: Sequence[str]) -> ModelError:
    has = f"this onnxruntime has {available_text(available)}"
    package = next((x.package for x in PROVIDERS.values() if x.name == wanted), None)
    if package is not None:
        return MissingDependency(
            f"execution provider {name} is not available; {has}. It comes with {package}, which "
            f"takes onnxruntime's place: pip uninstall onnxruntime && pip install {package}"
        )
    if wanted.endswith(_ENDING):
        return MissingDependency(
            f"execution provider {name} is not available; {has}. Use one of these, or install a "
            "build of onnxruntime that brings it"
        )
    return ModelError(
        f"no execution provider is called {name!r}; use {', '.join(PROVIDERS)} or onnxruntime's "
        f"own name; {has}"
    )

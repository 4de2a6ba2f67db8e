"""Execution providers: short names, what they fall to, and errors that name the remedy."""

from __future__ import annotations

from typing import Any

import onnxruntime
import pytest

from fpcodec.detectors.onnx_session import open_session
from fpcodec.detectors.providers import PROVIDERS, choose_providers
from fpcodec.embedded import embedded_folder
from fpcodec.errors import MissingDependency, ModelError

CPU, CUDA, TENSORRT, OPENVINO = (
    PROVIDERS[name].name for name in ("cpu", "cuda", "tensorrt", "openvino")
)
GPU_BUILD = [TENSORRT, CUDA, CPU]
EDGE = embedded_folder() / "edge.onnx"


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], [CPU]),
        (["cpu"], [CPU]),
        (["CUDA"], [CUDA, CPU]),
        ([CUDA], [CUDA, CPU]),
        (["tensorrt"], [TENSORRT, CUDA, CPU]),
        (["cuda", "tensorrt"], [CUDA, TENSORRT, CPU]),
        (["cpu", "cuda"], [CPU, CUDA]),
    ],
)
def test_what_is_asked_for_comes_first_and_the_cpu_takes_the_rest(
    names: list[str], chosen: list[str]
) -> None:
    assert choose_providers(names, GPU_BUILD) == chosen


def test_tensorrt_without_cuda_falls_to_the_cpu() -> None:
    assert choose_providers(["tensorrt"], [TENSORRT, CPU]) == [TENSORRT, CPU]


@pytest.mark.parametrize(
    ("name", "package"),
    [("cuda", "onnxruntime-gpu"), (TENSORRT, "onnxruntime-gpu"),
     ("openvino", "onnxruntime-openvino")],
)  # fmt: skip
def test_an_absent_provider_says_what_is_there_and_what_to_install(name: str, package: str) -> None:
    with pytest.raises(MissingDependency) as caught:
        choose_providers([name], ["AzureExecutionProvider", CPU])
    text = str(caught.value)
    assert text.startswith(f"execution provider {name} is not available")
    assert "AzureExecutionProvider, cpu (CPUExecutionProvider)" in text
    assert f"pip uninstall onnxruntime && pip install {package}" in text


def test_a_provider_of_other_builds_is_told_from_a_misspelt_one() -> None:
    with pytest.raises(MissingDependency, match="install a build"):
        choose_providers(["CoreMLExecutionProvider"], [CPU])
    with pytest.raises(ModelError, match=r"no execution provider is called 'gpu'; use cpu, cuda"):
        choose_providers(["gpu"], [CPU])


def test_every_known_name_is_one_of_onnxruntimes() -> None:
    assert {x.name for x in PROVIDERS.values()} <= set(onnxruntime.get_all_providers())


def test_a_provider_that_does_not_start_is_no_silent_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As onnxruntime does where CUDA's libraries are missing: it warns, and goes on without."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    made = onnxruntime.InferenceSession

    def without_cuda(model: Any, options: Any, providers: list[str]) -> Any:
        assert providers == [CUDA, CPU]
        return made(model, options, providers=[CPU])

    monkeypatch.setattr(onnxruntime, "InferenceSession", without_cuda)
    with pytest.raises(ModelError, match="cuda does not start on this machine"):
        open_session(EDGE, 1, ["cuda"])


def test_the_cpu_by_its_short_name() -> None:
    assert open_session(EDGE, 1, ["cpu"]).get_providers() == [CPU]

"""The two graphs of the ``learned`` codec, each opened when it is first needed.

An edge has no use for the synthesis, a server none for the analysis: either file may be absent
where it is not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fpcodec.errors import ProfileError
from fpcodec.files import file_sha256
from fpcodec.pyramid import Array

if TYPE_CHECKING:
    from fpcodec.detectors.onnx_session import SubgraphSessions

ANALYSIS_FILE, SYNTHESIS_FILE = "analysis.onnx", "synthesis.onnx"

_SIDES = {ANALYSIS_FILE: "encode", SYNTHESIS_FILE: "reconstruct"}


class LearnedGraphs:
    """Analysis and synthesis of one profile; safe to share between threads.

    Args:
        folder: Where ``analysis.onnx`` and ``synthesis.onnx`` lie.
        sha256: File name to hexadecimal SHA-256; a file named here is checked when opened.
        threads: Threads within an operator; None for onnxruntime's choice.
        providers: Execution providers in order of preference; none means the CPU's.
    """

    def __init__(
        self,
        folder: Path,
        sha256: Mapping[str, str] | None = None,
        threads: int | None = 1,
        providers: Sequence[str] = (),
    ) -> None:
        self.folder, self.sha256 = Path(folder), dict(sha256 or {})
        self.threads, self.providers = threads, tuple(providers)
        self._opened: dict[str, SubgraphSessions] = {}
        self._lock = Lock()

    def with_runtime(self, threads: int | None, providers: Sequence[str] = ()) -> LearnedGraphs:
        """The same graphs with other threads and execution providers."""
        return LearnedGraphs(self.folder, self.sha256, threads, providers)

    def with_sha256(self, sha256: Mapping[str, str]) -> LearnedGraphs:
        """The same graphs, more of them checked when opened."""
        return LearnedGraphs(
            self.folder, {**self.sha256, **sha256}, self.threads, self.providers
        )  # fmt: skip

    def file_sha256(self, name: str) -> str:
        """Hexadecimal SHA-256 of one graph file.

        Raises:
            ProfileError: The file is absent.
        """
        return file_sha256(self._file(name))

    def analyse(self, levels: Mapping[str, Array]) -> dict[str, tuple[Array, Array]]:
        """Run the analysis of some levels and nothing else.

        Args:
            levels: Level name to features, shape (C, H, W), float32.

        Returns:
            Level name to components, shape (K, H, W), and importance, shape (H, W).

        Raises:
            ProfileError: The graph is absent, changed, or made for other levels.
            ModelError: onnxruntime cannot run it.
        """
        if not levels:
            return {}
        outputs = [f"{what}_{x}" for x in levels for what in ("components", "importance")]
        feeds = {name: values[None] for name, values in levels.items()}
        found = self._run(ANALYSIS_FILE, feeds, outputs)
        return {x: (found[f"components_{x}"][0], found[f"importance_{x}"][0, 0]) for x in levels}

    def synthesise(
        self, feeds: Mapping[str, Array], names: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        """Run the synthesis of a batch.

        Args:
            feeds: Per coded level ``components_<level>`` (N, K, H, W), ``log_steps_<level>``
                (N, 1, H, W) and ``presence_<level>`` (N, 1, 1, 1), float32.
            names: Every coded level.

        Returns:
            Level name to features, shape (N, C, H, W), float32.

        Raises:
            ProfileError: The graph is absent, changed, or made for other levels.
            ModelError: onnxruntime cannot run it.
        """
        return self._run(SYNTHESIS_FILE, feeds, names)

    def _run(
        self, file: str, feeds: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, npt.NDArray[Any]]:
        sessions = self._open(file)
        absent = (set(outputs) - set(sessions.outputs)) | (set(feeds) - set(sessions.inputs))
        if absent:
            raise ProfileError(f"{self.folder / file} has no tensor {min(absent)}: it was made for "
                               "another pyramid; copy the profile again")  # fmt: skip
        found = sessions.run(feeds, outputs)
        return {k: np.ascontiguousarray(v, np.float32) for k, v in found.items()}

    def _open(self, name: str) -> SubgraphSessions:
        from fpcodec.detectors.onnx_session import SubgraphSessions

        with self._lock:
            if name not in self._opened:
                expected = self.sha256.get(name)
                if expected is not None and self.file_sha256(name) != expected:
                    raise ProfileError(f"{self.folder / name} is not the one that the profile was "
                                       "written with; copy it again")  # fmt: skip
                file = self._file(name)
                self._opened[name] = SubgraphSessions(file, self.threads, self.providers)
            return self._opened[name]

    def _file(self, name: str) -> Path:
        path = self.folder / name
        if not path.is_file():
            raise ProfileError(f"{path} is missing, so this profile cannot {_SIDES[name]}; copy "
                               f"{name} from the folder where the profile was made")  # fmt: skip
        return path

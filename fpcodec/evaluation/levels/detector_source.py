"""Where a detector comes from: a plain value that other processes can open."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpcodec.detectors.base import Detector
from fpcodec.files import file_sha256
from fpcodec.profile import Profile


@dataclass(frozen=True)
class DetectorSource:
    """Where a detector comes from: a plain value that travels to other processes.

    Attributes:
        profile: A profile folder, or None.
        spec: A detector's description as ``open_detector`` reads it, where there is no profile.
        threads: Threads within an operator.
    """

    profile: Path | None
    spec: str = ""
    threads: int = 1

    def open(self) -> Detector:
        """Open both halves.

        Raises:
            FpcodecError: It cannot be opened; the message says why.
        """
        if self.profile is not None:
            return Profile.load(self.profile).open_detector("both", threads=self.threads)
        from fpcodec.detectors.factory import open_detector, parse_spec, tiny_folder

        wanted = parse_spec(self.spec)
        if wanted.kind == "tiny" and wanted.options.get("runtime") == "torch":
            from fpcodec.detectors.small_torch import SmallTorchDetector

            return SmallTorchDetector.from_folder(tiny_folder(wanted.argument), self.threads)
        return open_detector(wanted, threads=self.threads)

    def identity(self) -> dict[str, Any]:
        """JSON-able: what makes it the same detector in a later run, wherever it lies."""
        if self.profile is not None:
            profile = Profile.load(self.profile)
            # A profile's tables and key levels have no say here, only its detector's files.
            config = {k: v for k, v in profile.detector_config.items() if k != "macs"}
            return {"profile": profile.name, "config": config}
        from fpcodec.detectors.factory import parse_spec, tiny_folder

        wanted = parse_spec(self.spec)
        argument = wanted.argument
        if wanted.kind == "tiny":
            argument = str(tiny_folder(argument) / "weights.safetensors")
        options = {k: _content(v) for k, v in wanted.options.items() if k != "threads"}
        return {"kind": wanted.kind, "argument": _content(argument), "options": options}


def _content(value: Any) -> Any:
    """A value, or the sha256 of the file that it names."""
    if not isinstance(value, str) or not Path(value).is_file():
        return value
    return f"sha256:{file_sha256(Path(value))}"

"""Where a configuration comes from: a file, then the environment, then flags; later ones win."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fpcodec.errors import InputError
from fpcodec_server.config import SECTIONS, ServerConfig, build_config, kinds, values_of
from fpcodec_server.files import read_file, warn_if_open_to_all
from fpcodec_server.settings import HIDDEN, NONE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX = "FPCODEC_SERVE_"
"""Before a setting's key in capitals, with ``_`` for ``.``: its variable of the environment."""

FILE_VARIABLE = "FPCODEC_SERVE_CONFIG"
"""Names the configuration file where no flag does."""

DEFAULT = "default"

# Kubernetes tells every container of every service, and one may be named fpcodec-serve.
_KUBERNETES = re.compile(PREFIX + r"(SERVICE_(HOST|PORT)|PORT)(_.*)?")


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration, and where its values come from.

    Attributes:
        config: The values.
        origins: Setting's key to where it was set, for those that were.
    """

    config: ServerConfig
    origins: Mapping[str, str]

    def origin(self, key: str) -> str:
        """Where a setting's value comes from, as a message says it."""
        return self.origins.get(key, DEFAULT)

    def shown(self) -> dict[str, Any]:
        """Every value by key as JSON has it, with secrets hidden."""
        values = values_of(self.config)
        for key, kind in kinds().items():
            if kind.secret and values[key] is not None:
                values[key] = HIDDEN
            elif isinstance(values[key], Path):
                values[key] = str(values[key])
        return values

    def describe(self) -> str:
        """The configuration as a TOML file whose comments say where values come from."""
        lines = (
            f"{key} = {json.dumps(NONE if value is None else value)}  # {self.origin(key)}"
            for key, value in self.shown().items()
        )
        return "\n".join(lines)


def load_config(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, tuple[str, Any]] | None = None,
) -> LoadedConfig:
    """Put a configuration together.

    Args:
        file: TOML file; None for the one that ``FPCODEC_SERVE_CONFIG`` names, if any.
        environment: Variables by name.
        flags: Setting's key to the flag that set it and its value.

    Raises:
        InputError: A source names an unknown setting, or one of another kind; says which.
    """
    environment = environment or {}
    if file is None and environment.get(FILE_VARIABLE):
        file = Path(environment[FILE_VARIABLE])
    reading = _Reading()
    if file is not None:
        reading.add_file(file)
    reading.add_environment(environment)
    for key, (flag, value) in (flags or {}).items():
        reading.add_flag(key, value, flag)
    return LoadedConfig(build_config(reading.values), reading.origins)


class _Reading:
    """Collects values and where they come from."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self._kinds = kinds()

    def add_file(self, path: Path) -> None:
        try:
            tree = tomllib.loads(read_file(path, "configuration").decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(
                f"{path}: not a TOML file ({error}); see docs/operations.md"
            ) from error
        for name, value in tree.items():
            if name not in SECTIONS:
                self._add_from_file(name, value, path)
                continue
            if not isinstance(value, dict):
                raise InputError(f"{path}: {name} is a section; use [{name}] and settings in it")
            for inner, leaf in value.items():
                self._add_from_file(f"{name}.{inner}", leaf, path)
        if any(self._kinds[key].secret for key in self.values):
            warn_if_open_to_all(path, "secrets in this configuration")

    def add_environment(self, environment: Mapping[str, str]) -> None:
        variables = {_variable(key): key for key in self._kinds}
        for name, value in environment.items():
            if not name.startswith(PREFIX) or name == FILE_VARIABLE or _KUBERNETES.fullmatch(name):
                continue
            if name not in variables:
                nearest = _nearest(name, variables)
                raise InputError(f"unknown variable {name} of the environment; {nearest}")
            self.add(variables[name], value, f"variable {name}", is_text=True)

    def add_flag(self, key: str, value: Any, flag: str) -> None:
        kind = self._kinds.get(key)
        if kind is not None and kind.secret:
            raise InputError(
                f"flag {flag}: every user of this machine can see a flag's value; set {key} in "
                f"the file or in {_variable(key)}"
            )
        self.add(key, value, f"flag {flag}", is_text=isinstance(value, str))

    def add(self, key: str, value: Any, origin: str, is_text: bool) -> None:
        if key not in self._kinds:
            raise InputError(f"{origin}: unknown setting {key}; {_nearest(key, self._kinds)}")
        try:
            self.values[key] = self._kinds[key].read(value, is_text)
        except InputError as error:
            raise InputError(f"{origin}: {key} {error}") from None
        self.origins[key] = origin

    def _add_from_file(self, key: str, value: Any, path: Path) -> None:
        kind = self._kinds.get(key)
        if kind is not None and kind.is_path and isinstance(value, str) and value != NONE:
            value = str(path.parent / value)
        elif key == "profiles" and isinstance(value, list):
            value = [_beside(path, name) for name in value]
        self.add(key, value, f"file {path}", is_text=False)


def _beside(path: Path, name: Any) -> Any:
    """A profile's folder, from where the file lies; embedded profiles have no folder there."""
    folder = path.parent / str(name)
    return str(folder) if isinstance(name, str) and folder.is_dir() else name


def _variable(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    best = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return f"did you mean {best[0]}?"

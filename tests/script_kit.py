"""Scripts of the repository as modules."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fpcodec

SCRIPTS = Path(fpcodec.__file__).parents[1] / "scripts"


def script_fixture(name: str) -> Callable[..., Any]:
    """A fixture that is the module ``scripts/<name>.py``."""

    @pytest.fixture(scope="module")
    def script() -> Iterator[ModuleType]:
        if not SCRIPTS.is_dir():
            pytest.skip("scripts/ is not part of an installed package")
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(str(SCRIPTS))
            yield importlib.import_module(name)

    return script

"""What tests share: where optional data lies, and small files that a user might have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from wire_kit import LoopThread, StartServer

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of this checkout."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """Models and images beside the checkout that are no part of it; absent in most clones."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs ../shared (models and images that are not in the repository)")
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A generated scene as a PNG file."""
    from PIL import Image

    from fpcodec.data import generate_scene

    path = tmp_path / "photo.png"
    Image.fromarray(generate_scene(11).image).save(path)
    return path


@pytest.fixture(scope="module")
def loop_thread() -> Iterator[LoopThread]:
    """An event loop in a thread of its own, for the servers of one test module."""
    from wire_kit import LoopThread

    with LoopThread() as thread:
        yield thread


@pytest.fixture
def start_server(loop_thread: LoopThread) -> Iterator[StartServer]:
    """Starts servers on the loopback interface; they end with the test."""
    from wire_kit import servers

    with servers(loop_thread) as start:
        yield start

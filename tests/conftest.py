"""What tests share: where optional data lies, and small files that a user might have."""

from __future__ import annotations

from pathlib import Path

import pytest

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

"""What ``import fpcodec`` brings along, and that every package is installed whole."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fpcodec

HEAVY = ("torch", "torchvision", "onnxruntime", "onnx", "grpc", "constriction", "PIL", "typer")
PACKAGES = ("fpcodec", "edge/fpcodec_edge", "server/fpcodec_server")


def run_python(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_import_is_light() -> None:
    loaded = run_python("import sys, fpcodec; print(*sys.modules)").split()
    assert not set(HEAVY) & set(loaded)


def test_import_takes_less_than_300_ms() -> None:
    code = "import time; t = time.perf_counter(); import fpcodec; print(time.perf_counter() - t)"
    assert min(float(run_python(code)) for _ in range(3)) < 0.3


def test_help_needs_neither_onnxruntime_nor_torch() -> None:
    code = """
import sys
from fpcodec.cli import main
sys.argv = ["fpcodec", "--help"]
try:
    main()
except SystemExit as end:
    print("exit", end.code)
print("loaded", *sys.modules)
"""
    out = run_python(code)
    assert "calibrate" in out
    assert "exit 0" in out
    loaded = out.rpartition("loaded ")[2].split()
    assert not {"torch", "onnxruntime", "grpc", "PIL"} & set(loaded)


@pytest.mark.parametrize("name", fpcodec.__all__)
def test_public_names_exist(name: str) -> None:
    assert getattr(fpcodec, name) is not None


def test_public_names_are_few_and_listed() -> None:
    assert len(fpcodec.__all__) <= 25
    assert set(fpcodec.__all__) <= set(dir(fpcodec))
    with pytest.raises(AttributeError, match="nonsense"):
        _ = fpcodec.nonsense


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_of_modules_is_a_package(package: str, repository: Path) -> None:
    """A folder without ``__init__.py`` would be missing from the wheel."""
    folders = {path.parent for path in (repository / package).rglob("*.py")}
    assert [str(x) for x in folders if not (x / "__init__.py").is_file()] == []


def test_library_imports_neither_edge_nor_server() -> None:
    """Only the command line brings the three packages together."""
    root = Path(fpcodec.__file__).parent
    for path in root.rglob("*.py"):
        if path.is_relative_to(root / "cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            assert not [x for x in names if x.startswith(("fpcodec_edge", "fpcodec_server"))], path


@pytest.mark.parametrize("name", ["fpcodec_edge", "fpcodec_server"])
def test_edge_and_server_can_be_imported(name: str) -> None:
    assert importlib.import_module(name).__all__

"""Writes the commit into what is built from a clone; everything else stands in pyproject.toml."""

from pathlib import Path
from runpy import run_path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

PACKAGE = Path(__file__).parent / "fpcodec"
BUILD = run_path(str(PACKAGE / "build.py"))


def write_commit(root: str) -> None:
    """Leave a note beside ``fpcodec/build.py``, where the commit is known."""
    if commit := BUILD["commit"]():
        (Path(root) / "fpcodec" / BUILD["COMMIT_FILE"]).write_text(f"{commit}\n", "utf-8")


class BuildWithCommit(build_py):
    """Modules and data, and the commit; not for editable installs, whose files stay the clone's."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            write_commit(self.build_lib)


class SdistWithCommit(sdist):
    """The source archive, and the commit."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_commit(base_dir)


setup(cmdclass={"build_py": BuildWithCommit, "sdist": SdistWithCommit})

"""A generated set of the smallest circuit (2 KiB window proofs, about two CPU seconds), made once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from damocles_worker.params import ParameterSet, generate
from damocles_worker.sectors import SECTOR_SIZES

WINDOW = ParameterSet(SECTOR_SIZES["2KiB"], "window")


@pytest.fixture(autouse=True)
def digest_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees digests remembered by another one, or by the user."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the generated set; not to be changed."""
    directory = tmp_path_factory.mktemp("generated")
    generate(WINDOW, directory)
    return directory


@pytest.fixture
def whole(generated: Path, tmp_path: Path) -> Path:
    """A directory with a copy of the generated set, for one test to spoil."""
    directory = tmp_path / "parameters"
    shutil.copytree(generated, directory, copy_function=shutil.copy2)
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    """The set's files by name."""
    return {entry.name: entry.read_bytes() for entry in directory.iterdir() if entry.name.startswith("v28-")}


def temporary_files(directory: Path) -> list[str]:
    """Names of files that a run left under a temporary name."""
    return [entry.name for entry in directory.iterdir() if entry.name.endswith(".tmp")]

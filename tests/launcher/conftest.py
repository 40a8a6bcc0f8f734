"""Executables for the tests of the launcher."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.launcher.small import LAUNCHER, make_executable


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every user can read."""
    directory = Path(tempfile.mkdtemp(prefix="launcher-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def build(place: Path) -> Callable[[str], Path]:
    """Makes the executable of a version."""
    if not LAUNCHER.exists():
        pytest.skip("build/launcher is not built (make launcher)")
    return functools.partial(make_executable, place)


@pytest.fixture
def executable(build: Callable[[str], Path]) -> Path:
    """The executable of version 1."""
    return build("1")

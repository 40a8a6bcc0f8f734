"""The executable, unpacked once for all tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.small import make_executable

EXECUTABLE = Path(__file__).parents[2] / "dist/damocles-worker"
UTIL = EXECUTABLE.with_name("damocles-worker-util")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of an executable that is not there."""
    if not EXECUTABLE.exists():
        missing = pytest.mark.skip(reason="dist/damocles-worker is not built (make dist)")
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(missing)


@pytest.fixture(scope="session")
def runtime() -> Iterator[Path]:
    """The directory it unpacks itself into; every user can read it."""
    directory = Path(tempfile.mkdtemp(prefix="damocles-worker-runtime-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def environment(runtime: Path) -> dict[str, str]:
    """An environment that is empty but for that directory."""
    return {"DAMOCLES_WORKER_RUNTIME_DIR": str(runtime)}


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """An executable of another version."""
    return make_executable(tmp_path, "2")

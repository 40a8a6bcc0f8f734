"""Small real file systems for tests of full and read-only disks."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def small_disk(path: Path, size: str = "1m") -> Iterator[Path]:
    """A tmpfs of ``size`` mounted at ``path``; skips the test where mounting isn't allowed."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(path)]
    result = subprocess.run(mount, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"needs to mount a tmpfs: {result.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def remount(path: Path, mode: str) -> None:
    """Remount a :func:`small_disk` ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Take all space of ``disk``; removing the returned file frees it."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


@contextlib.contextmanager
def vanishing(path: Path, *, mounted: bool) -> Iterator[Vanishing]:
    """A directory at ``path`` that can go away, with an empty one left in its place.

    With ``mounted`` it is a file system that is unmounted (skips the test where mounting isn't allowed),
    else a directory that is moved away.
    """
    aside = path.with_name(f"{path.name}-aside")
    if not mounted:
        path.mkdir()
        yield Vanishing(path, aside, mounted=False)
        return
    with small_disk(aside, "16m"):
        path.mkdir()
        subprocess.run(["mount", "--bind", str(aside), str(path)], check=True)
        vanishing = Vanishing(path, aside, mounted=True)
        try:
            yield vanishing
        finally:
            if not vanishing.is_away:
                vanishing.go_away()


class Vanishing:
    """See :func:`vanishing`."""

    def __init__(self, path: Path, aside: Path, *, mounted: bool) -> None:
        self.path = path
        self._aside = aside
        self._mounted = mounted
        self.is_away = False

    def go_away(self) -> None:
        """Leave an empty directory at ``path``. Open files stay open, as after ``umount -l``."""
        if self._mounted:
            subprocess.run(["umount", "-l", str(self.path)], check=True)
        else:
            self.path.rename(self._aside)
            self.path.mkdir()
        self.is_away = True

    def come_back(self, *, over_files: bool = False) -> None:
        """Put it back; what was written in its place meanwhile fails the test, unless ``over_files``."""
        assert over_files or not list(self.path.iterdir()), "something was written into the empty directory"
        if self._mounted:
            subprocess.run(["mount", "--bind", str(self._aside), str(self.path)], check=True)
        else:
            self.path.rmdir()
            self._aside.rename(self.path)
        self.is_away = False

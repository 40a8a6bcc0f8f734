"""Small real file systems for tests of full and read-only disks."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def two_disks(root: Path, kind: str = "tmpfs") -> Iterator[TwoDisks]:
    """Two file systems mounted at ``root/one`` and ``root/two``, that can be mounted in each other's place.

    ``kind`` is tmpfs, ext4 or xfs; skips the test where that can't be made or mounted.
    """
    with contextlib.ExitStack() as stack:
        asides = []
        for name in ("disk-a", "disk-b"):
            aside = root / name
            if kind == "tmpfs":
                stack.enter_context(small_disk(aside, "16m"))
            else:
                stack.enter_context(_image(aside, kind))
            asides.append(aside)
        disks = TwoDisks(root / "one", root / "two", asides[0], asides[1])
        disks.mount()
        stack.callback(disks.unmount)
        yield disks


@contextlib.contextmanager
def thin_disk(path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """An ext4 file system at ``path`` that is larger than the disk below it, and what takes the rest of that.

    What is written then is taken, and lost on its way to the disk. Skips the test where that can't be made.
    """
    make = shutil.which("mkfs.ext4")
    if make is None:
        pytest.skip("needs mkfs.ext4")
    below = path.with_name(f"{path.name}-below")
    with small_disk(below, "80m"):
        image = below / "image"
        with image.open("wb") as file:
            file.truncate(256 << 20)
        # Without a journal: it would stop the whole file system at the first loss.
        subprocess.run([make, "-q", "-O", "^has_journal", str(image)], check=True, capture_output=True)
        path.mkdir()
        result = subprocess.run(
            ["mount", "-o", "loop,errors=continue", str(image), str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            pytest.skip(f"needs a loop device: {result.stderr.strip()}")

        def exhaust() -> None:
            fill(below)

        try:
            yield path, exhaust
        finally:
            subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def _image(path: Path, kind: str) -> Iterator[None]:
    """A new file system in a file beside ``path``, mounted there."""
    make = shutil.which(f"mkfs.{kind}")
    if make is None:
        pytest.skip(f"needs mkfs.{kind}")
    path.mkdir()
    image = path.with_name(f"{path.name}.img")
    with image.open("wb") as file:
        file.truncate({"ext4": 8 << 20, "xfs": 512 << 20}[kind])
    subprocess.run([make, "-q", str(image)], check=True, capture_output=True)
    mount = ["mount", "-t", kind, "-o", "loop", str(image), str(path)]
    result = subprocess.run(mount, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"needs to mount a file: {result.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


class TwoDisks:
    """See :func:`two_disks`."""

    def __init__(self, one: Path, two: Path, at_one: Path, at_two: Path) -> None:
        self.one = one
        self.two = two
        self._at = [at_one, at_two]

    def mount(self) -> None:
        """Mount both."""
        for path, aside in zip((self.one, self.two), self._at, strict=True):
            path.mkdir(exist_ok=True)
            subprocess.run(["mount", "--bind", str(aside), str(path)], check=True)

    def unmount(self) -> None:
        """Unmount both, as ``umount -l``."""
        for path in (self.one, self.two):
            subprocess.run(["umount", "-l", str(path)], check=True)

    def swap(self) -> None:
        """Mount each in the other's place."""
        self.unmount()
        self._at.reverse()
        self.mount()

    def directories(self, *names: str) -> None:
        """From the next mount on it is these directories of the first disk that are mounted."""
        first = self._at[0]
        for name in names:
            (first / name).mkdir()
        self._at = [first / name for name in names]

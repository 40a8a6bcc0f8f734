"""File-system helpers: what they report, and the words of their errors."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from damocles_worker.errors import Level
from damocles_worker.filesystem import disk_usage, file_error, fsync_directory, make_directory, mount_point
from tests.unit.mounts import small_disk


def test_mount_point(tmp_path: Path) -> None:
    assert mount_point(Path("/")) == Path("/")
    with small_disk(tmp_path / "disk") as disk:
        assert mount_point(disk / "not" / "there" / "yet") == disk
    assert mount_point(disk) != disk


def test_disk_usage_counts_blocks_not_holes_or_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(bytes(1 << 20))
    directory = tmp_path / "data"
    (directory / "sub").mkdir(parents=True)
    (directory / "link").symlink_to(outside)
    with open(directory / "sparse", "wb") as file:
        file.truncate(1 << 30)
    (directory / "sub" / "full").write_bytes(os.urandom(100_000))
    assert 100_000 <= disk_usage(directory) < 200_000
    assert disk_usage(tmp_path / "missing") == 0


def test_fsync_directory_accepts_network_file_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(number: int) -> None:
        def fsync(_descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fsync)

    fail(errno.EINVAL)
    fsync_directory(tmp_path)
    fail(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        fsync_directory(tmp_path)


def test_make_directory(tmp_path: Path) -> None:
    make_directory(tmp_path / "one")
    make_directory(tmp_path / "one")
    assert (tmp_path / "one").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        make_directory(tmp_path / "no" / "parents")


@pytest.mark.parametrize(
    ("number", "words", "waits"),
    [
        (errno.ENOSPC, "no space left on", "space on"),
        (errno.EDQUOT, "the quota of this user is used up", "space on"),
        (errno.EROFS, "mounted read-only", "to be writable again"),
        (errno.ESTALE, "is gone", "to be mounted again"),
        (errno.EACCES, "permission denied", None),
        (errno.EIO, "input/output error", None),
        (errno.EMFILE, "too many open files", None),
        (errno.ENOENT, "doesn't exist", None),
        (errno.ELOOP, "symbolic links", None),
    ],
)
def test_file_error(tmp_path: Path, number: int, words: str, waits: str | None) -> None:
    path = tmp_path / "file"
    error = file_error(OSError(number, os.strerror(number)), "write", path, needed=3 << 30)
    assert error.cause.startswith(f"can't write {path}: ")
    assert words in error.cause
    assert error.next_step
    assert error.level is Level.PERMANENT
    assert (waits in (error.waits_for or "")) if waits else error.waits_for is None


def test_no_space_tells_needed_and_free(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        error = file_error(OSError(errno.ENOSPC, ""), "write", disk / "x", needed=3 << 30)
    assert "3 GiB needed" in error.cause or "3.0 GiB needed" in error.cause
    assert "1 MiB free" in error.cause or "1.0 MiB free" in error.cause
    assert error.waits_for == f"space on {disk}"

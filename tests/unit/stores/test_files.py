"""Small durable files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from damocles_worker.errors import Level, WorkerError
from damocles_worker.stores.files import write_durable
from tests.unit.mounts import fill, remount, small_disk


def test_written_synced_renamed_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "marker"
    path.write_bytes(b"old")
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def record_fsync(descriptor: int) -> None:
        steps.append(f"fsync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def record_rename(self: Path, to: Path) -> Path:
        steps.append(f"rename to {to.name}")
        return rename(self, to)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(Path, "rename", record_rename)
    write_durable(path, b"new")
    assert steps == ["fsync .marker.tmp", "rename to marker", f"fsync {tmp_path.name}"]
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["marker"]


def test_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        write_durable(disk / "file", b"old")
        fill(disk)
        with pytest.raises(WorkerError, match="no space left") as caught:
            write_durable(disk / "file", bytes(100_000))
        assert caught.value.waits_for == f"space on {disk}"
        assert caught.value.level is Level.CRITICAL
        assert (disk / "file").read_bytes() == b"old"
        assert {entry.name for entry in disk.iterdir()} == {"file", "filler"}


def test_read_only_disk_and_missing_directory(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        remount(disk, "ro")
        with pytest.raises(WorkerError, match="mounted read-only"):
            write_durable(disk / "file", b"x")
    with pytest.raises(WorkerError, match="doesn't exist"):
        write_durable(tmp_path / "none" / "file", b"x")

"""Digests of large files are taken once per state of the file."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from damocles_worker.params.digests import file_digest, memory_file, published_form, remembered_digest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(b"points" * 1000)
    return path


def test_the_published_form_is_the_start_of_blake2b(file: Path) -> None:
    whole = file_digest(file, "blake2b")
    assert len(whole) == 128
    assert published_form(file.read_bytes()) == whole[:32]


def test_a_digest_is_read_once(file: Path) -> None:
    reads: list[int] = []
    first = file_digest(file, "sha256", lambda done, _total: reads.append(done))
    assert first == hashlib.sha256(file.read_bytes()).hexdigest()
    assert reads == [6000]
    assert file_digest(file, "sha256", lambda done, _total: reads.append(done)) == first
    assert reads == [6000]
    assert remembered_digest(file, "sha256") == first
    assert remembered_digest(file, "blake2b") is None


def test_both_algorithms_are_remembered(file: Path) -> None:
    file_digest(file, "sha256")
    file_digest(file, "blake2b")
    assert remembered_digest(file, "sha256") is not None


@pytest.mark.parametrize("change", ["content", "mtime", "inode"])
def test_a_changed_file_is_read_again(file: Path, change: str) -> None:
    file_digest(file, "sha256")
    stat = file.stat()
    if change == "content":
        file.write_bytes(b"more points" * 1000)
    elif change == "mtime":
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    else:
        copy = file.with_name("copy")
        copy.write_bytes(file.read_bytes())
        os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        copy.replace(file)
    assert remembered_digest(file, "sha256") is None


def test_a_spoilt_memory_is_forgotten(file: Path) -> None:
    memory_file().parent.mkdir(parents=True)
    memory_file().write_text("not json")
    digest = file_digest(file, "sha256")
    assert remembered_digest(file, "sha256") == digest


def test_a_memory_that_cannot_be_written_is_done_without(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    assert file_digest(file, "sha256") == file_digest(file, "sha256")

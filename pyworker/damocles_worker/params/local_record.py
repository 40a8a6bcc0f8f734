"""The sidecar of a generated set: it says that the set is local and insecure, and what its files are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
from msgspec import Struct

from damocles_worker.params.sets import ParameterSet


class FileRecord(Struct, frozen=True):
    """Length in bytes and SHA-256 (hexadecimal) of one file."""

    size: int
    sha256: str


class LocalRecord(Struct, frozen=True):
    """Content of ``<name>.local-insecure.json``; it is there before any of the files it names."""

    warning: str
    #: The public seed that the set was derived from: who knows it can prove anything.
    seed: str
    program: str
    #: By file name: the ``.params``, the ``.vk`` and the ``.meta`` file.
    files: dict[str, FileRecord]

    def describes(self, name: str, content: bytes) -> bool:
        """Whether the file ``name`` was generated with this content."""
        record = self.files.get(name)
        return record is not None and record == record_of(content)


def record_of(content: bytes) -> FileRecord:
    """The record of a small file's content."""
    return FileRecord(len(content), hashlib.sha256(content).hexdigest())


def read_local_record(wanted: ParameterSet, directory: Path) -> LocalRecord | None:
    """The set's sidecar; None if there is none, or none that can be read."""
    try:
        return msgspec.json.decode((directory / wanted.local_record_file).read_bytes(), type=LocalRecord)
    except (OSError, msgspec.DecodeError):
        return None


def is_local(wanted: ParameterSet, directory: Path) -> bool:
    """Whether the set in ``directory`` is a local, insecure one, told by its verifying key."""
    record = read_local_record(wanted, directory)
    if record is None:
        return False
    try:
        return record.describes(wanted.vk_file, (directory / wanted.vk_file).read_bytes())
    except OSError:
        return False

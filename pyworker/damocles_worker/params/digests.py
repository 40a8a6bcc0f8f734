"""Digests of large files, taken once per state of the file and remembered."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

Algorithm = Literal["blake2b", "sha256"]

#: Published digests are the first 32 hexadecimal digits of BLAKE2b-512.
PUBLISHED: Algorithm = "blake2b"
PUBLISHED_DIGITS = 32

_CHUNK = 1 << 20

#: Called with (done, total) in bytes; may raise to stop.
Progress = Callable[[int, int], object]


class _Remembered(Struct, frozen=True):
    size: int
    mtime_ns: int
    inode: int
    device: int
    digests: dict[str, str]


def published_form(content: bytes) -> str:
    """The digest of ``content`` in the form of the published list."""
    return hashlib.blake2b(content).hexdigest()[:PUBLISHED_DIGITS]


def remembered_digest(path: Path, algorithm: Algorithm) -> str | None:
    """The digest of ``path`` as hexadecimal digits, if it is known for the file as it is now."""
    entry = _load().get(str(path.resolve()))
    if entry is None or _state(path) != (entry.size, entry.mtime_ns, entry.inode, entry.device):
        return None
    return entry.digests.get(algorithm)


def file_digest(path: Path, algorithm: Algorithm, progress: Progress | None = None) -> str:
    """The digest of ``path`` as hexadecimal digits; read from the file only if it is not known yet.

    A file that changes while it is read is not remembered. Raises ``OSError``.
    """
    known = remembered_digest(path, algorithm)
    if known is not None:
        return known
    before = _state(path)
    hasher = hashlib.new(algorithm)
    done = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, before[0])
    digest = hasher.hexdigest()
    if _state(path) == before:
        _remember(path, before, algorithm, digest)
    return digest


def _state(path: Path) -> tuple[int, int, int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ino, stat.st_dev


def memory_file() -> Path:
    """Where digests are remembered: ``$XDG_CACHE_HOME/damocles-worker/digests.json``."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "damocles-worker" / "digests.json"


def _load() -> dict[str, _Remembered]:
    try:
        return msgspec.json.decode(memory_file().read_bytes(), type=dict[str, _Remembered])
    except (OSError, msgspec.DecodeError, RuntimeError):
        return {}


def _remember(path: Path, state: tuple[int, int, int, int], algorithm: Algorithm, digest: str) -> None:
    """Keep a digest. Nothing depends on it: where the memory can't be written, it is computed again."""
    memory = _load()
    key = str(path.resolve())
    entry = memory.get(key)
    digests: dict[str, str] = {algorithm: digest}
    if entry is not None and state == (entry.size, entry.mtime_ns, entry.inode, entry.device):
        digests = {**entry.digests, **digests}
    memory[key] = _Remembered(*state, digests=digests)
    kept = {name: value for name, value in memory.items() if name == key or Path(name).exists()}
    with contextlib.suppress(OSError, RuntimeError):
        _replace(memory_file(), kept)


def _replace(target: Path, content: Any) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(content))
        Path(temporary).replace(target)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise

"""Putting generated files into the parameter directory: one writer at a time, never over a file."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error, fsync_directory

LOCK_FILE = ".damocles-worker-params.lock"
_LOCK_POLL = 0.2


@contextlib.contextmanager
def exclusive(directory: Path, waiting: Callable[[str], object]) -> Iterator[None]:
    """Hold the directory's lock, so that no two processes generate at once.

    While another process holds it, ``waiting`` is told once who that is. The lock goes with the
    process that holds it, however it ends.
    """
    path = directory / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise file_error(error, "create", path) from error
    with open(descriptor, "r+", encoding="ascii") as file:
        told = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    holder = file.read().strip() or "unknown"
                    waiting(f"process {holder} is generating parameters in {directory}: waiting for it")
                    told = True
                time.sleep(_LOCK_POLL)
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def temporary_name(directory: Path, name: str) -> Path:
    """Where a file is written before it gets its name. Only the holder of the lock uses it."""
    return directory / f".{name}.tmp"


def write_small(directory: Path, name: str, content: bytes) -> Path:
    """Write ``content`` durably under the temporary name of ``name``."""
    path = temporary_name(directory, name)
    try:
        with open(path, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise file_error(error, "write", path, needed=len(content)) from error
    return path


def publish(directory: Path, name: str) -> None:
    """Give the durable temporary file of ``name`` its name, unless there is a file of that name.

    A hard link fails where the name is taken, also by a program that knows nothing of the lock. Raises
    :class:`WorkerError` naming the file.
    """
    temporary, final = temporary_name(directory, name), directory / name
    try:
        final.hardlink_to(temporary)
        temporary.unlink()
        fsync_directory(directory)
    except FileExistsError as error:
        raise WorkerError(
            f"{final} appeared while its content was generated: it was left as it is",
            next_step="Look who put it there; `damocles-worker params check` tells whether the set is whole",
        ) from error
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
            raise WorkerError(
                f"can't create {final}: its file system has no hard links",
                next_step="Use a directory (FIL_PROOFS_PARAMETER_CACHE) on a file system such as ext4 or xfs",
            ) from error
        raise file_error(error, "create", final) from error

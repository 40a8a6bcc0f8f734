"""Taking over the sealing store of the Rust worker, and giving it back.

Its RocksDB is moved aside, never read or removed: ``meta/`` becomes ``meta.rust/`` and a journal is
made in a new ``meta/``. Going back moves our ``meta/`` to ``meta.journal/``, where a later adoption
finds it again. Each step is one rename, so that a run cut short can be run again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error, fsync_directory, make_directory
from damocles_worker.journal import ROCKSDB_MARKER, Journal
from damocles_worker.stores.sealing import DATA, HOLDER, META

RUST_META = "meta.rust"
OUR_META = "meta.journal"
#: ``struct flock`` of Linux on 64-bit machines: type, whence, start, length, pid.
_FLOCK = "hhqqi"

UNKNOWABLE = (
    "not known: whether the Rust worker had been given a sector that it had not started (nothing of it"
    " is on disk, only in meta.rust/). Look for sectors assigned to this location in the manager's list"
    " (`damocles-manager util sealer sectors list`); abort such a sector there, or undo the adoption and"
    " let the Rust worker finish it"
)


def adopt(location: str | Path) -> list[str]:
    """Take over the store of the Rust worker at ``location``; returns what was done, line by line.

    Raises :class:`WorkerError`, having changed nothing, when it is no such store, a process has its
    database open, or there are files under ``data/``.
    """
    root = Path(location).resolve()
    meta, rust, ours = root / META, root / RUST_META, root / OUR_META
    try:
        if not _is_rocksdb(meta):
            _refuse_not_rust(root)
        elif rust.exists():
            raise WorkerError(
                f"both {meta} and {rust} are databases of the Rust worker",
                next_step="Move away the one that isn't needed",
            )
        done = []
        with _rocksdb_lock(meta if _is_rocksdb(meta) else rust):
            _refuse_data(root)
            if _is_rocksdb(meta):
                _rename(meta, rust)
                done.append(f"moved {meta} to {rust}")
            if ours.is_dir() and not meta.exists():
                _rename(ours, meta)
                done.append(f"moved {ours} back to {meta}")
        make_directory(root / DATA)
        make_directory(meta)
        Journal.open(meta).close()
        (root / HOLDER).touch()
        fsync_directory(root)
    except OSError as error:
        raise file_error(error, "adopt", root) from error
    return [*done, f"the journal of this worker is in {meta}", UNKNOWABLE]


def undo(location: str | Path) -> list[str]:
    """Give a store that was adopted back to the Rust worker; returns what was done, line by line.

    Raises :class:`WorkerError`, having changed nothing, when it was not adopted, a worker has it
    open, or a sector is under way.
    """
    root = Path(location).resolve()
    meta, rust, ours = root / META, root / RUST_META, root / OUR_META
    done = []
    try:
        if not _is_rocksdb(rust):
            raise WorkerError(
                f"{root} was not adopted: there is no database of the Rust worker in {rust}",
                next_step="Give the sealing store that `store adopt` was run on",
            )
        if _is_rocksdb(meta):
            raise WorkerError(
                f"both {meta} and {rust} are databases of the Rust worker",
                next_step="Move away the one that isn't needed",
            )
        if meta.exists():
            _refuse_task(meta)
            _refuse_data(root)
            if ours.exists():
                raise WorkerError(f"{ours} is in the way", next_step="Move it away and run this again")
            _rename(meta, ours)
            done.append(f"moved {meta} to {ours}")
        _rename(rust, meta)
        done.append(f"moved {rust} back to {meta}: the Rust worker can use the store again")
    except OSError as error:
        raise file_error(error, "give back", root) from error
    return done


def _is_rocksdb(directory: Path) -> bool:
    return (directory / ROCKSDB_MARKER).exists()


def _refuse_not_rust(root: Path) -> None:
    """Raise unless an adoption of ``root`` was cut short between its renames."""
    if _is_rocksdb(root / RUST_META) and not (root / META).exists():
        return
    if _is_rocksdb(root / RUST_META):
        raise WorkerError(f"{root} is adopted already", next_step="Nothing to do; --undo gives it back")
    if not root.is_dir():
        raise WorkerError(f"{root} is not a directory", next_step="Give the location of a sealing store")
    raise WorkerError(
        f"{root} is not a store of the Rust worker: there is no {META}/{ROCKSDB_MARKER}",
        next_step="A new store needs no adoption; `damocles-worker store sealing-init -l DIR` makes one",
    )


def _refuse_data(root: Path) -> None:
    data = root / DATA
    found = sorted(str(path.relative_to(data)) for path in data.rglob("*")) if data.is_dir() else []
    if found:
        raise WorkerError(
            f"{data} is not empty ({', '.join(found[:5])}{', …' if len(found) > 5 else ''}):"
            " a sector is under way there",
            next_step="Let the worker that began it finish or abort the sector first",
        )


def _refuse_task(meta: Path) -> None:
    journal = Journal.open(meta)
    try:
        if journal.load() is not None:
            raise WorkerError(
                f"the journal in {meta} holds a task that is not finished",
                next_step="Let this worker finish the sector, or abort it, before giving the store back",
            )
    finally:
        journal.close()


@contextmanager
def _rocksdb_lock(directory: Path) -> Iterator[None]:
    """Hold RocksDB's own lock (a POSIX record lock on its file LOCK), or raise naming who has it."""
    try:
        descriptor = os.open(directory / "LOCK", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise WorkerError(
                f"the Rust worker is still running on {directory.parent}: {_holder(descriptor)} has"
                f" {directory / 'LOCK'} locked",
                next_step="Stop it and run this again",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    """Who holds a write lock on the file, as ``pid N`` (a process of another host has no number)."""
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, wanted))[4]
    return f"pid {pid}" if pid > 0 else "a process that is not visible from here"


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    fsync_directory(source.parent)

"""Durable copies: of one file, and of a finished sector into an attached store.

A destination appears whole or not at all: the bytes go to a temporary name beside it with a checksum
taken while the source is read, are fsynced and counted, renamed over the destination, and the
directory is fsynced.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from damocles_worker import _native
from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import (
    file_error,
    free_bytes,
    fsync_directory,
    make_directory,
    make_durable,
    mount_point,
    no_space,
)
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.pump import CancelFlag, CopyCancelledError, Progress, Target, pump
from damocles_worker.stores.sealing import SealingStore
from damocles_worker.stores.space import tree_count

#: Bytes read back at once.
BUFFER = 8 << 20


def cache_files(sector_size: int) -> list[str]:
    """Names of the cache files that belong into an attached store, in the order they are copied."""
    trees = tree_count(sector_size)
    if trees == 1:
        names = ["sc-02-data-tree-r-last.dat"]
    else:
        names = [f"sc-02-data-tree-r-last-{index}.dat" for index in range(trees)]
    return [*names, "p_aux", "t_aux"]


def persist(
    store: SealingStore,
    attached: AttachedStore,
    sector: str,
    sector_size: int,
    *,
    update: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> list[str]:
    """Copy the replica and the cache files of ``sector`` into ``attached``; all durable on return.

    With ``update`` they are those of its replica update.

    Returns one line ``<XXH3 of 128 bits>  <path below the store's root>`` per file, as ``xxh128sum -c``
    reads them. ``progress`` gets bytes over all files. Raises :class:`WorkerError` naming the file, and
    :class:`CopyCancelledError`.
    """
    check_stores(store, attached)
    with present(store, attached):
        return _persist(store, attached, sector, sector_size, update, verify, progress, cancel)


@contextlib.contextmanager
def present(*stores: SealingStore | AttachedStore) -> Iterator[None]:
    """A context whose stores are there at its beginning and its end.

    A store that went away meanwhile is the explanation of any other error, and no success counts
    without it: what was written may lie in the empty mount point. Raises :class:`WorkerError`.
    """
    _check_all(stores)
    try:
        yield
    except (WorkerError, OSError):
        _check_all(stores)
        raise
    _check_all(stores)


def _check_all(stores: Iterable[SealingStore | AttachedStore]) -> None:
    for store in stores:
        store.check()


def _persist(
    store: SealingStore,
    attached: AttachedStore,
    sector: str,
    sector_size: int,
    update: bool,
    verify: bool,
    progress: Progress | None,
    cancel: CancelFlag | None,
) -> list[str]:
    pairs = replica_files(store, attached, sector, sector_size, update=update)
    total = sum(_source_size(source) for source, _ in pairs)
    replica, cache = pairs[0][1], pairs[-1][1].parent
    for directory in (replica.parent, cache.parent, cache):
        try:
            make_directory(directory)
        except OSError as error:
            raise file_error(error, "create", directory) from error
    lines = []
    done = 0
    for source, destination in pairs:
        report = None if progress is None else _shifted(progress, done, total)
        checksum = copy_durable(source, destination, verify=verify, progress=report, cancel=cancel)
        lines.append(f"{checksum}  {destination.relative_to(attached.root)}")
        done += _source_size(source)
    return lines


def check_stores(store: SealingStore, attached: AttachedStore) -> None:
    """Raise :class:`WorkerError` when nothing can be copied from the one to the other."""
    _check_all((store, attached))
    if attached.readonly:
        raise WorkerError(
            f"the attached store {attached.name!r} is configured read-only",
            next_step="Let the manager choose another store, or remove readonly = true",
        )


def replica_files(
    store: SealingStore, attached: AttachedStore, sector: str, sector_size: int, *, update: bool
) -> list[tuple[Path, Path]]:
    """(path here, path in ``attached``) of a sector's finished files, the replica first."""
    if update:
        replica = (store.update(sector), attached.update(sector))
        caches = store.update_cache_dir(sector), attached.update_cache_dir(sector)
    else:
        replica = (store.sealed(sector), attached.sealed(sector))
        caches = store.cache_dir(sector), attached.cache_dir(sector)
    return [replica, *((caches[0] / name, caches[1] / name) for name in cache_files(sector_size))]


def copy_durable(
    source: Path,
    destination: Path,
    *,
    verify: bool = False,
    progress: Progress | None = None,
    cancel: CancelFlag | None = None,
) -> str:
    """Copy one regular file durably, replacing ``destination``; returns its XXH3 of 128 bits in hex.

    The directory of ``destination`` has to exist. With ``verify`` the copy is read back from the
    medium, past the page cache, before it takes the destination's name. Holes of the source become
    zeros. Raises :class:`WorkerError`; with ``waits_for`` when there is no space or the file system
    is away. The destination is untouched and no temporary file stays behind unless this process dies;
    what earlier copies left so is removed first, to make room.
    """
    size = _source_size(source)
    _remove_leftovers(destination)
    _check_destination(destination, size)
    temporary = destination.parent / f"{_temporary_prefix(destination)}{os.getpid()}-{secrets.token_hex(4)}"
    try:
        checksum = _copy(source, temporary, size, progress, cancel)
        if verify:
            _read_back(temporary, size, checksum, cancel)
        if cancel is not None and cancel.cancelled:
            # Nobody waits for this copy any more, and another one may be under way.
            raise CopyCancelledError(f"the copy of {source} was stopped before it was put in its place")
        try:
            temporary.rename(destination)
            fsync_directory(destination.parent)
        except OSError as error:
            raise file_error(error, "put the finished copy at", destination) from error
    except BaseException:
        # On a file system that went away this fails too, and the first error is the one to tell.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    return checksum


def settle_copy(source: Path, copy: Path, root: Path, *, verify: bool = False) -> None:
    """Make a copy below ``root`` that somebody else has made durable, once it has the size of ``source``.

    With ``verify`` it is read back from the medium and compared. Raises :class:`WorkerError`.
    """
    size = _source_size(source)
    try:
        found = copy.stat().st_size
        if found != size:
            raise WorkerError(
                f"the copy {copy} has {found} bytes, its source {size}",
                level=Level.TEMPORARY,
                next_step="The files are copied again; look into the log of the transfer processor",
            )
    except OSError as error:
        raise file_error(error, "settle the copy", copy) from error
    make_durable(copy, root)
    if verify:
        with source.open("rb") as file:
            checksum = _native.Checksum()
            while part := file.read(BUFFER):
                checksum.update(part)
        _read_back(copy, size, checksum.hexdigest(), None)


def _copy(
    source: Path, temporary: Path, size: int, progress: Progress | None, cancel: CancelFlag | None
) -> str:
    """Copy ``source`` to the new file ``temporary`` and fsync it; the checksum is of what was read."""
    reader = _open(source, os.O_RDONLY, "read")
    try:
        writer = _open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, "create")
        try:
            before = os.fstat(reader)
            os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            checksum, copied = pump(reader, source, Target(writer, temporary, size), size, progress, cancel)
            after = os.fstat(reader)
            if copied != size or (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns):
                raise WorkerError(
                    f"{source} changed while it was copied: {size} bytes at the start, {copied} copied,"
                    f" {after.st_size} now",
                    next_step="Look what else writes there; the sector's files must not be touched",
                )
            try:
                os.fsync(writer)
                written = os.fstat(writer).st_size
            except OSError as error:
                raise file_error(error, "write", temporary, needed=size) from error
            if written != size:
                raise WorkerError(
                    f"{temporary} has {written} bytes after writing {size}",
                    next_step=f"Check the file system {mount_point(temporary)}",
                )
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    return checksum


def _read_back(path: Path, size: int, checksum: str, cancel: CancelFlag | None) -> None:
    """Compare the medium's bytes of ``path`` with ``checksum``.

    The file is fsynced already. O_DIRECT reads past the page cache; where the file system has no
    O_DIRECT, the pages are dropped first.
    """
    try:
        reader = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise file_error(error, "read back", path) from error
        reader = _open(path, os.O_RDONLY, "read back")
    digest = _native.Checksum()
    done = 0
    try:
        os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
        # Anonymous memory is page-aligned, which O_DIRECT asks for.
        buffer = mmap.mmap(-1, BUFFER)
        while done < size:
            if cancel is not None and cancel.cancelled:
                raise CopyCancelledError(f"the check of {path} was stopped at {done} of {size} bytes")
            try:
                count = os.readv(reader, [buffer])
            except OSError as error:
                raise file_error(error, "read back", path) from error
            if count == 0:
                break
            digest.update(memoryview(buffer)[:count])
            done += count
    finally:
        os.close(reader)
    if digest.hexdigest() != checksum:
        raise WorkerError(
            f"{path} read back differs from what was written: {done} of {size} bytes,"
            f" XXH3 {digest.hexdigest()} instead of {checksum}",
            next_step=f"The disk behind {mount_point(path)}, its controller or the memory damages data:"
            " test them before going on. The copy was removed",
        )


def _source_size(source: Path) -> int:
    try:
        status = source.stat()
    except OSError as error:
        raise file_error(error, "read", source) from error
    if not stat.S_ISREG(status.st_mode):
        raise WorkerError(f"{source} is not a regular file", next_step="Look who put it there")
    return status.st_size


def _check_destination(destination: Path, size: int) -> None:
    """Refuse a destination of another kind, and one that clearly won't fit."""
    try:
        if destination.is_dir():
            raise WorkerError(
                f"the destination {destination} is a directory where a file belongs",
                next_step="Move it away",
            )
        free = free_bytes(destination.parent)
    except OSError as error:
        raise file_error(error, "write into", destination.parent) from error
    if size > free:
        raise no_space(f"can't write {destination}", mount_point(destination), needed=size)


def _open(path: Path, flags: int, action: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise file_error(error, action, path) from error


def _temporary_prefix(destination: Path) -> str:
    return f".{destination.name}.tmp-"


def _remove_leftovers(destination: Path) -> None:
    """Remove temporary files that copies to ``destination`` left behind when their process died."""
    try:
        for entry in list(destination.parent.iterdir()):
            if entry.name.startswith(_temporary_prefix(destination)):
                entry.unlink(missing_ok=True)
    except OSError as error:
        raise file_error(error, "clean up in", destination.parent) from error


def _shifted(progress: Progress, done: int, total: int) -> Progress:
    def report(file_done: int, _file_total: int) -> None:
        progress(done + file_done, total)

    return report

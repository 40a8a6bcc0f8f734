"""The bytes of one file on their way into another: read, summed up and written beside each other.

Nothing waits for anything else: a thread computes the checksum, two write, and the caller reads ahead of
them. On a local file system a large file goes past the page cache. That saves a copy, leaves the parents
cache of a running PC1 in memory, and leaves nothing for the fsync at the end; elsewhere what is written is
synchronised every now and then.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from damocles_worker import _native
from damocles_worker.filesystem import file_error, mount_point, mounted_at

#: Bytes read and written at once, and how many of these are on their way.
BUFFER = 2 << 20
BUFFERS = 8
WRITERS = 2
#: Files from this size on go past the page cache, or are dropped from it behind the copy: 32 GiB of replica
#: would push the parents cache of a running PC1 out of memory.
LARGE = 64 << 20
#: File systems that write past the page cache at the speed of their disk, several buffers at once.
DIRECT = frozenset({"ext4", "xfs"})
#: Bytes of a large source between two calls that drop it, which look at every page.
STRIDE = 32 << 20
#: Bytes written through the page cache after which they are waited for: the fsync at the end has no more.
SYNC_EVERY = 256 << 20
#: Seconds between two progress reports.
PROGRESS_INTERVAL = 0.1

Progress = Callable[[int, int], None]


class CancelFlag(Protocol):
    """``_native.Cancel`` or anything with its property."""

    @property
    def cancelled(self) -> bool: ...


class CopyCancelledError(Exception):
    """The copy was asked to stop; the destination is as it was before."""


class Target:
    """A new file that is written in pieces, from several threads; ``size`` bytes are to get there.

    Raises :class:`WorkerError` like its methods: with ``waits_for`` when there is no space for them.
    """

    def __init__(self, descriptor: int, path: Path, size: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self._size = size
        self._direct = size >= LARGE and self._go_past_the_cache()
        self._drops = size >= LARGE and not self._direct

    def _go_past_the_cache(self) -> bool:
        mounted = mounted_at(mount_point(self._path))
        if mounted is None or mounted.file_system not in DIRECT:
            return False
        try:
            # Writers don't wait for each other where there are blocks already; and a full disk shows now.
            os.posix_fallocate(self._descriptor, 0, self._size)
            flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags | os.O_DIRECT)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return False
            raise file_error(error, "write", self._path, needed=self._size) from error
        return True

    def write(self, view: memoryview, offset: int) -> None:
        """Write all of ``view``, whose memory begins with a page, at ``offset``."""
        end = offset + len(view)
        while view:
            try:
                count = os.pwrite(self._descriptor, view, offset)
            except OSError as error:
                if error.errno == errno.EINVAL and self._direct:
                    # The end of a file of no whole blocks; or the file system can't do it after all.
                    self._through_the_cache()
                    continue
                raise file_error(error, "write", self._path, needed=self._size) from error
            view, offset = view[count:], offset + count
        if self._drops:
            self._clean_up(end)

    def _through_the_cache(self) -> None:
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~os.O_DIRECT)
        self._direct = False

    def _clean_up(self, end: int) -> None:
        # On dirty pages this only starts their write-back; a later call drops them.
        start = max(0, end - 2 * BUFFER)
        os.posix_fadvise(self._descriptor, start, end - start, os.POSIX_FADV_DONTNEED)
        if end % SYNC_EVERY == 0:
            try:
                os.fdatasync(self._descriptor)
            except OSError as error:
                raise file_error(error, "write", self._path, needed=self._size) from error


def pump(
    reader: int,
    source: Path,
    target: Target,
    size: int,
    progress: Progress | None,
    cancel: CancelFlag | None,
) -> tuple[str, int]:
    """Move all bytes from ``reader``, the open ``source``, to ``target``: (checksum in hex, bytes moved).

    Raises :class:`WorkerError` and :class:`CopyCancelledError`.
    """
    checksum = _native.Checksum()
    # Anonymous memory begins with a page, which O_DIRECT asks for.
    buffers = [mmap.mmap(-1, BUFFER) for _ in range(BUFFERS)]
    busy: list[list[Future[None]]] = [[] for _ in buffers]
    offset = dropped = turn = 0
    last_report = 0.0
    with (
        ThreadPoolExecutor(1, thread_name_prefix="checksum") as hashing,
        ThreadPoolExecutor(WRITERS, thread_name_prefix="write") as writing,
        contextlib.ExitStack() as stopping,
    ):
        for pool in (hashing, writing):
            # After an error what waits in line is not begun any more.
            stopping.callback(pool.shutdown, wait=False, cancel_futures=True)
        while True:
            for work in busy[turn]:
                work.result()
            if cancel is not None and cancel.cancelled:
                raise CopyCancelledError(f"the copy of {source} was stopped at {offset} of {size} bytes")
            count = _fill(buffers[turn], reader, source)
            if count == 0:
                break
            view = memoryview(buffers[turn])[:count]
            busy[turn] = [hashing.submit(checksum.update, view), writing.submit(target.write, view, offset)]
            offset += count
            turn = (turn + 1) % BUFFERS
            if size >= LARGE and offset - dropped >= STRIDE:
                os.posix_fadvise(reader, dropped, offset - dropped, os.POSIX_FADV_DONTNEED)
                dropped = offset
            if progress and offset < size and time.monotonic() - last_report >= PROGRESS_INTERVAL:
                last_report = time.monotonic()
                progress(offset, size)
        for jobs in busy:
            for work in jobs:
                work.result()
    if progress and offset:
        progress(offset, size)
    return checksum.hexdigest(), offset


def _fill(buffer: mmap.mmap, reader: int, source: Path) -> int:
    """Read until ``buffer`` is full or the file ends: only the last piece may be a part of a block."""
    filled = 0
    view = memoryview(buffer)
    while filled < len(view):
        try:
            count = os.readv(reader, [view[filled:]])
        except OSError as error:
            raise file_error(error, "read", source) from error
        if count == 0:
            break
        filled += count
    return filled

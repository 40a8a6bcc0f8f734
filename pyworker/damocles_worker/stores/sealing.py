"""The sealing store: the directory in which one sealing thread works on one sector at a time.

Layout, the same as the Rust worker's::

    .holder                                     marker: this directory is a sealing store, completely made
    config.toml                                 optional hot configuration
    meta/                                       the journal
    data/unsealed/s-t0M-N                       staged file: fr32-padded pieces
    data/prepared/s-t0M-N/sc-02-data-tree-d.dat tree_d, or a link to the static one
    data/cache/s-t0M-N/                         labels, trees, p_aux, t_aux
    data/sealed/s-t0M-N                         replica
    data/unsealed/<piece cid>                   output of an unseal task
    data/update/s-t0M-N                         replica update
    data/update-cache/s-t0M-N/                  its trees, p_aux, t_aux

A replica update has a staged file and a prepared directory of its own, ``s-t0M-N.update``: those of the
sector below it stay valid.
"""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from typing import Self

from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import (
    FSTAB,
    file_error,
    fsync_directory,
    is_read_only,
    make_directory,
    missing_mount,
    mount_point,
)
from damocles_worker.journal import DATABASE, LOCK, Journal, refuse_rocksdb

HOLDER = ".holder"
DATA = "data"
META = "meta"
TREE_D = "sc-02-data-tree-d.dat"
#: What may lie in a directory that counts as empty: a fresh file system's and the operator's file.
_HARMLESS = frozenset({"lost+found", "config.toml"})


class SealingStore:
    """An open sealing store, locked for this process. ``sector`` is always the text ``s-t0M-N``.

    Its journal and its ``data/`` stay those that were opened, whatever is mounted over them later.
    """

    def __init__(self, root: Path, journal: Journal) -> None:
        self.root = root
        self.journal = journal
        #: Whether the last :meth:`check` found another store or disk in its place: it has to be opened anew.
        self.replaced = False
        self._data: int | None = os.open(root / DATA, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mutex = threading.Lock()
        status = os.fstat(self._data)
        #: Device and inode of what was opened, and the mount point that it lay under.
        self._opened = {
            root / META / LOCK: (journal.identity, mount_point(root / META)),
            root / DATA: ((status.st_dev, status.st_ino), mount_point(root / DATA)),
        }

    @classmethod
    def open(cls, location: str | Path, create: bool = True) -> Self:
        """Open the store at ``location``; with ``create``, make it when it is missing or empty.

        Only the last component of ``location`` is created. Raises :class:`WorkerError` (critical) for
        a directory that is no sealing store, is in use, belongs to the Rust worker, or can't be
        written; ``waits_for`` is set when the directory may come back by itself.
        """
        root = Path(location).resolve()
        try:
            if create:
                _create_if_new(root)
            _check_complete(root)
            _check_writable(root)
            _check_record_not_lost(root)
        except OSError as error:
            raise file_error(error, "open the sealing store", root, level=Level.CRITICAL) from error
        journal = Journal.open(root / META)
        try:
            store = cls(root, journal)
        except OSError as error:
            journal.close()
            raise file_error(error, "open", root / DATA, level=Level.CRITICAL) from error
        try:
            # Something may have been mounted between two of these steps.
            store.check()
        except WorkerError:
            store.close()
            raise
        return store

    @property
    def data(self) -> Path:
        """The directory of sector data, emptied at the end of every task."""
        return self.root / DATA

    def staged(self, sector: str, *, update: bool = False) -> Path:
        """The staged file: the pieces, fr32-padded, sector size bytes."""
        return self.data / "unsealed" / _of(sector, update)

    def unsealed_piece(self, cid: str) -> Path:
        """The output of an unseal task."""
        return self.data / "unsealed" / cid

    def prepared_dir(self, sector: str, *, update: bool = False) -> Path:
        """The directory that tree_d is made in."""
        return self.data / "prepared" / _of(sector, update)

    def tree_d(self, sector: str, *, update: bool = False) -> Path:
        """tree_d, or the link to the static tree_d."""
        return self.prepared_dir(sector, update=update) / TREE_D

    def cache_dir(self, sector: str) -> Path:
        """The cache directory of the proofs library."""
        return self.data / "cache" / sector

    def sealed(self, sector: str) -> Path:
        """The replica."""
        return self.data / "sealed" / sector

    def update(self, sector: str) -> Path:
        """The replica update."""
        return self.data / "update" / sector

    def update_cache_dir(self, sector: str) -> Path:
        """The cache directory of the replica update."""
        return self.data / "update-cache" / sector

    def check(self) -> None:
        """Raise :class:`WorkerError` (``waits_for``) unless what was opened is what lies at its path.

        A file system may be unmounted, or another mounted over the store. An unmounted one is waited
        for; with another one there, ``replaced`` is set.
        """
        self.replaced = False
        try:
            for path, (identity, mount) in self._opened.items():
                if _identity(path) != identity:
                    raise self._not_there(path, mount)
            if not (self.root / HOLDER).is_file():
                raise self._gone(f"its marker {HOLDER} is no longer there (file system unmounted?)")
        except OSError as error:
            raise file_error(error, "look at the sealing store", self.root, level=Level.CRITICAL) from error

    def _not_there(self, path: Path, mount: Path) -> WorkerError:
        """Why ``path``, which lay under the mount point ``mount``, is not what was opened."""
        now = mount_point(path)
        if now in mount.parents:
            return self._gone(f"{mount} is not mounted (its file system unmounted?)")
        if now == mount and not (self.root / HOLDER).is_file():
            return self._gone(f"its marker {HOLDER} is no longer there (file system unmounted?)")
        self.replaced = True
        return WorkerError(
            f"another file system or directory is at {path} since the sealing store {self.root} was opened"
            f" (mounted at {now})",
            level=Level.CRITICAL,
            next_step="What is there now is opened if no sector is under way in the other; else bring that"
            " one back, or restart the worker if what is there now is meant",
            waits_for=f"the store at {self.root}",
        )

    def _gone(self, why: str) -> WorkerError:
        return WorkerError(
            f"the sealing store {self.root} is gone: {why}",
            level=Level.CRITICAL,
            next_step="Mount it again; the task goes on by itself",
            waits_for=f"store {self.root} to be mounted again",
        )

    def wipe_data(self) -> None:
        """Remove everything in ``data/`` and nothing else: links are removed, never followed.

        It is the ``data/`` that was opened, never one that was mounted over it since.
        """
        self.check()
        try:
            descriptor = self._open_data()
            try:
                with os.scandir(descriptor) as entries:
                    found = list(entries)
                for entry in found:
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.name, dir_fd=descriptor)
                    else:
                        os.unlink(entry.name, dir_fd=descriptor)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise file_error(error, "empty", self.data, level=Level.CRITICAL) from error

    def _open_data(self) -> int:
        """A descriptor of its own for the caller: :meth:`close` may come meanwhile, from another thread."""
        with self._mutex:
            if self._data is None:
                raise WorkerError(
                    f"the sealing store {self.root} is closed",
                    level=Level.CRITICAL,
                    next_step="Restart the worker and report this as a bug",
                )
            return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._data)

    def close(self) -> None:
        """Close the journal and give the store's lock back; a second call does nothing."""
        self.journal.close()
        with self._mutex:
            if self._data is not None:
                os.close(self._data)
                self._data = None


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, links followed; None when there is nothing."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def _of(sector: str, update: bool) -> str:
    return f"{sector}.update" if update else sector


def initialise(location: str | Path) -> Path:
    """Make a sealing store at ``location``, parents included, and return its absolute path.

    Files that are already there stay; ``data/`` must be empty because a store empties it after every
    task. Raises :class:`WorkerError` when it is a store already, the Rust worker's, or can't be made.
    """
    root = Path(location).resolve()
    try:
        refuse_rocksdb(root / META)
        if (root / HOLDER).exists():
            raise WorkerError(
                f"{root} is a sealing store already ({HOLDER} is there)",
                next_step="Nothing to do; the daemon opens it as it is",
            )
        if _names(root / DATA):
            raise WorkerError(
                f"{root / DATA} is not empty; a sealing store empties it after every sector",
                next_step="Move its contents away, or choose another directory",
            )
        root.mkdir(parents=True, exist_ok=True)
        _make_layout(root)
    except OSError as error:
        raise file_error(error, "make a sealing store at", root) from error
    Journal.open(root / META).close()
    return root


def _create_if_new(root: Path) -> None:
    if not (root / HOLDER).exists():
        _refuse_unmounted(root)
    if not root.exists():
        if not root.parent.is_dir():
            raise WorkerError(
                f"the sealing store {root} doesn't exist and neither does its parent {root.parent}"
                " (file system not mounted?)",
                level=Level.CRITICAL,
                next_step=f"Mount it, or create {root.parent}; only the last directory is created by itself",
                waits_for=f"the directory {root.parent}",
            )
        make_directory(root)
    if not root.is_dir():
        raise WorkerError(
            f"the sealing store {root} is not a directory",
            level=Level.CRITICAL,
            next_step="Set location of the [[sealing_thread]] to a directory",
        )
    refuse_rocksdb(root / META)
    # A crash in the middle of the creation leaves empty data/ and meta/ without the marker.
    foreign = _names(root) - _HARMLESS - {DATA, META}
    if not (root / HOLDER).exists() and not foreign and not _names(root / DATA) and not _names(root / META):
        _make_layout(root)


def _refuse_unmounted(root: Path) -> None:
    """A store made where a disk is to be mounted would vanish below that disk, with its sector."""
    mount = missing_mount(root)
    if mount is None:
        return
    raise WorkerError(
        f"there is no sealing store at {root}, and {mount} is in {FSTAB} but not mounted: none is made there",
        level=Level.CRITICAL,
        next_step=f"Run `mount {mount}`; or, if the store is meant to be on the disk below, run"
        f" `damocles-worker store sealing-init -l {root}`",
        waits_for=f"{mount} to be mounted",
    )


def _make_layout(root: Path) -> None:
    """Make data/ and meta/, then the marker: a directory with the marker is complete."""
    make_directory(root / DATA)
    make_directory(root / META)
    (root / HOLDER).touch(exist_ok=False)
    fsync_directory(root)


def _check_complete(root: Path) -> None:
    refuse_rocksdb(root / META)
    if not (root / HOLDER).exists():
        found = sorted(_names(root))
        raise WorkerError(
            f"{root} is not a sealing store: it has no {HOLDER}"
            + (f" but {', '.join(found[:5])}{' …' if len(found) > 5 else ''}" if found else ""),
            level=Level.CRITICAL,
            next_step="If this directory is meant, mount what belongs there or run"
            f" `damocles-worker store sealing-init -l {root}`",
        )
    missing = [name for name in (DATA, META) if not (root / name).is_dir()]
    if missing:
        adopt = (root / "meta.rust").is_dir()
        raise WorkerError(
            f"the sealing store {root} has no {' and no '.join(f'{name}/' for name in missing)}",
            level=Level.CRITICAL,
            next_step=f"An adoption was cut short: run `damocles-worker store adopt {root}` again"
            if adopt
            else "Mount it if it is a mount of its own, or restore it from a backup",
        )


def _check_writable(root: Path) -> None:
    for directory in (root / DATA, root / META):
        if os.access(directory, os.W_OK | os.X_OK):
            continue
        where = mount_point(directory)
        if is_read_only(directory):
            raise WorkerError(
                f"the sealing store {root} can't be written: the file system {where} is mounted read-only",
                level=Level.CRITICAL,
                next_step=f"Remount {where} read-write",
                waits_for=f"{where} to be writable again",
            )
        raise WorkerError(
            f"the sealing store {root} can't be written: user id {os.geteuid()} may not write {directory}",
            level=Level.CRITICAL,
            next_step=f"Give the worker's user read and write permission there (chown -R … {root})",
        )


def _check_record_not_lost(root: Path) -> None:
    """A new journal beside old sector data means that the record was lost: don't start over it."""
    database = root / META / DATABASE
    if database.exists() and database.stat().st_size > 0:
        return
    found = sorted(_names(root / DATA))
    if found:
        raise WorkerError(
            f"{root / DATA} holds {', '.join(found[:5])} but {database} is missing or empty: the record of"
            " that sector is lost",
            level=Level.CRITICAL,
            next_step=f"Restore {database} from a backup; or, to start afresh, empty {root / DATA} and abort"
            " the sector at the manager",
        )


def _names(directory: Path) -> set[str]:
    """Names in ``directory``; the empty set when it doesn't exist."""
    try:
        return {entry.name for entry in directory.iterdir()}
    except FileNotFoundError:
        return set()

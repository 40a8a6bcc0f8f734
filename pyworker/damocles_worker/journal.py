"""The journal of one sealing store: the task record and the history of its events, in SQLite.

One row holds the whole task record; every commit replaces it and appends one history row in a single
transaction that is on the medium when :meth:`Journal.commit` returns (WAL, ``synchronous=FULL``).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from msgspec import Struct

from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import (
    file_error,
    free_bytes,
    fsync_directory,
    is_read_only,
    mount_point,
    no_space,
)

DATABASE = "journal.db"
LOCK = "lock"
#: RocksDB, the database of the Rust worker, always keeps this file in its directory.
ROCKSDB_MARKER = "CURRENT"
#: History rows kept per store; the oldest go first. A sector makes about 20 rows.
HISTORY_ROWS = 20_000
#: Below this a failed write is put down to a full disk even when SQLite only says "I/O error".
FULL_DISK = 1 << 20

NEWEST_ROWS = "SELECT seq, at, sector, event, state, detail FROM history ORDER BY seq DESC LIMIT ?"

#: ``MIGRATIONS[n]`` brings the schema from version n to n + 1.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE record (id INTEGER PRIMARY KEY CHECK (id = 1), body BLOB NOT NULL)",
        """CREATE TABLE history (
               seq INTEGER PRIMARY KEY AUTOINCREMENT,
               at REAL NOT NULL,
               sector TEXT NOT NULL,
               event TEXT NOT NULL,
               state TEXT NOT NULL,
               detail TEXT NOT NULL
           )""",
    ),
    (
        """CREATE TABLE durations (
               stage TEXT NOT NULL,
               proof_type TEXT NOT NULL,
               processor TEXT NOT NULL,
               seconds REAL NOT NULL,
               PRIMARY KEY (stage, proof_type, processor)
           )""",
    ),
)
NO_DURATIONS: Mapping[tuple[str, str, str], float] = MappingProxyType({})


class HistoryRow(Struct, frozen=True):
    """One committed event; ``at`` is Unix time in seconds, ``state`` the state it led to."""

    seq: int
    at: float
    sector: str
    event: str
    state: str
    detail: str


class Journal:
    """The open journal of a store. Any thread may call it; one process has it at a time."""

    def __init__(self, directory: Path, lock: int, connection: sqlite3.Connection) -> None:
        self._directory = directory
        self._lock = lock
        self._connection = connection
        self._mutex = threading.Lock()
        self._closed = False
        status = os.fstat(lock)
        #: Device and inode of the lock file that was opened; of the one at its path now they may be others.
        self.identity = (status.st_dev, status.st_ino)

    @classmethod
    def open(cls, meta_dir: Path) -> Self:
        """Open or create the journal in ``meta_dir``, taking the store's exclusive lock.

        Raises :class:`WorkerError` (critical) when the directory belongs to the Rust worker, another
        process has the lock, the database is damaged or newer than this program, or the file system
        refuses; a full disk sets ``waits_for``.
        """
        refuse_rocksdb(meta_dir)
        lock = _take_lock(meta_dir / LOCK)
        connection: sqlite3.Connection | None = None
        try:
            # Statements run in explicit transactions; Python's implicit ones are off. The mutex
            # serialises threads, so sqlite3's own thread check is not needed.
            connection = sqlite3.connect(meta_dir / DATABASE, isolation_level=None, check_same_thread=False)
            _prepare(connection, meta_dir)
            fsync_directory(meta_dir)
        except BaseException as error:
            if connection is not None:
                connection.close()
            os.close(lock)
            if isinstance(error, sqlite3.Error):
                raise _explain(error, "open", meta_dir) from error
            raise
        return cls(meta_dir, lock, connection)

    def load(self) -> bytes | None:
        """The task record as last committed, or None."""
        with self._mutex:
            row = self._query("SELECT body FROM record").fetchone()
        return None if row is None else bytes(row[0])

    def commit(
        self,
        record: bytes | None,
        *,
        sector: str,
        event: str,
        state: str,
        detail: str,
        durations: Mapping[tuple[str, str, str], float] = NO_DURATIONS,
    ) -> int:
        """Replace the record (None removes it) and append a history row, durably and at once.

        ``durations`` are mean seconds by stage, proof type and processor that take the place of the
        ones kept. Returns the row's sequence number, never used twice in one journal. When it raises, nothing
        of it is in the journal and the call can be made again.
        """
        number = next(commit_numbers)
        with self._mutex:
            self._ensure_open()
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                if record is None:
                    self._connection.execute("DELETE FROM record")
                else:
                    self._connection.execute("INSERT OR REPLACE INTO record VALUES (1, ?)", (record,))
                cursor = self._connection.execute(
                    "INSERT INTO history (at, sector, event, state, detail) VALUES (?, ?, ?, ?, ?)",
                    (time.time(), sector, event, state, detail),
                )
                seq = int(cursor.lastrowid or 0)
                self._connection.execute("DELETE FROM history WHERE seq <= ?", (seq - HISTORY_ROWS,))
                self._connection.executemany(
                    "INSERT OR REPLACE INTO durations VALUES (?, ?, ?, ?)",
                    [(*key, seconds) for key, seconds in durations.items()],
                )
                failpoint(number, "before", event, state)
                self._connection.execute("COMMIT")
            except BaseException as error:
                # SQLite rolls some failures back by itself, others it leaves to the caller.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise _explain(error, "write", self._directory, needed=len(record or b"")) from error
                raise
        failpoint(number, "after", event, state)
        return seq

    def history(self, limit: int | None = None) -> list[HistoryRow]:
        """The last ``limit`` events (all of those kept when None), oldest first."""
        with self._mutex:
            return _rows(self._query(NEWEST_ROWS, (-1 if limit is None else limit,)))

    def durations(self) -> dict[tuple[str, str, str], float]:
        """Mean seconds by stage, proof type and processor."""
        with self._mutex:
            rows = self._query("SELECT stage, proof_type, processor, seconds FROM durations").fetchall()
        return {(stage, proof_type, processor): seconds for stage, proof_type, processor, seconds in rows}

    def close(self) -> None:
        """Close the database and give the lock back; a second call does nothing."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            self._connection.close()
            os.close(self._lock)

    def _query(self, statement: str, values: tuple[int | str, ...] = ()) -> sqlite3.Cursor:
        self._ensure_open()
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            raise _explain(error, "read", self._directory) from error

    def _ensure_open(self) -> None:
        if self._closed:
            raise WorkerError(
                f"the journal in {self._directory} is closed",
                level=Level.CRITICAL,
                next_step="Restart the worker and report this as a bug",
            )


def read_history(meta_dir: Path, limit: int | None = None) -> list[HistoryRow]:
    """Like :meth:`Journal.history`, beside a daemon that has the store open or without one.

    Raises :class:`WorkerError` when there is no readable journal in ``meta_dir``.
    """
    path = meta_dir / DATABASE
    if not path.is_file():
        raise WorkerError(
            f"{meta_dir} has no journal ({DATABASE})", next_step="Name the location of a sealing store"
        )
    try:
        database = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(database, uri=True)) as connection:
            if connection.execute("PRAGMA user_version").fetchone() == (0,):
                return []  # just being made
            return _rows(connection.execute(NEWEST_ROWS, (-1 if limit is None else limit,)))
    except sqlite3.Error as error:
        raise _explain(error, "read", meta_dir) from error


def _rows(newest_first: Iterable[tuple[Any, ...]]) -> list[HistoryRow]:
    return [HistoryRow(*row) for row in reversed(list(newest_first))]


def refuse_rocksdb(meta_dir: Path) -> None:
    """Raise :class:`WorkerError` when ``meta_dir`` is the RocksDB of the Rust worker."""
    if (meta_dir / ROCKSDB_MARKER).exists():
        raise WorkerError(
            f"{meta_dir} is the database of the Rust damocles-worker ({ROCKSDB_MARKER} is there), which this"
            " worker can't read",
            level=Level.CRITICAL,
            next_step="Let the Rust worker finish its sector and stop it, then run"
            f" `damocles-worker store adopt {meta_dir.parent}`; nothing was changed",
        )


def _take_lock(path: Path) -> int:
    """Open ``path``, lock it for this process and write the pid into it; returns the descriptor."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise file_error(error, "open the lock file", path, level=Level.CRITICAL) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        raise _held(path, holder) from None
    except OSError as error:
        os.close(descriptor)
        raise file_error(error, "lock", path, level=Level.CRITICAL) from error
    return descriptor


def _held(path: Path, holder: str) -> WorkerError:
    if holder == str(os.getpid()):
        return WorkerError(
            f"the store {path.parent.parent} is already open in this process (pid {holder})",
            level=Level.CRITICAL,
            next_step="Give every [[sealing_thread]] a location of its own",
        )
    return WorkerError(
        f"the store {path.parent.parent} is in use by the process with pid {holder or 'unknown'}",
        level=Level.CRITICAL,
        next_step="Stop that process, or give this worker another location",
    )


def _prepare(connection: sqlite3.Connection, meta_dir: Path) -> None:
    """Set the durable mode, check the database and bring its schema up to date."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(MIGRATIONS):
        raise WorkerError(
            f"{meta_dir / DATABASE} has schema version {version}; this program knows versions up to"
            f" {len(MIGRATIONS)}: a newer damocles-worker wrote it",
            level=Level.CRITICAL,
            next_step="Run that newer damocles-worker on this store; nothing was changed",
        )
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and tables:
        raise WorkerError(
            f"{meta_dir / DATABASE} is a database of another program ({tables} unknown tables and indexes)",
            level=Level.CRITICAL,
            next_step="Move it away if it is not needed; nothing was changed",
        )
    verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    if verdict != "ok":
        raise _damaged(meta_dir, verdict)
    mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
    if mode != "wal":
        raise WorkerError(
            f"the file system of {meta_dir} can't hold a write-ahead log (SQLite chose mode {mode!r})",
            level=Level.CRITICAL,
            next_step="Put the sealing store on a local file system",
        )
    connection.execute("PRAGMA synchronous = FULL")
    for target, statements in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {target}")
        connection.execute("COMMIT")


def _explain(error: sqlite3.Error, action: str, meta_dir: Path, *, needed: int | None = None) -> WorkerError:
    """The operator's words for an SQLite failure met while doing ``action``."""
    path = meta_dir / DATABASE
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    primary = code & 0xFF
    try:
        if primary == sqlite3.SQLITE_FULL or (
            primary == sqlite3.SQLITE_IOERR and free_bytes(meta_dir) < FULL_DISK
        ):
            return no_space(
                f"can't {action} the journal {path}",
                mount_point(meta_dir),
                needed=needed,
                level=Level.CRITICAL,
            )
        if is_read_only(meta_dir):
            where = mount_point(meta_dir)
            return WorkerError(
                f"can't {action} the journal {path}: the file system {where} is mounted read-only",
                level=Level.CRITICAL,
                next_step=f"Remount {where} read-write; the record as last committed is kept",
                waits_for=f"{where} to be writable again",
            )
    except OSError as missing:
        return file_error(missing, f"{action} the journal", path, level=Level.CRITICAL)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return _damaged(meta_dir, str(error))
    name = getattr(error, "sqlite_errorname", "SQLITE_ERROR")
    return WorkerError(
        f"can't {action} the journal {path}: {error} ({name})",
        level=Level.CRITICAL,
        next_step=f"Check {meta_dir}, its permissions and its disk (dmesg)",
    )


def _damaged(meta_dir: Path, reason: str) -> WorkerError:
    return WorkerError(
        f"the journal {meta_dir / DATABASE} is damaged: {' '.join(reason.split())}",
        level=Level.CRITICAL,
        next_step="It was left as it is; check the disk (dmesg). Restore it from a backup, or save what can"
        f" be saved with `sqlite3 {DATABASE} .recover`; to give the sector up instead, move {meta_dir} away,"
        " empty data/ and abort the sector at the manager",
    )


#: Of this process, over all its journals.
commit_numbers = itertools.count(1)


def failpoint(number: int, moment: str, event: str, state: str) -> None:
    """Stop here for ever when the crash tests ask for it.

    ``DAMOCLES_WORKER_FAILPOINT=journal:N:before|after:FILE``: at the N-th commit of this process,
    before or after SQLite's own commit, FILE is written (event, space, state) and the calling thread
    blocks, so that a test can kill the process at exactly this point.
    """
    order = os.environ.get("DAMOCLES_WORKER_FAILPOINT")
    if order is None:
        return
    try:
        kind, at, when, file = order.split(":", 3)
        reached = (kind, int(at), when) == ("journal", number, moment)
    except ValueError:
        raise WorkerError(
            f"DAMOCLES_WORKER_FAILPOINT is {order!r}",
            level=Level.CRITICAL,
            next_step="Expected journal:N:before|after:FILE; unset it outside of crash tests",
        ) from None
    if not reached:
        return
    with open(file, "w", encoding="utf-8") as marker:
        marker.write(f"{event} {state}\n")
        marker.flush()
        os.fsync(marker.fileno())
    threading.Event().wait()

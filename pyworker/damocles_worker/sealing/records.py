"""Where a thread keeps its task: in the journal of its store, or, for WindowPoSt, nowhere."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from damocles_worker.errors import Level, WorkerError
from damocles_worker.journal import HistoryRow, commit_numbers, failpoint
from damocles_worker.logs.secrets import without_secrets
from damocles_worker.sealing.machine import task as tasks
from damocles_worker.sealing.machine.events import Save
from damocles_worker.sealing.machine.task import Task
from damocles_worker.stores.sealing import SealingStore

log = logging.getLogger(__name__)

#: Stage, proof type, processor.
DurationKey = tuple[str, str, str]
#: History rows of WindowPoSt, which are only in memory: three for each job.
ROWS_WITHOUT_JOURNAL = 1000
#: Weight of the newest duration in the mean that is kept: older ones fade out over a few sectors.
NEWEST_WEIGHT = 0.3


#: Kept for journals: calls to a network store that doesn't answer may take up every other thread.
_THREADS = ThreadPoolExecutor(256, thread_name_prefix="journal")

Result = TypeVar("Result")


async def aside(work: Callable[..., Result], *args: object) -> Result:
    """Like :func:`asyncio.to_thread`, in a thread that only methods of :class:`Records` are given."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, lambda: context.run(work, *args))


class Records(Protocol):
    """What the loop of a thread asks of the place where its task is kept.

    ``load``, ``commit`` and ``wipe`` block: call them with :func:`aside`.
    """

    def load(self) -> Task | None:
        """The task of an earlier run, or None."""

    def commit(self, save: Save) -> None:
        """Keep the record; durable on return. Raises :class:`WorkerError`."""

    def wipe(self) -> None:
        """Remove the sector's data."""

    def expected(self, key: DurationKey) -> float | None:
        """Seconds that a stage took lately; None if it never ran."""

    def measured(self, key: DurationKey, seconds: float) -> None:
        """Take ``seconds`` into the mean kept for the stage; durable with the next commit."""


class StoreRecords:
    """Keeps the task in the store's journal."""

    def __init__(self, store: SealingStore) -> None:
        self._store = store
        self._durations = store.journal.durations()
        self._measured: dict[DurationKey, float] = {}

    def load(self) -> Task | None:
        """The task as last committed; without one the data of a finished sector are removed."""
        record = self._store.journal.load()
        if record is not None:
            return tasks.decode(record)
        self._store.wipe_data()
        return None

    def commit(self, save: Save) -> None:
        """One transaction: record, history row and what was measured since the last one."""
        self._store.journal.commit(
            tasks.encode(save.task) if save.task else None,
            sector=save.sector,
            event=save.event,
            state=save.state,
            detail=without_secrets(save.detail),
            durations=self._measured,
        )
        self._measured = {}

    def wipe(self) -> None:
        """Empty ``data/``."""
        self._store.wipe_data()

    def expected(self, key: DurationKey) -> float | None:
        """From the journal."""
        return self._durations.get(key)

    def measured(self, key: DurationKey, seconds: float) -> None:
        """Into the journal with the next commit: an estimate is not worth a commit of its own."""
        before = self._durations.get(key, seconds)
        self._durations[key] = self._measured[key] = before + NEWEST_WEIGHT * (seconds - before)


class StoreOpener:
    """Opens the store at ``location``, and opens it anew after another one was found in its place."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._replaced = False
        #: The sector under way in the store that was given back.
        self._left: str | None = None

    def give_back(self, store: SealingStore) -> None:
        """Close a store that another one took the place of; a sector under way in it is remembered."""
        self._replaced = True
        try:
            record = store.journal.load()
        except WorkerError as error:
            log.error("whether a sector is left in the journal can't be told: %s", error)
        else:
            self._left = (tasks.decode(record).job_id or None) if record is not None else None
        store.close()

    def open(self) -> SealingStore:
        """The store that is there now; blocks.

        :raises WorkerError: it can't be opened; or it doesn't hold the sector that was under way
            (``waits_for``), which would be left behind.
        """
        try:
            store = SealingStore.open(self._location, create=self._left is None)
        except WorkerError as error:
            if self._replaced and error.waits_for is None:
                # Disks are being moved: the next one may be the right one, or be free by then.
                error.waits_for = f"the store at {self._location}"
            raise
        try:
            self._refuse_another_sector(store)
        except BaseException:
            store.close()
            raise
        self._replaced, self._left = False, None
        return store

    def _refuse_another_sector(self, store: SealingStore) -> None:
        if self._left is None:
            return
        record = store.journal.load()
        found = tasks.decode(record).job_id if record is not None else None
        if found != self._left:
            raise WorkerError(
                f"{self._left} is under way in the store that was at {self._location}; the one that is there"
                f" now holds {found or 'no sector'}",
                level=Level.CRITICAL,
                next_step=f"Bring the store of {self._left} back to its place and it goes on by itself; if"
                " what is there now is meant, restart the worker",
                waits_for=f"the store of {self._left} to be back at {self._location}",
            )


class NoRecords:
    """Nothing survives a restart: the manager hands a lost job out again."""

    def __init__(self) -> None:
        self._rows: deque[HistoryRow] = deque(maxlen=ROWS_WITHOUT_JOURNAL)
        self._seq = 0
        self._durations: dict[DurationKey, float] = {}

    def load(self) -> Task | None:
        """Never anything."""
        return None

    def commit(self, save: Save) -> None:
        """Keep the history row, for as long as this process lives and it is among the newest."""
        number = next(commit_numbers)
        failpoint(number, "before", save.event, save.state)
        self._seq += 1
        row = HistoryRow(self._seq, time.time(), save.sector, save.event, save.state, save.detail)
        self._rows.append(row)
        failpoint(number, "after", save.event, save.state)

    def history(self) -> list[HistoryRow]:
        """What was committed, oldest first. Callable from any thread."""
        return list(self._rows)

    def wipe(self) -> None:
        """Nothing to remove."""

    def expected(self, key: DurationKey) -> float | None:
        """Of this process."""
        return self._durations.get(key)

    def measured(self, key: DurationKey, seconds: float) -> None:
        """For this process."""
        self._durations[key] = seconds

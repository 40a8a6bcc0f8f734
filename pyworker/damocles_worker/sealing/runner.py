"""Carrying out what the machine says: commits, manager calls, stages, sleeps, limits.

Whatever happens becomes an event. Nothing here knows a plan or decides what comes next.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.client import ManagerClient
from damocles_worker.manager.types import WorkerIdentifier
from damocles_worker.processors.scheduler import Lease
from damocles_worker.sealing import stages, telling
from damocles_worker.sealing.estimates import duration_key, seconds_left
from damocles_worker.sealing.failures import failure_of
from damocles_worker.sealing.info import Observer
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    Answered,
    AwaitResume,
    CallManager,
    Dropped,
    Event,
    Failed,
    Failure,
    Instruction,
    Notify,
    Release,
    Report,
    RunStage,
    Save,
    Sleep,
    Wipe,
)
from damocles_worker.sealing.records import DurationKey, Records, aside
from damocles_worker.sealing.stages import Services, Workbench

log = logging.getLogger(__name__)


#: Seconds that a call which only tells something may take while the operator waits.
GRACE = 0.5

#: Seconds that a stopping worker waits for a commit that was begun.
COMMIT_TIMEOUT = 5.0


class Runner:
    """The instructions of one sealing thread, and what is known about the one under way."""

    def __init__(
        self,
        services: Services,
        manager: ManagerClient,
        worker: str,
        observer: Observer | None,
        operator: asyncio.Event,
    ) -> None:
        self._services = services
        self._manager = manager
        self._worker = worker
        self._observer = observer
        self._held = contextlib.AsyncExitStack()
        self._bench: Workbench | None = None
        #: The instruction whose answer is awaited, and since when (monotonic).
        self.doing: Instruction | None = None
        self.since = time.monotonic()
        self._progress: tuple[int, int] | None = None
        #: The next stage only looks again whether what it waits for has come.
        self._looking_again = False
        #: Set while a command of the operator waits to be read.
        self._operator = operator
        #: Notices that go on by themselves, and the one that is made again and again.
        self._notices: set[asyncio.Task[bool]] = set()
        self._repeating: asyncio.Task[None] | None = None
        #: Why the record can't be saved, while that is so.
        self.trouble: Failure | None = None

    # ---- what is under way ----------------------------------------------------------------------

    @property
    def processor(self) -> str | None:
        """Who does the work of the running stage."""
        return self._processor(self.doing) if isinstance(self.doing, RunStage) else None

    @property
    def progress(self) -> tuple[int, int] | None:
        """Done and total of the running stage; None where it can't tell."""
        return self._progress if isinstance(self.doing, RunStage) else None

    def eta(self, records: Records | None) -> float | None:
        """Seconds until the running stage ends; None where nothing is known."""
        if not isinstance(self.doing, RunStage):
            return None
        expected = records.expected(self._duration_key(self.doing)) if records else None
        return seconds_left(time.monotonic() - self.since, expected, self._progress)

    def _duration_key(self, running: RunStage) -> DurationKey:
        return duration_key(running, self._processor(running))

    def _processor(self, running: RunStage) -> str | None:
        return self._bench.processor(running.stage) if self._bench else None

    # ---- without an answer ----------------------------------------------------------------------

    async def settle(
        self, todo: list[Instruction], bench: Workbench, records: Records, *, shared: bool = False
    ) -> Event | None:
        """Carry out what needs no answer; an answer all the same (the manager drops the sector) ends it.

        ``shared``: that the sector's work is over at the manager was another task's, and is no news here.

        An operator who waits does not wait for the manager to listen.
        """
        if self._repeating is not None and not isinstance(todo[-1], AwaitResume):
            self._repeating.cancel()
        for instruction in todo:
            match instruction:
                case Save():
                    await self._save(instruction, bench, records)
                case Notify():
                    await self._notify(instruction, bench.policy.recover_interval)
                case Release():
                    await self.release()
                case Wipe():
                    await aside(records.wipe)
                case Report():
                    identity = WorkerIdentifier(self._worker, bench.location)
                    event = await self._report(instruction, identity)
                    over = shared and isinstance(event, Dropped) and not event.aborted
                    if event is not None and (instruction.confirm or not over):
                        return event
                case _:
                    return None
        return None

    async def _notify(self, notice: Notify, pause: float) -> None:
        telling_it = asyncio.create_task(telling.notify(self._manager, notice))
        self._notices.add(telling_it)
        telling_it.add_done_callback(self._notices.discard)
        if await self._listened(telling_it) and not telling_it.result() and notice.repeat:
            self._repeating = asyncio.create_task(telling.repeat(self._manager, notice, pause))

    async def _report(self, report: Report, identity: WorkerIdentifier) -> Event | None:
        """A report that comes too late would hide a newer one, so it is cut; one that asks is waited for."""
        call = telling.report(self._manager, identity, report)
        if report.confirm:
            return await call
        telling_it = asyncio.create_task(call)
        try:
            if await self._listened(telling_it):
                return telling_it.result()
            log.warning("%s: state not reported: the manager takes long", report.task.sector_text)
            return None
        finally:
            telling_it.cancel()

    async def _listened(self, call: asyncio.Task[Any]) -> bool:
        """Wait for a call to the manager; False once an operator has waited :data:`GRACE` seconds for it."""
        operator = asyncio.create_task(self._operator.wait())
        try:
            await asyncio.wait({call, operator}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            operator.cancel()
        if not call.done():
            await asyncio.wait({call}, timeout=GRACE)
        return call.done()

    def close(self) -> None:
        """Tell nothing more."""
        for notice in (*self._notices, self._repeating):
            if notice is not None:
                notice.cancel()

    async def release(self) -> None:
        """Give back the limit that is held, if any."""
        if self._bench:
            self._bench.lease = None
        await self._held.aclose()

    async def _save(self, save: Save, bench: Workbench, records: Records) -> None:
        """Nothing goes on before the record is durable: a full or broken disk is waited out here."""
        while True:
            try:
                await _whole(aside(records.commit, save))
            except WorkerError as error:
                self.trouble = failure_of(error)
                log.error("the record can't be saved: %s", error)
                await asyncio.sleep(bench.policy.recover_interval)
            else:
                self.trouble = None
                log.log(
                    logging.WARNING if save.warning else logging.INFO,
                    "%s -> %s %s",
                    save.event,
                    save.state,
                    save.detail,
                )
                return

    # ---- with an answer -------------------------------------------------------------------------

    def begin(self, instruction: Instruction, bench: Workbench, records: Records) -> asyncio.Task[Event]:
        """Start an instruction; the task ends with its event."""
        self.doing, self._bench = instruction, bench
        self.since = time.monotonic()
        self._progress = None
        return asyncio.create_task(self._timed(instruction, bench, records))

    def rest(self) -> None:
        """Nothing is under way."""
        self.doing = None
        self.since = time.monotonic()

    async def _timed(self, instruction: Instruction, bench: Workbench, records: Records) -> Event:
        """Carry an instruction out and remember how long it took; a cancelled one is not counted."""
        started = time.monotonic()
        event = await self._perform(instruction, bench)
        seconds = time.monotonic() - started
        if isinstance(instruction, RunStage) and isinstance(event, Answered):
            records.measured(self._duration_key(instruction), seconds)
        if self._observer and isinstance(instruction, RunStage):
            level = event.failure.level.value if isinstance(event, Failed) else None
            self._observer.stage_ended(instruction.stage, self._processor(instruction), seconds, level)
        elif self._observer and isinstance(instruction, AcquireLimit):
            self._observer.stage_waited(instruction.stage, seconds)
        return event

    async def _perform(self, instruction: Instruction, bench: Workbench) -> Event:
        """Carry out an instruction that has an answer; whatever goes wrong becomes a failure."""
        try:
            match instruction:
                case AcquireLimit(stage, patience):
                    # Before, since who waits holds nothing.
                    await bench.settled()
                    bench.lease = await self._take_place(stage, patience)
                    return Answered()
                case CallManager(method, args):
                    return Answered(await getattr(self._manager, method)(*args))
                case RunStage(stage, task, args):
                    await bench.settled()
                    # An idle thread looks for space each time it asks for work.
                    quiet = self._looking_again or stage == "reserve_space"
                    log.log(logging.DEBUG if quiet else logging.INFO, "%s started", stage)
                    output = await stages.run(bench, stage, task, args, self._on_progress)
                    self._looking_again = False
                    return Answered(output)
                case Sleep(seconds, kind=kind):
                    self._looking_again = kind == "blocked"
                    await asyncio.sleep(seconds)
                    return Answered()
                case AwaitResume():
                    await asyncio.get_running_loop().create_future()
                    raise AssertionError("unreachable")
                case _:
                    raise TypeError(f"{instruction} has no answer")
        except Exception as error:
            return Failed(failure_of(error))

    async def _take_place(self, stage: str, patience: float | None) -> Lease:
        try:
            async with asyncio.timeout(patience):
                return await self._held.enter_async_context(self._services.limits.hold(stage))
        except TimeoutError:
            raise WorkerError(
                f"no processor of {stage} had a place within {patience:g} s"
                f" ({self._services.processors.situation(stage)})",
                level=Level.PERMANENT,
                next_step="Look at `damocles-worker worker processors`; limitation.concurrent and ext_locks"
                " say how many work at once",
            ) from None

    def _on_progress(self, done: int, total: int) -> None:
        self._progress = (done, total)
        if self._looking_again and done and isinstance(self.doing, RunStage):
            self._looking_again = False
            log.info("%s goes on", self.doing.stage)


async def _whole(commit: Coroutine[Any, Any, None]) -> None:
    """A commit that was begun is waited for, whatever else is cancelled meanwhile."""
    writing = asyncio.create_task(commit)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        await asyncio.wait({writing}, timeout=COMMIT_TIMEOUT)
        raise

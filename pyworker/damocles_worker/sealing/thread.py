"""A sealing thread: one sector after another, and the operator's hand on it.

The machine decides what is next, the runner does it; this loop brings the events of both worlds, the
runner's answers and the operator's commands, to the machine. Nothing here knows a plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from damocles_worker.config.settings import Thread
from damocles_worker.errors import Level, WorkerError
from damocles_worker.journal import HistoryRow
from damocles_worker.logs import place
from damocles_worker.logs.place import Place
from damocles_worker.manager.client import ManagerClient
from damocles_worker.sealing.active import ActiveSettings
from damocles_worker.sealing.failures import failure_of
from damocles_worker.sealing.heartbeat import Heartbeat, hand_back, job_to_hold
from damocles_worker.sealing.info import Observer, ThreadInfo
from damocles_worker.sealing.machine import step as machine_step
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    Drain,
    End,
    Event,
    Failure,
    Instruction,
    Pause,
    Release,
    Resume,
    Save,
    SettingsChanged,
    Sleep,
)
from damocles_worker.sealing.machine.plan import Ask, Context, Plan
from damocles_worker.sealing.machine.step import Machine
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.mailbox import Command, Mailbox
from damocles_worker.sealing.plans import plan_named
from damocles_worker.sealing.records import NoRecords, Records, StoreOpener, StoreRecords, aside
from damocles_worker.sealing.runner import Runner
from damocles_worker.sealing.stages import Services, Workbench
from damocles_worker.stores.sealing import SealingStore

log = logging.getLogger(__name__)

#: The one plan that keeps no record and works in no store.
WITHOUT_STORE = "wdpost"
#: Ends of a run that was not about a sector.
WITHOUT_SECTOR = ("idle", "changed", "drained")
#: Seconds that a stopping worker waits for the answer to a call that must not be repeated.
LAST_ANSWER_TIMEOUT = 5.0


class BlindDrainError(WorkerError):
    """A thread that is to be drained can't find out whether it has a sector to finish."""


class SealingThread:
    """One ``[[sealing_thread]]``: its store, its settings and the sector it is working on.

    :param refresh: called before each run; answers the settings in force now and what to show of them.
    """

    def __init__(
        self,
        config: Thread,
        services: Services,
        manager: ManagerClient,
        instance: str,
        refresh: Callable[[Thread], tuple[Thread, Failure | None]],
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer
        self.config = config
        self._active = ActiveSettings(config, refresh)
        self._services = services
        if config.location is not None:
            services.adoption.expect(config.index)
        self._manager = manager
        self._instance = instance
        self._mailbox = Mailbox()
        self._draining = False
        self._store: SealingStore | None = None
        self._records: Records | None = None
        self._opener = StoreOpener(config.location or "")
        #: For a plan that keeps no record, also in a thread that has a store; measured durations live here.
        self._no_records = NoRecords()
        self._heartbeat = Heartbeat(manager, instance)
        self._runner = Runner(services, manager, instance, observer, self._mailbox.waiting)
        self._machine: Machine | None = None
        #: An error outside of a task: the store can't be opened.
        self._trouble: Failure | None = None
        #: Why the last run got no work, where that is somebody's to mend.
        self._no_work: Failure | None = None
        self._paused_outside = False
        self._place = Place(config.index)

    # ---- for the operator -----------------------------------------------------------------------

    @property
    def store(self) -> SealingStore | None:
        """The open store, once the thread has started."""
        return self._store

    def check_store(self) -> None:
        """Raise :class:`WorkerError` when its store is not open, or not there. Blocks."""
        store = self._store
        if store is None:
            raise WorkerError(
                f"the sealing store {self.config.location} is not open",
                next_step="The thread's own error says why, if it is not just starting",
            )
        store.check()

    def history(self, limit: int) -> list[HistoryRow]:
        """The newest ``limit`` events, oldest first: of the journal, and of WindowPoSt jobs of this process.

        Jobs are in no journal and counted by themselves. Blocks.
        """
        rows = self._store.journal.history(limit) if self._store else []
        rows = sorted([*rows, *self._no_records.history()], key=lambda row: row.at)
        return rows[max(0, len(rows) - limit) :]

    def pause(self) -> bool:
        """Ask for a pause; False when one is already asked for."""
        return self._mailbox.put(Pause())

    def resume(self, state: str | None) -> str | None:
        """Resume a paused thread; answers why that is refused, or None. A refusal changes nothing."""
        if self._stopped_outside():
            if state is not None:
                why = self._trouble.cause if self._trouble else "paused between two sectors"
                return f"state {state} can't be set: no task is loaded ({why})"
        elif self._machine is None:
            return "the thread is not paused"
        elif refused := machine_step.check_resume(self._machine, state):
            return refused
        self._mailbox.put(Resume(state))
        return None

    def drain(self) -> None:
        """Finish what is assigned, take nothing new, then let :meth:`run` end."""
        if not self._draining:
            self._draining = True
            self._mailbox.put(Drain())

    def info(self) -> ThreadInfo:
        """A snapshot for ``worker list``, the ping and the metrics."""
        machine, runner = self._machine, self._runner
        failure = (machine.failure if machine else self._no_work) or runner.trouble or self._trouble
        errors = [self._error_text(failure)] if failure else []
        if self._active.error:
            errors.append(self._active.error.text)
        return ThreadInfo(
            index=self.config.index,
            location=self.config.location or "-",
            plan=machine.plan.name if machine else self._active.settings.plan,
            job_id=(machine.task.job_id or None) if machine else None,
            job_state=machine.task.state if machine else "",
            job_stage=machine.stage if machine else None,
            state=self._thread_state(),
            elapsed=time.monotonic() - runner.since,
            processor=runner.processor,
            last_error="; ".join(errors) or None,
            progress=runner.progress,
            eta=runner.eta(self._no_records if self._without_store() else self._records),
            draining=self._draining,
        )

    def _thread_state(self) -> str:
        if self._stopped_outside() or (self._machine and self._machine.activity in ("paused", "blocked")):
            return "Paused"
        match self._runner.doing:
            case None | Sleep(kind="idle"):
                return "Idle"
            case AcquireLimit():
                return "Waiting"
            case _:
                return "Running"

    def _stopped_outside(self) -> bool:
        """Whether no task is loaded because of a pause, or of a cause that is waited for."""
        blocked = self._trouble is not None and self._trouble.waits_for is not None
        return self._machine is None and (self._paused_outside or blocked)

    def _waits_for_work(self) -> bool:
        """Not while it waits for a place, which may take hours."""
        waiting = isinstance(self._runner.doing, AcquireLimit)
        return self._machine is not None and machine_step.waits_for_work(self._machine) and not waiting

    def _without_store(self) -> bool:
        return self._machine is not None and self._machine.plan.name == WITHOUT_STORE

    def _error_text(self, failure: Failure) -> str:
        if not failure.waits_for:
            return failure.text
        every = self._active.settings.sealing.recover_interval
        return f"{failure.text} (waiting for {failure.waits_for}; looked at again every {every:g} s)"

    # ---- the loop -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until cancelled, or until a drain has nothing left to finish.

        It never ends otherwise: every failure is shown and waited out.

        :raises BlindDrainError: while it is drained its store can't be opened.
        """
        self._place = place.enter(self.config.index)
        watching = asyncio.create_task(self._active.watch(lambda: self._store, self._waits_for_work))
        try:
            while await self._runs():
                pass
        finally:
            watching.cancel()
            self._runner.close()
            await self._heartbeat.close()

    async def _runs(self) -> bool:
        """One run and the pause after it; False when the thread is drained."""
        pause: float | None = self._active.settings.sealing.seal_interval
        try:
            outcome = await self._one_run()
            if outcome == "drained":
                log.info("drained")
                return False
            # A changed setting is waited for; a drain asks what is left to do at once.
            at_once = outcome == "changed" or self._draining
            pause = 0.0 if at_once else self._active.settings.sealing.seal_interval
        except Exception as error:
            trouble = failure_of(error)
            if trouble != self._trouble:
                log.error("%s: %s", self.config.location, trouble.text)
            self._trouble, self._no_work = trouble, None
            pause = self._active.settings.sealing.recover_interval if trouble.waits_for else None
            if self._draining and pause is None:
                raise BlindDrainError(
                    f"{self.config.location} is not known to be drained, there may be a sector left in it:"
                    f" {trouble.cause}",
                    level=Level.CRITICAL,
                    next_step=trouble.next_step,
                ) from error
        finally:
            self._services.adoption.settled(self.config.index)
            await self._runner.release()
            self._runner.rest()
            self._machine = None
            self._place.is_at(None, None)
        await self._between_runs(pause)
        return True

    async def _between_runs(self, seconds: float | None) -> None:
        """Sleep, or wait to be resumed when ``seconds`` is None; a pause turns the one into the other."""
        while True:
            self._paused_outside = seconds is None
            try:
                event = await asyncio.wait_for(self._mailbox.get(), seconds)
            except TimeoutError:
                return
            if isinstance(event, Pause):
                seconds = None
                self._runner.rest()
            else:
                self._paused_outside = False
                if isinstance(event, Resume):
                    self._trouble = None
                return

    async def _one_run(self) -> str:
        """From the record, or from nothing, to the end of a sector; answers how it ended."""
        await self._leave_replaced_store()
        await self._active.renew(self._store)
        plan = plan_named(self._active.settings.plan)
        records = await self._open_records(plan)
        task = await aside(records.load) or Task(plan=plan.name)
        plan = plan_named(task.plan)
        if plan.name == WITHOUT_STORE:
            # Also in a thread that has a store, where the hot file chose this plan.
            records = self._no_records
        # A disk that goes away is nothing to a task that uses none.
        store = None if plan.name == WITHOUT_STORE else self._store
        bench = Workbench(self._services, store, self._active.settings.sealing)
        if store:
            await asyncio.to_thread(bench.check_store)
            await asyncio.to_thread(bench.adopt_space, task)
        self._services.adoption.settled(self.config.index)
        self._trouble = None
        machine, todo = machine_step.start(
            plan, task, self._context(), draining=self._draining, failure=self._no_work
        )
        return await self._drive(machine, todo, bench, records)

    async def _leave_replaced_store(self) -> None:
        """Close a store that another one took the place of."""
        store = self._store
        if store is None:
            return
        with contextlib.suppress(WorkerError):
            await asyncio.to_thread(store.check)
        if store.replaced:
            self._store = self._records = None
            self._services.space.release(str(store.root))
            await asyncio.to_thread(self._opener.give_back, store)

    async def _open_records(self, plan: Plan) -> Records:
        if self._records is None:
            if self.config.location is None:
                if plan.name != WITHOUT_STORE:
                    raise WorkerError(
                        f"plan {plan.name} needs a location and thread {self.config.index} has none",
                        level=Level.CRITICAL,
                        next_step="Set location of this [[sealing_thread]] and restart",
                    )
                self._records = self._no_records
            else:
                if self._store is None:
                    self._store = await asyncio.to_thread(self._opener.open)
                self._records = await asyncio.to_thread(StoreRecords, self._store)
        return self._records

    async def _drive(
        self, machine: Machine, todo: list[Instruction], bench: Workbench, records: Records
    ) -> str:
        """Have instructions carried out and feed what happens back, until the run ends."""
        running: asyncio.Task[Event] | None = None
        try:
            while True:
                self._machine = machine
                self._place.is_at(machine.task.job_id, machine.stage)
                self._heartbeat.follow(job_to_hold(machine))
                event: Event | None = None
                command: Command | None = None
                if running is None:
                    event = await self._runner.settle(todo, bench, records, shared=machine.plan.shared)
                    if event is None and isinstance(todo[-1], End):
                        self._no_work = machine.failure if todo[-1].outcome == "idle" else None
                        if machine.pause_requested:
                            # The task ended before the pause could act: the next one does not begin.
                            self._mailbox.put(Pause())
                        if self._observer and todo[-1].outcome not in WITHOUT_SECTOR:
                            self._observer.sector_ended(machine.plan.name, todo[-1].outcome)
                        return todo[-1].outcome
                    command = self._mailbox.take() if event is None else None
                    event = event or command
                    if event is None:
                        if machine_step.waits_for_work(machine):
                            bench.release_space(machine.task)
                        running = self._runner.begin(todo[-1], bench, records)
                if event is None:
                    assert running is not None
                    event = await self._next_event(running)
                if self._store is not None and self._store.replaced and not self._without_store():
                    # Nothing is asked for or written any more: what is there now has to be opened.
                    await asyncio.to_thread(self._store.check)
                answered = running.done() if running is not None else command is None
                if running is not None and answered and machine_step.waits_for_work(machine):
                    # The end of a wait for work is when a changed hot file is noticed.
                    event = SettingsChanged() if await self._active.renew(self._store) else event
                if isinstance(event, Resume) and not machine.task.assigned:
                    # What is taken next is taken under the settings of this moment.
                    event = SettingsChanged()
                shown = machine.failure
                take = machine_step.step if command is None else machine_step.step_before
                machine, then = take(machine, event, self._context())
                if machine.failure is not None and machine.failure != shown:
                    log.warning("%s", self._error_text(machine.failure))
                if not then and answered:
                    raise RuntimeError(f"no way on from {event} in {machine.task.state}")
                # A command that changes nothing leaves what is still to begin.
                todo = then or todo[-1:]
                if then and running is not None:
                    await _cancel(running)
                    running = None
                    if machine.held is None and not any(isinstance(done, Release) for done in todo):
                        await self._runner.release()
        except asyncio.CancelledError:
            if running is not None:
                machine = await self._last_answer(machine, running, records)
            await hand_back(self._manager, machine)
            raise
        finally:
            self._heartbeat.follow(None)
            if running is not None:
                await _cancel(running)
            self._machine = machine
            bench.release_space(machine.task)

    async def _last_answer(self, machine: Machine, running: asyncio.Task[Event], records: Records) -> Machine:
        """The worker is being stopped: what the manager hands out at this moment is journaled first.

        It would be lost otherwise, since a second call is answered with something else.
        """
        if not (isinstance(machine.move, Ask) and machine.move.once):
            return machine
        await asyncio.wait({running}, timeout=LAST_ANSWER_TIMEOUT)
        if not running.done():
            log.warning("%s was not answered: what it hands out is lost", machine.move.method)
            return machine
        machine, todo = machine_step.step(machine, running.result(), self._context())
        if todo and isinstance(todo[0], Save):
            try:
                await aside(records.commit, todo[0])
            except WorkerError as error:
                log.error("%s is lost, the record can't be saved: %s", machine.task.job_id, error)
        return machine

    async def _next_event(self, running: asyncio.Task[Event]) -> Event:
        """What comes first: the answer, or the operator."""
        command = asyncio.create_task(self._mailbox.waiting.wait())
        try:
            await asyncio.wait({running, command}, return_when=asyncio.FIRST_COMPLETED)
            return running.result() if running.done() else await self._mailbox.get()
        finally:
            command.cancel()

    def _context(self) -> Context:
        return Context(
            now=time.time(),
            policy=self._active.settings.sealing,
            stores=self._services.writable_stores,
            worker=self._instance,
            location=self.config.location or "-",
        )


async def _cancel(running: asyncio.Task[Event]) -> None:
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


__all__ = ["BlindDrainError", "SealingThread", "ThreadInfo"]

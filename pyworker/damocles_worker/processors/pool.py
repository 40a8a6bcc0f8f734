"""The executor of a daemon: every stage runs in its children if it has any, else in this process."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from damocles_worker import _native
from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors import dump, supervisor
from damocles_worker.processors.guard import Guard
from damocles_worker.processors.inflight import Progress
from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.isolation import Isolation
from damocles_worker.processors.scheduler import Lease, Scheduler, Slot
from damocles_worker.processors.spec import DAEMONS, ChildSpec
from damocles_worker.processors.supervisor import ChildStatus, Supervisor

log = logging.getLogger(__name__)

#: Seconds between two looks at a cancel flag.
_LOOK = 0.25

Result = TypeVar("Result")


class Pool:
    """All processors of one daemon.

    :param specs: the children of every table, in the order they are started.
    :param scheduler: gives out children; the pool adds them to it.
    :param inprocess: runs the stages without children.
    """

    def __init__(
        self,
        specs: Mapping[str, Sequence[ChildSpec]],
        scheduler: Scheduler,
        inprocess: InProcess,
        isolation: Isolation | None = None,
        first_pause: float = supervisor.FIRST_PAUSE,
    ) -> None:
        self._specs = [spec for children in specs.values() for spec in children]
        self._scheduler = scheduler
        self._inprocess = inprocess
        self._isolation = isolation or Isolation(guard=Guard())
        self._first_pause = first_pause
        self._by_slot: dict[Slot, Supervisor] = {}
        self._supervisors: list[Supervisor] = []
        self._stages: dict[str, list[Supervisor]] = {}
        #: Requests that were cancelled and that a child may still be working on, by their owner.
        self._unfinished: dict[str, set[asyncio.Task[bytes]]] = {}
        for spec in self._specs:
            self._add(spec)

    def _add(self, spec: ChildSpec) -> None:
        if spec.table == DAEMONS:
            child = self._supervisor(spec, lambda _up: None, lambda _why: None)
        else:
            slot = self._scheduler.add_child(spec.stage, spec.concurrent, spec.locks)
            child = self._supervisor(
                spec,
                lambda up: self._scheduler.set_up(slot, up),
                lambda why: self._scheduler.set_gone(slot, why),
            )
            self._by_slot[slot] = child
            self._stages.setdefault(spec.stage, []).append(child)
        self._supervisors.append(child)

    def _supervisor(
        self, spec: ChildSpec, on_change: Callable[[bool], None], on_gone: Callable[[str], None]
    ) -> Supervisor:
        return Supervisor(spec, self._isolation, on_change, on_gone, self._first_pause)

    async def start(self) -> None:
        """Start all children, one after the other, and remove what dead daemons left behind.

        Raises :class:`~damocles_worker.errors.WorkerError` naming the key of the first that can't be
        used; the others are ended then.
        """
        await asyncio.to_thread(self._isolation.remove_orphans, self._specs)
        try:
            for child in self._supervisors:
                await child.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all children; their groups are removed."""
        await asyncio.gather(*(child.stop() for child in self._supervisors))
        for owner in list(self._unfinished):
            await self.settled(owner)
        await asyncio.to_thread(self._isolation.close)

    def is_external(self, stage: str) -> bool:
        """Whether ``stage`` runs in children; files they are to read must have a path or URL then."""
        return stage in self._stages

    def is_foreign(self, stage: str) -> bool:
        """Whether a program of others serves ``stage``."""
        return any(not child.spec.is_ours for child in self._stages.get(stage, ()))

    def environments(self, stage: str) -> list[Mapping[str, str]]:
        """The environment of each process that ``stage`` may run in."""
        children = self._stages.get(stage)
        if not children:
            return [os.environ]
        return [child.spec.environment(None, None) for child in children]

    def name(self, stage: str, lease: Lease | None = None) -> str:
        """What ``worker list`` shows as the processor of ``stage``: the child, if ``lease`` has one."""
        children = self._stages.get(stage)
        if not children:
            return self._inprocess.name(stage)
        if lease is not None and lease.stage == stage and lease.worker is not None:
            return self._by_slot[lease.worker].name
        return children[0].name if len(children) == 1 else f"ext({len(children)} children)"

    def situation(self, stage: str) -> str:
        """What the processors of ``stage`` are doing, in a few words, for an error."""
        children = [child.status() for child in self._stages.get(stage, ())]
        if not children:
            return f"{self._inprocess.name(stage)} is at work on as much as limitation.concurrent allows"
        return "; ".join(
            f"{child.path}: {child.state}, {child.tasks} tasks"
            + (f", {child.last_error}" if child.last_error else "")
            for child in children
        )

    async def run(
        self,
        stage: str,
        task: bytes,
        *,
        progress: Progress | None = None,
        cancel: _native.Cancel | None = None,
        lease: Lease | None = None,
        owner: str | None = None,
    ) -> bytes:
        """Run ``stage`` on the task JSON ``task`` and return the output JSON.

        ``lease`` is what :meth:`Scheduler.hold` gave for this stage: its child does the work and is free
        for others when it has answered. Without one a child is waited for here. Raises
        :class:`~damocles_worker.errors.WorkerError` (``waits_for`` when the lease's child went down
        meanwhile: ask for another lease), and :class:`_native.Cancelled` when somebody set ``cancel``.

        A cancelled run ends at once, while its child may still be working: child, locks and place are
        given back when it no longer does, which is what :meth:`settled` of its ``owner`` waits for.
        """
        if stage not in self._stages:
            return await self._inprocess.run(stage, task, progress=progress, cancel=cancel)
        if lease is not None and lease.stage == stage and lease.slot is not None:
            try:
                return await self._request(lease, task, progress, cancel, owner)
            finally:
                lease.release_child()
        async with self._scheduler.child(stage) as own:
            if lease is not None and lease.stage == stage:
                lease.worker = own.slot
            return await self._request(own, task, progress, cancel, owner)

    async def settled(self, owner: str) -> None:
        """Wait until no child works on a cancelled request of ``owner``, whose files it may be writing."""
        if owner in self._unfinished:
            log.info("waiting until a processor has ended its work on a cancelled request of %s", owner)
        while owner in self._unfinished:
            await asyncio.wait(self._unfinished[owner])

    async def call(
        self,
        stage: str,
        work: Callable[[_native.Cancel], Result],
        *,
        cancel: _native.Cancel | None = None,
        grace: float | None = None,
    ) -> Result:
        """Run ``work`` in a thread of this process; see :meth:`InProcess.call`."""
        return await self._inprocess.call(stage, work, cancel=cancel, grace=grace)

    def status(self) -> list[ChildStatus]:
        """All external processors, in the order they were started."""
        return [child.status() for child in self._supervisors]

    def current_pid(self, pid: int) -> int:
        """The pid of the child that took the place of the child ``pid`` (itself if that is not known)."""
        for child in self._supervisors:
            if pid in child.pids:
                return child.pids[-1]
        return pid

    def dump_variable(self, name: str) -> str:
        """The variable that ``name`` stands for: ``DUMP_ERR_RESP_<pid>`` follows its child over restarts."""
        pid = name.removeprefix(dump.PREFIX)
        if pid == name or not pid.isdecimal():
            return name
        return dump.variable(self.current_pid(int(pid)))

    async def _request(
        self,
        lease: Lease,
        task: bytes,
        progress: Progress | None,
        cancel: _native.Cancel | None,
        owner: str | None,
    ) -> bytes:
        slot = lease.slot
        assert slot is not None
        name = self._by_slot[slot].name
        if not slot.up:
            # Not waited for here, with a place in the stage that another child could use.
            raise WorkerError(
                f"{name} went down before it got its task",
                level=Level.TEMPORARY,
                next_step="The stage is tried again as soon as there is a processor for it",
                waits_for=f"a processor of {slot.stage}",
            )
        started = time.monotonic()
        request = asyncio.ensure_future(self._by_slot[slot].request(task, progress))
        try:
            while cancel is not None and not (await asyncio.wait({request}, timeout=_LOOK))[0]:
                if cancel.cancelled:
                    raise _native.Cancelled(f"{name} was asked to stop")
            output = await asyncio.shield(request)
            log.info("%s took %.3f s for %s", name, time.monotonic() - started, slot.stage)
            return output
        finally:
            if not request.done():
                request.cancel()
                lease.keep_until(request)
                self._remember(request, owner or "")

    def _remember(self, request: asyncio.Task[bytes], owner: str) -> None:
        unfinished = self._unfinished.setdefault(owner, set())
        unfinished.add(request)

        def forget(request: asyncio.Task[bytes]) -> None:
            # What became of it is no news to anybody.
            _ = request.cancelled() or request.exception()
            unfinished.discard(request)
            if not unfinished:
                del self._unfinished[owner]

        request.add_done_callback(forget)

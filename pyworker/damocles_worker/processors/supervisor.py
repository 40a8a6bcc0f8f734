"""Keeps one ``[[processors.<stage>]]`` alive: starts its child, and again for as long as it takes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.processors import dump, parent
from damocles_worker.processors.inflight import Progress
from damocles_worker.processors.isolation import Isolation
from damocles_worker.processors.parent import ChildProcess
from damocles_worker.processors.spec import ChildSpec

log = logging.getLogger(__name__)

#: Seconds before the first new start after an end; doubled for each further one up to the longest.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: A child that answered something, or lived this long (seconds), was all right: pauses start anew.
PROVED_AFTER = 60.0


class ChildStatus(Struct, frozen=True):
    """What ``worker list`` and the metrics show of an external processor. Times in seconds."""

    #: ``processors.pc1[0]``.
    path: str
    stage: str
    index: int
    program: str
    #: That of the last child while there is none.
    pid: int | None
    #: ``starting``, ``ready``, ``ending`` (gets no new tasks), ``restarting`` or ``ended``.
    state: str
    #: How long it has been in this state, or will stay in it (``restarting``).
    state_for: float
    restarts: int
    tasks: int
    concurrent: int | None
    locks: tuple[str, ...]
    #: How long it has said nothing while a task waits. A child is never ended for silence.
    silent_for: float
    #: Cpus and memory policy that the kernel reports, and what binds it.
    cpus: str
    bound_by: str
    memory: str
    #: What was asked for and not given: cpuset, NUMA node.
    problems: tuple[str, ...]
    #: What is in force by lesser means than it could be, and why.
    notes: tuple[str, ...]
    #: Lines of it that fit no request, and the last trouble of any kind.
    bad_lines: int
    last_error: str


class Supervisor:
    """One configured child.

    :param on_change: called with whether it takes tasks, whenever that may have changed.
    :param on_gone: called with why, when it won't be started again.
    """

    def __init__(
        self,
        spec: ChildSpec,
        isolation: Isolation,
        on_change: Callable[[bool], None],
        on_gone: Callable[[str], None],
        first_pause: float = FIRST_PAUSE,
    ) -> None:
        self.spec = spec
        #: Process ids that this processor had, the newest last.
        self.pids: list[int] = []
        self._isolation = isolation
        self._on_change = on_change
        self._on_gone = on_gone
        self._first_pause = first_pause
        # Ids go on counting over restarts, so that a late answer can't be taken for a new one's.
        self._ids = itertools.count(1)
        self._child: ChildProcess | None = None
        self._last: ChildProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._restarts = 0
        self._bad_lines = 0
        self._last_error = ""
        self._since = time.monotonic()
        self._until: float | None = None
        self._ended = False

    @property
    def name(self) -> str:
        """``ext(pid: 1)``, as ``worker list`` shows it."""
        return f"ext(pid: {self.pids[-1]})" if self.pids else "ext"

    async def start(self) -> None:
        """Start the first child. Raises :class:`WorkerError` naming the key of the configuration."""
        child = await self._start_child()
        self._keeper = asyncio.get_running_loop().create_task(self._keep(child), name=self.spec.path)

    async def stop(self) -> None:
        """End the child and start no other."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        if self._child is not None:
            await self._child.stop()
            self._child = None

    async def request(self, task: bytes, progress: Progress | None) -> bytes:
        """Have the child compute; see :meth:`ChildProcess.request`."""
        if self._child is None:
            raise WorkerError(
                f"{self.name} is down: {self._last_error}",
                next_step="The stage is tried again as soon as it is back",
                waits_for=f"a processor of {self.spec.stage}",
            )
        return await self._child.request(task, progress)

    def status(self) -> ChildStatus:
        """A snapshot."""
        child = self._last
        state, since = self._state()
        requests = child.requests if child is not None else None
        live = self._child.requests if self._child is not None else None
        placement = child.placement if child is not None else None
        return ChildStatus(
            path=self.spec.path,
            stage=self.spec.stage,
            index=self.spec.index,
            program=self.spec.program,
            pid=self.pids[-1] if self.pids else None,
            state=state,
            state_for=since,
            restarts=self._restarts,
            tasks=len(requests) if requests is not None else 0,
            concurrent=self.spec.concurrent,
            locks=self.spec.locks,
            silent_for=requests.silent_for if requests is not None else 0.0,
            cpus=placement.cpus if placement else "",
            bound_by=placement.bound_by if placement else "",
            memory=placement.memory if placement else "",
            problems=placement.problems if placement else (),
            notes=placement.notes if placement else (),
            bad_lines=self._bad_lines + (live.troubles if live is not None else 0),
            last_error=(live.trouble if live is not None else "") or self._last_error,
        )

    def _state(self) -> tuple[str, float]:
        now = time.monotonic()
        if self._ended:
            return "ended", now - self._since
        if self._child is not None:
            return ("ready" if self._child.is_up else "ending"), now - self._since
        if self._until is not None:
            return "restarting", max(0.0, self._until - now)
        return "starting", now - self._since

    async def _start_child(self) -> ChildProcess:
        self._since, self._until = time.monotonic(), None
        child = await parent.start(self.spec, self._isolation, self._ids)
        if self.pids:
            dump.move(self.pids[-1], child.pid)
        self.pids.append(child.pid)
        self._since = time.monotonic()
        self._child = self._last = child
        child.on_change = self._report
        self._report()
        return child

    def _report(self) -> None:
        self._on_change(self._child is not None and self._child.is_up)

    async def _keep(self, child: ChildProcess) -> None:
        """Wait for the end of each child, and start the next."""
        pause = self._first_pause
        while True:
            cause = await asyncio.shield(child.ended)
            self._child = None
            self._bad_lines += child.requests.troubles
            self._report()
            if child.requests.answered or time.monotonic() - child.started_at >= PROVED_AFTER:
                pause = self._first_pause
            self._note(f"{child.name} {cause}")
            if not self.spec.auto_restart:
                self._ended, self._since = True, time.monotonic()
                self._on_gone(f"{self._last_error} (auto_restart = false)")
                return
            while True:
                log.warning("%s: starting it again in %g s", self.spec.path, pause)
                self._until = time.monotonic() + pause
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                self._restarts += 1
                try:
                    child = await self._start_child()
                    break
                except WorkerError as error:
                    self._note(error.cause)
                except Exception as error:
                    # No descriptors, threads or memory for it just now: as passing as any other cause.
                    self._note(f"it can't be started: {error}")

    def _note(self, trouble: str) -> None:
        self._last_error = trouble
        log.error("%s: %s", self.spec.path, trouble)

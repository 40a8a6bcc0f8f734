"""The parent's side of one child process: from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import IO

from damocles_worker.errors import Level, WorkerError
from damocles_worker.logs import place
from damocles_worker.processors import dump, exits, pipes, protocol
from damocles_worker.processors.inflight import InFlight, Pending, Progress
from damocles_worker.processors.isolation import Isolation, Placement, Started, in_own_thread
from damocles_worker.processors.protocol import Control, UnreadableLineError
from damocles_worker.processors.spec import ChildSpec

log = logging.getLogger(__name__)

#: Seconds a child gets to exit by itself once it has closed its output or lost its input.
EXIT_GRACE = 2.0
#: Seconds that are waited for the rest of the output of a process that has ended.
DRAIN = 0.5
#: Seconds that our own child gets to stop a cancelled request.
CANCEL_GRACE = 3.0


class ChildProcess:
    """A child that is ready, until it has ended. Made by :func:`start`; one event loop only."""

    def __init__(
        self,
        spec: ChildSpec,
        ids: Iterator[int],
        started: Started,
        isolation: Isolation,
        control: socket.socket | None,
    ) -> None:
        self.spec = spec
        self.pid = started.process.pid
        self.name = f"ext(pid: {self.pid})"
        self.placement = Placement()
        self.started_at = time.monotonic()
        #: Resolved with why, when the process has ended and all its requests are settled.
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.requests = InFlight(self.name, ids, self._dump, self._on_change, self.kill)
        #: Called when :attr:`is_up` may have changed.
        self.on_change: Callable[[], None] = lambda: None
        self._started = started
        self._isolation = isolation
        self._pidfd = os.pidfd_open(self.pid)
        #: The first line; None when the process ended before.
        self._ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._stdin = pipes.Writer(_taken(started.process.stdin), self._on_broken_input)
        self._stdout = pipes.Reader(
            _taken(started.process.stdout),
            pipes.Lines(self._on_line, self._on_end_of_output, self._on_flood),
        )
        self._control: pipes.Writer | None = None
        self._reports: pipes.Reader | None = None
        self._oom_kills = exits.oom_kills()
        self._exit: str | None = None
        self._cut: int | None = None
        #: Why we ended it ourselves.
        self._reason: str | None = None
        self._conclusion: asyncio.Task[None] | None = None
        if control is not None:
            reports = pipes.Lines(self._on_control_line, lambda _cut: None, self._on_flood)
            self._control = pipes.Writer(os.dup(control.fileno()))
            self._reports = pipes.Reader(control.detach(), reports)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_exit)

    @property
    def is_up(self) -> bool:
        """Whether it may get requests."""
        is_there = not self.ended.done() and self._exit is None and self._cut is None
        return is_there and not self._stdin.is_broken and self.requests.accepts

    # ---- requests -------------------------------------------------------------------------------

    async def request(self, task: bytes, progress: Progress | None = None) -> bytes:
        """Send a task and wait for its output.

        Raises :class:`WorkerError`: that of the stage, or a temporary one when the child ends, breaks
        the protocol or takes longer than ``answer_timeout``. When the waiting task is cancelled the
        child is told; one that can't stop and has nothing else to do is ended. The task ends when the
        child no longer works on the request, which can take as long as its other requests do.
        """
        if not self.is_up:
            raise WorkerError(
                f"{self.name} is about to end",
                level=Level.TEMPORARY,
                next_step="The stage is tried again",
                waits_for=f"a processor of {self.spec.stage}",
            )
        pending = self.requests.add(progress)
        if self._control is not None:
            self._control.write(protocol.control_line(Control(pending.id, place=_place())))
        self._stdin.write(*protocol.request_line(pending.id, task))
        timer = self._time_limit(pending)
        try:
            return await asyncio.shield(pending.answer)
        except asyncio.CancelledError:
            await self._cancel(pending)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _time_limit(self, pending: Pending) -> asyncio.TimerHandle | None:
        limit = self.spec.answer_timeout
        if limit is None:
            return None
        error = WorkerError(
            f"{self.name} did not answer request {pending.id} within {limit:g} s (answer_timeout)",
            level=Level.TEMPORARY,
            next_step=f"The child is started again and the stage tried again; raise {self.spec.path}."
            "answer_timeout if it only needs longer",
        )
        return asyncio.get_running_loop().call_later(limit, self.requests.give_up, pending, error)

    async def _cancel(self, pending: Pending) -> None:
        """Have a request stop; its files are free when this returns."""
        # Nobody waits for it any more: an error is no news, nor is how far it is.
        pending.answer.add_done_callback(lambda answer: answer.exception())
        pending.progress = None
        if pending.answer.done():
            return
        if self._control is not None:
            self._control.write(protocol.control_line(Control(pending.id)))
            await asyncio.wait({pending.answer}, timeout=CANCEL_GRACE)
        cancelled = WorkerError(
            f"request {pending.id} was cancelled", next_step="Resume when it is wanted again"
        )
        self.requests.give_up(pending, cancelled)
        # Settled by a late answer, or with the child's end.
        await asyncio.wait({pending.answer})

    # ---- the end --------------------------------------------------------------------------------

    def kill(self, reason: str) -> None:
        """End it at once, with all that it started; ``reason`` is told to those who wait."""
        if self._exit is None:
            self._reason = self._reason or reason
            self._signal_all()

    async def stop(self, grace: float = EXIT_GRACE) -> None:
        """Close its input, which ends a processor; kill it if it is still there after ``grace`` seconds."""
        self._stdin.close()
        self._reason = self._reason or "was stopped"
        await asyncio.wait({self.ended}, timeout=grace)
        self.kill("was stopped")
        await self.ended

    def _signal_all(self) -> None:
        # The pid can't be another's before it has been waited for; its group may be empty already.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _on_exit(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        # What it started (a wrapper script's program) would go on using its cpus and files.
        self._signal_all()
        status = self._started.process.wait()
        self._exit = exits.describe(status, out_of_memory=exits.oom_kills() > self._oom_kills)
        self.on_change()
        if self._cut is not None:
            self._finish()
        else:
            loop.call_later(DRAIN, self._finish)

    def _on_end_of_output(self, cut: int) -> None:
        if self._conclusion is not None:
            return
        self._cut = cut
        self.on_change()
        if self._exit is not None:
            self._finish()
        else:
            asyncio.get_running_loop().call_later(EXIT_GRACE, self.kill, "closed its output but went on")

    def _on_broken_input(self) -> None:
        """What was written last, and maybe more before it, will never be read."""
        self.on_change()
        asyncio.get_running_loop().call_later(EXIT_GRACE, self.kill, "closed its input but went on")

    def _finish(self) -> None:
        if self._conclusion is None:
            self._conclusion = asyncio.get_running_loop().create_task(self._conclude())

    async def _conclude(self) -> None:
        cause = self._cause()
        self._stdin.abort()
        self._stdout.close()
        if self._control is not None:
            self._control.abort()
        if self._reports is not None:
            self._reports.close()
        os.close(self._pidfd)
        try:
            await self._clean()
        finally:
            # Whatever happened: who waits for the end must hear of it.
            self.ended.set_result(cause)
            self.requests.fail_all(cause)
            if not self._ready.done():
                self._ready.set_result(None)

    async def _clean(self) -> None:
        try:
            try:
                await asyncio.to_thread(self._isolation.clean, self._started)
            except RuntimeError:
                # No thread is to be had (a limit of tasks): it takes some milliseconds at most.
                self._isolation.clean(self._started)
        except Exception:
            log.exception("%s: what was made for %s can't be removed", self.spec.path, self.name)

    def _cause(self) -> str:
        cause = self._exit if self._reason is None else self._reason
        assert cause is not None
        return f"{cause} in the middle of a line ({self._cut} bytes of it came)" if self._cut else cause

    # ---- what it says ---------------------------------------------------------------------------

    def _on_line(self, line: bytes) -> None:
        if self._ready.done():
            self.requests.heard(line)
        else:
            self._ready.set_result(line.decode(errors="replace").strip())

    def _on_control_line(self, line: bytes) -> None:
        try:
            self.requests.progressed(protocol.parse_control(line))
        except UnreadableLineError as error:
            log.error("%s: %s: '%s'", self.name, error, protocol.excerpt(line))

    def _on_flood(self) -> None:
        self.kill(f"printed a line of more than {protocol.LONGEST_LINE >> 20} MiB")

    def _on_change(self) -> None:
        if self.requests.is_stuck:
            self.kill(f"was ended: {self.requests.given_up_for}")
        self.on_change()

    def _dump(self, line: bytes) -> object:
        target = dump.directory(self.pid)
        return None if target is None else dump.write(target, self.pid, line)

    # ---- the start ------------------------------------------------------------------------------

    async def get_ready(self) -> None:
        """Wait for the ready line, and read back where the child runs. Raises :class:`WorkerError`."""
        done, _ = await asyncio.wait({self._ready}, timeout=self.spec.stable_wait)
        if not done:
            raise self._not_ready(
                f"timeout exceeded before it was ready (stable_wait: {self.spec.stable_wait:g} s)",
                f"Raise {self.spec.path}.stable_wait if it only needs longer; its own lines are in the log",
            )
        expected = protocol.ready_line(self.spec.stage)
        first = self._ready.result()
        if first is None:
            raise self._not_ready(
                f"it {self._cause()} before it was ready", "Look at its own lines in the log"
            )
        if first != expected:
            shown = protocol.excerpt(first.encode())
            raise self._not_ready(
                f'unexpected first line: "{shown}", expected "{expected}"',
                "Let it write that line first on its stdout, which is for answers only: messages belong to"
                " stderr",
            )
        self.placement = await asyncio.to_thread(self._isolation.placement, self.spec, self._started)

    def _not_ready(self, why: str, next_step: str) -> WorkerError:
        return WorkerError(
            f"{self.spec.path}: the processor {self.spec.program} can't be used: {why}", next_step=next_step
        )


async def start(spec: ChildSpec, isolation: Isolation, ids: Iterator[int]) -> ChildProcess:
    """Start a child and wait until it is ready and in its place.

    ``ids`` gives the numbers of its requests. Raises :class:`WorkerError` naming the key of the
    configuration; nothing of the child is left then.
    """
    ours, theirs = socket.socketpair() if spec.is_ours else (None, None)
    starting = asyncio.ensure_future(in_own_thread(lambda: _start_process(spec, isolation, theirs)))
    try:
        started = await asyncio.shield(starting)
    except BaseException:
        for end in filter(None, (ours, theirs)):
            end.close()
        await asyncio.wait({starting})
        _end_unwanted(isolation, starting)
        raise
    try:
        child = ChildProcess(spec, ids, started, isolation, ours)
    except OSError:
        # Too many open files; the process must not stay.
        _end_unwanted(isolation, starting)
        raise
    try:
        await child.get_ready()
    except BaseException:
        child.kill("could not be used")
        # Its exit is seen by the loop; until then its pid and group are still ours.
        await asyncio.shield(child.ended)
        raise
    for problem in child.placement.problems:
        log.error("%s: %s: %s", spec.path, child.name, problem)
    for note in child.placement.notes:
        log.warning("%s: %s: %s", spec.path, child.name, note)
    log.info("%s: %s is ready", spec.path, child.name)
    return child


def _place() -> tuple[int, str, str]:
    """For whom the running task works, as the control channel has it."""
    current = place.current()
    return (current.thread, current.sector, current.stage) if current is not None else (-1, "", "")


def _taken(pipe: IO[bytes] | None) -> int:
    """The descriptor of a pipe, with no other owner."""
    assert pipe is not None
    with pipe:
        return os.dup(pipe.fileno())


def _start_process(spec: ChildSpec, isolation: Isolation, control: socket.socket | None) -> Started:
    try:
        return isolation.start(spec, control)
    finally:
        if control is not None:
            control.close()


def _end_unwanted(isolation: Isolation, starting: asyncio.Future[Started]) -> None:
    """The start failed or was cancelled after it: the process, if there is one, must not stay."""
    if starting.exception() is None:
        started = starting.result()
        with started.process as process:
            process.kill()
        isolation.clean(started)

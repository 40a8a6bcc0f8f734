"""The heartbeat of a WindowPoSt job, on a clock of its own."""

from __future__ import annotations

import asyncio
import logging

from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.sealing.machine.step import Machine

log = logging.getLogger(__name__)

#: Seconds between two beats; a manager takes a job back after 15 s without one.
INTERVAL = 3.0
#: Seconds that a stopping worker takes to hand a job back.
HAND_BACK_TIMEOUT = 2.0


class Heartbeat:
    """Tells the manager every ``interval`` seconds that a job is still worked on.

    It has a connection of its own, with a time limit of one interval: calls of the sealing threads that
    hang or queue don't delay a beat, and neither does a beat that gets no answer.
    """

    def __init__(self, manager: ManagerClient, worker: str, interval: float = INTERVAL) -> None:
        self._manager = manager.sibling(timeout=interval)
        self._worker = worker
        self._interval = interval
        self._job: str | None = None
        self._beating: asyncio.Task[None] | None = None

    def follow(self, job: str | None) -> None:
        """Beat for ``job`` from now on, for nothing if None."""
        if job == self._job:
            return
        self._job = job
        if self._beating is not None:
            self._beating.cancel()
            self._beating = None
        if job is not None:
            self._beating = asyncio.create_task(self._beat(job), name=f"heartbeat-{job}")

    async def close(self) -> None:
        """Stop beating and close the connection."""
        self.follow(None)
        await self._manager.close()

    async def _beat(self, job: str) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._manager.wdpost_heartbeat_jobs([job], self._worker)
            except RpcError as error:
                log.warning("WindowPoSt job %s: heartbeat failed: %s", job, error)


def job_to_hold(machine: Machine) -> str | None:
    """The job whose heartbeat goes on. While the operator has the thread paused another may take it."""
    job = machine.task.job
    return job.id if job and machine.activity not in ("paused", "ended") else None


async def hand_back(manager: ManagerClient, machine: Machine) -> None:
    """The worker is being stopped: what is known of its job goes to the manager now, not after a timeout.

    An outcome that was computed is handed in; without one another worker can take the job at once. A job
    that is not held any more (the thread is paused), or was not for a while, may be somebody else's, and
    finished, by now: nothing but a proof is handed in for it.
    """
    task = machine.task
    if task.job is None or machine.activity == "ended":
        return
    job, held = task.job.id, job_to_hold(machine) is not None and not task.job_let_go
    if not held and task.window_proof is None:
        return
    error = "" if task.window_proof else task.job_error or "the worker was stopped"
    try:
        finish = manager.wdpost_finish_job(job, task.window_proof, error)
        await asyncio.wait_for(finish, HAND_BACK_TIMEOUT)
    except (RpcError, TimeoutError) as problem:
        log.warning("WindowPoSt job %s was not handed back: %s", job, problem)

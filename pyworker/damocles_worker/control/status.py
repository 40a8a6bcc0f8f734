"""What a daemon shows of itself: one snapshot, behind the status page and ``/status.json``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from msgspec import Struct

from damocles_worker.processors.scheduler import Usage
from damocles_worker.processors.supervisor import ChildStatus
from damocles_worker.sealing.info import ThreadInfo
from damocles_worker.stores.measure import Store, StoreSampler, StoreSpace

#: Seconds for which the stores' space is not asked for again, however many people look.
_SPACE_AGE = 5.0


class ManagerState(Protocol):
    """What is asked of a :class:`~damocles_worker.manager.client.ManagerClient`."""

    @property
    def up(self) -> bool: ...
    @property
    def last_ok_at(self) -> float | None: ...


class Status(Struct, frozen=True):
    """A daemon at one moment. Times in seconds, moments in seconds since 1970, space in bytes."""

    name: str
    version: str
    at: float
    uptime: float
    #: The manager's URL, whether its last answer came, and when one last came.
    manager: str
    manager_up: bool
    manager_last_ok_at: float | None
    #: As ``VenusWorker.WorkerList`` answers.
    threads: list[dict[str, Any]]
    processors: list[ChildStatus]
    limits: list[Usage]
    stores: list[StoreSpace]


class StatusReader:
    """Takes snapshots of one daemon.

    :param manager_url: shown as it is, so without anything secret.
    :param threads: answers a snapshot of all sealing threads.
    :param processors: answers a snapshot of the external processors.
    :param limits: answers how far stage limits and locks are used.
    """

    def __init__(
        self,
        name: str,
        version: str,
        manager_url: str,
        manager: ManagerState,
        threads: Callable[[], Sequence[ThreadInfo]],
        stores: Sequence[Store] = (),
        processors: Callable[[], Sequence[ChildStatus]] = lambda: (),
        limits: Callable[[], Sequence[Usage]] = lambda: (),
    ) -> None:
        self._name = name
        self._version = version
        self._manager_url = manager_url
        self._manager = manager
        self._threads = threads
        self._sampler = StoreSampler(stores)
        self._processors = processors
        self._limits = limits
        self._started = time.monotonic()
        self._space: list[StoreSpace] = []
        self._space_until = 0.0
        self._sampling = asyncio.Lock()

    async def read(self) -> Status:
        """A snapshot. A file system that does not answer delays it by two seconds at the longest."""
        stores = await self._measured()
        return Status(
            name=self._name,
            version=self._version,
            at=time.time(),
            uptime=time.monotonic() - self._started,
            manager=self._manager_url,
            manager_up=self._manager.up,
            manager_last_ok_at=self._manager.last_ok_at,
            threads=[thread_json(info) for info in self._threads()],
            processors=list(self._processors()),
            limits=list(self._limits()),
            stores=stores,
        )

    async def _measured(self) -> list[StoreSpace]:
        async with self._sampling:
            if time.monotonic() >= self._space_until:
                self._space = await asyncio.to_thread(self._sampler.sample)
                self._space_until = time.monotonic() + _SPACE_AGE
            return self._space


def thread_json(info: ThreadInfo) -> dict[str, Any]:
    """A thread as ``VenusWorker.WorkerList`` answers it: the Rust worker's keys, then ours."""
    state: dict[str, Any] = {"state": info.state}
    if info.state != "Idle":
        state["elapsed"] = int(info.elapsed)
    if info.state == "Running":
        state["proc"] = info.processor
    return {
        "location": info.location,
        "plan": info.plan,
        "job_id": info.job_id,
        "index": info.index,
        "thread_state": state,
        "job_state": info.job_state,
        "job_stage": info.job_stage,
        "last_error": info.last_error,
        # Ours, after upstream's.
        "elapsed": int(info.elapsed),
        "progress": list(info.progress) if info.progress else None,
        "eta": None if info.eta is None else int(info.eta),
        "draining": info.draining,
    }

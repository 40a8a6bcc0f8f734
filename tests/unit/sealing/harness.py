"""A real sealing thread and store between a made-up manager and made-up processors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

from damocles_worker.config.settings import Sealing, Thread
from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.rpc_error import manager_away
from damocles_worker.manager.types import AllocatedSector, SectorID, SectorStateResp
from damocles_worker.sealing import stages
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.stages import Services
from damocles_worker.sealing.thread import SealingThread
from damocles_worker.stores.attached import KnownStores
from damocles_worker.stores.space import SpaceLedger

SECTOR = AllocatedSector(SectorID(1000, 7), 5)
#: Seconds: everything that a test waits for comes sooner.
PATIENCE = 10.0
QUICK = Sealing(allowed_sizes=(2048,), recover_interval=0.05, seal_interval=0.05)
#: Longer than any test.
HANGS = 60.0


def away(method: str = "m") -> RpcError:
    """Nobody answers at the manager's address."""
    return manager_away(method, "http://manager:1789", "can't be reached: refused")


class Manager:
    """Answers by method: a value, an exception or a coroutine function; the elements of a list in turn."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"report_state": SectorStateResp(SECTOR.id, False, ""), **answers}
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, method: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any) -> Any:
            self.calls.append((method, args))
            answer = self.answers.get(method)
            if isinstance(answer, list):
                answer = answer.pop(0) if answer else None
            if callable(answer):
                return await answer(*args)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(called == method for called, _ in self.calls)

    def sibling(self, **_: Any) -> Manager:
        return self

    async def close(self) -> None:
        pass


async def hang(*_: Any) -> None:
    """An answer that does not come."""
    await asyncio.sleep(HANGS)


async def _all_known() -> tuple[str, ...]:
    return ()


class _Processors:
    def name(self, stage: str, _lease: Any = None) -> str:
        return f"builtin {stage}"

    async def settled(self, _owner: str) -> None:
        pass

    def is_external(self, _stage: str) -> bool:
        return False

    def is_foreign(self, _stage: str) -> bool:
        return False


class Limits:
    """Every place is free."""

    @contextlib.asynccontextmanager
    async def hold(self, _stage: str) -> AsyncIterator[None]:
        yield


class Bench:
    """One thread, run for as long as :meth:`running` is open; ``refresh`` stands for its hot file."""

    def __init__(
        self,
        location: Path | None,
        manager: Manager,
        plan: str = "sealer",
        sealing: Sealing = QUICK,
        limits: Any = None,
    ) -> None:
        self.manager = manager
        self.config = Thread(0, str(location) if location else None, plan, sealing)
        #: What the hot file makes of it, and what is wrong with the file.
        self.hot: tuple[Thread, Failure | None] = (self.config, None)
        services = Services(
            processors=cast(Any, _Processors()),
            limits=limits or cast(Any, Limits()),
            space=SpaceLedger(),
            attached={},
            pieces=cast(Any, None),
            uploads=cast(Any, None),
            static_tree_d={},
            known=KnownStores(_all_known),
        )
        self.thread = SealingThread(
            self.config, services, cast(ManagerClient, manager), "w1", lambda _: self.hot
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SealingThread]:
        """The thread at work; stopped, as by SIGTERM, and its store closed at the end."""
        task = asyncio.create_task(self.thread.run())
        try:
            yield self.thread
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.wait({task})
            if self.thread.store:
                self.thread.store.close()


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait for what has to come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def instead_of_stages(monkeypatch: Any, **work: Any) -> None:
    """Stages that answer at once what ``work`` says, by name; a coroutine function is asked."""

    async def run(_bench: Any, stage: str, task: Any, args: Any, progress: Any) -> Any:
        answer = work.get(stage)
        return await answer(task, args, progress) if callable(answer) else answer

    monkeypatch.setattr(stages, "run", run)


__all__ = [
    "HANGS",
    "QUICK",
    "SECTOR",
    "Bench",
    "Limits",
    "Manager",
    "away",
    "hang",
    "instead_of_stages",
    "until",
]

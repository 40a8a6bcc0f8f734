"""Children that do what the tests tell them, and the loops the daemon and the tests run on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.isolation import Isolation
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import ChildSpec

#: Nothing here takes seconds; a test that hangs says where it did.
LIMIT = 60.0
STUB = Path(__file__).parent / "stub.py"

Result = TypeVar("Result")


def run(main: Coroutine[Any, Any, Result], *, uv: bool = True) -> Result:
    """Run ``main`` on the daemon's kind of loop (or asyncio's own)."""

    async def limited() -> Result:
        async with asyncio.timeout(LIMIT):
            return await main

    return uvloop.run(limited()) if uv else asyncio.run(limited())


def stub(
    stage: str = "pc1", *, before: str = "", index: int = 0, lock_files: Path | None = None, **fields: Any
) -> ChildSpec:
    """A stub child; ``before`` is what it does before it is ready.

    Where to take a file lock for each of its ``locks`` is ``lock_files``.
    """
    args: tuple[str, ...] = ("-I", "-S", str(STUB), stage if stage != "sealing_daemons" else "EMPTY")
    args += ("--before", before) if before else ()
    args += ("--locks", str(lock_files), *fields.get("locks", ())) if lock_files else ()
    return ChildSpec(table=stage, index=index, bin=sys.executable, args=args, **fields)


@contextlib.asynccontextmanager
async def pool(
    *specs: ChildSpec, scheduler: Scheduler | None = None, root: Path = Path("/")
) -> AsyncIterator[Pool]:
    """A started pool whose children are started again at once; stopped with the context."""
    tables: dict[str, list[ChildSpec]] = {}
    for spec in specs:
        tables.setdefault(spec.table, []).append(spec)
    running = Pool(tables, scheduler or Scheduler({}, {}), InProcess(), Isolation(root), first_pause=0.01)
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


async def ask(running: Pool, stage: str = "pc1", /, **task: Any) -> Any:
    """Have a stub do something; answers its output."""
    return json.loads(await running.run(stage, json.dumps(task).encode()))


async def until(condition: Callable[[], Any]) -> None:
    """Wait until ``condition()`` holds."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens in other processes
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False

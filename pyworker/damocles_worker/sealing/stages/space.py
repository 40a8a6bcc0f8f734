"""Space for the next sector, before one is asked for."""

from __future__ import annotations

import asyncio

from damocles_worker import sectors
from damocles_worker.config.settings import STORING_PLANS
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench


async def reserve_space(bench: Workbench, task: Task, _progress: Progress) -> list[int]:
    """Sizes that may be asked for: allowed, and fitting beside what other threads reserved."""
    if task.plan in STORING_PLANS:
        await bench.services.known.check()
    await bench.services.adoption.wait()
    allowed = bench.policy.allowed_sizes or tuple(sectors.SECTOR_SIZES.values())
    # The manager decides whether the sector is synthetic: room for the larger kind is reserved.
    needed = {size: bench.needed_bytes(task.plan, size, synthetic=True) for size in sorted(allowed)}
    reserved = await asyncio.to_thread(
        bench.services.space.reserve, bench.store.data, list(needed.values()), bench.location
    )
    return [size for size in needed if needed[size] <= reserved]

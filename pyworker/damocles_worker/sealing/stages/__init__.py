"""The work of each stage: prepare the files, run the processor, read its output.

Every stage can be run again from its inputs at any time: what a killed run left behind is removed or
recreated first. Outputs are typed; large ones are checked against their digest when read back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from damocles_worker.errors import WorkerError
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages import data, replica, snap, space, storing, unseal, window_post
from damocles_worker.sealing.stages.workbench import Progress, Services, Workbench

_STAGES: dict[str, Callable[..., Awaitable[Any]]] = {
    work.__name__: work
    for work in (
        space.reserve_space,
        data.add_pieces,
        data.tree_d,
        replica.pc1,
        replica.pc2,
        replica.synth_proof,
        replica.clear_layers,
        replica.c1,
        replica.c2,
        replica.verify_proof,
        replica.check_sealed,
        snap.snap_encode,
        snap.snap_prove,
        snap.verify_snap,
        storing.persist,
        storing.fetch_replica,
        storing.upload,
        unseal.unseal,
        unseal.unseal_update,
        window_post.window_post,
    )
}


async def run(bench: Workbench, stage: str, task: Task, args: dict[str, Any], progress: Progress) -> Any:
    """Run ``stage`` for ``task``.

    :raises WorkerError: with the level, cause (which names the sector) and next step of the failure. A
        sealing store that went away is waited for, and explains every other error.
    """
    try:
        return await _run(bench, stage, task, args, progress)
    except WorkerError as error:
        if task.sector_text not in error.cause:
            error.cause = f"sector {task.sector_text}: {error.cause}"
        raise


async def _run(bench: Workbench, stage: str, task: Task, args: dict[str, Any], progress: Progress) -> Any:
    await asyncio.to_thread(bench.check_store)
    try:
        result = await _STAGES[stage](bench, task, progress, **args)
    except (WorkerError, OSError):
        await asyncio.to_thread(bench.check_store)
        raise
    # Files written by path while another store lay there are in that one: the stage does not count.
    await asyncio.to_thread(bench.check_store)
    return result


#: The names of all stages, as in ``RunStage`` and in the metrics.
STAGES = tuple(_STAGES)

__all__ = ["STAGES", "Progress", "Services", "Workbench", "run"]

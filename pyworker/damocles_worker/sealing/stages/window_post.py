"""The one stage of WindowPoSt: all sectors of a job in one proof."""

from __future__ import annotations

import asyncio
import base64
import logging

from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.types import WdPoStInput, WdPoStSector, WindowPoStOutput
from damocles_worker.processors.tasks import PoStReplica, PoStSector, VerifyPoStTask, WindowPoStTask
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench
from damocles_worker.stores.attached import AttachedStore

log = logging.getLogger(__name__)


async def window_post(
    bench: Workbench, task: Task, progress: Progress
) -> tuple[WindowPoStOutput | None, str]:
    """The proof, or None and why there is none: the manager is to hear that before the window closes.

    What may be mended meanwhile (a processor that died, parameters or a store that are missing) is raised
    until the retries are used up. It is never waited for without end: nobody else gets a job that is held.
    """
    assert task.job
    job = task.job.input
    try:
        stores = await _stores(bench, job)
        request = WindowPoStTask(
            miner_id=job.miner_id,
            proof_type=job.proof_type,
            replicas=[_replica(stores, job.miner_id, sector) for sector in job.sectors or ()],
            seed=job.seed,
        )
        try:
            output = await bench.compute("window_post", request, WindowPoStOutput, progress)
        except WorkerError:
            await _check(stores)
            raise
        if output.faults:
            await _check(stores)
            _warn(request, output)
        elif bench.services.processors.is_foreign("window_post"):
            await _verify(bench, request, output, progress)
        return output, ""
    except WorkerError as error:
        passing = error.level is Level.TEMPORARY or error.waits_for is not None
        if passing and task.retries < bench.policy.max_retries:
            raise WorkerError(error.cause, level=Level.TEMPORARY, next_step=error.next_step) from error
        return None, str(error)


async def _check(stores: dict[str, AttachedStore]) -> None:
    """Of a store that went away meanwhile every sector looks faulty or unreadable, and none is."""
    for store in stores.values():
        await asyncio.to_thread(store.check)


async def _verify(
    bench: Workbench, request: WindowPoStTask, output: WindowPoStOutput, progress: Progress
) -> None:
    """Our own proofs have been verified when they come here; a wrong one of others would cost the window.

    :raises WorkerError: the proof does not hold.
    """
    try:
        proofs = [base64.b64decode(proof, validate=True) for proof in output.proofs]
    except ValueError:
        proofs = []
    task = VerifyPoStTask(
        miner_id=request.miner_id,
        proof_type=request.proof_type,
        replicas=[PoStSector(replica.sector_id, replica.comm_r) for replica in request.replicas],
        seed=request.seed,
        proofs=proofs,
    )
    name = bench.services.processors.name("window_post", bench.lease)
    try:
        holds = await bench.compute("verify_window_post", task, bool, progress)
    except WorkerError as error:
        log.warning("the window proof that %s made can't be verified here, and is handed in: %s", name, error)
        return
    if not holds:
        raise WorkerError(
            f"the window proof of {len(request.replicas)} sectors of miner {request.miner_id} that {name}"
            " made does not hold",
            level=Level.TEMPORARY,
            next_step="Look at that program's log, version and parameters; without [[processors.window_post]]"
            " this worker proves by itself",
        )


def _warn(request: WindowPoStTask, output: WindowPoStOutput) -> None:
    """The manager hears the numbers of faulty sectors only, and proves the window without them."""
    for replica in request.replicas:
        if replica.sector_id in output.faults:
            log.warning(
                "sector s-t0%d-%d is faulty: its replica %s or a file of %s is missing, cut short or not what"
                " was sealed. Restore the files or rebuild the sector",
                request.miner_id,
                replica.sector_id,
                replica.sealed_file,
                replica.cache_dir,
            )


async def _stores(bench: Workbench, job: WdPoStInput) -> dict[str, AttachedStore]:
    """The attached stores of the job's sectors by name, each of them there."""
    stores: dict[str, AttachedStore] = {}
    for sector in job.sectors or ():
        text = f"s-t0{job.miner_id}-{sector.sector_id}"
        for name, what in ((sector.accesses.sealed_file, "replica"), (sector.accesses.cache_dir, "cache")):
            if name not in stores:
                stores[name] = await bench.attached(name, f"the {what} of {text}")
    return stores


def _replica(stores: dict[str, AttachedStore], miner: int, sector: WdPoStSector) -> PoStReplica:
    text = f"s-t0{miner}-{sector.sector_id}"
    sealed, cache = stores[sector.accesses.sealed_file], stores[sector.accesses.cache_dir]
    return PoStReplica(
        sector_id=sector.sector_id,
        comm_r=sector.comm_r,
        cache_dir=str(cache.update_cache_dir(text) if sector.upgrade else cache.cache_dir(text)),
        sealed_file=str(sealed.update(text) if sector.upgrade else sealed.sealed(text)),
    )

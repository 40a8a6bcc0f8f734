"""Stages of a replica update: encode, prove, verify."""

from __future__ import annotations

import asyncio
import base64
import shutil

import msgspec

from damocles_worker import sectors
from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import fsync_directory, make_directories
from damocles_worker.processors.tasks import (
    SnapEncodeOutput,
    SnapEncodeTask,
    SnapProveTask,
    SnapVanillaTask,
    VerifySnapTask,
)
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench


async def snap_encode(bench: Workbench, task: Task, progress: Progress) -> SnapEncodeOutput:
    """Encode the staged data of the update with the old replica as the key."""
    assert task.sector and task.snap_pieces
    sector, store = task.sector_text, bench.store
    await asyncio.to_thread(_prepare_encode, bench, sector)
    request = SnapEncodeTask(
        registered_proof=sectors.update_proof_name(task.sector.proof_type),
        new_replica_path=str(store.update(sector)),
        new_cache_path=str(store.update_cache_dir(sector)),
        sector_path=str(store.sealed(sector)),
        sector_cache_path=str(store.cache_dir(sector)),
        staged_data_path=str(store.staged(sector, update=True)),
        piece_infos=task.snap_pieces,
    )
    try:
        return await bench.compute("snap_encode", request, SnapEncodeOutput, progress)
    except WorkerError:
        await _raise_if_store_is_gone(bench, task)
        raise


def _prepare_encode(bench: Workbench, sector: str) -> None:
    update, cache = bench.store.update(sector), bench.store.update_cache_dir(sector)
    # Encoding writes a file beside the update: with that of an earlier run the sector would take more space
    # than is reserved for it.
    update.unlink(missing_ok=True)
    shutil.rmtree(cache, ignore_errors=True)
    for directory in (cache, update.parent):
        make_directories(directory)
    (cache / sectors.TREE_D_FILE).symlink_to(bench.store.tree_d(sector, update=True))
    fsync_directory(cache)


async def snap_prove(bench: Workbench, task: Task, progress: Progress) -> tuple[str, str]:
    """The proof of the update (base64) and who made it."""
    assert task.sector and task.snap and task.public
    sector, store = task.sector_text, bench.store
    proof_name = sectors.update_proof_name(task.sector.proof_type)
    commitments = {
        "comm_r_old": task.public.comm_r,
        "comm_r_new": task.snap.comm_r_new,
        "comm_d_new": task.snap.comm_d_new,
    }
    vanilla = SnapVanillaTask(
        registered_proof=proof_name,
        sector_path=str(store.sealed(sector)),
        sector_cache_path=str(store.cache_dir(sector)),
        new_replica_path=str(store.update(sector)),
        new_cache_path=str(store.update_cache_dir(sector)),
        **commitments,
    )
    try:
        proofs = await bench.run_raw("snap_vanilla", vanilla, progress)
    except WorkerError:
        await _raise_if_store_is_gone(bench, task)
        raise
    request = SnapProveTask(registered_proof=proof_name, vannilla_proofs=msgspec.Raw(proofs), **commitments)
    proof = await bench.compute("snap_prove", request, list[int], progress)
    return base64.b64encode(bytes(proof)).decode(), bench.services.processors.name("snap_prove", bench.lease)


async def _raise_if_store_is_gone(bench: Workbench, task: Task) -> None:
    """The old replica is read through a link: an unmounted store is the better explanation."""
    if task.access_instance:
        await bench.attached(task.access_instance, f"the replica of {task.sector_text}")


async def verify_snap(bench: Workbench, task: Task, progress: Progress) -> bool:
    """Whether the proof of the update in the record holds."""
    assert task.sector and task.snap and task.public and task.snap_proof
    request = VerifySnapTask(
        registered_proof=sectors.update_proof_name(task.sector.proof_type),
        comm_r_old=task.public.comm_r,
        comm_r_new=task.snap.comm_r_new,
        comm_d_new=task.snap.comm_d_new,
        proof=list(base64.b64decode(task.snap_proof)),
    )
    return await bench.compute("verify_snap", request, bool, progress)

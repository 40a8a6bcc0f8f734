"""Stages that decode a piece: from a sector as it was first sealed, or from its replica update.

Attached stores are only read. What is computed on the way (label layers, the key of an update) stays in
memory: two sectors of it while the layers are computed, one while the piece is decoded. A program of others
writes its layers into the sealing store.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from damocles_worker import _native, cid, sectors
from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import make_directories
from damocles_worker.processors.tasks import SealedEmpty, SnapDecodeTask, UnsealTask
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.storing import check_whole
from damocles_worker.sealing.stages.workbench import Progress, Workbench, prover_id
from damocles_worker.stores.attached import AttachedStore


async def unseal(bench: Workbench, task: Task, progress: Progress, *, proof_type: int | None = None) -> None:
    """Decode the piece from the sector's replica; its bytes are checked against the piece CID.

    ``proof_type`` is the one the sector was sealed with, where that is not the task's.
    """
    assert task.sector and task.ticket and task.unseal
    sector, wanted = task.sector_text, task.unseal
    await asyncio.to_thread(bench.adopt_space, task)
    attached = await bench.attached(task.access_instance, f"the replica of {sector}")
    size = sectors.sector_size(task.sector.proof_type)
    await asyncio.to_thread(check_whole, attached, attached.sealed(sector), sector, size)
    request = UnsealTask(
        registered_proof=sectors.proof_name(_sealed_as(task, proof_type)),
        prover_id=prover_id(task),
        sector_id=task.sector.id.number,
        comm_d=wanted.comm_d,
        ticket=list(task.ticket.randomness()),
        cache_dir=str(await asyncio.to_thread(_cache_dir, bench, attached, sector)),
        sealed_file=str(attached.sealed(sector)),
        unsealed_output=str(await asyncio.to_thread(_output, bench, task)),
        offset=wanted.offset,
        num_bytes=wanted.size,
    )
    try:
        await bench.compute("unseal", request, int, progress)
    except WorkerError as error:
        await asyncio.to_thread(attached.check)
        error.cause += _other_type(task, proof_type)
        raise
    await asyncio.to_thread(shutil.rmtree, bench.store.cache_dir(sector), ignore_errors=True)
    await _check_piece(bench, task, proof_type)


async def unseal_update(
    bench: Workbench,
    task: Task,
    progress: Progress,
    *,
    instance: str,
    comm_d_new: list[int],
    comm_r_old: list[int],
    proof_type: int | None = None,
) -> None:
    """Decode the piece from the sector's update in store ``instance``; ``proof_type`` as in :func:`unseal`.

    The key is the replica from before the update or, where that is gone, computed again: a sector that
    was updated held zeros, and with nothing to encode its replica is the last label layer.
    """
    assert task.sector and task.unseal
    # Decoding an update is no processor's stage, and below it other children may be needed.
    bench.release_child()
    sector, wanted = task.sector_text, task.unseal
    await asyncio.to_thread(bench.adopt_space, task)
    attached = await bench.attached(instance, f"the update of {sector}")
    size = sectors.sector_size(task.sector.proof_type)
    await asyncio.to_thread(check_whole, attached, attached.update(sector), sector, size)
    key = await asyncio.to_thread(_key, bench, task, proof_type)
    request = SnapDecodeTask(
        registered_proof=sectors.update_proof_name(task.sector.proof_type),
        new_replica_path=str(attached.update(sector)),
        key=key,
        comm_r_old=comm_r_old,
        comm_d_new=comm_d_new,
        unsealed_output=str(await asyncio.to_thread(_output, bench, task)),
        offset=wanted.offset,
        num_bytes=wanted.size,
    )
    try:
        await bench.compute("snap_decode", request, int, progress)
    except WorkerError as error:
        await asyncio.to_thread(attached.check)
        await asyncio.to_thread(_check_key_store, bench, task)
        error.cause += _other_type(task, proof_type)
        raise
    await _check_piece(bench, task, proof_type)


def _output(bench: Workbench, task: Task) -> Path:
    assert task.unseal
    output = bench.store.unsealed_piece(task.unseal.piece_cid.text)
    make_directories(output.parent)
    return output


def _cache_dir(bench: Workbench, attached: AttachedStore, sector: str) -> Path:
    """Where the processor finds the sector's small files, and may leave others.

    The proofs library leaves eleven sectors of label layers there.
    """
    theirs = attached.cache_dir(sector)
    if not bench.services.processors.is_foreign("unseal"):
        return theirs
    ours = bench.store.cache_dir(sector)
    shutil.rmtree(ours, ignore_errors=True)
    make_directories(ours)
    for file in theirs.iterdir():
        (ours / file.name).symlink_to(file)
    return ours


def _sealed_as(task: Task, recorded: int | None) -> int:
    assert task.sector
    return task.sector.proof_type if recorded is None else recorded


def _other_type(task: Task, recorded: int | None) -> str:
    """What to add to an error of a sector that was sealed with another proof type than the task's."""
    assert task.sector
    if recorded is None or recorded == task.sector.proof_type:
        return ""
    names = sectors.proof_name(recorded), sectors.proof_name(task.sector.proof_type)
    return f" (the manager's record has proof type {names[0]}, the task it handed out {names[1]})"


def _check_key_store(bench: Workbench, task: Task) -> AttachedStore | None:
    """The store of the replica from before the update, which is there, or None if it isn't attached."""
    attached = bench.services.attached.get(task.access_instance or "")
    if attached is not None:
        attached.check()
    return attached


def _key(bench: Workbench, task: Task, proof_type: int | None) -> dict[str, str | SealedEmpty]:
    """Managers remove the replica from before the update after it, unless told not to.

    Of a store that went away it is waited for: computing the key anew takes hours.
    """
    assert task.sector and task.ticket
    attached = _check_key_store(bench, task)
    old = attached.sealed(task.sector_text) if attached else None
    if old is not None and old.is_file():
        return {"sealed_file": str(old)}
    return {
        "sealed": SealedEmpty(
            registered_proof=sectors.proof_name(_sealed_as(task, proof_type)),
            prover_id=prover_id(task),
            sector_id=task.sector.id.number,
            ticket=list(task.ticket.randomness()),
        )
    }


async def _check_piece(bench: Workbench, task: Task, proof_type: int | None) -> None:
    """What was decoded must be the piece: a wrong proof type or ticket gives bytes as well."""
    assert task.sector and task.unseal
    wanted = task.unseal
    piece_size = sectors.piece_size_for(wanted.size)
    commitment = await bench.services.processors.call(
        "unseal",
        lambda cancel: _native.piece_commitment(_output(bench, task), wanted.size, piece_size, None, cancel),
    )
    found = cid.commd_cid(commitment)
    if found != wanted.piece_cid.text:
        # It must not be there for `resume --state Unsealed` to deliver.
        await asyncio.to_thread(_output(bench, task).unlink)
        sealed_as = sectors.proof_name(_sealed_as(task, proof_type))
        raise WorkerError(
            f"bytes {wanted.offset} to {wanted.offset + wanted.size} of sector {task.sector_text} are the"
            f" piece {found}, asked for is {wanted.piece_cid.text}; decoded as {sealed_as}"
            + _other_type(task, proof_type),
            level=Level.PERMANENT,
            next_step="Ask for the piece again with the offset and size of its deal; `resume --state Aborted`"
            " gives this task up and tells the requester",
        )

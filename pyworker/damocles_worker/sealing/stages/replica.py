"""Stages that seal and prove: PC1, PC2, synthetic proofs, C1, C2, verification."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path

import msgspec

from damocles_worker import sectors
from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import fsync_directory, make_directories
from damocles_worker.processors.explain import names_damaged_layer
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.tasks import (
    C1Task,
    C2Output,
    C2Task,
    ClearCacheTask,
    PC1Task,
    PC2Output,
    PC2Task,
    SynthProofTask,
    VerifySealTask,
)
from damocles_worker.sealing.machine.task import C1File, DamagedLayer, Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench, prover_id
from damocles_worker.stores import transfer
from damocles_worker.stores.files import write_durable

C1_FILE = "c1out.json"
#: The sealed file is no copy of the staged file: our PC1 made an empty one, or PC2 has begun. A PC2 that
#: encodes in place starts from a copy then. It stays until PC1 makes the cache anew; removed at the end of
#: PC2, a kill before the record is saved would encode twice.
PC2_MARKER = ".pc2_running"
#: What our PC2 keeps for another run of it begins with this.
PC2_KEPT = "pc2-"


async def pc1(bench: Workbench, task: Task, progress: Progress) -> str:
    """PC1, after its last whole layer if it was cut; the output is opaque to the worker."""
    assert task.sector and task.ticket and task.pieces
    ours = not bench.services.processors.is_foreign("pc1")
    await asyncio.to_thread(_prepare_pc1, bench, task.sector_text, ours)
    request = PC1Task(
        registered_proof=sectors.proof_name(task.sector.proof_type),
        cache_path=str(bench.store.cache_dir(task.sector_text)),
        in_path=str(bench.store.staged(task.sector_text)),
        out_path=str(bench.store.sealed(task.sector_text)),
        prover_id=prover_id(task),
        sector_id=task.sector.id.number,
        ticket=list(task.ticket.randomness()),
        piece_infos=task.pieces,
        empty_sealed_file=ours,
    )
    output = await bench.compute("pc1", request, msgspec.Raw, progress)
    return bytes(output).decode()


def _prepare_pc1(bench: Workbench, sector: str, ours: bool) -> None:
    """Label layers stay, with their checksums: our PC1 checks them, and goes on after those it can use.

    The library in a program of others takes every layer of the right size, that of an earlier ticket too.
    """
    cache, sealed = bench.store.cache_dir(sector), bench.store.sealed(sector)
    make_directories(cache)
    for path in cache.iterdir():
        if not (ours and sectors.is_layer_file(path.name)):
            path.unlink()
    make_directories(sealed.parent)
    sealed.write_bytes(b"")
    fsync_directory(sealed.parent)
    if ours:
        write_durable(cache / PC2_MARKER, b"")
    (cache / sectors.TREE_D_FILE).symlink_to(bench.store.tree_d(sector))
    fsync_directory(cache)


async def pc2(bench: Workbench, task: Task, progress: Progress) -> PC2Output | DamagedLayer:
    """PC2, and with ``verify_after_pc2`` vanilla proofs of the fresh replica."""
    assert task.sector and task.pc1out
    await asyncio.to_thread(_prepare_pc2, bench, task.sector_text)
    cache = bench.store.cache_dir(task.sector_text)
    request = PC2Task(
        msgspec.Raw(task.pc1out.encode()), str(cache), str(bench.store.sealed(task.sector_text))
    )
    try:
        output = await bench.compute("pc2", request, PC2Output, progress)
    except WorkerError as error:
        if names_damaged_layer(error):
            return DamagedLayer(error.cause)
        raise
    if bench.policy.verify_after_pc2:
        await run_c1(bench, task, output, bytes(32), progress)
    return output


def _prepare_pc2(bench: Workbench, sector: str) -> None:
    """What the PC2 that will run expects to find.

    Ours takes the data from tree_d, and goes on after the last tree that an earlier run finished. Others, and
    the library, encode the sealed file in place and take any tree for the sector's: each run starts from the
    staged data, however the one before ended.
    """
    cache = bench.store.cache_dir(sector)
    marker = cache / PC2_MARKER
    copied = not marker.exists()
    if copied:
        write_durable(marker, b"")
    if not _encodes_in_place(bench.services.processors):
        return
    for path in cache.iterdir():
        if (
            path.name in ("p_aux", "t_aux")
            or path.name.startswith(PC2_KEPT)
            or "tree-c" in path.name
            or "tree-r-last" in path.name
        ):
            path.unlink()
    if not copied:
        transfer.copy_durable(bench.store.staged(sector), bench.store.sealed(sector))


def _encodes_in_place(processors: Pool) -> bool:
    """Whether a PC2 that may run here writes the replica over the staged data in the sealed file."""
    return processors.is_foreign("pc2") or any(
        environment.get("DAMOCLES_PC2_ENGINE") == "crate" for environment in processors.environments("pc2")
    )


async def synth_proof(bench: Workbench, task: Task, progress: Progress) -> None:
    """Write the synthetic vanilla proofs into the cache directory."""
    assert task.sector and task.ticket and task.pc2out and task.pieces
    request = SynthProofTask(
        cache_path=str(bench.store.cache_dir(task.sector_text)),
        replica_path=str(bench.store.sealed(task.sector_text)),
        prover_id=prover_id(task),
        sector_id=task.sector.id.number,
        ticket=list(task.ticket.randomness()),
        pc2out=task.pc2out,
        piece_infos=task.pieces,
    )
    await bench.compute("synth_proof", request, bool, progress)


async def clear_layers(bench: Workbench, task: Task, progress: Progress) -> None:
    """Remove layers, tree_c and tree_d from the cache directory."""
    assert task.sector
    request = ClearCacheTask(
        sectors.proof_name(task.sector.proof_type), str(bench.store.cache_dir(task.sector_text))
    )
    await bench.compute("clear_cache", request, type(None), progress)


async def c1(bench: Workbench, task: Task, progress: Progress) -> C1File:
    """Vanilla proofs for the seed, in a file that the record names by its digest."""
    assert task.pc2out and task.seed
    output = await run_c1(bench, task, task.pc2out, task.seed.randomness(), progress)
    path = bench.store.cache_dir(task.sector_text) / C1_FILE
    await asyncio.to_thread(write_durable, path, output)
    return C1File(C1_FILE, await asyncio.to_thread(_digest, output))


async def run_c1(bench: Workbench, task: Task, pc2out: PC2Output, seed: bytes, progress: Progress) -> bytes:
    """The C1 output for ``seed`` (32 bytes) as JSON."""
    assert task.sector and task.ticket and task.pieces
    request = C1Task(
        cache_path=str(bench.store.cache_dir(task.sector_text)),
        replica_path=str(bench.store.sealed(task.sector_text)),
        prover_id=prover_id(task),
        sector_id=task.sector.id.number,
        ticket=list(task.ticket.randomness()),
        seed=list(seed),
        pc2out=pc2out,
        piece_infos=task.pieces,
    )
    return await bench.run_raw("c1", request, progress)


async def c2(bench: Workbench, task: Task, progress: Progress) -> tuple[str, str] | None:
    """The proof (base64) and who made it; None when the C1 output has to be made again."""
    assert task.sector and task.c1out
    path = bench.store.cache_dir(task.sector_text) / task.c1out.name
    c1out = await asyncio.to_thread(_read_checked, path, task.c1out.digest)
    if c1out is None:
        return None
    request = C2Task(msgspec.Raw(c1out), prover_id(task), task.sector.id.number, task.sector.id.miner)
    output = await bench.compute("c2", request, C2Output, progress)
    return base64.b64encode(bytes(output.proof)).decode(), bench.services.processors.name("c2", bench.lease)


async def check_sealed(bench: Workbench, task: Task, progress: Progress) -> None:
    """Compute vanilla proofs, which are checked as they are made; the ticket serves as the seed."""
    assert task.pc2out and task.ticket
    await run_c1(bench, task, task.pc2out, task.ticket.randomness(), progress)


async def verify_proof(bench: Workbench, task: Task, progress: Progress) -> bool:
    """Whether the seal proof in the record holds."""
    assert task.sector and task.pc2out and task.ticket and task.seed and task.proof
    request = VerifySealTask(
        registered_proof=sectors.proof_name(task.sector.proof_type),
        comm_r=task.pc2out.comm_r,
        comm_d=task.pc2out.comm_d,
        prover_id=prover_id(task),
        sector_id=task.sector.id.number,
        ticket=list(task.ticket.randomness()),
        seed=list(task.seed.randomness()),
        proof=list(base64.b64decode(task.proof)),
    )
    return await bench.compute("verify_seal", request, bool, progress)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def _read_checked(path: Path, digest: str) -> bytes | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return data if _digest(data) == digest else None

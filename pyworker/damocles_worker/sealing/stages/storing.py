"""Stages that bring files to and from the attached stores and further."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from damocles_worker import sectors
from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import file_error, fsync_directory, make_directories
from damocles_worker.sealing import routes
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench
from damocles_worker.stores import transfer
from damocles_worker.stores.attached import AttachedStore

log = logging.getLogger(__name__)

#: Seconds that a pause waits for a copy to end. One that waits for a disk longer is left to itself: it can't
#: be put in its place any more once it is cancelled, and the next one removes what it has written.
GRACE = 0.5


async def persist(
    bench: Workbench,
    task: Task,
    progress: Progress,
    *,
    instance: str,
    update: bool = False,
    meta: dict[str, str] | None = None,
) -> None:
    """Copy the replica and its cache files, or those of the update, into the store ``instance``.

    ``meta`` is what the manager knows of the store, for transfer processors that reach it by that.
    """
    assert task.sector
    attached = bench.services.attached[instance]
    size = sectors.sector_size(task.sector.proof_type)
    async with bench.hold("transfer"):
        if bench.services.processors.is_external("transfer"):
            pairs = transfer.replica_files(bench.store, attached, task.sector_text, size, update=update)
            await _store_by_child(bench, attached, pairs, progress, meta)
            return
        lines = await bench.services.processors.call(
            "transfer",
            lambda cancel: transfer.persist(
                bench.store,
                attached,
                task.sector_text,
                size,
                update=update,
                verify=bench.policy.verify_persist,
                progress=progress,
                cancel=cancel,
            ),
            grace=GRACE,
        )
    for line in lines:
        log.info("checksum in store %s (xxh128sum): %s", instance, line)


async def _store_by_child(
    bench: Workbench,
    attached: AttachedStore,
    pairs: Sequence[tuple[Path, Path]],
    progress: Progress,
    meta: dict[str, str] | None = None,
) -> None:
    """Have a transfer processor bring files (from, to) into ``attached``.

    A store that goes away meanwhile explains every other error, and no success counts without it.
    """
    await asyncio.to_thread(transfer.check_stores, bench.store, attached)
    try:
        await _by_child(bench, pairs, progress, destination=attached.name, meta=meta)
        await asyncio.to_thread(_settle, bench, pairs, attached.root)
    except (WorkerError, OSError):
        await asyncio.to_thread(transfer.check_stores, bench.store, attached)
        raise
    await asyncio.to_thread(transfer.check_stores, bench.store, attached)


async def _by_child(
    bench: Workbench, pairs: Sequence[tuple[Path, Path]], progress: Progress, **ends: Any
) -> None:
    """Have a transfer processor bring each file (from, to) to its place; ``ends`` go to the request."""
    if not await bench.compute("transfer", routes.request(pairs, **ends), bool, progress):
        raise _not_brought(bench, pairs[0][1])


def _not_brought(bench: Workbench, file: Path) -> WorkerError:
    return WorkerError(
        f"{bench.processor('transfer')} has ended its task without bringing {file}",
        level=Level.TEMPORARY,
        next_step="The stage is tried again; the processor's own lines are in the log",
    )


def _settle(bench: Workbench, pairs: Sequence[tuple[Path, Path]], root: Path) -> None:
    """Look at what a processor has copied; durable and, if that is asked for, compared on return.

    A program of others may have brought the files somewhere that can't be seen from here: then it is the
    manager that finds them or not.
    """
    if bench.services.processors.is_foreign("transfer") and not any(copy.exists() for _, copy in pairs):
        return
    for source, copy in pairs:
        transfer.settle_copy(source, copy, root, verify=bench.policy.verify_persist)


async def fetch_replica(
    bench: Workbench, task: Task, progress: Progress, *, meta: dict[str, str] | None = None
) -> None:
    """Make the old replica readable in the sealing store: by links, unless a processor copies it.

    A store that goes away meanwhile explains every other error, and what was copied then does not count.
    """
    assert task.sector
    what = f"the replica of {task.sector_text}"
    attached = await bench.attached(task.access_instance, what)
    try:
        await _fetch(bench, attached, task, progress, meta)
    except (WorkerError, OSError):
        await bench.attached(task.access_instance, what)
        raise
    await bench.attached(task.access_instance, what)


async def _fetch(
    bench: Workbench, attached: AttachedStore, task: Task, progress: Progress, meta: dict[str, str] | None
) -> None:
    assert task.sector
    sector = task.sector_text
    size = sectors.sector_size(task.sector.proof_type)
    processors = bench.services.processors
    if not processors.is_foreign("transfer"):
        await asyncio.to_thread(check_replica, attached, sector, size)
    pairs = [
        (theirs, ours)
        for ours, theirs in transfer.replica_files(bench.store, attached, sector, size, update=False)
    ]
    await asyncio.to_thread(_clear, [ours for _, ours in pairs])
    if not processors.is_external("transfer"):
        await asyncio.to_thread(_link, pairs)
        return
    async with bench.hold("transfer"):
        await _by_child(bench, pairs, progress, source=attached.name, meta=meta, allow_link=True)
        missing = await asyncio.to_thread(_missing, [ours for _, ours in pairs])
        if missing is not None:
            raise _not_brought(bench, missing)


def _link(pairs: Sequence[tuple[Path, Path]]) -> None:
    for theirs, ours in pairs:
        ours.symlink_to(theirs)
    for directory in {ours.parent for _, ours in pairs}:
        fsync_directory(directory)


def _missing(files: Sequence[Path]) -> Path | None:
    return next((file for file in files if not file.is_file()), None)


def _clear(files: Sequence[Path]) -> None:
    """Remove what an earlier run left, also links that lead nowhere, and make the directories."""
    for file in files:
        make_directories(file.parent)
        file.unlink(missing_ok=True)


def check_replica(attached: AttachedStore, sector: str, size: int) -> None:
    """Raise :class:`WorkerError` (permanent) for a file of a sealed sector that is not there whole."""
    check_whole(attached, attached.sealed(sector), sector, size)
    for name in transfer.cache_files(size):
        check_whole(attached, attached.cache_dir(sector) / name, sector)


def check_whole(attached: AttachedStore, path: Path, sector: str, size: int | None = None) -> None:
    """Raise :class:`WorkerError` (permanent) when ``path`` is missing or has not ``size`` bytes."""
    try:
        found = path.stat().st_size
    except FileNotFoundError:
        attached.check()
        raise WorkerError(
            f"{path} of sector {sector} is missing in store {attached.name}",
            level=Level.PERMANENT,
            next_step="Restore the file, or rebuild the sector with `damocles-manager util sealer sectors"
            " rebuild`, then resume",
        ) from None
    except OSError as error:
        attached.check()
        raise file_error(error, "look at", path) from error
    if size is not None and found != size:
        raise WorkerError(
            f"{path} of sector {sector} has {found} bytes where {size} are expected",
            level=Level.PERMANENT,
            next_step="Restore the file, or rebuild the sector, then resume",
        )


async def upload(bench: Workbench, task: Task, progress: Progress, *, url: str) -> None:
    """Bring the unsealed piece to one destination."""
    assert task.unseal
    cid = task.unseal.piece_cid.text
    piece = bench.store.unsealed_piece(cid)
    if await asyncio.to_thread(_missing, [piece]):
        raise WorkerError(
            f"the unsealed piece {piece} of sector {task.sector_text} is gone",
            next_step="Resume with --state Allocated to unseal it again",
        )
    target = bench.services.uploads.place_in_store(url)
    if target is not None and bench.services.processors.is_external("transfer"):
        attached, file = target
        await _store_by_child(bench, attached, [(piece, file)], progress)
        return
    bench.release_child()
    await bench.services.processors.call(
        "transfer",
        lambda cancel: bench.services.uploads.upload(piece, cid, url, progress=progress, cancel=cancel),
        grace=GRACE,
    )

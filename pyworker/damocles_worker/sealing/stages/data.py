"""Stages that bring data together: pieces into the staged file, and the tree over it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from damocles_worker import cid, sectors
from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import fsync_directory, make_directories
from damocles_worker.processors.tasks import AddPiecesTask, PieceInfo, PieceSource, TreeDTask
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.stages.workbench import Progress, Workbench
from damocles_worker.stores.pieces import PieceFile, WantedPiece


async def add_pieces(
    bench: Workbench, task: Task, progress: Progress, *, update: bool = False
) -> list[PieceInfo]:
    """Write the staged file: of the update with ``update``, else of the sector as it is first sealed."""
    assert task.sector and task.deals is not None
    await asyncio.to_thread(bench.adopt_space, task)
    # Below an update there are zeros: the deals of an upgraded sector are those of its update.
    deals = [] if task.upgraded and not update else task.deals
    staged = bench.store.staged(task.sector_text, update=update)
    await asyncio.to_thread(_clear, staged)
    wanted = [
        None if deal.is_pledge else WantedPiece(deal.piece.piece_cid.text, deal.payload_size)
        for deal in deals
    ]
    async with _files(bench, wanted) as files:
        pieces = [
            PieceSource(
                piece_file=file,
                payload_size=deal.payload_size,
                piece_size=sectors.unpadded(deal.piece.size),
            )
            for deal, file in zip(deals, files, strict=True)
        ]
        request = AddPiecesTask(sectors.proof_name(task.sector.proof_type), pieces, str(staged))
        infos = await bench.compute("add_pieces", request, list[PieceInfo], progress)
    _check_sizes(bench, task, pieces, infos)
    # Of a sector without deals the one piece is all zeros.
    for deal, piece, info in zip(deals, pieces, infos, strict=bool(deals)):
        _check_commitment(task, deal.piece.piece_cid.text, piece.piece_file, bytes(info.commitment))
    return infos


def _check_sizes(bench: Workbench, task: Task, pieces: list[PieceSource], infos: list[PieceInfo]) -> None:
    """A piece without an answer would go into the sector unchecked."""
    assert task.sector
    capacity = sectors.unpadded(sectors.sector_size(task.sector.proof_type))
    wanted = [piece.piece_size for piece in pieces] or [capacity]
    found = [info.size for info in infos]
    if found != wanted:
        raise WorkerError(
            f"{bench.processor('add_pieces')} answered pieces of {found} bytes for sector {task.sector_text},"
            f" whose pieces have {wanted}",
            level=Level.PERMANENT,
            next_step="Check the processor's version and log, then resume",
        )


def _clear(file: Path) -> None:
    """Make room for a file: freeing the blocks of an old one may take seconds."""
    make_directories(file.parent)
    file.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _files(bench: Workbench, wanted: Sequence[WantedPiece | None]) -> AsyncIterator[list[PieceFile]]:
    """What add_pieces reads: a child downloads for itself, this process through a descriptor."""
    pieces = bench.services.pieces
    if bench.services.processors.is_external("add_pieces"):
        yield await asyncio.to_thread(pieces.locate, wanted)
        return
    with pieces.feed(wanted, await asyncio.to_thread(pieces.find, wanted)) as feed:
        yield feed.files


def _check_commitment(task: Task, piece_cid: str, file: PieceFile, commitment: bytes) -> None:
    """A piece that is not what the deal says must not reach tree_d: the sector would be rejected."""
    computed = cid.commd_cid(commitment)
    if computed != piece_cid and file == "pledge":
        raise WorkerError(
            f"piece {piece_cid} of sector {task.sector_text} has no deal at the manager, and was taken for a"
            f" filler of zeros, which is piece {computed}",
            next_step="Compare the deals in `damocles-manager util sealer sectors state` with the market's;"
            " `resume --state Aborted` gives the sector up",
            level=Level.PERMANENT,
        )
    if computed != piece_cid:
        place = file.get("local") if isinstance(file, dict) else None
        raise WorkerError(
            f"piece {piece_cid} of sector {task.sector_text}: the data in"
            f" {place or 'the piece store of the manager'} are those of piece {computed}",
            next_step="Replace the damaged file there, then resume",
            level=Level.PERMANENT,
        )


async def tree_d(bench: Workbench, task: Task, progress: Progress, *, update: bool = False) -> None:
    """Build the tree over the staged file, or link the static one for a sector of zeros."""
    assert task.sector
    tree = bench.store.tree_d(task.sector_text, update=update)
    await asyncio.to_thread(_clear, tree)
    static = bench.services.static_tree_d.get(sectors.sector_size(task.sector.proof_type))
    if static and not update and (not task.deals or task.upgraded):
        await asyncio.to_thread(_link, tree, Path(static))
        return
    request = TreeDTask(
        sectors.proof_name(task.sector.proof_type),
        str(bench.store.staged(task.sector_text, update=update)),
        str(tree.parent),
    )
    await bench.compute("tree_d", request, bool, progress)


def _link(tree: Path, static: Path) -> None:
    tree.symlink_to(static.resolve(strict=True))
    fsync_directory(tree.parent)

"""A sealing thread's place to work, for stages that run by themselves: a real store, real stage functions."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

from damocles_worker.config.settings import Sealing
from damocles_worker.manager.types import AllocatedSector, SectorID, SectorPiece, Ticket
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing import stages
from damocles_worker.sealing.machine.task import Task, UnsealRange
from damocles_worker.sealing.stages import Services, Workbench
from damocles_worker.sectors import unpadded
from damocles_worker.stores.attached import AttachedStore, KnownStores
from damocles_worker.stores.pieces import PieceStore
from damocles_worker.stores.sealing import SealingStore
from damocles_worker.stores.space import SpaceLedger
from damocles_worker.stores.upload import Uploader
from tests.e2e.sealed import MINER, SealedSector
from tests.processors.support import pool, run


async def _all_known() -> tuple[str, ...]:
    return ()


class Place:
    """A bench below ``root`` with the store ``persist``; pieces are looked for in ``root/pieces``."""

    def __init__(self, root: Path, processors: Pool, limits: Scheduler, store: SealingStore) -> None:
        self.store = store
        self.attached = AttachedStore.at(root / "persist", "persist")
        stores = {"persist": self.attached}
        self.bench = Workbench(
            Services(
                processors=processors,
                limits=limits,
                space=SpaceLedger(),
                attached=stores,
                pieces=PieceStore([root / "pieces"], None),
                uploads=Uploader("http://127.0.0.1:9", stores),
                static_tree_d={},
                known=KnownStores(_all_known),
            ),
            store,
            Sealing(),
        )

    async def run(self, stage: str, task: Task, **args: Any) -> Any:
        """Run a stage as a sealing thread does."""
        return await stages.run(self.bench, stage, task, args, lambda _done, _total: None)


@contextlib.asynccontextmanager
async def place(root: Path, *children: ChildSpec) -> AsyncIterator[Place]:
    """A place to work below ``root``, with external processors."""
    limits = Scheduler({}, {})
    for name in ("persist", "pieces"):
        (root / name).mkdir(exist_ok=True)
    with contextlib.closing(SealingStore.open(root / "store")) as store:
        async with pool(*children, scheduler=limits) as processors:
            yield Place(root, processors, limits, store)


def at_work(root: Path, work: Callable[[Place], Coroutine[Any, Any, Any]], *children: ChildSpec) -> Any:
    """What ``work`` answers in a :func:`place` of its own."""

    async def main() -> Any:
        async with place(root, *children) as there:
            return await work(there)

    return run(main())


def task_of(sector: SealedSector, plan: str = "unseal") -> Task:
    """The record of a task for a sealed sector, whose first deal is to be unsealed if it has one."""
    return Task(
        plan,
        sector=AllocatedSector(SectorID(MINER, sector.number), sector.proof_type),
        deals=sector.pieces,
        ticket=Ticket(base64.b64encode(sector.ticket).decode(), 5),
        access_instance="persist",
        unseal=range_of(sector, sector.pieces),
    )


def range_of(sector: SealedSector, pieces: list[SectorPiece]) -> UnsealRange | None:
    """Where the first deal among the ``pieces`` of a sector lies; None without one."""
    offset = 0
    for piece in pieces:
        size = unpadded(piece.piece.size)
        if not piece.is_pledge:
            return UnsealRange(piece.piece.piece_cid, offset, size, sector.comm_d)
        offset += size
    return None

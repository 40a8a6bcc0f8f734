"""What the stages of a sealing thread work with: shared services, the thread's store and its policy."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from damocles_worker import sectors
from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import make_tree_durable
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Lease, Scheduler
from damocles_worker.sealing.machine.task import Task
from damocles_worker.stores import space
from damocles_worker.stores.attached import AttachedStore, KnownStores
from damocles_worker.stores.pieces import PieceStore
from damocles_worker.stores.sealing import SealingStore
from damocles_worker.stores.space import Adoption
from damocles_worker.stores.upload import Uploader

Progress = Callable[[int, int], None]
Output = TypeVar("Output")

#: The processor that does the work of a stage, where it has another name; None: no processor.
_PROCESSORS = {
    "reserve_space": None,
    "persist": "transfer",
    "fetch_replica": "transfer",
    "upload": "transfer",
    "verify_proof": "verify_seal",
    "clear_layers": "clear_cache",
    "check_sealed": "c1",
    "unseal_update": "unseal",
}


@dataclass(frozen=True)
class Services:
    """What all threads of a daemon share to do the work of a stage."""

    processors: Pool
    limits: Scheduler
    space: space.SpaceLedger
    attached: dict[str, AttachedStore]
    pieces: PieceStore
    uploads: Uploader
    #: Sector size to the pre-built tree_d of a sector without deals.
    static_tree_d: dict[int, str]
    known: KnownStores
    adoption: Adoption = field(default_factory=Adoption)

    @property
    def writable_stores(self) -> tuple[str, ...]:
        return tuple(name for name, store in self.attached.items() if not store.readonly)


class Workbench:
    """One thread's place to work; ``store`` is missing for plans that need none."""

    def __init__(self, services: Services, store: SealingStore | None, policy: Sealing) -> None:
        self.services = services
        self.policy = policy
        self._store = store
        #: The place, child and locks that the thread holds for the stage it is in.
        self.lease: Lease | None = None

    @property
    def store(self) -> SealingStore:
        """The thread's sealing store."""
        assert self._store is not None, "a plan without a store has no stage that uses one"
        return self._store

    @property
    def location(self) -> str:
        """Where the thread works, as the manager and the log show it; ``-`` without a store."""
        return str(self._store.root) if self._store else "-"

    async def settled(self) -> None:
        """Wait until no processor works any more on what was cut off by a pause: it writes in the store."""
        if self._store:
            await self.services.processors.settled(self.location)

    def check_store(self) -> None:
        """Raise :class:`WorkerError` (``waits_for``) when the sealing store went away. Blocks."""
        if self._store:
            self._store.check()

    async def attached(self, name: str | None, what: str) -> AttachedStore:
        """The attached store ``name``, which holds ``what``; it is there.

        :raises WorkerError: it is not attached here, or (``waits_for``) gone.
        """
        store = self.services.attached.get(name or "")
        if store is None:
            here = ", ".join(sorted(self.services.attached)) or "none"
            raise WorkerError(
                f"store {name}, which holds {what}, is not attached here (attached: {here})",
                level=Level.PERMANENT,
                next_step="Add an [[attached]] store of that name (readonly = true will do for reading),"
                " restart, then resume",
            )
        # A network store may take its time to answer.
        await asyncio.to_thread(store.check)
        return store

    def needed_bytes(self, plan: str, sector_size: int, *, synthetic: bool) -> int:
        """Most bytes that a sector of ``plan`` takes in the thread's store.

        A transfer processor need not link to an old replica, and copies it where it is told not to. A program
        of others writes label layers to unseal.
        """
        processors = self.services.processors
        return space.plan_bytes(
            plan,
            sector_size,
            synthetic=synthetic,
            copied=processors.is_external("transfer"),
            layered=processors.is_foreign("unseal"),
        )

    def adopt_space(self, task: Task) -> None:
        """Count what the task's sector needs, less what is written, whatever else was reserved since."""
        if task.sector:
            proof_type = task.sector.proof_type
            needed = self.needed_bytes(
                task.plan, sectors.sector_size(proof_type), synthetic=sectors.is_synthetic(proof_type)
            )
            self.services.space.adopt(self.store.data, needed, self.location)

    def release_space(self, task: Task) -> None:
        """Space is promised only to a sector, not to a thread that may get one later."""
        if self._store and task.sector is None:
            self.services.space.release(self.location)

    def processor(self, stage: str) -> str | None:
        """Who does the work of ``stage``, as ``worker list`` shows it."""
        processor = _PROCESSORS.get(stage, stage)
        return self.services.processors.name(processor, self.lease) if processor else None

    @contextlib.asynccontextmanager
    async def hold(self, stage: str) -> AsyncIterator[None]:
        """A place in a stage of its own within what the thread does, a copy within persisting."""
        async with self.services.limits.hold(stage) as lease:
            outer, self.lease = self.lease, lease
            try:
                yield
            finally:
                self.lease = outer

    def release_child(self) -> None:
        """Give the child back: what follows runs in this process, or waits for other children."""
        if self.lease is not None:
            self.lease.release_child()

    async def compute(self, stage: str, request: Any, output: type[Output], progress: Progress) -> Output:
        """Run a stage on ``request`` and read its output.

        :raises WorkerError: the stage failed, or answered something else.
        """
        raw = await self.run_raw(stage, request, progress)
        try:
            return msgspec.json.decode(raw, type=output)
        except msgspec.MsgspecError as error:
            raise WorkerError(
                f"{self.services.processors.name(stage, self.lease)} answered no output of {stage}: {error}",
                next_step="Check the processor's version",
            ) from error

    async def run_raw(self, stage: str, request: Any, progress: Progress) -> bytes:
        """Run a stage on ``request``; its output as JSON. What it wrote into the store is durable then."""
        processors = self.services.processors
        output = await processors.run(
            stage,
            msgspec.json.encode(request),
            progress=progress,
            lease=self.lease,
            owner=self.location if self._store else None,
        )
        # Our own stages see to it themselves. A record that a stage is done must not outlive its files.
        if self._store and processors.is_foreign(stage):
            await asyncio.to_thread(make_tree_durable, self._store.data)
        return output


def prover_id(task: Task) -> list[int]:
    """The prover id of the task's miner as a processor takes it."""
    assert task.sector
    return list(sectors.prover_id(task.sector.id.miner))

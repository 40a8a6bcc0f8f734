"""The WindowPoSt methods, as a manager that runs with its worker prover serves them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from damocles_worker._native import StageError
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.orders import WindowPoStOrder
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.sectors import Sector, SectorBook
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.processors.tasks import PoStSector, VerifyPoStTask
from damocles_worker.sectors import sector_size, size_name

#: A job is handed out so often before its failure is final.
MAX_TRIES = 2
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


@dataclass
class Job:
    """One job: ``ready2run``, ``running`` or ``finished``."""

    id: str
    input: t.WdPoStInput
    state: str = "ready2run"
    worker: str = ""
    tries: int = 0
    heartbeat_at: float = 0.0
    heartbeats: int = 0
    output: t.WindowPoStOutput | None = None
    #: Whether the proof holds; None: there is none.
    verified: bool | None = None
    error: str = ""
    #: What earlier tries failed with.
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What ``GET /devnet/state`` shows."""
        return {
            "id": self.id,
            "state": self.state,
            "worker": self.worker,
            "tries": self.tries,
            "heartbeats": self.heartbeats,
            "faults": self.output.faults if self.output else [],
            "verified": self.verified,
            "error": self.error,
            "failures": self.failures,
        }


class WindowPoSts:
    """Serves the WindowPoSt methods if the options say so."""

    def __init__(
        self,
        options: Options,
        book: SectorBook,
        proofs: Proofs,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self._book = book
        self._proofs = proofs
        self._say = say
        self._clock = clock
        self.jobs: dict[str, Job] = {}

    def served(self) -> list[Served]:
        if not self._options.worker_prover:
            return []
        return [
            Served(m.WDPOST_ALLOCATE_JOBS, self.allocate),
            Served(m.WDPOST_HEARTBEAT_JOBS, self.heartbeat),
            Served(m.WDPOST_FINISH_JOB, self.finish),
        ]

    def put(self, sectors: list[Sector], order: WindowPoStOrder) -> Job:
        """A new job over ``sectors``; the same one over the same sectors is run again."""
        size = size_name(sector_size(sectors[0].proof_type))
        seed = bytearray(hashlib.sha256(f"devnet {self._options.seed} window".encode()).digest())
        seed[31] &= 0x3F
        given = t.WdPoStInput(
            sectors=[_sector(sector, order) for sector in sectors],
            miner_id=self._book.miner,
            proof_type=f"StackedDrgWindow{size}V1_2",
            seed=list(seed),
        )
        job = Job(_base58(hashlib.blake2b(msgspec.json.encode(given), digest_size=8).digest()), given)
        self.jobs[job.id] = job
        self._say(f"WindowPoSt job {job.id} over {len(sectors)} sectors is ready")
        return job

    async def allocate(
        self, spec: t.AllocateWdPoStJobSpec, count: int, worker: str
    ) -> list[t.WdPoStAllocatedJob]:
        self._take_back()
        fitting = [job for job in self.jobs.values() if job.state == "ready2run" and _fits(job, spec)][:count]
        for job in fitting:
            job.state, job.worker, job.heartbeat_at = "running", worker, self._clock()
            job.tries += 1
            self._say(f"WindowPoSt job {job.id} handed out to {worker}")
        return [t.WdPoStAllocatedJob(job.id, job.input) for job in fitting]

    async def heartbeat(self, ids: list[str], worker: str) -> None:
        self._take_back()
        for job_id in ids:
            job = self.jobs.get(job_id)
            if job is None or job.state == "finished":
                raise MethodError("key not found")
            job.state, job.worker, job.heartbeat_at = "running", worker, self._clock()
            job.heartbeats += 1

    async def finish(self, job_id: str, output: t.WindowPoStOutput | None, error: str) -> None:
        job = self.jobs.get(job_id)
        if job is None:
            raise MethodError("key not found")
        job.output = output
        job.verified = await self._verify(job, output) if output and output.proofs else None
        self._end(job, error or ("invalid proof" if job.verified is False else ""))

    def _end(self, job: Job, error: str) -> None:
        """A failed job is handed out again, until it was tried often enough."""
        job.error = error
        if error:
            job.failures.append(error)
        job.state = "ready2run" if error and job.tries < MAX_TRIES else "finished"
        self._say(f"WindowPoSt job {job.id} {job.state}{': ' if error else ''}{error}")

    def _take_back(self) -> None:
        oldest = self._clock() - self._options.heartbeat_timeout
        for job in self.jobs.values():
            if job.state == "running" and job.heartbeat_at < oldest:
                self._end(job, "heartbeat timeout")

    async def _verify(self, job: Job, output: t.WindowPoStOutput) -> bool:
        sectors = job.input.sectors or []
        task = VerifyPoStTask(
            miner_id=job.input.miner_id,
            proof_type=job.input.proof_type,
            replicas=[PoStSector(sector.sector_id, sector.comm_r) for sector in sectors],
            seed=job.input.seed,
            proofs=[base64.b64decode(proof) for proof in output.proofs],
        )
        try:
            return await asyncio.to_thread(self._proofs.verify_window_post, msgspec.json.encode(task))
        except StageError as error:
            raise MethodError(f"the proof can't be verified: {error}") from None


def _sector(sector: Sector, order: WindowPoStOrder) -> t.WdPoStSector:
    assert sector.pre_commit is not None
    store = order.store or sector.persisted_in or ""
    upgraded = sector.upgraded is not None and sector.upgrade is not None and sector.upgrade.info is not None
    comm_r = sector.pre_commit.comm_r
    if upgraded and sector.upgrade and sector.upgrade.info:
        comm_r = sector.upgrade.info.comm_r
    return t.WdPoStSector(sector.id.number, comm_r, upgraded, t.WdPoStAccesses(store, store))


def _fits(job: Job, spec: t.AllocateWdPoStJobSpec) -> bool:
    return (not spec.allowed_miners or job.input.miner_id in spec.allowed_miners) and (
        not spec.allowed_proof_types or job.input.proof_type in spec.allowed_proof_types
    )


def _base58(data: bytes) -> str:
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return text

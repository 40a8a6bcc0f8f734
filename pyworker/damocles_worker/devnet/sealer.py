"""The methods of the sealer plan: from AllocateSector to a landed proof, everything verified."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import msgspec

from damocles_worker._native import StageError
from damocles_worker.devnet.chain import TICKET_LOOKBACK, Chain
from damocles_worker.devnet.deals import make_deals
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.sectors import Message, Sector, SectorBook
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.manager.types import OnChainState, Res
from damocles_worker.processors.tasks import VerifySealTask
from damocles_worker.sectors import (
    is_synthetic,
    proof_name,
    proofs_for_sizes,
    prover_id,
    sector_size,
    unpadded,
    zero_commitment,
)


class Sealer:
    """Serves the sealer plan's methods. ``say`` is told each interesting event in one line."""

    def __init__(
        self,
        options: Options,
        book: SectorBook,
        chain: Chain,
        proofs: Proofs,
        data_dir: Path,
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._book = book
        self._chain = chain
        self._proofs = proofs
        self._data_dir = data_dir
        self._say = say
        self._making_deals = asyncio.Lock()
        by_version = proofs_for_sizes([options.sector_size])
        self._proof_type = next(p for p in by_version if is_synthetic(p) == options.synthetic)

    def served(self) -> list[Served]:
        return [
            Served(m.ALLOCATE_SECTOR, self.allocate_sector),
            Served(m.ACQUIRE_DEALS, self.acquire_deals),
            Served(m.ASSIGN_TICKET, self.assign_ticket),
            Served(m.SUBMIT_PRE_COMMIT, self.submit_pre_commit),
            Served(m.POLL_PRE_COMMIT_STATE, self.poll_pre_commit_state),
            Served(m.WAIT_SEED, self.wait_seed),
            Served(m.SUBMIT_PROOF, self.submit_proof),
            Served(m.POLL_PROOF_STATE, self.poll_proof_state),
        ]

    async def allocate_sector(self, spec: t.AllocateSectorSpec) -> t.AllocatedSector | None:
        if spec.allowed_miners and self._options.miner not in spec.allowed_miners:
            return None
        if spec.allowed_proof_types and self._proof_type not in spec.allowed_proof_types:
            return None
        if self._options.sectors is not None and len(self._book.all()) >= self._options.sectors:
            return None
        sector = self._book.allocate(self._proof_type)
        self._say(f"{sector.id} allocated ({proof_name(sector.proof_type)})")
        return t.AllocatedSector(sector.id, sector.proof_type)

    async def acquire_deals(
        self, sector_id: t.SectorID, spec: t.AcquireDealsSpec
    ) -> list[t.SectorPiece] | None:
        sector = self._book.online(sector_id)
        # A call repeated while the data of a large sector is still being written waits for its end.
        async with self._making_deals:
            if sector.pieces is None and self._options.deals.wanted(sector_id.number):
                sector.pieces = await asyncio.to_thread(self._make_deals, sector, spec)
        return sector.pieces

    def _make_deals(self, sector: Sector, spec: t.AcquireDealsSpec) -> list[t.SectorPiece] | None:
        size = sector_size(sector.proof_type)
        pieces = make_deals(self._options.seed, sector.id, size, spec, self._data_dir, self._proofs)
        if pieces is not None:
            count = sum(not entry.is_pledge for entry in pieces)
            self._say(f"{sector.id} gets {count} deals in {len(pieces)} pieces")
        return pieces

    async def assign_ticket(self, sector_id: t.SectorID) -> t.Ticket:
        sector = self._book.online(sector_id)
        epoch = self._chain.head() - TICKET_LOOKBACK
        sector.ticket = t.Ticket(self._chain.randomness("ticket", sector_id), epoch)
        return sector.ticket

    async def submit_pre_commit(
        self, allocated: t.AllocatedSector, info: t.PreCommitOnChainInfo, reset: bool
    ) -> t.SubmitResp:
        sector = self._book.online(allocated.id)
        if sector.pre_commit is not None and not reset:
            same = sector.pre_commit == info
            return t.SubmitResp(Res.ACCEPTED if same else Res.MISMATCHED_SUBMISSION)
        refusal = await self._check_pre_commit(sector, allocated, info)
        if refusal is not None:
            self._say(f"{sector.id} pre-commit refused: {refusal.desc}")
            return refusal
        sector.comm_d_checked = True
        sector.pre_commit = info
        sector.pre_commit_message = Message(self._options.pending_polls)
        self._say(f"{sector.id} pre-commit accepted, comm_d is that of its pieces")
        return t.SubmitResp(Res.ACCEPTED)

    async def _check_pre_commit(
        self, sector: Sector, allocated: t.AllocatedSector, info: t.PreCommitOnChainInfo
    ) -> t.SubmitResp | None:
        if allocated.proof_type != sector.proof_type:
            return _rejected(f"proof type {allocated.proof_type} where {sector.proof_type} was allocated")
        expected = await self._comm_d(sector)
        if bytes(info.comm_d) != expected:
            text = f"comm_d {bytes(info.comm_d).hex()} where the pieces give {expected.hex()}"
            return t.SubmitResp(Res.MISMATCHED_SUBMISSION, text)
        if sector.ticket is None:
            return _rejected("no ticket was assigned")
        oldest = self._chain.head() - TICKET_LOOKBACK - self._options.ticket_max_age
        if sector.ticket.epoch < oldest:
            return _rejected(
                f"ticket of epoch {sector.ticket.epoch} is expired: the oldest good one is {oldest}"
            )
        if info.ticket != sector.ticket:
            return _rejected(
                f"ticket of epoch {info.ticket.epoch} is not the assigned one of epoch {sector.ticket.epoch}"
            )
        return None

    async def _comm_d(self, sector: Sector) -> bytes:
        size = sector_size(sector.proof_type)
        if not sector.pieces:
            return zero_commitment(unpadded(size))
        return await asyncio.to_thread(self._proofs.data_commitment, size, sector.data_pieces())

    async def poll_pre_commit_state(self, sector_id: t.SectorID) -> t.PollResp:
        return self._poll(sector_id, self._book.online(sector_id).pre_commit_message)

    async def poll_proof_state(self, sector_id: t.SectorID) -> t.PollResp:
        return self._poll(sector_id, self._book.online(sector_id).proof_message)

    def _poll(self, sector_id: t.SectorID, message: Message | None) -> t.PollResp:
        if message is None:
            return t.PollResp(OnChainState.NOT_FOUND)
        already = message.landed_at is not None
        if not message.poll(self._chain.head()):
            return t.PollResp(OnChainState.PENDING)
        if not already:
            self._say(f"{sector_id} message landed at epoch {message.landed_at}")
        return t.PollResp(OnChainState.LANDED)

    async def wait_seed(self, sector_id: t.SectorID, proof_type: int) -> t.WaitSeedResp:
        sector = self._book.online(sector_id)
        message = sector.pre_commit_message
        if message is None or message.landed_at is None:
            raise MethodError(f"pre-commit info of {sector_id} not found on chain")
        epoch = message.landed_at + self._options.seed_delay
        delay = self._chain.seconds_until(epoch)
        if delay > 0:
            return t.WaitSeedResp(should_wait=True, delay=delay)
        sector.seed = self._chain.randomness("seed", sector_id)
        return t.WaitSeedResp(should_wait=False, seed=t.Seed(sector.seed, epoch))

    async def submit_proof(
        self, sector_id: t.SectorID, info: t.ProofOnChainInfo, reset: bool
    ) -> t.SubmitResp:
        sector = self._book.online(sector_id)
        if sector.proof is not None and not reset:
            same = sector.proof == info.proof
            return t.SubmitResp(Res.ACCEPTED if same else Res.MISMATCHED_SUBMISSION)
        reason = await self._check_proof(sector, base64.b64decode(info.proof))
        if reason is not None:
            self._say(f"{sector_id} proof rejected: {reason}")
            return _rejected(reason)
        sector.proof_verified = True
        sector.proof = info.proof
        sector.proof_message = Message(self._options.pending_polls)
        self._say(f"{sector_id} proof verified")
        return t.SubmitResp(Res.ACCEPTED)

    async def _check_proof(self, sector: Sector, proof: bytes) -> str | None:
        if sector.pre_commit is None or sector.ticket is None:
            return "no pre-commit was submitted"
        if sector.seed is None:
            return "no seed was handed out"
        task = VerifySealTask(
            registered_proof=proof_name(sector.proof_type),
            comm_r=sector.pre_commit.comm_r,
            comm_d=sector.pre_commit.comm_d,
            prover_id=list(prover_id(sector.id.miner)),
            sector_id=sector.id.number,
            ticket=list(base64.b64decode(sector.pre_commit.ticket.ticket)),
            seed=list(base64.b64decode(sector.seed)),
            proof=list(proof),
        )
        try:
            holds = await asyncio.to_thread(self._proofs.verify_seal, msgspec.json.encode(task))
        except StageError as error:
            raise MethodError(f"the proof can't be verified: {error}") from None
        if not holds:
            return (
                f"invalid proof: {len(proof)} bytes that do not hold for this comm_r, comm_d, ticket and seed"
            )
        return None


def _rejected(reason: str) -> t.SubmitResp:
    return t.SubmitResp(Res.REJECTED, reason)

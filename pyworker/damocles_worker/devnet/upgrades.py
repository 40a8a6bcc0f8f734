"""The methods of the snapup plan: candidates with new deals, and the proof of their update."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import msgspec

from damocles_worker._native import StageError
from damocles_worker.devnet.deals import make_deals
from damocles_worker.devnet.options import Options
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.sectors import Sector, SectorBook, Upgrade
from damocles_worker.devnet.stores import Stores
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.manager.types import Res
from damocles_worker.processors.tasks import VerifySnapTask
from damocles_worker.sectors import sector_size, update_proof_name


class Upgrades:
    """Serves the snapup plan's methods. ``say`` is told each interesting event in one line."""

    def __init__(
        self,
        options: Options,
        book: SectorBook,
        stores: Stores,
        proofs: Proofs,
        data_dir: Path,
        say: Callable[[str], None],
    ) -> None:
        self._options = options
        self._book = book
        self._stores = stores
        self._proofs = proofs
        self._data_dir = data_dir
        self._say = say
        #: Sectors that may be upgraded, the next one first.
        self.candidates: list[Sector] = []

    def served(self) -> list[Served]:
        return [
            Served(m.ALLOCATE_SNAP_UP_SECTOR, self.allocate),
            Served(m.SUBMIT_SNAP_UP_PROOF, self.submit),
        ]

    async def allocate(self, spec: t.AllocateSnapUpSpec) -> t.AllocatedSnapUpSector | None:
        """The first candidate that fits, with deals made for it; it is back in the queue without any."""
        sector = next((one for one in self.candidates if fits(one, spec.sector)), None)
        if sector is None:
            return None
        self.candidates.remove(sector)
        pieces = await asyncio.to_thread(
            make_deals,
            f"{self._options.seed} upgrade",
            sector.id,
            sector_size(sector.proof_type),
            spec.deals,
            self._data_dir,
            self._proofs,
        )
        if pieces is None:
            self.candidates.append(sector)
            return None
        sector.restore()
        sector.upgrade = Upgrade(pieces)
        self._say(f"{sector.id} handed out for an upgrade with {len(pieces)} pieces")
        return t.AllocatedSnapUpSector(
            sector=t.AllocatedSector(sector.id, sector.proof_type),
            pieces=pieces,
            public=sector.public(),
            private=t.SectorPrivateInfo(sector.persisted_in or ""),
        )

    async def submit(self, sector_id: t.SectorID, info: t.SnapUpOnChainInfo) -> t.SubmitResp:
        sector = self._book.find(sector_id)
        if sector is None or not sector.online or sector.upgrade is None or sector.pre_commit is None:
            return rejected(f"{sector_id} was not handed out for an upgrade")
        upgrade = sector.upgrade
        if upgrade.info is not None:
            raise MethodError("commit snapup sector: duplicate commit job")
        expected = [entry.piece.piece_cid for entry in upgrade.pieces]
        if info.pieces != expected:
            return rejected(
                f"pieces are {len(info.pieces)}, not the {len(expected)} handed out in their order"
            )
        await self._stores.check_update(sector, info.access_instance, info.comm_r)
        reason = await self._check(sector, upgrade, info)
        if reason is not None:
            self._say(f"{sector_id} update proof rejected: {reason}")
            return rejected(reason)
        upgrade.info = info
        self._say(f"{sector_id} update proof verified, comm_d is that of its pieces")
        return t.SubmitResp(Res.ACCEPTED)

    async def _check(self, sector: Sector, upgrade: Upgrade, info: t.SnapUpOnChainInfo) -> str | None:
        comm_d = await asyncio.to_thread(
            self._proofs.data_commitment, sector_size(sector.proof_type), upgrade.data_pieces()
        )
        if bytes(info.comm_d) != comm_d:
            return f"comm_d {bytes(info.comm_d).hex()} where the pieces give {comm_d.hex()}"
        assert sector.pre_commit is not None
        task = VerifySnapTask(
            registered_proof=update_proof_name(sector.proof_type),
            comm_r_old=sector.pre_commit.comm_r,
            comm_r_new=info.comm_r,
            comm_d_new=info.comm_d,
            proof=list(base64.b64decode(info.proof)),
        )
        try:
            holds = await asyncio.to_thread(self._proofs.verify_snap, msgspec.json.encode(task))
        except StageError as error:
            raise MethodError(f"the proof can't be verified: {error}") from None
        return None if holds else "invalid proof: it does not hold for these comm_r and comm_d"


def fits(sector: Sector, spec: t.AllocateSectorSpec) -> bool:
    """Whether a worker that asks with ``spec`` may have this sector."""
    return (not spec.allowed_miners or sector.id.miner in spec.allowed_miners) and (
        not spec.allowed_proof_types or sector.proof_type in spec.allowed_proof_types
    )


def rejected(reason: str) -> t.SubmitResp:
    return t.SubmitResp(Res.REJECTED, reason)

"""The method of the rebuild plan: sectors whose files are to be made again."""

from __future__ import annotations

from collections.abc import Callable

from damocles_worker.devnet.orders import RebuildOrder
from damocles_worker.devnet.sectors import Sector
from damocles_worker.devnet.upgrades import fits
from damocles_worker.devnet.wire import Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t


class Rebuilds:
    """Serves AllocateRebuildSector; a queued sector is handed out once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.queue: list[tuple[Sector, RebuildOrder]] = []

    def served(self) -> list[Served]:
        return [Served(m.ALLOCATE_REBUILD_SECTOR, self.allocate)]

    async def allocate(self, spec: t.AllocateSectorSpec) -> t.SectorRebuildInfo | None:
        for entry in self.queue:
            sector, order = entry
            if fits(sector, spec):
                self.queue.remove(entry)
                sector.restore()
                sector.rebuilding = True
                self._say(f"{sector.id} handed out for a rebuild")
                return _info(sector, order)
        return None


def _info(sector: Sector, order: RebuildOrder) -> t.SectorRebuildInfo:
    assert sector.ticket is not None
    upgraded = sector.upgraded is not None and sector.upgrade is not None
    pieces = sector.upgrade.pieces if upgraded and sector.upgrade else sector.pieces
    return t.SectorRebuildInfo(
        sector=t.AllocatedSector(sector.id, sector.proof_type),
        ticket=sector.ticket,
        pieces=[_legacy(piece) for piece in pieces or []] if order.legacy else None,
        pieces_v2=None if order.legacy else pieces,
        is_snap_up=upgraded,
        upgrade_public=sector.public() if upgraded else None,
    )


def _legacy(entry: t.SectorPiece) -> t.LegacyDeal:
    info = entry.deal_info
    return t.LegacyDeal(
        id=0 if entry.is_pledge or info is None else max(info.deal_id, info.allocation_id),
        payload_size=entry.payload_size,
        piece=t.LegacyPiece(entry.piece.size, 0 if info is None else info.offset, entry.piece.piece_cid),
    )

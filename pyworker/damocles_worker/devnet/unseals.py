"""The methods of the unseal plan: pieces that are wanted, and whether they arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from damocles_worker.cid import commd_cid
from damocles_worker.devnet.orders import UnsealOrder
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.devnet.sectors import Sector
from damocles_worker.devnet.stores import Stores
from damocles_worker.devnet.upgrades import fits
from damocles_worker.devnet.wire import MethodError, Served
from damocles_worker.manager import methods as m
from damocles_worker.manager import types as t
from damocles_worker.sectors import piece_size_for, unpadded


@dataclass
class Wanted:
    """A piece somebody waits for."""

    sector: Sector
    order: UnsealOrder
    #: ``queued``, ``allocated``, ``uploading``, ``finished`` or ``failed``.
    state: str = "queued"
    error: str = ""
    #: Uploads of the piece before it was handed out, which were for others.
    uploaded_before: int = 0


class Unseals:
    """Serves the unseal plan's methods. ``uploaded`` grows by the CID of each piece that came whole."""

    def __init__(
        self, stores: Stores, proofs: Proofs, uploaded: Sequence[str], say: Callable[[str], None]
    ) -> None:
        self._stores = stores
        self._proofs = proofs
        self._uploaded = uploaded
        self._say = say
        self.wanted: list[Wanted] = []

    def served(self) -> list[Served]:
        return [
            Served(m.ALLOCATE_UNSEAL_SECTOR, self.allocate),
            Served(m.ACQUIRE_UNSEAL_DEST, self.destinations),
            Served(m.ACHIEVE_UNSEAL_SECTOR, self.achieve),
        ]

    async def allocate(self, spec: t.AllocateSectorSpec) -> t.SectorUnsealInfo | None:
        wanted = next((one for one in self.wanted if one.state == "queued" and fits(one.sector, spec)), None)
        if wanted is None:
            return None
        wanted.state = "allocated"
        wanted.uploaded_before = self._uploaded.count(wanted.order.piece)
        wanted.sector.restore()
        self._say(f"{wanted.sector.id} handed out to unseal {wanted.order.piece}")
        return _info(wanted)

    async def destinations(self, sector_id: t.SectorID, piece: t.Cid) -> list[str] | None:
        wanted = self._find(sector_id, piece)
        if wanted is None:
            return None
        wanted.state = "uploading"
        return wanted.order.destinations

    async def achieve(self, sector_id: t.SectorID, piece: t.Cid, error: str) -> None:
        wanted = self._find(sector_id, piece)
        if wanted is None:
            return
        wanted.error = error
        if not error:
            self._check_uploads(wanted)
            for url in wanted.order.destinations:
                await self._check_arrived(url, wanted)
        wanted.state = "failed" if error else "finished"
        self._say(f"{sector_id} unseal of {piece.text} {wanted.state}{': ' if error else ''}{error}")

    def summary(self) -> list[dict[str, str]]:
        """What ``GET /devnet/state`` shows."""
        return [
            {
                "sector": str(one.sector.id),
                "piece": one.order.piece,
                "state": one.state,
                "error": one.error,
            }
            for one in self.wanted
        ]

    def _find(self, sector_id: t.SectorID, piece: t.Cid) -> Wanted | None:
        """The latest task for the piece that was handed out."""
        matching = [
            one
            for one in self.wanted
            if (one.sector.id, one.order.piece) == (sector_id, piece.text) and one.state != "queued"
        ]
        return matching[-1] if matching else None

    def _check_uploads(self, wanted: Wanted) -> None:
        """Every destination over HTTP has had an upload; their bytes were checked as they came."""
        piece = wanted.order.piece
        urls = [url for url in dict.fromkeys(wanted.order.destinations) if _is_upload(url)]
        received = self._uploaded.count(piece) - wanted.uploaded_before
        if received < len(urls):
            # A market's query holds its token.
            where = ", ".join(urlsplit(url)._replace(query="").geturl() for url in urls)
            raise MethodError(f"piece {piece} is said to be at {where}, but was uploaded {received} times")

    async def _check_arrived(self, url: str, wanted: Wanted) -> None:
        """The files, and the stores that can be seen."""
        parts = urlsplit(url)
        path: Path | None = None
        if parts.scheme == "file":
            path = Path(unquote(parts.path))
        elif parts.scheme == "store" and parts.netloc:
            path = self._stores.path(parts.netloc, unquote(parts.path).lstrip("/"))
        if path is None:
            return
        if not path.is_file():
            raise MethodError(f"piece {wanted.order.piece} is said to be at {url}, where there is no file")
        found = await asyncio.to_thread(commitment_of, self._proofs, path)
        if found != wanted.order.piece:
            raise MethodError(f"the file at {url} is the piece {found}, wanted is {wanted.order.piece}")


def _is_upload(url: str) -> bool:
    """Whether the devnet is who receives what is sent there: the manager, or the market it plays."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        # At other paths it is somebody else.
        return parts.path.startswith(("/piecestore/", "/resource"))
    return parts.scheme == "market" or (parts.scheme == "store" and not parts.netloc)


def commitment_of(proofs: Proofs, path: Path) -> str:
    """The piece CID of a whole file."""
    size = path.stat().st_size
    return commd_cid(proofs.piece_commitment(str(path), size, piece_size_for(size)))


def _info(wanted: Wanted) -> t.SectorUnsealInfo:
    sector, order = wanted.sector, wanted.order
    assert sector.ticket is not None and sector.pre_commit is not None
    offset, size = _place(wanted)
    return t.SectorUnsealInfo(
        sector=t.AllocatedSector(sector.id, sector.proof_type),
        piece_cid=t.Cid(order.piece),
        offset=offset if order.offset is None else order.offset,
        size=size if order.size is None else order.size,
        private_info=t.SectorPrivateInfo(sector.persisted_in or ""),
        ticket=sector.ticket,
        comm_d=sector.pre_commit.comm_d,
        dest=order.destinations,
        state="unsealing",
    )


def _place(wanted: Wanted) -> tuple[int, int]:
    """Unpadded offset and size of the piece in the newest data of the sector."""
    sector = wanted.sector
    pieces = sector.upgrade.pieces if sector.upgraded and sector.upgrade else sector.pieces
    offset = 0
    for entry in pieces or []:
        size = unpadded(entry.piece.size)
        if entry.piece.piece_cid.text == wanted.order.piece:
            return offset, size
        offset += size
    return 0, 0

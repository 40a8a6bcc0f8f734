"""Sealed sectors without a seal proof: their files in a persist store, as the stage functions make them."""

from __future__ import annotations

import base64
import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from damocles_worker import _native, sectors
from damocles_worker.devnet.deals import make_deals
from damocles_worker.manager.types import AcquireDealsSpec, SectorID, SectorPiece
from damocles_worker.processors.tasks import (
    AddPiecesTask,
    PC1Task,
    PC2Output,
    PC2Task,
    PieceInfo,
    PieceSource,
    SnapEncodeOutput,
    SnapEncodeTask,
    TreeDTask,
)
from damocles_worker.stores.transfer import cache_files

MINER = 10000
V1_1 = 5


@dataclass
class SealedSector:
    """A sector in a persist store, and what a manager would have recorded of it."""

    number: int
    proof_type: int
    comm_r: list[int]
    comm_d: list[int]
    ticket: bytes
    pieces: list[SectorPiece] = field(default_factory=list)
    update: SnapEncodeOutput | None = None
    update_pieces: list[SectorPiece] = field(default_factory=list)

    @property
    def text(self) -> str:
        return f"s-t0{MINER}-{self.number}"

    def record(self) -> dict[str, Any]:
        """The body of ``POST /devnet/sectors``."""
        upgrade = None
        if self.update is not None:
            upgrade = {
                "pieces": msgspec.to_builtins(self.update_pieces),
                "comm_r": self.update.comm_r_new,
                "comm_d": self.update.comm_d_new,
            }
        return {
            "number": self.number,
            "proof_type": self.proof_type,
            "ticket": {"Ticket": base64.b64encode(self.ticket).decode(), "Epoch": 100},
            "comm_r": self.comm_r,
            "comm_d": self.comm_d,
            "persisted_in": "persist",
            "pieces": msgspec.to_builtins(self.pieces) if self.pieces else None,
            "upgrade": upgrade,
        }


def seal(
    root: Path,
    number: int,
    *,
    deals: bool = False,
    upgraded: bool = False,
    proof_type: int = V1_1,
) -> SealedSector:
    """Seal a sector into ``root/persist``; the data of its pieces go to ``root/pieces``."""
    work, persist, data = root / f"work-{number}", root / "persist", root / "pieces"
    for directory in (work, persist, data):
        directory.mkdir(exist_ok=True)
    ticket = hashlib.sha256(f"ticket {number}".encode()).digest()
    ticket = ticket[:31] + bytes([ticket[31] & 0x3F])
    size = sectors.sector_size(proof_type)
    pieces = _deals(number, size, data, "sealed") if deals else []
    staged, cache, replica = work / "staged", work / "cache", work / "sealed"
    cache.mkdir()
    infos = _stage(pieces, data, staged, cache, proof_type)
    pc1 = _native.pc1(
        msgspec.json.encode(
            PC1Task(
                sectors.proof_name(proof_type),
                str(cache),
                str(staged),
                str(replica),
                list(sectors.prover_id(MINER)),
                number,
                list(ticket),
                infos,
            )
        )
    )
    pc2 = _native.pc2(msgspec.json.encode(PC2Task(msgspec.Raw(pc1), str(cache), str(replica))))
    out = msgspec.json.decode(pc2, type=PC2Output)
    sector = SealedSector(number, proof_type, out.comm_r, out.comm_d, ticket, pieces)
    _store(persist, "sealed", "cache", sector.text, replica, cache)
    if upgraded:
        _upgrade(sector, work, data)
        _store(persist, "update", "update-cache", sector.text, work / "update", work / "update-cache")
    shutil.rmtree(work)
    return sector


def upgrade(root: Path, sector: SealedSector, seed: str) -> dict[str, bytes]:
    """Upgrade a sector in ``root/persist`` with the deals of ``seed``; the files it ought to get there."""
    work, persist, out = root / "upgrade", root / "persist", root / "upgraded"
    work.mkdir()
    shutil.copy(persist / "sealed" / sector.text, work / "sealed")
    shutil.copytree(persist / "cache" / sector.text, work / "cache")
    _upgrade(sector, work, root / "pieces", seed)
    out.mkdir()
    _store(out, "update", "update-cache", sector.text, work / "update", work / "update-cache")
    return files(out)


def _upgrade(sector: SealedSector, work: Path, data: Path, seed: str = "update") -> None:
    staged, cache = work / "update-staged", work / "update-cache"
    cache.mkdir()
    size = sectors.sector_size(sector.proof_type)
    sector.update_pieces = _deals(sector.number, size, data, seed)
    infos = _stage(sector.update_pieces, data, staged, cache, sector.proof_type)
    task = SnapEncodeTask(
        sectors.update_proof_name(sector.proof_type),
        str(work / "update"),
        str(cache),
        str(work / "sealed"),
        str(work / "cache"),
        str(staged),
        infos,
    )
    encoded = _native.snap_encode(msgspec.json.encode(task))
    sector.update = msgspec.json.decode(encoded, type=SnapEncodeOutput)


def _deals(number: int, size: int, data: Path, seed: str) -> list[SectorPiece]:
    made = make_deals(seed, SectorID(MINER, number), size, AcquireDealsSpec(), data, _native)
    assert made is not None
    return made


def _stage(
    pieces: list[SectorPiece], data: Path, staged: Path, cache: Path, proof_type: int
) -> list[PieceInfo]:
    sources = [
        PieceSource(
            "pledge" if piece.is_pledge else {"local": str(data / piece.piece.piece_cid.text)},
            piece.payload_size,
            sectors.unpadded(piece.piece.size),
        )
        for piece in pieces
    ]
    name = sectors.proof_name(proof_type)
    infos = _native.add_pieces(msgspec.json.encode(AddPiecesTask(name, sources, str(staged))))
    _native.tree_d(msgspec.json.encode(TreeDTask(name, str(staged), str(cache))))
    return msgspec.json.decode(infos, type=list[PieceInfo])


def _store(persist: Path, kind: str, cache_kind: str, text: str, replica: Path, cache: Path) -> None:
    (persist / kind).mkdir(exist_ok=True)
    (persist / cache_kind / text).mkdir(parents=True)
    shutil.copy(replica, persist / kind / text)
    for name in cache_files(replica.stat().st_size):
        shutil.copy(cache / name, persist / cache_kind / text / name)


def files(directory: Path) -> dict[str, bytes]:
    """Every file below a directory with its content; of ``t_aux``, which holds paths, the presence only."""
    return {
        str(path.relative_to(directory)): b"" if path.name == "t_aux" else path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def remove(persist: Path, sector: SealedSector, *, update: bool = False) -> None:
    """Remove a sector's files, as a broken disk would."""
    kinds = ("update", "update-cache") if update else ("sealed", "cache")
    (persist / kinds[0] / sector.text).unlink()
    shutil.rmtree(persist / kinds[1] / sector.text)

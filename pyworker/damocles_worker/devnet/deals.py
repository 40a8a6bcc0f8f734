"""Deals with real data: how a sector is filled, and the bytes of its pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from damocles_worker.cid import commd_cid
from damocles_worker.devnet.proofs import Proofs
from damocles_worker.manager.types import AcquireDealsSpec, Cid, DealInfo, Piece, SectorID, SectorPiece
from damocles_worker.sectors import unpadded, zero_commitment

_CHUNK = 1 << 20
_CLIENT = "f01001"
#: The deals of a sector as fractions of its size: small enough for 2 KiB, and fillers are needed both
#: between them and at the end.
_FRACTIONS = (8, 4, 4)


class Slot(Struct, frozen=True):
    """A place in a sector: padded bytes, and whether a deal or zeros go there."""

    offset: int
    size: int
    deal: bool


def lay_out(sector_size: int, deal_sizes: Sequence[int]) -> list[Slot]:
    """Fill a sector with deals in ascending size, each aligned to its own size, and with zero pieces.

    All sizes are powers of two in padded bytes (the market's assigner does the same).
    ``ValueError`` if the deals do not fit.
    """
    slots: list[Slot] = []
    offset = 0

    def fill_until(aligned_to: int) -> None:
        nonlocal offset
        while offset % aligned_to:
            filler = offset & -offset
            slots.append(Slot(offset=offset, size=filler, deal=False))
            offset += filler

    for size in sorted(deal_sizes):
        fill_until(size)
        slots.append(Slot(offset=offset, size=size, deal=True))
        offset += size
    if offset > sector_size:
        raise ValueError(f"deals of {list(deal_sizes)} bytes do not fit into a sector of {sector_size}")
    fill_until(sector_size)
    return slots or [Slot(offset=0, size=sector_size, deal=False)]


def piece_data(seed: str, sector: SectorID, index: int, length: int) -> Iterator[bytes]:
    """The bytes of deal ``index`` of a sector in chunks; they look random and depend on nothing else."""
    for start in range(0, length, _CHUNK):
        name = f"devnet {seed} piece {sector} {index} {start}".encode()
        yield hashlib.shake_128(name).digest(min(_CHUNK, length - start))


def make_deals(
    seed: str,
    sector: SectorID,
    sector_size: int,
    spec: AcquireDealsSpec,
    data_dir: Path,
    proofs: Proofs,
) -> list[SectorPiece] | None:
    """Deals that fill a sector within the limits asked for, their data written to ``data_dir/<cid>``.

    None when the limits leave no deal. Every third deal is of the direct kind (an allocation id and no
    deal id), the others of the built-in market.
    """
    wanted = [sector_size // fraction for fraction in _FRACTIONS][: spec.max_deals]
    if not wanted or sum(wanted) < (spec.min_used_space or 0):
        return None
    pieces = []
    index = 0
    for slot in lay_out(sector_size, wanted):
        if slot.deal:
            pieces.append(_deal(seed, sector, index, slot, data_dir, proofs))
            index += 1
        else:
            pieces.append(_filler(sector, slot))
    return pieces


def _deal(seed: str, sector: SectorID, index: int, slot: Slot, data_dir: Path, proofs: Proofs) -> SectorPiece:
    # A little short of full, so that the zero fill after the payload is exercised as well.
    payload_size = unpadded(slot.size) - 1 - index * slot.size // 16
    partial = data_dir / f"{sector}-{index}.partial"
    with partial.open("wb") as file:
        for chunk in piece_data(seed, sector, index, payload_size):
            file.write(chunk)
    cid = commd_cid(proofs.piece_commitment(str(partial), payload_size, unpadded(slot.size)))
    partial.rename(data_dir / cid)
    direct = index % 3 == 2
    number = sector.number * 100 + index
    return _sector_piece(
        sector,
        slot,
        cid,
        deal_id=0 if direct else number,
        allocation_id=number if direct else 0,
        payload_size=payload_size,
    )


def _filler(sector: SectorID, slot: Slot) -> SectorPiece:
    cid = commd_cid(zero_commitment(unpadded(slot.size)))
    return _sector_piece(sector, slot, cid, deal_id=0, allocation_id=0, payload_size=0)


def _sector_piece(
    sector: SectorID, slot: Slot, cid: str, *, deal_id: int, allocation_id: int, payload_size: int
) -> SectorPiece:
    return SectorPiece(
        piece=Piece(size=slot.size, piece_cid=Cid(cid)),
        deal_info=DealInfo(
            deal_id=deal_id,
            allocation_id=allocation_id,
            piece_cid=Cid(cid),
            piece_size=slot.size,
            client=_CLIENT,
            provider=f"f0{sector.miner}",
            offset=slot.offset,
            length=slot.size,
            payload_size=payload_size,
            start_epoch=1_000_000,
            end_epoch=2_000_000,
            is_builtin_market=deal_id != 0,
        ),
    )

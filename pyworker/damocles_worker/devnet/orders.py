"""Work ordered over HTTP: sectors that are sealed already, and what is to be done with them.

``POST /devnet/sectors`` imports a sealed sector, ``POST /devnet/work`` queues a task. Both take JSON
from loopback only.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from damocles_worker.devnet.sectors import Sector, Upgrade
from damocles_worker.devnet.stores import Stores
from damocles_worker.manager.types import (
    Commitment,
    PreCommitOnChainInfo,
    SectorID,
    SectorPiece,
    SnapUpOnChainInfo,
    Ticket,
)


class ImportedUpgrade(Struct, frozen=True, forbid_unknown_fields=True):
    """A landed replica update; its files are in the sector's store."""

    pieces: list[SectorPiece]
    comm_r: Commitment
    comm_d: Commitment


class ImportedSector(Struct, frozen=True, forbid_unknown_fields=True):
    """A sector that is on chain; its files are in store ``persisted_in``."""

    number: int
    proof_type: int
    ticket: Ticket
    comm_r: Commitment
    comm_d: Commitment
    persisted_in: str
    pieces: list[SectorPiece] | None = None
    upgrade: ImportedUpgrade | None = None


class SnapUpOrder(Struct, frozen=True, forbid_unknown_fields=True, tag_field="plan", tag="snapup"):
    """The sector becomes a candidate for an upgrade."""

    number: int


class RebuildOrder(Struct, frozen=True, forbid_unknown_fields=True, tag_field="plan", tag="rebuild"):
    """The sector is to be sealed again; ``legacy``: its pieces are given as older managers recorded them."""

    number: int
    legacy: bool = False


class UnsealOrder(Struct, frozen=True, forbid_unknown_fields=True, tag_field="plan", tag="unseal"):
    """A piece of the sector is wanted; ``offset`` and ``size`` (unpadded) override what the record says."""

    number: int
    piece: str
    destinations: list[str]
    offset: int | None = None
    size: int | None = None


class WindowPoStOrder(Struct, frozen=True, forbid_unknown_fields=True, tag_field="plan", tag="wdpost"):
    """A WindowPoSt job over the sectors; ``store`` overrides where their files are said to be."""

    numbers: list[int]
    store: str | None = None


Order = SnapUpOrder | RebuildOrder | UnsealOrder | WindowPoStOrder
_ORDERS: msgspec.json.Decoder[Order] = msgspec.json.Decoder(Order)


def parse_order(text: bytes) -> Order:
    """An order from JSON; :class:`ValueError` with the path of what does not fit."""
    try:
        return _ORDERS.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError(f"order: {error}") from None


def parse_import(text: bytes) -> ImportedSector:
    """A sector from JSON; :class:`ValueError` with the path of what does not fit."""
    try:
        return msgspec.json.decode(text, type=ImportedSector)
    except msgspec.DecodeError as error:
        raise ValueError(f"sector: {error}") from None


async def imported(order: ImportedSector, miner: int, stores: Stores) -> Sector:
    """The record of an imported sector: finalised, with the digests of its files."""
    sector = Sector(
        id=SectorID(miner, order.number),
        proof_type=order.proof_type,
        pieces=order.pieces,
        ticket=order.ticket,
        pre_commit=PreCommitOnChainInfo(order.comm_r, order.comm_d, order.ticket),
        persisted_in=order.persisted_in,
    )
    if order.upgrade is not None:
        info = SnapUpOnChainInfo(
            comm_r=order.upgrade.comm_r,
            comm_d=order.upgrade.comm_d,
            access_instance=order.persisted_in,
            pieces=[entry.piece.piece_cid for entry in order.upgrade.pieces],
            proof="",
        )
        sector.upgrade = Upgrade(order.upgrade.pieces, info)
    sector.finalize()
    for kind in ("sealed", "update"):
        digest = await stores.digest(order.persisted_in, kind, sector.id)
        if digest is not None:
            sector.digests[kind] = digest
    return sector

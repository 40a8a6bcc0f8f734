"""The devnet's records: every sector handed out, online until it is finalised or aborted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from damocles_worker.cid import commd_cid, commr_cid, parse_cid
from damocles_worker.devnet.wire import MethodError
from damocles_worker.manager.rpc_error import SECTOR_NOT_FOUND
from damocles_worker.manager.types import (
    Cid,
    CommitmentCid,
    PreCommitOnChainInfo,
    PreCommitRecord,
    ReportStateReq,
    SectorID,
    SectorPiece,
    SectorPublicInfo,
    SectorState,
    SnapUpOnChainInfo,
    Ticket,
    UpgradeRecord,
)
from damocles_worker.sectors import proof_name, unpadded


@dataclass
class Message:
    """A chain message: pending for some polls, then landed."""

    polls_left: int
    landed_at: int | None = None

    def poll(self, head: int) -> bool:
        """One poll at epoch ``head``; whether the message has landed."""
        if self.landed_at is None:
            if self.polls_left == 0:
                self.landed_at = head
            else:
                self.polls_left -= 1
        return self.landed_at is not None


@dataclass
class Upgrade:
    """A replica update of a sector: handed out, then submitted, then landed."""

    pieces: list[SectorPiece]
    #: Set when the proof was verified.
    info: SnapUpOnChainInfo | None = None
    landed: bool = False

    def data_pieces(self) -> list[tuple[bytes, int]]:
        """(commitment, unpadded bytes) of every piece."""
        return data_pieces(self.pieces)


@dataclass
class Sector:
    """One sector as the devnet knows it."""

    id: SectorID
    proof_type: int
    #: None: not asked for, or no deals; then the sector is of zeros.
    pieces: list[SectorPiece] | None = None
    ticket: Ticket | None = None
    pre_commit: PreCommitOnChainInfo | None = None
    pre_commit_message: Message | None = None
    #: Set when the submitted comm_d was found equal to that of the pieces.
    comm_d_checked: bool = False
    #: Base64.
    seed: str | None = None
    #: Base64.
    proof: str | None = None
    proof_message: Message | None = None
    proof_verified: bool = False
    persisted_in: str | None = None
    upgrade: Upgrade | None = None
    #: SHA-256 of the replica and of its update as they were first stored: a rebuild has to give them again.
    digests: dict[str, str] = field(default_factory=dict)
    #: Rebuilds that were stored and finalised.
    rebuilt: int = 0
    rebuilding: bool = False
    latest: ReportStateReq | None = None
    online: bool = True
    finalized: bool = False
    abort_reason: str = ""
    #: Names of the methods called for this sector, in order.
    calls: list[str] = field(default_factory=list)

    def data_pieces(self) -> list[tuple[bytes, int]]:
        """(commitment, unpadded bytes) of every piece."""
        return data_pieces(self.pieces or [])

    def finalize(self) -> None:
        """The end of any task: an update counts as final at once, without the chain's 900 epochs."""
        self.online, self.finalized = False, True
        self.rebuilt += self.rebuilding
        self.rebuilding = False
        if self.upgrade is not None and self.upgrade.info is not None:
            self.upgrade.landed = True

    def restore(self) -> None:
        """Back among the online sectors, for another task."""
        self.online, self.finalized, self.abort_reason = True, False, ""

    @property
    def upgraded(self) -> UpgradeRecord | None:
        """The update that counts, as the manager records it."""
        if self.upgrade is None or not self.upgrade.landed or self.upgrade.info is None:
            return None
        info = self.upgrade.info
        return UpgradeRecord(
            access_instance=info.access_instance,
            sealed_cid=CommitmentCid(commr_cid(bytes(info.comm_r))),
            unsealed_cid=CommitmentCid(commd_cid(bytes(info.comm_d))),
        )

    def public(self) -> SectorPublicInfo:
        """What the chain knows of the sector as it was first sealed; it has landed."""
        assert self.pre_commit is not None
        comm_r = self.pre_commit.comm_r
        return SectorPublicInfo(comm_r, Cid(commr_cid(bytes(comm_r))), activation=1, expiration=1_500_000)

    def abort(self, reason: str) -> None:
        self.online, self.finalized, self.abort_reason = False, True, reason

    def as_state(self) -> SectorState:
        """The record as the manager shows it."""
        submitted = self.pre_commit
        return SectorState(
            id=self.id,
            sector_type=self.proof_type,
            pre=None
            if submitted is None
            else PreCommitRecord(
                comm_r=CommitmentCid(commr_cid(bytes(submitted.comm_r))),
                comm_d=Cid(commd_cid(bytes(submitted.comm_d))),
                ticket=submitted.ticket,
            ),
            finalized=self.finalized,
            abort_reason=self.abort_reason,
            upgraded=self.upgraded is not None,
            upgrade_public=self.public() if self.upgraded else None,
            upgraded_info=self.upgraded,
        )

    def summary(self) -> dict[str, Any]:
        """What ``/devnet/state`` shows of it."""
        submitted = self.pre_commit
        return {
            "sector": str(self.id),
            "number": self.id.number,
            "proof_type": proof_name(self.proof_type),
            "deals": sum(not entry.is_pledge for entry in self.pieces or []),
            "pieces": [entry.piece.piece_cid.text for entry in self.pieces or []],
            "ticket_epoch": None if self.ticket is None else self.ticket.epoch,
            "comm_d": None if submitted is None else bytes(submitted.comm_d).hex(),
            "comm_r": None if submitted is None else bytes(submitted.comm_r).hex(),
            "comm_d_checked": self.comm_d_checked,
            "pre_commit_landed": _landed(self.pre_commit_message),
            "persisted_in": self.persisted_in,
            "proof_submitted": self.proof is not None,
            "proof_verified": self.proof_verified,
            "proof_landed": _landed(self.proof_message),
            "state": None if self.latest is None else self.latest.state_change.next,
            "failure": None if self.latest is None else self.latest.failure,
            "finalized": self.finalized and not self.abort_reason,
            "abort_reason": self.abort_reason,
            "upgrade": None if self.upgrade is None else _upgrade_summary(self.upgrade),
            "rebuilt": self.rebuilt,
            "calls": self.calls,
        }


def _upgrade_summary(upgrade: Upgrade) -> dict[str, Any]:
    info = upgrade.info
    return {
        "pieces": [entry.piece.piece_cid.text for entry in upgrade.pieces],
        "comm_r": None if info is None else bytes(info.comm_r).hex(),
        "comm_d": None if info is None else bytes(info.comm_d).hex(),
        "proof_verified": info is not None,
        "landed": upgrade.landed,
    }


def data_pieces(pieces: list[SectorPiece]) -> list[tuple[bytes, int]]:
    """(commitment, unpadded bytes) of every piece."""
    return [(parse_cid(entry.piece.piece_cid.text)[1], unpadded(entry.piece.size)) for entry in pieces]


def _landed(message: Message | None) -> bool:
    return message is not None and message.landed_at is not None


class SectorBook:
    """The sectors of one miner, numbered from 1."""

    def __init__(self, miner: int) -> None:
        self.miner = miner
        self._sectors: dict[SectorID, Sector] = {}
        self._last_number = 0

    def allocate(self, proof_type: int) -> Sector:
        """A new sector with the next number."""
        self._last_number += 1
        sector = Sector(id=SectorID(self.miner, self._last_number), proof_type=proof_type)
        self.put(sector)
        return sector

    def put(self, sector: Sector) -> None:
        """Keep a record; numbers up to its own are not given out again."""
        self._last_number = max(self._last_number, sector.id.number)
        self._sectors[sector.id] = sector

    def find(self, sector_id: SectorID) -> Sector | None:
        return self._sectors.get(sector_id)

    def online(self, sector_id: SectorID) -> Sector:
        """A sector that is neither finalised nor aborted; the manager's "not found" otherwise."""
        if sector_id.miner != self.miner:
            raise MethodError(f"config for miner actor {sector_id.miner} not found")
        sector = self.find(sector_id)
        if sector is None or not sector.online:
            raise sector_not_found()
        return sector

    def all(self) -> list[Sector]:
        return list(self._sectors.values())


def sector_not_found() -> MethodError:
    return MethodError(f"error code {SECTOR_NOT_FOUND}: sector state not found", SECTOR_NOT_FOUND)

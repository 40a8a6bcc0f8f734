"""The manager's wire types, field for field as Go emits and accepts them.

Attribute names are the snake_case of the Go names; ``rename`` and ``field(name=…)`` hold the exact
spelling on the wire. Unknown keys are ignored, missing optional ones take their default.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field

from damocles_worker.cid import parse_cid

#: Names a type of Go where Python's does not tell: for decoders in Go's manner.
GO_UINT64 = {"go": "uint64"}
GO_BYTES = {"go": "[]byte"}
#: Only the lower bound is checked: msgspec knows no bound above ``2**63 - 1``.
U64 = Annotated[int, Meta(ge=0, extra=GO_UINT64)]
#: ``[32]byte`` of Go: an array of 32 integers 0..255, never base64.
Commitment = Annotated[list[Annotated[int, Meta(ge=0, le=255)]], Meta(min_length=32, max_length=32)]
#: ``[]byte`` of Go: standard padded base64.
Base64 = Annotated[str, Meta(extra=GO_BYTES)]
#: 32 bytes as base64.
Randomness = Annotated[str, Meta(pattern=r"^[A-Za-z0-9+/]{43}=$", extra=GO_BYTES)]


class Cid(Struct, frozen=True):
    """A CID as ``{"/": "baga…"}``."""

    text: str = field(name="/")


class CommitmentCid(Cid, frozen=True):
    """The CID of a commitment; another one is no readable answer."""

    def __post_init__(self) -> None:
        parse_cid(self.text)


class SectorID(Struct, frozen=True, rename="pascal"):
    miner: U64
    number: U64

    def __str__(self) -> str:
        return f"s-t0{self.miner}-{self.number}"


class AllocateSectorSpec(Struct, frozen=True, rename="pascal"):
    allowed_miners: list[U64] | None = None
    allowed_proof_types: list[int] | None = None


class AllocatedSector(Struct, frozen=True, rename="pascal"):
    id: SectorID = field(name="ID")
    #: A registered seal proof.
    proof_type: Annotated[int, Meta(ge=0, le=19)]


class AcquireDealsSpec(Struct, frozen=True, rename="pascal"):
    max_deals: U64 | None = None
    min_used_space: U64 | None = None


class Piece(Struct, frozen=True, rename="pascal"):
    #: Padded bytes.
    size: U64
    piece_cid: Cid = field(name="PieceCID")


class DealInfo(Struct, frozen=True, rename="pascal"):
    deal_id: U64 = field(name="DealID")
    publish_cid: Cid | None = None
    allocation_id: U64 = field(name="AllocationID", default=0)
    piece_cid: Cid | None = field(name="PieceCID", default=None)
    piece_size: U64 = 0
    client: str = ""
    provider: str = ""
    offset: U64 = 0
    length: U64 = 0
    payload_size: U64 = 0
    start_epoch: int = 0
    end_epoch: int = 0
    is_builtin_market: bool = False
    is_compatible: bool = False


class SectorPiece(Struct, frozen=True, rename="pascal"):
    piece: Piece
    #: Null for a filler of some managers.
    deal_info: DealInfo | None = None

    @property
    def is_pledge(self) -> bool:
        """A filler: zeros, no data to fetch (rule of the built-in and of the DDO market)."""
        if self.deal_info is None:
            return True
        if self.deal_info.is_builtin_market:
            return self.deal_info.deal_id == 0
        # A deal without an allocation (of data that are not verified) has data all the same.
        return self.deal_info.allocation_id == 0 and self.deal_info.payload_size == 0

    @property
    def payload_size(self) -> int:
        """Bytes of data before the zero fill; 0 for a filler."""
        return 0 if self.deal_info is None else self.deal_info.payload_size


class Ticket(Struct, frozen=True, rename="pascal"):
    ticket: Randomness
    epoch: int

    def randomness(self) -> bytes:
        return decode_randomness(self.ticket, "Ticket")


class Seed(Struct, frozen=True, rename="pascal"):
    seed: Randomness
    epoch: int

    def randomness(self) -> bytes:
        return decode_randomness(self.seed, "Seed")


class PreCommitOnChainInfo(Struct, frozen=True, rename="pascal"):
    comm_r: Commitment
    comm_d: Commitment
    ticket: Ticket


class SubmitResp(Struct, frozen=True, rename="pascal"):
    """Answer of SubmitPreCommit, SubmitProof and SubmitSnapUpProof; ``res`` is a :class:`Res`."""

    res: int
    desc: str | None = None


class PollResp(Struct, frozen=True, rename="pascal"):
    """Answer of PollPreCommitState and PollProofState; ``state`` is an :class:`OnChainState`."""

    state: int
    desc: str | None = None


class WaitSeedResp(Struct, frozen=True, rename="pascal"):
    should_wait: bool
    #: Seconds.
    delay: U64 = 0
    seed: Seed | None = None


class ProofOnChainInfo(Struct, frozen=True, rename="pascal"):
    proof: Base64


class WorkerIdentifier(Struct, frozen=True, rename="pascal"):
    instance: str
    location: str


class StateChange(Struct, frozen=True, rename="pascal"):
    prev: str
    next: str
    event: str


class ReportFailure(Struct, frozen=True, rename="pascal"):
    level: str
    desc: str


class ReportStateReq(Struct, frozen=True, rename="pascal"):
    worker: WorkerIdentifier
    state_change: StateChange
    failure: ReportFailure | None = None


class SectorStateResp(Struct, frozen=True, rename="pascal"):
    id: SectorID
    finalized: bool
    abort_reason: str | None = None


class StoreBasicInfo(Struct, frozen=True, rename="pascal"):
    name: str
    #: The path on the manager's host: never used here.
    path: str = ""
    strict: bool = False
    read_only: bool = False
    weight: U64 = 0
    meta: dict[str, str] | None = None


class WorkerSummary(Struct, frozen=True, rename="pascal"):
    threads: int
    empty: int
    paused: int
    running: int
    waiting: int
    errors: int


class WorkerInfo(Struct, frozen=True, rename="pascal"):
    name: str
    dest: str
    version: str
    summary: WorkerSummary


class AllocateSnapUpSpec(Struct, frozen=True, rename="pascal"):
    sector: AllocateSectorSpec
    deals: AcquireDealsSpec


class SectorPublicInfo(Struct, frozen=True, rename="pascal"):
    """What the chain knows of a sealed sector."""

    comm_r: Commitment
    sealed_cid: Cid | None = field(name="SealedCID", default=None)
    activation: int = 0
    expiration: int = 0


class SectorPrivateInfo(Struct, frozen=True, rename="pascal"):
    #: Name of the store that holds the sealed file and its cache.
    access_instance: str


class AllocatedSnapUpSector(Struct, frozen=True, rename="pascal"):
    sector: AllocatedSector
    pieces: list[SectorPiece] | None
    public: SectorPublicInfo
    private: SectorPrivateInfo


class SnapUpOnChainInfo(Struct, frozen=True, rename="pascal"):
    """A replica update: the new commitments, where its files are, and its pieces in order."""

    comm_r: Commitment
    comm_d: Commitment
    access_instance: str
    pieces: list[Cid]
    proof: Base64


class LegacyPiece(Struct, frozen=True, rename="pascal"):
    #: Padded bytes.
    size: U64
    offset: U64
    cid: Cid


class LegacyDeal(Struct, frozen=True, rename="pascal"):
    """A piece as older managers recorded it; only in the rebuild information of old sectors."""

    id: U64 = field(name="ID")
    payload_size: U64
    piece: LegacyPiece
    #: The deal's proposal, null for a filler; not read here.
    proposal: msgspec.Raw = msgspec.Raw(b"null")
    is_compatible: bool = False


class SectorRebuildInfo(Struct, frozen=True, rename="pascal"):
    """A sector to seal again. ``pieces``, if not null, hides ``pieces_v2``."""

    sector: AllocatedSector
    ticket: Ticket
    pieces: list[LegacyDeal] | None = None
    pieces_v2: list[SectorPiece] | None = None
    is_snap_up: bool = False
    upgrade_public: SectorPublicInfo | None = None


class SectorUnsealInfo(Struct, frozen=True, rename="pascal"):
    """A range of a sealed sector to decode; ``offset`` and ``size`` are unpadded bytes."""

    sector: AllocatedSector
    piece_cid: Cid
    offset: U64
    size: U64
    private_info: SectorPrivateInfo
    ticket: Ticket
    comm_d: Commitment
    dest: list[str] | None = None
    state: str = ""
    error_info: str = ""


class AllocateWdPoStJobSpec(Struct, frozen=True, rename="pascal"):
    allowed_miners: list[U64] | None = None
    #: Names of the proofs library, ``StackedDrgWindow2KiBV1_2``.
    allowed_proof_types: list[str] | None = None


class WdPoStAccesses(Struct, frozen=True, rename="pascal"):
    """Names of the stores that hold a sector's two parts; they may differ."""

    sealed_file: str
    cache_dir: str


class WdPoStSector(Struct, frozen=True, rename="pascal"):
    #: The sector number alone.
    sector_id: U64
    comm_r: Commitment
    #: True: the replica update's files, not the original's.
    upgrade: bool
    accesses: WdPoStAccesses


class WdPoStInput(Struct, frozen=True, rename="pascal"):
    sectors: list[WdPoStSector] | None
    miner_id: U64
    proof_type: str
    seed: Commitment


class WdPoStAllocatedJob(Struct, frozen=True, rename="pascal"):
    id: str
    input: WdPoStInput


class WindowPoStOutput(Struct, frozen=True):
    """A window proof; the one type with lower-case keys."""

    proofs: list[Base64]
    #: Numbers of the sectors found faulty; then ``proofs`` is empty.
    faults: list[U64]


class PreCommitRecord(Struct, frozen=True, rename="pascal"):
    """The pre-commit the manager recorded, of which comm_r is read; commitments as CIDs."""

    comm_r: CommitmentCid
    comm_d: Cid | None = None
    ticket: Ticket | None = None


class UpgradeRecord(Struct, frozen=True, rename="pascal"):
    """The replica update the manager recorded: its new comm_r and comm_d as CIDs."""

    access_instance: str
    sealed_cid: CommitmentCid = field(name="SealedCID")
    unsealed_cid: CommitmentCid = field(name="UnsealedCID")


class SectorState(Struct, frozen=True, rename="pascal"):
    """What is read of the manager's record of a sector."""

    id: SectorID = field(name="ID")
    sector_type: int
    pre: PreCommitRecord | None = None
    finalized: bool = False
    removed: bool = False
    abort_reason: str | None = None
    upgraded: bool = False
    #: Of an upgraded sector: its comm_r *before* the update.
    upgrade_public: SectorPublicInfo | None = None
    upgraded_info: UpgradeRecord | None = None


class Res:
    """``Res`` of a submit answer (manager-rpc 5.1)."""

    ACCEPTED = 1
    DUPLICATE_SUBMIT = 2
    MISMATCHED_SUBMISSION = 3
    REJECTED = 4
    FILES_MISSED = 5


class OnChainState:
    """``State`` of a poll answer (manager-rpc 5.2)."""

    PENDING = 1
    PACKED = 2
    LANDED = 3
    NOT_FOUND = 4
    FAILED = 5
    PERM_FAILED = 6
    SHOULD_ABORT = 7


def decode_randomness(text: str, what: str) -> bytes:
    """Decode 32 bytes of standard base64; :class:`msgspec.ValidationError` otherwise."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise msgspec.ValidationError(f"{what}: not standard base64: {error}") from None
    if len(raw) != 32:
        raise msgspec.ValidationError(f"{what}: {len(raw)} bytes where 32 are expected")
    return raw

"""The task record: everything a sector needs to survive a crash, one JSON document per store.

The record holds what was decided or computed; whatever can be derived from it, or read again from a
file it names, is not in it. Fields are only ever added, with a default, so that a newer program reads
older records; ``schema`` says which program wrote it.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct
from msgspec.structs import replace as with_fields

from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.types import (
    AllocatedSector,
    Cid,
    Commitment,
    SectorPiece,
    SectorPublicInfo,
    Seed,
    Ticket,
    WdPoStAllocatedJob,
    WindowPoStOutput,
)
from damocles_worker.processors.tasks import PC2Output, PieceInfo, SnapEncodeOutput

SCHEMA = 1


class C1File(Struct, frozen=True):
    """The C1 output lies in a file of the cache directory: tens of megabytes for 32 GiB."""

    name: str
    #: blake2b-256 of the file, hexadecimal; a file that does not match is computed again.
    digest: str


class DamagedLayer(Struct, frozen=True):
    """PC2's answer instead of an output: a label layer has to be made again."""

    cause: str


class UnsealRange(Struct, frozen=True):
    """The piece to decode: ``size`` unpadded bytes from the unpadded byte ``offset`` of the sector."""

    piece_cid: Cid
    offset: int
    size: int
    #: comm_d of the sector as it was first sealed.
    comm_d: Commitment


class Task(Struct, frozen=True):
    """One sector on its way through a plan. ``state`` and its names are upstream's."""

    plan: str
    schema: int = SCHEMA
    state: str = "Empty"
    #: Failures in a row of the current state; a state that succeeds resets it.
    retries: int = 0
    sector: AllocatedSector | None = None
    #: As received; empty for a sector without deals.
    deals: list[SectorPiece] | None = None
    #: What add_pieces wrote, in order.
    pieces: list[PieceInfo] | None = None
    ticket: Ticket | None = None
    #: Unix time of this worker when AssignTicket answered.
    ticket_at: float = 0.0
    #: PC1 output, JSON text: opaque to the worker.
    pc1out: str | None = None
    pc2out: PC2Output | None = None
    #: The manager has taken a pre-commit with this ticket, and asked for another it would forget it.
    precommit_taken: bool = False
    #: Sent as ``reset`` with the next submission, after a failed message.
    resubmit_precommit: bool = False
    resubmit_proof: bool = False
    #: Name of the attached store that holds the sealed sector.
    persist_instance: str | None = None
    seed: Seed | None = None
    c1out: C1File | None = None
    #: C2 output, base64.
    proof: str | None = None
    #: Who computed ``proof``.
    proof_by: str = ""
    #: Proofs of this sector that the manager rejected for their seed.
    reseeded: int = 0
    #: Proofs of this sector that did not verify.
    bad_proofs: int = 0
    #: Times in a row that what an earlier step had written was found damaged and made again.
    damaged: int = 0
    abort_reason: str = ""
    #: Snapup, and rebuild of an upgraded sector: what the chain knows of it before the update.
    public: SectorPublicInfo | None = None
    #: Snapup, unseal: name of the attached store that holds the sealed sector.
    access_instance: str | None = None
    #: Rebuild: ``deals`` belong to the update; the sector below it is of zeros.
    upgraded: bool = False
    #: Rebuild: comm_r of ``pc2out`` was compared with the recorded one.
    checked: bool = False
    #: What add_pieces wrote for the update, in order.
    snap_pieces: list[PieceInfo] | None = None
    snap: SnapEncodeOutput | None = None
    #: The proof of the update, base64; ``proof_by`` and ``bad_proofs`` speak of it.
    snap_proof: str | None = None
    #: Times the files of the update were stored again because the manager missed some.
    stored_again: int = 0
    unseal: UnsealRange | None = None
    #: Digests of the destinations the unsealed piece has reached.
    uploaded: list[str] = []
    #: The piece has reached all of them.
    all_uploaded: bool = False
    #: The WindowPoSt job, then its outcome: a proof, or why there is none.
    job: WdPoStAllocatedJob | None = None
    window_proof: WindowPoStOutput | None = None
    job_error: str = ""
    #: The operator had the thread paused meanwhile: another worker may have the job, or have done it.
    job_let_go: bool = False

    @property
    def assigned(self) -> bool:
        """Whether the manager counts on this worker for a sector or a job."""
        return self.sector is not None or self.job is not None

    @property
    def job_id(self) -> str:
        """What ``worker list`` shows: the sector, the WindowPoSt job, or the empty string."""
        return self.job.id if self.job else self.sector_text

    def afresh(self) -> Task:
        """With all its attempts again: the operator has looked at it."""
        return with_fields(self, retries=0, damaged=0, stored_again=0, reseeded=0)

    @property
    def sector_text(self) -> str:
        """``s-t0<miner>-<number>``, or the empty string before a sector is allocated."""
        return str(self.sector.id) if self.sector else ""


def encode(task: Task) -> bytes:
    """The record as it is journaled: JSON."""
    return msgspec.json.encode(task)


def decode(record: bytes) -> Task:
    """Read a record of this or an older program.

    :raises WorkerError: critical, when it was written by a newer program or is damaged.
    """
    try:
        head = msgspec.json.decode(record, type=dict[str, msgspec.Raw])
        schema = msgspec.json.decode(head.get("schema", msgspec.Raw(b"1")), type=int)
        if schema > SCHEMA:
            raise WorkerError(
                f"the task record has schema {schema}, this program reads up to {SCHEMA}",
                level=Level.CRITICAL,
                next_step="Start the newer damocles-worker that wrote it; nothing was changed",
            )
        return msgspec.json.decode(record, type=Task)
    except msgspec.MsgspecError as error:
        raise WorkerError(
            f"the task record can't be read: {error}",
            level=Level.CRITICAL,
            next_step="Restore the store's meta/ directory from a copy; the sector's files are untouched",
        ) from error

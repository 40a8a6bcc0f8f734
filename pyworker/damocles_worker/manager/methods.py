"""The manager's methods that a worker calls: names on the wire, parameters in order, results.

One table for both ends: the client encodes and decodes by it, the devnet too.
"""

from __future__ import annotations

from types import NoneType
from typing import Any, Generic, TypeVar

import msgspec

from damocles_worker.manager import types as t

R = TypeVar("R")

#: Every method of the manager carries this prefix, a historic constant.
NAMESPACE = "Venus."


class Method(Generic[R]):
    """One remote method.

    ``name`` has no prefix and keeps the manager's spelling (``AllocateSanpUpSector`` is right).
    ``params`` are the types of the positional parameters.
    """

    def __init__(self, name: str, params: tuple[Any, ...], result: Any) -> None:
        self.name = name
        self.params = params
        self.returns_nothing = result is NoneType
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(result)

    @property
    def wire_name(self) -> str:
        return NAMESPACE + self.name

    def decode(self, raw: msgspec.Raw | bytes) -> R:
        """Decode a ``result``; :class:`msgspec.DecodeError` with the path of what does not fit."""
        return self._decoder.decode(raw)


ALLOCATE_SECTOR = Method[t.AllocatedSector | None](
    "AllocateSector", (t.AllocateSectorSpec,), t.AllocatedSector | None
)
ACQUIRE_DEALS = Method[list[t.SectorPiece] | None](
    "AcquireDeals", (t.SectorID, t.AcquireDealsSpec), list[t.SectorPiece] | None
)
ASSIGN_TICKET = Method[t.Ticket]("AssignTicket", (t.SectorID,), t.Ticket)
SUBMIT_PRE_COMMIT = Method[t.SubmitResp](
    "SubmitPreCommit", (t.AllocatedSector, t.PreCommitOnChainInfo, bool), t.SubmitResp
)
POLL_PRE_COMMIT_STATE = Method[t.PollResp]("PollPreCommitState", (t.SectorID,), t.PollResp)
STORE_RESERVE_SPACE = Method[t.StoreBasicInfo | None](
    "StoreReserveSpace", (t.SectorID, t.U64, list[str]), t.StoreBasicInfo | None
)
STORE_BASIC_INFO = Method[t.StoreBasicInfo | None]("StoreBasicInfo", (str,), t.StoreBasicInfo | None)
SUBMIT_PERSISTED_EX = Method[bool]("SubmitPersistedEx", (t.SectorID, str, bool), bool)
WAIT_SEED = Method[t.WaitSeedResp]("WaitSeed", (t.SectorID, int), t.WaitSeedResp)
SUBMIT_PROOF = Method[t.SubmitResp]("SubmitProof", (t.SectorID, t.ProofOnChainInfo, bool), t.SubmitResp)
POLL_PROOF_STATE = Method[t.PollResp]("PollProofState", (t.SectorID,), t.PollResp)
REPORT_STATE = Method[t.SectorStateResp]("ReportState", (t.SectorID, t.ReportStateReq), t.SectorStateResp)
REPORT_FINALIZED = Method[None]("ReportFinalized", (t.SectorID,), NoneType)
REPORT_ABORTED = Method[None]("ReportAborted", (t.SectorID, str), NoneType)
WORKER_PING = Method[None]("WorkerPing", (t.WorkerInfo,), NoneType)
FIND_SECTOR = Method[t.SectorState | None]("FindSector", (str, t.SectorID), t.SectorState | None)
VERSION = Method[str]("Version", (), str)

ALLOCATE_SNAP_UP_SECTOR = Method[t.AllocatedSnapUpSector | None](
    "AllocateSanpUpSector", (t.AllocateSnapUpSpec,), t.AllocatedSnapUpSector | None
)
SUBMIT_SNAP_UP_PROOF = Method[t.SubmitResp](
    "SubmitSnapUpProof", (t.SectorID, t.SnapUpOnChainInfo), t.SubmitResp
)
ALLOCATE_REBUILD_SECTOR = Method[t.SectorRebuildInfo | None](
    "AllocateRebuildSector", (t.AllocateSectorSpec,), t.SectorRebuildInfo | None
)
ALLOCATE_UNSEAL_SECTOR = Method[t.SectorUnsealInfo | None](
    "AllocateUnsealSector", (t.AllocateSectorSpec,), t.SectorUnsealInfo | None
)
ACQUIRE_UNSEAL_DEST = Method[list[str] | None]("AcquireUnsealDest", (t.SectorID, t.Cid), list[str] | None)
ACHIEVE_UNSEAL_SECTOR = Method[None]("AchieveUnsealSector", (t.SectorID, t.Cid, str), NoneType)
WDPOST_ALLOCATE_JOBS = Method[list[t.WdPoStAllocatedJob]](
    "WdPoStAllocateJobs", (t.AllocateWdPoStJobSpec, t.U64, str), list[t.WdPoStAllocatedJob]
)
WDPOST_HEARTBEAT_JOBS = Method[None]("WdPoStHeartbeatJobs", (list[str], str), NoneType)
WDPOST_FINISH_JOB = Method[None]("WdPoStFinishJob", (str, t.WindowPoStOutput | None, str), NoneType)

#: Every method of this module by its name without prefix.
METHODS: dict[str, Method[Any]] = {
    method.name: method for method in list(globals().values()) if isinstance(method, Method)
}

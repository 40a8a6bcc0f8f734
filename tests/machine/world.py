"""A simulated world for the pure machine: answers every instruction, keeps virtual time and a journal."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from damocles_worker.cid import commd_cid, commr_cid
from damocles_worker.config.settings import Sealing
from damocles_worker.manager.types import (
    AllocatedSector,
    AllocatedSnapUpSector,
    Cid,
    CommitmentCid,
    DealInfo,
    LegacyDeal,
    LegacyPiece,
    OnChainState,
    Piece,
    PollResp,
    PreCommitRecord,
    Res,
    SectorID,
    SectorPiece,
    SectorPrivateInfo,
    SectorPublicInfo,
    SectorRebuildInfo,
    SectorState,
    SectorUnsealInfo,
    Seed,
    StoreBasicInfo,
    SubmitResp,
    Ticket,
    UpgradeRecord,
    WaitSeedResp,
    WdPoStAccesses,
    WdPoStAllocatedJob,
    WdPoStInput,
    WdPoStSector,
    WindowPoStOutput,
)
from damocles_worker.processors.tasks import PC2Output, PieceInfo, SnapEncodeOutput
from damocles_worker.sealing.machine import task as records
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    Answered,
    AwaitResume,
    CallManager,
    End,
    Event,
    Instruction,
    Notify,
    Release,
    Report,
    RunStage,
    Save,
    Sleep,
    Wipe,
)
from damocles_worker.sealing.machine.plan import Context, Plan
from damocles_worker.sealing.machine.step import Machine, Result, start, step
from damocles_worker.sealing.machine.task import C1File, Task
from damocles_worker.sealing.plans import PLANS

V1_1_2KIB = 5
SYNTHETIC_2KIB = 10
SECTOR = SectorID(1000, 7)
PIECE = SectorPiece(Piece(2048, Cid("baga")), DealInfo(deal_id=3, payload_size=2000, is_builtin_market=True))
RANDOM = base64.b64encode(bytes(range(32))).decode()
TICKET = Ticket(RANDOM, 5)
#: comm_r and comm_d of the sealed sector, then of its update, as the processors compute them.
SEALED, DATA, UPDATED, NEW_DATA = [1] * 32, [2] * 32, [3] * 32, [4] * 32
PUBLIC = SectorPublicInfo(comm_r=SEALED)
JOB = WdPoStAllocatedJob(
    "job1",
    WdPoStInput(
        [WdPoStSector(7, SEALED, False, WdPoStAccesses("store-a", "store-a"))],
        1000,
        "StackedDrgWindow2KiBV1_2",
        [5] * 32,
    ),
)
PLEDGE_LEGACY = LegacyDeal(0, 0, LegacyPiece(1024, 1024, Cid("bagafiller")))
LEGACY = LegacyDeal(3, 900, LegacyPiece(1024, 0, Cid("baga")))


def record(*, upgraded: bool = False) -> SectorState:
    """What a manager has recorded of ``SECTOR``."""
    return SectorState(
        SECTOR,
        5,
        pre=PreCommitRecord(CommitmentCid(commr_cid(bytes(SEALED))), Cid(commd_cid(bytes(DATA))), TICKET),
        upgraded=upgraded,
        upgrade_public=PUBLIC if upgraded else None,
        upgraded_info=UpgradeRecord(
            "store-a",
            CommitmentCid(commr_cid(bytes(UPDATED))),
            CommitmentCid(commd_cid(bytes(NEW_DATA))),
        )
        if upgraded
        else None,
    )


def rebuilt(*, upgraded: bool = False, proof_type: int = V1_1_2KIB, **changed: Any) -> SectorRebuildInfo:
    """A rebuild as the manager hands it out."""
    info = SectorRebuildInfo(
        AllocatedSector(SECTOR, proof_type),
        TICKET,
        pieces_v2=[PIECE],
        is_snap_up=upgraded,
        upgrade_public=PUBLIC if upgraded else None,
    )
    return replace(info, **changed)


def unsealed(proof_type: int = V1_1_2KIB, **changed: Any) -> SectorUnsealInfo:
    """An unseal task as the manager hands it out."""
    info = SectorUnsealInfo(
        AllocatedSector(SECTOR, proof_type), Cid("baga"), 0, 1016, SectorPrivateInfo("store-a"), TICKET, DATA
    )
    return replace(info, **changed)


@dataclass
class World:
    """Answers instructions; ``journal`` is what would survive a crash."""

    policy: Sealing = field(default_factory=Sealing)
    plan: Plan = field(default_factory=lambda: PLANS["sealer"])
    proof_type: int = V1_1_2KIB
    #: The sector that is rebuilt or unsealed is an upgraded one.
    upgraded: bool = False
    draining: bool = False
    now: float = 1_000_000.0
    stores: tuple[str, ...] = ("store-a",)
    journal: Task | None = None
    saves: list[Save] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    calls: list[CallManager] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    notified: list[Notify] = field(default_factory=list)
    slept: list[Sleep] = field(default_factory=list)
    wiped: int = 0
    held: int = 0
    ended: str | None = None
    #: Answers used before the usual ones, by method or stage: a value, or an event.
    scripted: dict[str, list[Any]] = field(default_factory=dict)
    machine: Machine | None = None
    todo: list[Instruction] = field(default_factory=list)

    def context(self) -> Context:
        return Context(self.now, self.policy, self.stores, worker="w1", location="/mnt/s1")

    def boot(self) -> Machine:
        """Start from what the journal holds, as after a crash or a new run."""
        task = records.decode(records.encode(self.journal)) if self.journal else Task(plan=self.plan.name)
        self.ended, self.held = None, 0
        self.take(start(self.plan, task, self.context(), draining=self.draining))
        assert self.machine is not None
        return self.machine

    def take(self, result: Result) -> None:
        """Carry out all instructions without an answer."""
        self.machine, self.todo = result
        for instruction in self.todo:
            match instruction:
                case Save(task=task):
                    self.saves.append(instruction)
                    self.journal = task
                case Report():
                    self.reports.append(instruction)
                case Notify():
                    self.notified.append(instruction)
                case Release():
                    self.held -= 1
                case Wipe():
                    self.wiped += 1
                case CallManager():
                    self.calls.append(instruction)
                case RunStage(stage):
                    self.stages.append(stage)
                case Sleep(seconds):
                    self.slept.append(instruction)
                    self.now += seconds
                case End(outcome):
                    self.ended = outcome

    def send(self, event: Event) -> None:
        """Feed one event."""
        assert self.machine is not None
        if isinstance(event, Answered) and isinstance(self.waiting_on, AcquireLimit):
            self.held += 1
        result = step(self.machine, event, self.context())
        if result[1]:
            self.take(result)
        else:
            self.machine = result[0]

    @property
    def waiting_on(self) -> Instruction:
        return self.todo[-1]

    def run(self, limit: int = 400) -> None:
        """Answer until the run ends or the thread pauses."""
        for _ in range(limit):
            if self.ended or isinstance(self.waiting_on, AwaitResume):
                return
            self.send(self.answer())
        raise AssertionError(f"no end after {limit} answers; last {self.waiting_on}")

    def answer(self) -> Event:
        """The next scripted answer of what is waited for, else the usual one."""
        instruction = self.waiting_on
        key: str = getattr(instruction, "method", "") or getattr(instruction, "stage", "")
        queue = self.scripted.get(key)
        value = queue.pop(0) if queue else self.usual(instruction)
        return value if isinstance(value, Event) else Answered(value)

    def usual(self, instruction: Instruction) -> Any:
        """What a willing manager and working processors answer."""
        if isinstance(instruction, CallManager):
            return {
                "allocate_sector": AllocatedSector(SECTOR, self.proof_type),
                "acquire_deals": [PIECE],
                "assign_ticket": Ticket(RANDOM, int(self.now)),
                "submit_pre_commit": SubmitResp(Res.ACCEPTED),
                "poll_pre_commit_state": PollResp(OnChainState.LANDED),
                "store_reserve_space": StoreBasicInfo(self.stores[0] if self.stores else ""),
                "submit_persisted_ex": True,
                "wait_seed": WaitSeedResp(False, 0, Seed(RANDOM, 9)),
                "submit_proof": SubmitResp(Res.ACCEPTED),
                "poll_proof_state": PollResp(OnChainState.LANDED),
                "allocate_snap_up_sector": AllocatedSnapUpSector(
                    AllocatedSector(SECTOR, self.proof_type), [PIECE], PUBLIC, SectorPrivateInfo("store-a")
                ),
                "store_basic_info": StoreBasicInfo("store-a"),
                "submit_snap_up_proof": SubmitResp(Res.ACCEPTED),
                "allocate_rebuild_sector": rebuilt(upgraded=self.upgraded, proof_type=self.proof_type),
                "find_sector": record(upgraded=self.upgraded),
                "allocate_unseal_sector": unsealed(self.proof_type),
                "acquire_unseal_dest": ["http://a/x?token=secret", "store:///baga"],
                "wdpost_allocate_jobs": [JOB],
            }.get(instruction.method)
        if isinstance(instruction, RunStage):
            return {
                "reserve_space": [2048],
                "add_pieces": [PieceInfo([0] * 32, 2032)],
                "pc1": '{"labels":1}',
                "pc2": PC2Output("StackedDrg2KiBV1_1", SEALED, DATA),
                "c1": C1File("c1out.json", "00"),
                "c2": ("cHJvb2Y=", "builtin C2"),
                "verify_proof": True,
                "snap_encode": SnapEncodeOutput(UPDATED, [9] * 32, NEW_DATA),
                "snap_prove": ("cHJvb2Y=", "builtin SnapProve"),
                "verify_snap": True,
                "window_post": (WindowPoStOutput(["cHJvb2Y="], []), ""),
            }.get(instruction.stage)
        return None

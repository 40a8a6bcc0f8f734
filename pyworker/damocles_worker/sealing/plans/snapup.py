"""The ``snapup`` plan: real data goes into a sector that was sealed empty.

The worker is done once the manager has taken the proof; the manager watches the chain.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import (
    AcquireDealsSpec,
    AllocatedSnapUpSector,
    AllocateSectorSpec,
    AllocateSnapUpSpec,
    Res,
    SnapUpOnChainInfo,
)
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Fail,
    Hold,
    Outcome,
    Plan,
    State,
    Wait,
)
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans import updating
from damocles_worker.sealing.plans.common import (
    allocate,
    endings,
    failure,
    submission_refused,
)
from damocles_worker.sealing.plans.storing import files_missed, persist

#: The stage whose place is held while the new data are encoded.
ENCODE = "snap_encode"
#: Pause before the files are stored again, seconds.
STORE_AGAIN_DELAY = 30.0
#: Times the files are stored again before the operator is needed.
STORE_AGAIN = 3
#: What the manager says while it works on an earlier submission of the same proof.
_UNDER_WAY = "duplicate commit job"


def _spec(sector: AllocateSectorSpec, policy: Sealing) -> AllocateSnapUpSpec:
    return AllocateSnapUpSpec(sector, AcquireDealsSpec(policy.max_deals, policy.min_deal_space))


def _accept(task: Task, answer: AllocatedSnapUpSector) -> Outcome:
    allocated = replace(
        task,
        sector=answer.sector,
        deals=list(answer.pieces or ()),
        public=answer.public,
        access_instance=answer.private.access_instance,
    )
    return Change("AllocatedSnapUpSector", allocated, "Allocated")


def _add_pieces(task: Task, context: Context) -> Outcome:
    if not task.deals or not task.access_instance:
        missing = "deals" if not task.deals else "the store of its files"
        return failure(
            Level.ABORT,
            f"the manager handed out sector {task.sector_text} for an upgrade without {missing}",
            "The upgrade is given up; the sector stays as it is",
        )
    return updating.add_pieces("PieceAdded")(task, context)


def _encode(task: Task, context: Context) -> Outcome:
    """Bring the old replica, by link; then encode. Who waits for the one holds nothing of the other."""
    if context.held == ENCODE:
        return updating.encode(task, context)
    instance = task.access_instance

    def known(_task: Task, store: Any, _context: Context) -> Outcome:
        if store is None:
            return failure(
                Level.PERMANENT,
                f"the manager does not know the store {instance} that holds sector {task.sector_text}",
                "Check the manager's Common.PersistStores, then resume",
            )
        return Compute(
            "fetch_replica",
            then=lambda _, __, ___: Hold(ENCODE),
            args={"meta": store.meta},
            cut_by_pause=True,
        )

    return Ask("store_basic_info", (instance,), then=known)


def _submit(task: Task, _context: Context) -> Outcome:
    assert task.sector and task.snap and task.snap_proof and task.persist_instance and task.deals
    info = SnapUpOnChainInfo(
        comm_r=task.snap.comm_r_new,
        comm_d=task.snap.comm_d_new,
        access_instance=task.persist_instance,
        pieces=[deal.piece.piece_cid for deal in task.deals],
        proof=task.snap_proof,
    )
    return Ask("submit_snap_up_proof", (task.sector.id, info), then=_submitted, on_failure=_not_submitted)


def _submitted(task: Task, answer: Any, _context: Context) -> Outcome:
    if answer.res == Res.FILES_MISSED:
        return _store_again(task, answer.desc or "files missed")
    return submission_refused(task.sector_text, "update proof", answer) or Change("Finish", task, "Finished")


def _not_submitted(task: Task, problem: Failure, _context: Context) -> Outcome:
    if _UNDER_WAY in problem.cause:
        # The answer to an earlier call was lost; nobody else submits for this sector.
        return Change("Finish", task, "Finished", "the manager had taken the proof already")
    if files_missed(problem):
        return _store_again(task, problem.cause)
    return Fail(problem)


def _store_again(task: Task, why: str) -> Outcome:
    if task.stored_again >= STORE_AGAIN:
        return failure(
            Level.PERMANENT,
            f"the manager misses files of sector {task.sector_text} in store {task.persist_instance} though"
            f" they were stored {task.stored_again + 1} times: {why}",
            "Check that the store is mounted on the manager's host at the same place, then resume with"
            " --state SnapProved to store them once more",
        )
    again = replace(task, stored_again=task.stored_again + 1)
    change = Change("RePersist", again, "SnapProved", why, warning=True)
    return Wait(STORE_AGAIN_DELAY, "storing the files again: the manager misses some", lambda _, __: change)


_ALLOCATED = ("sector", "deals", "public", "access_instance")
_STAGED = (*_ALLOCATED, "snap_pieces")
_PROVED = (*_STAGED, "snap", "snap_proof")

SNAPUP = Plan(
    "snapup",
    {
        "Empty": State("-", allocate("allocate_snap_up_sector", _accept, _spec)),
        "Allocated": State("AddPieces", _add_pieces, _ALLOCATED),
        "PieceAdded": State("TreeD", updating.tree_d("TreeDBuilt"), _STAGED),
        "TreeDBuilt": State("SnapEncode", _encode, _STAGED),
        "SnapEncoded": State("SnapProve", updating.prove("SnapProved"), (*_STAGED, "snap")),
        "SnapProved": State("PersistFiles", updating.verified(persist("Persisted")), _PROVED),
        "Persisted": State("SubmitSnapupProof", _submit, (*_PROVED, "persist_instance")),
        **endings(),
    },
    giving_up=(
        "`resume --state Aborted` gives the upgrade up: its data are removed here, the manager releases its"
        " deals, and the sector stays as it was before"
    ),
)

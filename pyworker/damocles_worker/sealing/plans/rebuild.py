"""The ``rebuild`` plan: the files of a sector that is on chain already, made again from its data.

An upgraded sector is sealed from zeros, as it was, and then its update is made again on top. What
comes out is compared with what the manager recorded; nothing is sent on chain.
"""

from __future__ import annotations

from msgspec.structs import replace

from damocles_worker.errors import Level
from damocles_worker.manager.types import (
    DealInfo,
    LegacyDeal,
    Piece,
    SectorPiece,
    SectorRebuildInfo,
    SectorState,
)
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Fail,
    Forget,
    Outcome,
    Plan,
    State,
)
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans import recorded, replica, updating
from damocles_worker.sealing.plans.common import allocate, failure, finish, holding, never
from damocles_worker.sealing.plans.storing import persist, submit_persisted

#: For the operator: what giving a task up does.
GIVING_UP = (
    "`resume --state Aborted` gives this task up: what was made again is removed here, the manager keeps the"
    " sector with its deals and its record and counts this rebuild as over; queue it again with"
    " `damocles-manager util sealer sectors rebuild`"
)


def _accept(task: Task, info: SectorRebuildInfo) -> Outcome:
    if info.pieces is not None:
        deals = [_from_legacy(deal) for deal in info.pieces]
    else:
        deals = list(info.pieces_v2 or ())
    allocated = replace(
        task,
        sector=info.sector,
        ticket=info.ticket,
        deals=deals,
        upgraded=info.is_snap_up,
        public=info.upgrade_public,
    )
    return Change("AllocatedRebuildSector", allocated, "Allocated")


def _from_legacy(deal: LegacyDeal) -> SectorPiece:
    """Older managers recorded deals of the built-in market only; a filler has the deal id 0."""
    info = DealInfo(
        deal_id=deal.id,
        piece_cid=deal.piece.cid,
        piece_size=deal.piece.size,
        offset=deal.piece.offset,
        payload_size=deal.payload_size,
        is_builtin_market=True,
        is_compatible=deal.is_compatible,
    )
    return SectorPiece(Piece(deal.piece.size, deal.piece.cid), info)


def _add_pieces(task: Task, context: Context) -> Outcome:
    if task.upgraded and task.public is None:
        return failure(
            Level.PERMANENT,
            f"the manager calls sector {task.sector_text} upgraded and does not say its comm_r before the"
            " upgrade (UpgradePublic)",
            f"Repair the manager's record of the sector. {GIVING_UP}",
        )
    return replica.add_pieces("PieceAdded")(task, context)


def _pc1(_task: Task, _context: Context) -> Outcome:
    return Compute("pc1", then=lambda task, out, _: Change("PC1", replace(task, pc1out=out), "PC1Done"))


def _check_sealed(task: Task, context: Context) -> Outcome:
    """Compare comm_r, then compute vanilla proofs, which are checked as they are made."""
    assert task.pc2out is not None
    if task.upgraded:
        assert task.public is not None
        return _checked(task, bytes(task.public.comm_r), "")

    def with_record(record: SectorState | None, why: str, _context: Context) -> Outcome:
        found = recorded.sealed_comm_r(record) if record else None
        return _checked(task, found, why or "the manager's record has no pre-commit")

    return recorded.find(task, with_record)


def _checked(task: Task, recorded_comm_r: bytes | None, why: str) -> Outcome:
    assert task.pc2out is not None
    verdict = recorded.compare(task, "replica", task.pc2out.comm_r, recorded_comm_r, why)
    if isinstance(verdict, Fail):
        return verdict
    warning = verdict
    return Compute(
        "check_sealed",
        then=lambda task, _, __: Change(
            "CheckSealed", replace(task, checked=True), "SealedChecked", warning, bool(warning)
        ),
    )


def _begin_update(task: Task, context: Context) -> Outcome:
    if not task.upgraded:
        return Change("SkipSnap", task, "SnapDone")
    return updating.add_pieces("SnapPieceAdded")(task, context)


def _prove_update(task: Task, _context: Context) -> Outcome:
    """Compare comm_r of the update before the long proof."""

    def with_record(record: SectorState | None, why: str, context: Context) -> Outcome:
        assert task.snap is not None
        found = recorded.updated_comm_r(record) if record else None
        why = why or "the manager's record has no update"
        verdict = recorded.compare(task, "update", task.snap.comm_r_new, found, why)
        if isinstance(verdict, Fail):
            return verdict
        return updating.prove("SnapDone", verdict, warning=bool(verdict))(task, context)

    return recorded.find(task, with_record)


def _persist(task: Task, context: Context) -> Outcome:
    store = persist("Persisted")
    if not task.upgraded:
        return store(task, context)
    if task.snap_proof is None:
        return Change("CheckSealed", task, "SealedChecked", "the update is to be made first")
    return updating.verified(store)(task, context)


def _give_up(task: Task, _context: Context) -> Outcome:
    """Put the sector back among the finished ones, where it came from and where a rebuild is queued from.

    ReportAborted would release the deals of a sector that is live, erase the record of its upgrade and
    take it for lost.
    """
    assert task.sector is not None
    over = Forget("Aborted", "aborted", task.abort_reason)

    def unknown_is_over(_task: Task, problem: Failure, _context: Context) -> Outcome:
        return over if problem.sector_unknown else Fail(problem)

    return Ask(
        "report_finalized", (task.sector.id,), then=lambda _, __, ___: over, on_failure=unknown_is_over
    )


def _is_checked(task: Task) -> bool:
    """What has another comm_r than the recorded one must not take the place of what is stored."""
    return task.checked


_PIECES = ("sector", "ticket", "deals", "pieces")
_SEALED = (*_PIECES, "pc2out")
_SNAP = (*_SEALED, "public", "snap_pieces")

REBUILD = Plan(
    "rebuild",
    {
        "Empty": State("-", allocate("allocate_rebuild_sector", _accept)),
        "Allocated": State("AddPieces", _add_pieces, ("sector", "ticket", "deals")),
        "PieceAdded": State("TreeD", replica.tree_d("TreeDBuilt"), _PIECES),
        "TreeDBuilt": State("PC1", holding("pc1", _pc1), _PIECES),
        "PC1Done": State("PC2", replica.pc2(("BuildTreeD", "TreeDBuilt")), (*_PIECES, "pc1out")),
        "SyntheticPoRepNeeded": State("SyntheticPoRep", replica.synthetic_proofs, _SEALED),
        "PC2Done": State("C1", holding("c1", _check_sealed), _SEALED),
        "SealedChecked": State("PrepareForSnapup", _begin_update, _SEALED, _is_checked),
        "SnapPieceAdded": State("TreeD", updating.tree_d("SnapTreeDBuilt"), _SNAP, _is_checked),
        "SnapTreeDBuilt": State("SnapEncode", holding("snap_encode", updating.encode), _SNAP, _is_checked),
        "SnapEncoded": State(
            "SnapProve", holding("snap_prove", _prove_update), (*_SNAP, "snap"), _is_checked
        ),
        "SnapDone": State("PersistFiles", _persist, _SEALED, _is_checked),
        "Persisted": State(
            "SubmitPersisted",
            submit_persisted("Finished", "SnapDone"),
            (*_SEALED, "persist_instance"),
            _is_checked,
        ),
        "Finished": State("-", finish, ("sector",), settable=never),
        "Aborted": State("-", _give_up, ("sector",)),
    },
    live=True,
    giving_up=GIVING_UP,
)

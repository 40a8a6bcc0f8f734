"""Moves of a replica update, shared by snapup and by the rebuild of an upgraded sector.

The update has a staged file, a tree_d and piece infos of its own, beside those of the sector below it,
so that going back to an earlier state always finds what belongs to that state.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker.errors import Level
from damocles_worker.sealing.machine.plan import Change, Compute, Context, Outcome
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans.common import StateMove, failure, holding

#: Proofs of one update that may fail their verification before the operator is needed.
BAD_PROOFS_ALLOWED = 1
UPDATE = {"update": True}


def add_pieces(next_state: str) -> StateMove:
    """Write the staged file of the update, with the new deals."""

    def added(task: Task, pieces: Any, _context: Context) -> Outcome:
        return Change("AddPiece", replace(task, snap_pieces=pieces), next_state)

    return holding(
        "add_pieces", lambda _task, _context: Compute("add_pieces", added, UPDATE, cut_by_pause=True)
    )


def tree_d(next_state: str) -> StateMove:
    """Build the tree over the staged file of the update; a static one is never its."""

    def built(task: Task, _answer: Any, _context: Context) -> Outcome:
        return Change("BuildTreeD", task, next_state)

    return holding("tree_d", lambda _task, _context: Compute("tree_d", built, UPDATE, cut_by_pause=True))


def encode(_task: Task, _context: Context) -> Outcome:
    """Encode the new data with the old replica as the key."""
    return Compute(
        "snap_encode",
        then=lambda task, out, _: Change("SnapEncode", replace(task, snap=out), "SnapEncoded"),
    )


def prove(next_state: str, detail: str = "", *, warning: bool = False) -> StateMove:
    """Compute the proof of the update; it is in the journal before anybody looks at it."""

    def proved(task: Task, answer: Any, _context: Context) -> Outcome:
        proof, by = answer
        return Change("SnapProve", replace(task, snap_proof=proof, proof_by=by), next_state, detail, warning)

    return holding("snap_prove", lambda _task, _context: Compute("snap_prove", then=proved))


def verified(move: StateMove) -> StateMove:
    """``move`` once the proof holds, whoever made it; a bad one is computed once more, then named."""

    def judged(task: Task, valid: Any, context: Context) -> Outcome:
        if valid:
            return move(task, context)
        bad = replace(task, bad_proofs=task.bad_proofs + 1, snap_proof=None)
        why = f"the update proof made by {task.proof_by} does not verify"
        if bad.bad_proofs <= BAD_PROOFS_ALLOWED:
            return Change("SnapEncode", bad, "SnapEncoded", f"{why}: computing it once more", warning=True)
        return failure(
            Level.PERMANENT,
            f"{why}, {bad.bad_proofs} times in a row for sector {task.sector_text}",
            "Check that prover and verifier use the same parameters (`damocles-worker params check`) and"
            " the health of that processor's GPU or memory, then resume with --state SnapEncoded",
        )

    return lambda _task, _context: Compute("verify_snap", then=judged)

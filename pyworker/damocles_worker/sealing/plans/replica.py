"""Moves on the way to a replica, shared by the plans that seal: pieces, tree_d, PC2, synthetic proofs."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from damocles_worker import sectors
from damocles_worker.errors import Level
from damocles_worker.sealing.machine.plan import Change, Compute, Context, Outcome
from damocles_worker.sealing.machine.task import DamagedLayer, Task
from damocles_worker.sealing.plans.common import StateMove, failure, holding

#: Times in a row that something damaged is made again before the operator is needed.
DAMAGED_ALLOWED = 2


def made_again(change: Change, context: Context) -> Outcome:
    """``change``, which goes back because of a damaged file, unless the disk damages it every time."""
    times = change.task.damaged + 1
    if times <= DAMAGED_ALLOWED:
        return dataclasses.replace(change, task=replace(change.task, damaged=times))
    return failure(
        Level.PERMANENT,
        f"{change.detail}, {times} times in a row for sector {change.task.sector_text}",
        f"Check the disk of {context.location} and the memory of this host (the kernel's log names faults"
        " of both), then resume: what is damaged is made again",
    )


def add_pieces(next_state: str) -> StateMove:
    """Write the staged file, with the sector's deals or with zeros."""

    def added(task: Task, pieces: Any, _context: Context) -> Outcome:
        return Change("AddPiece", replace(task, pieces=pieces), next_state)

    return holding("add_pieces", lambda _task, _context: Compute("add_pieces", then=added, cut_by_pause=True))


def tree_d(next_state: str) -> StateMove:
    """Build the tree over the staged file, or link the static one."""

    def built(task: Task, _answer: Any, _context: Context) -> Outcome:
        return Change("BuildTreeD", task, next_state)

    return holding("tree_d", lambda _task, _context: Compute("tree_d", then=built, cut_by_pause=True))


def pc2(labelled_anew: tuple[str, str]) -> StateMove:
    """PC2. A damaged label layer leads to PC1, by the event and to the state of ``labelled_anew``.

    With the same ticket the layers have the same labels: PC1 makes the damaged one only.
    """

    def encoded(task: Task, out: Any, context: Context) -> Outcome:
        assert task.sector is not None
        if isinstance(out, DamagedLayer):
            event, state = labelled_anew
            anew = Change(event, replace(task, pc1out=None), state, out.cause, warning=True)
            return made_again(anew, context)
        encoded = replace(task, pc2out=out, checked=False, damaged=0)
        if sectors.is_synthetic(task.sector.proof_type):
            return Change("PC2NeedSyntheticProof", encoded, "SyntheticPoRepNeeded")
        return Change("PC2", encoded, "PC2Done")

    return holding("pc2", lambda _task, _context: Compute("pc2", then=encoded))


synthetic_proofs = holding(
    "synth_proof",
    lambda _task, _context: Compute(
        "synth_proof", then=lambda task, _, __: Change("SyntheticPoRep", task, "PC2Done")
    ),
)

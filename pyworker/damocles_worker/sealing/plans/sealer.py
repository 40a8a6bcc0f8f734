"""The ``sealer`` plan: a new sector, with or without deals, from allocation to a landed proof.

States, events and stage texts are upstream's. Read the table at the end first; each function above
it is the move of one state.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker import sectors
from damocles_worker.errors import Level
from damocles_worker.manager.types import (
    AcquireDealsSpec,
    OnChainState,
    PreCommitOnChainInfo,
    ProofOnChainInfo,
)
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Fail,
    Hold,
    Idle,
    Outcome,
    Plan,
    State,
    Wait,
)
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans.common import (
    allocate,
    endings,
    failure,
    landing_refused,
    submission_refused,
)
from damocles_worker.sealing.plans.replica import add_pieces, made_again, pc2, synthetic_proofs, tree_d
from damocles_worker.sealing.plans.storing import persist, submit_persisted

#: Pause before a failed message is submitted again, seconds.
RESUBMIT_DELAY = 30.0
#: Of the age that a ticket may have: a pre-commit rejected after that is taken for one with an old ticket.
REJECTED_SHARE = 0.95
#: Proofs of one sector that may be rejected for their seed: it may be that of a fork of the chain.
RESEEDS_ALLOWED = 3
#: Proofs of one sector that may fail their verification before the operator is needed.
BAD_PROOFS_ALLOWED = 1


def _accept(task: Task, answer: Any) -> Outcome:
    return Change("Allocate", replace(task, sector=answer), "Allocated")


def _acquire_deals(task: Task, context: Context) -> Outcome:
    policy = context.policy
    if not policy.enable_deals:
        if policy.disable_cc:
            why = "sealing.disable_cc is set and sealing.enable_deals is not: no sector can be sealed"
            return Idle(why, Failure(Level.TEMPORARY, why, "Set enable_deals, or take disable_cc away"))
        return Change("AcquireDeals", replace(task, deals=[]), "DealsAcquired")
    assert task.sector is not None

    def acquired(task: Task, answer: Any, context: Context) -> Outcome:
        if not answer and context.policy.disable_cc:
            return Idle("waiting for deals (sealing.disable_cc)")
        return Change("AcquireDeals", replace(task, deals=list(answer or ())), "DealsAcquired")

    spec = AcquireDealsSpec(max_deals=policy.max_deals, min_used_space=policy.min_deal_space)
    return Ask("acquire_deals", (task.sector.id, spec), then=acquired)


def _drop_ticket(task: Task, _context: Context) -> Outcome:
    """A fresh ticket is asked for once the PC1 slot is held, so that it does not age in a queue."""
    if task.precommit_taken:
        again = replace(task, pc1out=None, pc2out=None)
        return Change("AssignTicket", again, "TicketAssigned", "the ticket of the pre-commit is kept")
    return _renew_ticket(task)


def _ticket_is_old(task: Task, context: Context, share: float = 1.0) -> bool:
    """By this worker's clock since AssignTicket: the manager's head may be out of reach.

    ``share`` of the age that a ticket may have is enough.
    """
    return task.ticket is not None and context.now - task.ticket_at > share * context.policy.ticket_max_age


def _ticket_expired(task: Task, context: Context) -> bool:
    """Whether another ticket is needed: not for a sector that is proven with that of its pre-commit."""
    return not task.precommit_taken and _ticket_is_old(task, context)


def _rejected_for_age(task: Task, desc: str | None, context: Context) -> bool:
    """Whether a rejected pre-commit is worth PC1 once more: the manager says so, or it may well be.

    The manager counts in epochs of its head, which run ahead of this clock or behind it.
    """
    said = (desc or "").lower()
    names_it = "ticket" in said and "expire" in said
    return names_it or _ticket_is_old(task, context, REJECTED_SHARE)


def _pc1(task: Task, context: Context) -> Outcome:
    if context.held != "pc1":
        return Hold("pc1")
    if task.ticket is None or _ticket_expired(task, context):
        assert task.sector is not None
        return Ask(
            "assign_ticket",
            (task.sector.id,),
            then=lambda task, ticket, context: Change(
                "AssignTicket",
                replace(task, ticket=ticket, ticket_at=context.now, pc1out=None, pc2out=None),
                "TicketAssigned",
            ),
        )
    return Compute("pc1", then=lambda task, out, _: Change("PC1", replace(task, pc1out=out), "PC1Done"))


def _renew_ticket(task: Task, why: str = "") -> Change:
    """Do PC1, again perhaps, with a fresh ticket: hours, instead of losing the sector."""
    renewed = replace(task, ticket=None, ticket_at=0.0, pc1out=None, pc2out=None, precommit_taken=False)
    return Change("AssignTicket", renewed, "TicketAssigned", why)


def _pc2(task: Task, context: Context) -> Outcome:
    if _ticket_expired(task, context):
        return _renew_ticket(task, "the ticket expired before PC2")
    return pc2(("AssignTicket", "TicketAssigned"))(task, context)


def _submit_pre_commit(task: Task, _context: Context) -> Outcome:
    assert task.sector and task.pc2out and task.ticket

    def submitted(task: Task, answer: Any, context: Context) -> Outcome:
        refused = submission_refused(task.sector_text, "pre-commit", answer)
        if refused is None:
            taken = replace(task, resubmit_precommit=False, precommit_taken=True)
            return Change("SubmitPC", taken, "PCSubmitted")
        if refused.failure.level is Level.ABORT and _rejected_for_age(task, answer.desc, context):
            return _renew_ticket(task, f"the ticket expired: {answer.desc or 'rejected'}")
        return refused

    def submit(task: Task, _cleared: Any, _context: Context) -> Outcome:
        assert task.sector and task.pc2out and task.ticket
        info = PreCommitOnChainInfo(comm_r=task.pc2out.comm_r, comm_d=task.pc2out.comm_d, ticket=task.ticket)
        return Ask("submit_pre_commit", (task.sector, info, task.resubmit_precommit), then=submitted)

    if sectors.is_synthetic(task.sector.proof_type):
        # Layers go only now, after the synthetic proofs were journaled: C1 needs one or the other.
        return Compute("clear_layers", then=submit)
    return submit(task, None, _context)


def _poll_pre_commit(task: Task, context: Context) -> Outcome:
    assert task.sector is not None

    def polled(task: Task, answer: Any, context: Context) -> Outcome:
        if refused := landing_refused(task.sector_text, "pre-commit", answer.state, answer.desc, "PC2Done"):
            # Without this the manager, which has it, would not send it again.
            return Fail(refused.failure, replace(task, resubmit_precommit=True))
        if answer.state == OnChainState.LANDED:
            return Change("CheckPC", task, "PCLanded")
        if answer.state == OnChainState.FAILED:
            again = Change("ReSubmitPC", replace(task, resubmit_precommit=True), "PC2Done", answer.desc or "")
            return Wait(RESUBMIT_DELAY, "submitting the pre-commit again", then=lambda _, __: again)
        return Wait(context.policy.rpc_polling_interval, "waiting for the pre-commit to land")

    return Ask("poll_pre_commit_state", (task.sector.id,), then=polled)


def _wait_seed(task: Task, _context: Context) -> Outcome:
    assert task.sector is not None

    def answered(task: Task, answer: Any, _context: Context) -> Outcome:
        if answer.should_wait:
            return Wait(max(1.0, float(answer.delay)), f"waiting for the seed, {answer.delay} s to go")
        if answer.seed is None:
            return failure(
                Level.TEMPORARY, "WaitSeed answered neither a seed nor a delay", "Check the manager's version"
            )
        return Change("AssignSeed", replace(task, seed=answer.seed), "SeedAssigned")

    return Ask("wait_seed", (task.sector.id, task.sector.proof_type), then=answered)


def _c1(_task: Task, context: Context) -> Outcome:
    if context.held != "c1":
        return Hold("c1")
    return Compute("c1", then=lambda task, out, _: Change("C1", replace(task, c1out=out), "C1Done"))


def _c2(_task: Task, context: Context) -> Outcome:
    if context.held != "c2":
        return Hold("c2")

    def proved(task: Task, answer: Any, context: Context) -> Outcome:
        if answer is None:
            # The file was lost or damaged after it was journaled: C1 is seconds, so do it again.
            why = "the C1 output was damaged"
            anew = Change("AssignSeed", replace(task, c1out=None), "SeedAssigned", why, warning=True)
            return made_again(anew, context)
        proof, by = answer
        return Change("C2", replace(task, proof=proof, proof_by=by, damaged=0), "C2Done")

    return Compute("c2", then=proved)


def _submit_proof(task: Task, context: Context) -> Outcome:
    """The proof is journaled; verify it, whoever made it, before the manager sees it."""

    def submit(task: Task, valid: Any, _context: Context) -> Outcome:
        assert task.sector and task.proof
        if valid:
            info = ProofOnChainInfo(proof=task.proof)
            return Ask("submit_proof", (task.sector.id, info, task.resubmit_proof), then=submitted)
        bad = replace(task, bad_proofs=task.bad_proofs + 1, proof=None)
        why = f"the proof made by {task.proof_by} does not verify"
        if bad.bad_proofs <= BAD_PROOFS_ALLOWED:
            return Change("C1", bad, "C1Done", f"{why}: computing it once more")
        return failure(
            Level.PERMANENT,
            f"{why}, {bad.bad_proofs} times in a row for sector {task.sector_text}",
            "Check that prover and verifier use the same parameters (`damocles-worker params check`) and"
            " the health of that processor's GPU or memory, then resume with --state C1Done",
        )

    def submitted(task: Task, answer: Any, _context: Context) -> Outcome:
        refused = submission_refused(task.sector_text, "proof", answer)
        if refused is None:
            return Change("SubmitProof", replace(task, resubmit_proof=False), "ProofSubmitted")
        of_seed = refused.failure.level is Level.ABORT and "seed" in (answer.desc or "").lower()
        if of_seed and task.reseeded < RESEEDS_ALLOWED:
            # Minutes, instead of the sector.
            anew = replace(task, reseeded=task.reseeded + 1, seed=None, c1out=None, proof=None)
            why = f"rejected for its seed: {answer.desc}"
            return Change("AssignSeed", anew, "PersistanceSubmitted", why, warning=True)
        return refused

    if context.policy.ignore_proof_check:
        return submit(task, True, context)
    return Compute("verify_proof", then=submit)


def _poll_proof(task: Task, context: Context) -> Outcome:
    assert task.sector is not None
    if context.policy.ignore_proof_check:
        return Change("Finish", task, "Finished", "not waiting for the chain (sealing.ignore_proof_check)")

    def polled(task: Task, answer: Any, context: Context) -> Outcome:
        if refused := landing_refused(task.sector_text, "proof", answer.state, answer.desc, "C2Done"):
            return Fail(refused.failure, replace(task, resubmit_proof=True))
        if answer.state == OnChainState.LANDED:
            return Change("Finish", task, "Finished")
        if answer.state == OnChainState.FAILED:
            again = Change("ReSubmitProof", replace(task, resubmit_proof=True), "C2Done", answer.desc or "")
            return Wait(RESUBMIT_DELAY, "submitting the proof again", then=lambda _, __: again)
        return Wait(context.policy.rpc_polling_interval, "waiting for the proof to land")

    return Ask("poll_proof_state", (task.sector.id,), then=polled)


_SEALED = ("sector", "pieces", "ticket", "pc2out")

SEALER = Plan(
    "sealer",
    {
        "Empty": State("-", allocate("allocate_sector", _accept)),
        "Allocated": State("AcquireDeals", _acquire_deals, ("sector",)),
        "DealsAcquired": State("AddPieces", add_pieces("PieceAdded"), ("sector", "deals")),
        "PieceAdded": State("TreeD", tree_d("TreeDBuilt"), ("sector", "pieces")),
        "TreeDBuilt": State("AssignTicket", _drop_ticket, ("sector", "pieces")),
        "TicketAssigned": State("PC1", _pc1, ("sector", "pieces")),
        "PC1Done": State("PC2", _pc2, ("sector", "pieces", "ticket", "pc1out")),
        "SyntheticPoRepNeeded": State("SyntheticPoRep", synthetic_proofs, _SEALED),
        "PC2Done": State("SubmitPreCommit", _submit_pre_commit, _SEALED),
        "PCSubmitted": State("WaitPCLanded", _poll_pre_commit, _SEALED),
        "PCLanded": State("PersistFiles", persist("Persisted"), _SEALED),
        "Persisted": State(
            "SubmitPersisted",
            submit_persisted("PersistanceSubmitted", "PCLanded"),
            (*_SEALED, "persist_instance"),
        ),
        "PersistanceSubmitted": State("WaitSeed", _wait_seed, (*_SEALED, "persist_instance")),
        "SeedAssigned": State("C1", _c1, (*_SEALED, "seed")),
        "C1Done": State("C2", _c2, (*_SEALED, "seed", "c1out")),
        "C2Done": State("SubmitProof", _submit_proof, (*_SEALED, "seed", "proof")),
        "ProofSubmitted": State("WaitProofLanded", _poll_proof, (*_SEALED, "proof")),
        **endings("ProofSubmitted"),
    },
)

__all__ = ["SEALER"]

"""Moves that all plans share: taking a sector, giving it up, finishing it, and reading submit answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from damocles_worker import sectors
from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import AllocateSectorSpec, OnChainState, Res
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import (
    Ask,
    Compute,
    Context,
    Fail,
    Forget,
    Hold,
    Idle,
    Outcome,
    State,
)
from damocles_worker.sealing.machine.task import Task

#: The move of a state.
StateMove = Callable[[Task, Context], Outcome]


def failure(level: Level, cause: str, next_step: str, waits_for: str | None = None) -> Fail:
    """A move that can't be made, said in words."""
    return Fail(Failure(level, cause, next_step, waits_for))


def holding(stage: str, move: StateMove, patience: float | None = None) -> StateMove:
    """``move`` with a slot of the stage's limit, taken first: within ``patience`` seconds if given."""

    def first_hold(task: Task, context: Context) -> Outcome:
        return move(task, context) if context.held == stage else Hold(stage, patience)

    return first_hold


def allocate(
    method: str,
    accept: Callable[[Task, Any], Outcome],
    spec: Callable[[AllocateSectorSpec, Sealing], Any] = lambda sector, _policy: sector,
) -> StateMove:
    """Ask ``method`` for a sector, only of sizes that fit on the store's file system.

    ``spec`` makes the parameter of the call, ``accept`` the change from what is answered.
    """

    def ask(task: Task, fitting: list[int], context: Context) -> Outcome:
        policy = context.policy
        any_size = policy.allowed_sizes is None and len(fitting) == len(sectors.SECTOR_SIZES)
        wanted = AllocateSectorSpec(
            allowed_miners=list(policy.allowed_miners or ()),
            allowed_proof_types=[] if any_size else sectors.proofs_for_sizes(fitting),
        )
        return Ask(method, (spec(wanted, policy),), then=answered, on_failure=nothing, once=True)

    def answered(task: Task, answer: Any, _context: Context) -> Outcome:
        if answer is None:
            return Idle(f"the manager has no sector to allocate ({task.plan})")
        return accept(task, answer)

    def nothing(_task: Task, problem: Failure, _context: Context) -> Outcome:
        return nothing_allocated("sector", problem)

    return lambda _task, _context: Compute("reserve_space", then=ask, cut_by_pause=True)


def nothing_allocated(what: str, problem: Failure) -> Idle:
    """An allocation that failed is asked for again for ever, and the operator sees why there is none."""
    trouble = replace(problem, level=Level.TEMPORARY)
    if problem.unreadable:
        trouble = replace(
            trouble,
            next_step=f"A {what} that it held is lost to this worker: queue it again at the manager, or abort"
            f" it there. {problem.next_step}",
        )
    return Idle(f"no {what}: {problem.cause}", trouble)


def abort(task: Task, _context: Context) -> Outcome:
    """Tell the manager that the sector is given up, then forget it.

    The data go only after the manager has heard of it: an aborted sector that the manager does not
    know of keeps its deals and its reserved space for ever.
    """
    assert task.sector is not None

    def unknown_is_done(task: Task, problem: Failure, _context: Context) -> Outcome:
        if problem.sector_unknown:
            return Forget("Aborted", "aborted", task.abort_reason)
        return Fail(problem)

    return Ask(
        "report_aborted",
        (task.sector.id, task.abort_reason or "aborted"),
        then=lambda task, _answer, _context: Forget("Aborted", "aborted", task.abort_reason),
        on_failure=unknown_is_done,
    )


def finish(task: Task, _context: Context) -> Outcome:
    """Tell the manager that the sector is done, then forget it."""
    assert task.sector is not None

    def already_finalized(task: Task, problem: Failure, _context: Context) -> Outcome:
        # The answer to an earlier ReportFinalized was lost: a finalised sector is no longer online.
        if problem.sector_unknown:
            return Forget("Finish", "finished")
        return Fail(problem)

    return Ask(
        "report_finalized",
        (task.sector.id,),
        then=lambda task, _answer, _context: Forget("Finish", "finished"),
        on_failure=already_finalized,
    )


def never(_task: Task) -> bool:
    """``resume --state`` may not set the state: it would end a task that is not done."""
    return False


def endings(submitted_in: str = "") -> dict[str, State]:
    """The two states in which the manager's own sectors end.

    Finishing removes the data of the sector, so ``resume --state`` may set it only where the manager has
    all of them: in the state ``submitted_in``.
    """
    return {
        "Finished": State("-", finish, ("sector",), settable=lambda task: task.state == submitted_in),
        "Aborted": State("-", abort, ("sector",)),
    }


def submission_refused(sector: str, what: str, answer: Any) -> Fail | None:
    """Read ``Res`` of a submit answer: None when accepted, else the failure (manager-rpc 5.1)."""
    said = f": {answer.desc}" if answer.desc else ""
    match answer.res:
        case Res.ACCEPTED | Res.DUPLICATE_SUBMIT:
            return None
        case Res.MISMATCHED_SUBMISSION:
            return failure(
                Level.PERMANENT,
                f"the manager has another {what} for sector {sector} than the one computed here{said}",
                "Compare both with `damocles-manager util sealer sectors state`. The manager keeps what it"
                " has: with another comm_d resume with --state DealsAcquired, which takes the pieces again;"
                " with another ticket or proof the one that it has must land",
            )
        case Res.REJECTED:
            return failure(
                Level.ABORT,
                f"the manager rejects the {what} of sector {sector}{said}",
                "The sector is given up",
            )
        case Res.FILES_MISSED:
            return failure(
                Level.PERMANENT,
                f"the manager misses files of sector {sector}{said}",
                "Check that the persist store is mounted at the manager, then resume with --state PCLanded",
            )
        case other:
            return failure(
                Level.TEMPORARY,
                f"the manager answered the {what} with the unknown result {other}{said}",
                "Expected 1 to 5: check the manager's version",
            )


def landing_refused(sector: str, what: str, state: int, desc: str | None, submitted: str) -> Fail | None:
    """Read a final, unsuccessful ``State`` of a poll answer; None when it is none (manager-rpc 5.2).

    ``submitted``: the state in which it is submitted.
    """
    said = f": {desc}" if desc else ""
    match state:
        case OnChainState.NOT_FOUND:
            return failure(
                Level.PERMANENT,
                f"the manager finds no {what} message for sector {sector}{said}",
                f"Resume with --state {submitted} to submit it again",
            )
        case OnChainState.PERM_FAILED:
            return failure(
                Level.PERMANENT,
                f"the {what} message of sector {sector} failed on chain for good{said}",
                f"Look at the message with the manager, mend the cause, then resume with --state {submitted}:"
                " it is submitted anew, and what it is made of stays as it is",
            )
        case OnChainState.SHOULD_ABORT:
            return failure(
                Level.ABORT,
                f"the manager asks to give sector {sector} up after its {what}{said}",
                "The sector is given up",
            )
        case OnChainState.PENDING | OnChainState.PACKED | OnChainState.LANDED | OnChainState.FAILED:
            return None
        case other:
            return failure(
                Level.TEMPORARY,
                f"the manager answered with the unknown {what} state {other}{said}",
                "Expected 1 to 7: check the manager's version",
            )

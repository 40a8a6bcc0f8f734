"""The ``wdpost`` plan: proofs of space-time for the sectors of a proving window.

A job is held by heartbeats, not by a record on disk: what is lost here, the manager hands out again.
So a job that can't be finished is dropped instead of waiting for the operator while its window closes,
none is taken without a place to work on it, and one that loses its place waits a while only: the manager
gives a job that is held to nobody else.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker import sectors
from damocles_worker.manager.types import AllocateWdPoStJobSpec, WindowPoStOutput
from damocles_worker.sealing.machine.events import Failure, Notify
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Forget,
    Idle,
    Outcome,
    Plan,
    State,
)
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans.common import holding, never, nothing_allocated

#: Faulty sectors that the history names; the log names them all.
SHOWN_FAULTS = 10
#: Seconds that a job waits for another place when it has lost its own: the time in which a child that died
#: is started again a few times.
PATIENCE = 60.0


def _allocate(_task: Task, context: Context) -> Outcome:
    policy = context.policy
    spec = AllocateWdPoStJobSpec(
        allowed_miners=list(policy.allowed_miners or ()),
        allowed_proof_types=sectors.post_proofs_for_sizes(policy.allowed_sizes or ()),
    )
    return Ask(
        "wdpost_allocate_jobs", (spec, 1, context.worker), then=_allocated, on_failure=_none, once=True
    )


def _allocated(task: Task, jobs: Any, _context: Context) -> Outcome:
    if not jobs:
        return Idle("the manager has no WindowPoSt job")
    return Change("Allocate", replace(task, job=jobs[0]), "Allocated", keeps_place=True)


def _none(_task: Task, problem: Failure, _context: Context) -> Outcome:
    return nothing_allocated("WindowPoSt job", problem)


def _generate(_task: Task, _context: Context) -> Outcome:
    """A proof that can't be made is an outcome too: the manager is told why."""

    def generated(task: Task, outcome: Any, _context: Context) -> Outcome:
        proof, error = outcome
        detail = error or _faults(task, proof)
        return Change(
            "Generate",
            replace(task, window_proof=proof, job_error=error),
            "Generated",
            detail,
            warning=bool(detail),
        )

    return Compute("window_post", then=generated)


def _faults(task: Task, proof: WindowPoStOutput | None) -> str:
    """What the operator has to know of faulty sectors, since the manager only hears their numbers."""
    if proof is None or not proof.faults:
        return ""
    assert task.job is not None
    job = task.job.input
    faults = sorted(proof.faults)
    names = ", ".join(f"s-t0{job.miner_id}-{number}" for number in faults[:SHOWN_FAULTS])
    more = f" and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
    return (
        f"{len(faults)} of {len(job.sectors or ())} sectors faulty ({names}{more}): a file of each is"
        " missing, cut short or not what was sealed. Restore the files, which the log names, or rebuild the"
        " sectors"
    )


def _finish(task: Task, _context: Context) -> Outcome:
    assert task.job is not None
    if _says_nothing(task):
        return Forget(
            "Dropped",
            "dropped",
            f"{task.job_error}. The manager is not told: while the thread was paused it may have given the"
            " job to another worker, whose proof this would replace",
        )
    return Ask(
        "wdpost_finish_job",
        (task.job.id, task.window_proof, task.job_error),
        then=lambda task, _, __: Change("Finish", task, "Finished"),
    )


def _has_outcome(task: Task) -> bool:
    """Neither proof nor error would be an empty success to the manager."""
    return task.window_proof is not None or bool(task.job_error)


def _says_nothing(task: Task) -> bool:
    """A proof always counts; an error only of a job that was held all the time."""
    return task.job_let_go and task.window_proof is None


def _let_go(task: Task) -> Task:
    """While the operator has a thread paused, there are no heartbeats."""
    return replace(task, job_let_go=task.job is not None)


def _done(task: Task, _context: Context) -> Outcome:
    return Forget("Finish", "finished", task.job_error)


def _drop(task: Task, _context: Context) -> Outcome:
    return Forget("Aborted", "aborted", task.abort_reason)


def _tell_manager(task: Task, problem: Failure) -> Notify | None:
    """The outcome where there is one, else why there is none: another worker may still be in time."""
    assert task.job is not None
    if _says_nothing(task):
        return None
    error = "" if task.window_proof else task.job_error or problem.text
    return Notify("wdpost_finish_job", (task.job.id, task.window_proof, error))


WDPOST = Plan(
    "wdpost",
    {
        "Empty": State("-", holding("window_post", _allocate)),
        "Allocated": State("Generate", holding("window_post", _generate, PATIENCE), ("job",)),
        "Generated": State("SubmitProof", _finish, ("job",), settable=_has_outcome),
        "Finished": State("-", _done, ("job",), settable=never),
        "Aborted": State("-", _drop, ("job",)),
    },
    drops_failed=True,
    on_stop=_tell_manager,
    resumed=_let_go,
)

"""The sealing machine: ``step(machine, event, context) -> (machine', instructions)``.

Pure: no clock, no I/O, no randomness. It is total as well: an event that means nothing at the moment
changes nothing. What every plan shares lives here (failure levels, retry budget, pause and resume,
the order save → report → go on); what a plan does is its table.
"""

from __future__ import annotations

from dataclasses import replace

from msgspec.structs import replace as with_fields

from damocles_worker.errors import Level
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    Answered,
    AwaitResume,
    CallManager,
    Drain,
    Dropped,
    End,
    Event,
    Failed,
    Failure,
    Instruction,
    Pause,
    Release,
    Report,
    Resume,
    RunStage,
    Save,
    SectorKnown,
    SectorUnknown,
    SettingsChanged,
    Sleep,
    Wipe,
)
from damocles_worker.sealing.machine.machine import Machine, can_be_cut, check_resume, waits_for_work
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Fail,
    Forget,
    Hold,
    Idle,
    Move,
    Outcome,
    Plan,
    Wait,
)
from damocles_worker.sealing.machine.task import Task

#: A plan that changes state this often without waiting for anything is looping.
MAX_CHANGES_IN_A_ROW = 50
#: Next step of a failure that would give a live sector up.
KEPT = "The sector is live on chain, so the task is kept: mend the cause and resume. "

Result = tuple[Machine, list[Instruction]]


def start(
    plan: Plan, task: Task, context: Context, *, draining: bool = False, failure: Failure | None = None
) -> Result:
    """Begin, or continue after a restart, in the state of the record.

    ``failure``: why the run before got no work; shown until this one has asked.
    """
    shown = None if task.assigned else failure
    return _advance(Machine(plan, task, draining=draining, failure=shown), context, [])


def step(machine: Machine, event: Event, context: Context) -> Result:
    """Apply one event."""
    match event:
        case Pause():
            return _pause(machine)
        case Resume(state):
            return _resume(machine, state, context)
        case Drain():
            return _drain(replace(machine, draining=True))
        case SettingsChanged() if waits_for_work(machine):
            return _end(machine, "changed", [])
        case Dropped(aborted=False) if machine.plan.shared:
            # Another task of the sector has ended; whoever waits for this one still does.
            return step(machine, SectorKnown(), context)
        case Dropped(reason) if machine.activity != "ended" and machine.task.sector:
            return _dropped(machine, reason, context)
        case Answered(value) if machine.activity in ("blocked", "retry"):
            return _advance(replace(machine, activity="busy"), context, [])
        case Answered(value) if machine.activity == "busy" and machine.move is not None:
            return _answer(machine, machine.move, value, context)
        case Failed(failure) if machine.activity == "confirming":
            return _retry(machine, replace(failure, level=Level.TEMPORARY), context, [])
        case Failed(failure) if machine.activity == "busy":
            if isinstance(machine.move, Ask) and machine.move.on_failure:
                held = replace(context, held=machine.held)
                return _outcome(machine, machine.move.on_failure(machine.task, failure, held), context)
            return _fail(machine, failure, context)
        case SectorKnown() if machine.activity == "confirming" and machine.failure:
            return _retry(machine, replace(machine.failure, level=Level.TEMPORARY), context, [])
        case SectorUnknown() if machine.activity == "confirming":
            unknown = Failure(
                Level.PERMANENT,
                f"the manager knows nothing of sector {machine.task.sector_text}",
                f"Check sector_manager.rpc_client.addr and the manager's home. {machine.plan.giving_up}",
            )
            return _stop(machine, unknown, [])
        case _:
            return machine, []


def step_before(machine: Machine, event: Event, context: Context) -> Result:
    """Apply an event before the last instruction was begun: whatever that is, it can be left out."""
    stepped, out = step(replace(machine, move=None), event, context)
    return (stepped, out) if out else (replace(stepped, move=machine.move), out)


# ---- moves --------------------------------------------------------------------------------------


def _advance(machine: Machine, context: Context, out: list[Instruction]) -> Result:
    """Ask the current state for its next move."""
    if machine.draining and not machine.task.assigned:
        return _end(machine, "drained", out)
    if machine.pause_requested:
        return _paused(machine, None, out)
    state = machine.plan.states.get(machine.task.state)
    if state is None:
        failure = Failure(
            Level.CRITICAL,
            f"plan {machine.plan.name} has no state {machine.task.state}",
            "The record may be of a newer program: start that one; nothing was changed",
        )
        return _stop(machine, failure, out)
    move = state.move(machine.task, replace(context, held=machine.held))
    return _issue(machine, move, context, out)


def _answer(machine: Machine, move: Move, value: object, context: Context) -> Result:
    match move:
        case Hold(stage):
            return _advance(replace(machine, held=stage), context, [])
        case Ask() | Compute():
            outcome = move.then(machine.task, value, replace(context, held=machine.held))
            if isinstance(outcome, Wait | Idle):
                # Answered, if not with what is waited for: failures before and after it are not in a row.
                machine = replace(machine, task=with_fields(machine.task, retries=0), failure=None)
            return _outcome(machine, outcome, context)
        case Wait(then=then) if then is not None:
            return _issue(machine, then(machine.task, context), context, [])
        case _:
            return _advance(machine, context, [])


def _outcome(machine: Machine, outcome: Outcome, context: Context) -> Result:
    """What an answer led to; a pause that was asked for meanwhile comes before the next move."""
    if machine.pause_requested and not isinstance(outcome, Change | Fail | Forget):
        return _paused(machine, outcome.trouble if isinstance(outcome, Idle) else None, [])
    return _issue(machine, outcome, context, [])


def _issue(machine: Machine, outcome: Outcome, context: Context, out: list[Instruction]) -> Result:
    """Turn a move into instructions; a change is committed and the next move asked for."""
    if sum(isinstance(instruction, Save) for instruction in out) > MAX_CHANGES_IN_A_ROW:
        failure = Failure(
            Level.CRITICAL, f"plan {machine.plan.name} loops in {machine.task.state}", "Report this as a bug"
        )
        return _stop(machine, failure, out)
    if not isinstance(outcome, Change):
        machine = replace(machine, move=outcome, activity="busy")
    match outcome:
        case Change():
            return _commit(machine, outcome, context, out)
        case Hold(stage, patience):
            return machine, [*out, AcquireLimit(stage, patience)]
        case Ask(method, args):
            return machine, [*out, CallManager(method, args)]
        case Compute(stage=stage, args=args):
            return machine, [*out, RunStage(stage, machine.task, args)]
        case Wait(seconds, why, trouble=trouble):
            release = _release(machine)
            waiting = replace(machine, held=None, failure=trouble or machine.failure)
            return waiting, [*out, *release, Sleep(seconds, why, "poll")]
        case Idle():
            return _idle(replace(machine, failure=outcome.trouble), outcome.why, context, out)
        case Fail(failure, task):
            return _fail(replace(machine, task=task or machine.task), failure, context, out)
        case Forget():
            return _forget(machine, outcome, out)


def _dropped(machine: Machine, reason: str, context: Context) -> Result:
    if machine.task.state == "Finished":
        return _issue(machine, Forget("Finish", "finished", reason), context, [])
    over = Failure(
        Level.ABORT, f"the manager has given the sector up: {reason}", "Nothing is left to do here"
    )
    return _issue(machine, Forget("Dropped", "dropped", reason), context, _on_stop(machine, over))


def _forget(machine: Machine, forget: Forget, out: list[Instruction]) -> Result:
    saved = Save(None, forget.event, machine.task.state, machine.task.job_id, forget.detail)
    forgotten = replace(machine, task=Task(plan=machine.plan.name))
    return _end(forgotten, forget.outcome, [*out, *_release(machine), Wipe(), saved])


def _end(machine: Machine, outcome: str, out: list[Instruction]) -> Result:
    release = [] if any(isinstance(done, Release) for done in out) else _release(machine)
    return replace(machine, held=None, activity="ended", move=None), [*out, *release, End(outcome)]


def _commit(machine: Machine, change: Change, context: Context, out: list[Instruction]) -> Result:
    """Save first; then the limit is given back and the manager told; then the next move."""
    before = machine.task.state
    moved = change.state != before
    task = with_fields(change.task, state=change.state, retries=0 if moved else change.task.retries)
    out = [*out, Save(task, change.event, change.state, task.job_id, change.detail, change.warning)]
    machine = replace(machine, task=task, move=None)
    if moved:
        report = [Report(task, before, change.state, change.event)] if task.sector else []
        release = [] if change.keeps_place else _release(machine)
        out += [*release, *report]
        held = machine.held if change.keeps_place else None
        machine = replace(machine, held=held, failure=None, idles=0)
    return _advance(machine, context, out)


def _idle(machine: Machine, why: str, context: Context, out: list[Instruction]) -> Result:
    idles = machine.idles + 1
    if machine.draining:
        # A sector that waits for deals holds nothing yet: its record stays for the next start.
        return _end(machine, "drained", out)
    if idles > context.policy.request_task_max_retries:
        return _end(machine, "idle", out)
    # A place that is not needed now is somebody else's.
    sleep = Sleep(context.policy.recover_interval, why, "idle")
    return replace(machine, idles=idles, held=None), [*out, *_release(machine), sleep]


# ---- failures -----------------------------------------------------------------------------------


def _fail(
    machine: Machine, failure: Failure, context: Context, out: list[Instruction] | None = None
) -> Result:
    out = out or []
    if machine.draining and not machine.task.assigned:
        return _end(machine, "drained", out)
    if failure.waits_for:
        return _blocked(machine, failure, context, out)
    if failure.sector_unknown and machine.task.sector:
        ask = Report(machine.task, machine.task.state, machine.task.state, "Failure", failure, confirm=True)
        asking = replace(machine, activity="confirming", move=None, held=None, failure=failure)
        return asking, [*out, *_release(machine), ask]
    match failure.level:
        case Level.TEMPORARY:
            return _retry(machine, failure, context, out)
        case Level.ABORT if machine.plan.live:
            kept = replace(failure, level=Level.PERMANENT, next_step=KEPT + machine.plan.giving_up)
            return _stop(machine, kept, out)
        case Level.ABORT if machine.task.sector:
            give_up = with_fields(machine.task, abort_reason=failure.cause)
            return _issue(machine, Change("Abort", give_up, "Aborted", failure.cause), context, out)
        case _:
            return _stop(machine, failure, out)


def _blocked(machine: Machine, failure: Failure, context: Context, out: list[Instruction]) -> Result:
    """The cause can clear by itself: look again later, no retry burned, said to the manager once."""
    failure = replace(failure, level=Level.TEMPORARY)
    out = [*out, *_release(machine)]
    if machine.failure is None or machine.failure.waits_for != failure.waits_for:
        out += _tell(machine, failure)
    if machine.pause_requested:
        return _paused(machine, failure, out)
    wait = Sleep(context.policy.recover_interval, f"waiting for {failure.waits_for}", "blocked")
    return replace(machine, activity="blocked", held=None, move=None, failure=failure), [*out, wait]


def _retry(machine: Machine, failure: Failure, context: Context, out: list[Instruction]) -> Result:
    """Temporary: again after recover_interval, until the state's budget is used up."""
    if failure.waits_for:
        return _blocked(machine, failure, context, out)
    if machine.task.retries >= context.policy.max_retries:
        spent = replace(
            failure, level=Level.PERMANENT, cause=f"{failure.cause} (tried {machine.task.retries + 1} times)"
        )
        return _stop(replace(machine, task=with_fields(machine.task, retries=0)), spent, out)
    task = with_fields(machine.task, retries=machine.task.retries + 1)
    out = [*out, *_release(machine)]
    if task.sector:
        out.append(Save(task, "Retry", task.state, task.sector_text, failure.cause))
    out += _tell(machine, failure)
    machine = replace(machine, task=task, held=None, move=None, failure=failure)
    if machine.pause_requested:
        return _paused(machine, failure, out)
    wait = Sleep(context.policy.recover_interval, f"trying {task.state} again: {failure.cause}", "retry")
    return replace(machine, activity="retry"), [*out, wait]


def _stop(machine: Machine, failure: Failure, out: list[Instruction]) -> Result:
    """Permanent or critical: said in the history and to the manager, then paused."""
    if machine.plan.drops_failed and machine.task.assigned:
        return _drop(machine, failure, out)
    out = [*out, *_release(machine)]
    if machine.task.sector:
        out.append(Save(machine.task, "Pause", machine.task.state, machine.task.sector_text, failure.text))
        if machine.task.state != "Finished":
            # What is done was told as done already.
            out += _on_stop(machine, failure)
    return _paused(machine, failure, [*out, *_tell(machine, failure)])


def _drop(machine: Machine, failure: Failure, out: list[Instruction]) -> Result:
    """The manager is told at once, so that somebody else can try."""
    out = [*out, *_on_stop(machine, failure)]
    return _forget(machine, Forget("Dropped", "dropped", failure.text), out)


def _on_stop(machine: Machine, failure: Failure) -> list[Instruction]:
    notice = machine.plan.on_stop(machine.task, failure) if machine.plan.on_stop else None
    return [] if notice is None else [notice]


def _tell(machine: Machine, failure: Failure) -> list[Instruction]:
    if machine.task.sector is None:
        return []
    return [Report(machine.task, machine.task.state, machine.task.state, "Failure", failure)]


def _release(machine: Machine) -> list[Instruction]:
    return [Release()] if machine.held else []


# ---- the operator -------------------------------------------------------------------------------


def _paused(machine: Machine, failure: Failure | None, out: list[Instruction]) -> Result:
    if machine.draining and not machine.task.assigned:
        return _end(machine, "drained", out)
    release = _release(machine) if not any(isinstance(done, Release) for done in out) else []
    paused = replace(
        machine,
        activity="paused",
        move=None,
        held=None,
        pause_requested=False,
        failure=failure or machine.failure,
    )
    return paused, [*out, *release, AwaitResume()]


def _pause(machine: Machine) -> Result:
    """At once while waiting; after the answer while a stage or an unrepeatable call is under way."""
    if machine.activity in ("paused", "ended"):
        return machine, []
    if machine.activity == "busy" and not can_be_cut(machine.move):
        return replace(machine, pause_requested=True), []
    return _paused(machine, None, [])


def _drain(machine: Machine) -> Result:
    """A task goes on to its end; without one the run ends, once an allocation under way is answered."""
    if machine.task.assigned or machine.activity == "ended":
        return machine, []
    if machine.activity == "busy" and not can_be_cut(machine.move):
        return machine, []
    return _end(machine, "drained", [])


def _resume(machine: Machine, state: str | None, context: Context) -> Result:
    if machine.activity not in ("paused", "blocked") or check_resume(machine, state):
        return machine, []
    task = machine.task.afresh()
    if machine.activity == "paused":
        task = machine.plan.resumed(task)
    resumed = replace(
        machine, task=task, activity="busy", failure=None, move=None, pause_requested=False, idles=0
    )
    if state is None or state == task.state:
        return _advance(resumed, context, [])
    if state == "Aborted":
        task = with_fields(task, abort_reason="given up by the operator")
    return _issue(resumed, Change("SetState", task, state, "set by the operator"), context, [])


__all__ = ["Machine", "check_resume", "start", "step", "step_before", "waits_for_work"]

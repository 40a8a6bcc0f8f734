"""A task on its way through its plan, and what may be asked of it at the moment. No behaviour."""

from __future__ import annotations

from dataclasses import dataclass

from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import Ask, Compute, Hold, Idle, Move, Plan
from damocles_worker.sealing.machine.task import Task


@dataclass(frozen=True)
class Machine:
    """A task on its way, and what its thread is doing. Only ``task`` survives a restart."""

    plan: Plan
    task: Task
    #: The move whose answer is awaited; None while paused, confirming or ended.
    move: Move | None = None
    #: ``busy``, ``blocked`` (a cause that can clear), ``retry``, ``confirming``, ``paused``, ``ended``.
    activity: str = "busy"
    held: str | None = None
    pause_requested: bool = False
    draining: bool = False
    idles: int = 0
    #: Shown as last_error until the state succeeds or the thread is resumed.
    failure: Failure | None = None

    @property
    def stage(self) -> str:
        """The stage text of the current state."""
        state = self.plan.states.get(self.task.state)
        return state.stage if state else "-"


def waits_for_work(machine: Machine) -> bool:
    """Whether the thread may begin anew with other settings: nothing is under way that they would change."""
    if machine.activity == "busy":
        return isinstance(machine.move, Idle) or (
            isinstance(machine.move, Hold) and not machine.task.assigned
        )
    return machine.activity in ("blocked", "paused") and not machine.task.assigned


def check_resume(machine: Machine, state: str | None) -> str | None:
    """Why ``resume --state`` must be refused, or None. Nothing is changed either way."""
    if machine.activity not in ("paused", "blocked"):
        return "the thread is not paused"
    if state is None:
        return None
    legal = machine.plan.legal_states(machine.task)
    if state in legal:
        return None
    known = state in machine.plan.states
    why = "its data are not in the task's record" if known else f"plan {machine.plan.name} has no such state"
    return f"state {state} can't be set: {why}. Possible now: {', '.join(legal)}"


def can_be_cut(move: Move | None) -> bool:
    """Whether what is under way may be left in the middle: it is only waiting, or can be repeated soon."""
    match move:
        case Compute(cut_by_pause=cut):
            return cut
        case Ask(once=once):
            return not once
        case _:
            return True

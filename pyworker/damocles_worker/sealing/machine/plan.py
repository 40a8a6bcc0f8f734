"""The language a plan is written in: states, and the moves a state makes.

A plan is a table from state name to :class:`State`. A state's ``move`` looks at the record alone and
says what to do next; the outcome is either another move or a :class:`Change` of the record. After
every saved change the state is asked again, so a crash anywhere continues at the right place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from damocles_worker.config.settings import Sealing
from damocles_worker.sealing.machine.events import Failure, Notify
from damocles_worker.sealing.machine.task import Task


@dataclass(frozen=True)
class Context:
    """What a move may know beside the record."""

    now: float
    policy: Sealing
    #: Names of the attached stores that may be written to.
    stores: tuple[str, ...] = ()
    #: The stage limit held by this thread, if any.
    held: str | None = None
    #: The name this worker goes by at the manager.
    worker: str = ""
    #: The sealing store of this thread, for texts.
    location: str = "-"


@dataclass(frozen=True)
class Change:
    """Commit ``task`` in ``state``. Another state is a transition, the same one a saved sub-step."""

    event: str
    task: Task
    state: str
    detail: str = ""
    #: The detail is something the operator should see.
    warning: bool = False
    #: The limit that is held was taken for the next state.
    keeps_place: bool = False


@dataclass(frozen=True)
class Hold:
    """Take the stage's limit before going on; it fails after ``patience`` seconds without a place."""

    stage: str
    patience: float | None = None


@dataclass(frozen=True)
class Ask:
    """Call the manager. ``once``: the call is not idempotent and is never cut short by a pause."""

    method: str
    args: tuple[Any, ...]
    then: Callable[[Task, Any, Context], Outcome]
    #: Answers an error instead of the usual failure handling (the allocate calls, ReportFinalized).
    on_failure: Callable[[Task, Failure, Context], Outcome] | None = None
    once: bool = False


@dataclass(frozen=True)
class Compute:
    """Run a stage. One that is ``cut_by_pause`` moves data only: a pause ends it, a resume repeats it."""

    stage: str
    then: Callable[[Task, Any, Context], Outcome]
    args: dict[str, Any] = field(default_factory=dict)
    cut_by_pause: bool = False


@dataclass(frozen=True)
class Wait:
    """Sleep, then ask the state again. With ``then`` the outcome is fixed.

    ``trouble``: what somebody has to mend meanwhile; shown until the state is left.
    """

    seconds: float
    why: str
    then: Callable[[Task, Context], Outcome] | None = None
    trouble: Failure | None = None


@dataclass(frozen=True)
class Idle:
    """Nothing allocated; after ``request_task_max_retries`` of these the run ends.

    ``trouble``: what somebody has to mend before there can be work; shown until the next answer.
    """

    why: str
    trouble: Failure | None = None


@dataclass(frozen=True)
class Fail:
    """The move can't be made."""

    failure: Failure
    #: The record that is kept, where it changes.
    task: Task | None = None


@dataclass(frozen=True)
class Forget:
    """The task is over: wipe the local data, remove the record, end the run."""

    event: str
    outcome: str
    detail: str = ""


Move = Hold | Ask | Compute | Wait | Idle | Fail | Forget
Outcome = Move | Change


@dataclass(frozen=True)
class State:
    """One row of a plan's table."""

    #: The stage text shown in ``worker list``.
    stage: str
    move: Callable[[Task, Context], Outcome]
    #: Fields of the record that must be there for this state (checked by ``resume --state``).
    needs: tuple[str, ...] = ()
    #: Whether ``resume --state`` may set it, where the fields alone don't tell.
    settable: Callable[[Task], bool] = lambda _task: True

    def fits(self, task: Task) -> bool:
        """Whether the state can go on from what is in the record."""
        return all(getattr(task, name) is not None for name in self.needs) and self.settable(task)


@dataclass(frozen=True)
class Plan:
    """A named table of states."""

    name: str
    states: Mapping[str, State]
    #: Its sectors are live on chain: they are given up only when the operator says so.
    live: bool = False
    #: For the operator: how the task is given up, and what that does.
    giving_up: str = (
        "`resume --state Aborted` gives the sector up: its data are removed here, and the manager releases"
        " its deals"
    )
    #: A sector may have several of its tasks at once, so that one ends while another is under way.
    shared: bool = False
    #: What fails for good is dropped, since waiting for the operator would help nobody.
    drops_failed: bool = False
    #: Told to the manager beside ReportState when a task stops for good; None: nothing.
    on_stop: Callable[[Task, Failure], Notify | None] | None = None
    #: What a task is when the operator resumes it after a pause.
    resumed: Callable[[Task], Task] = lambda task: task

    def legal_states(self, task: Task) -> list[str]:
        """States that ``resume --state`` may set: those whose data are in the record."""
        if not task.assigned:
            return ["Empty"]
        return [
            name
            for name, state in self.states.items()
            if name != "Empty" and (name == task.state or state.fits(task))
        ]

"""What can happen to a task, and what the machine asks to be done about it. Plain data, no behaviour.

Events go into :func:`~damocles_worker.sealing.machine.step.step`, instructions come out. The runner
executes a list of instructions in order; only the last one may have an answer, which comes back as
one event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from damocles_worker.errors import Level
from damocles_worker.sealing.machine.task import Task


@dataclass(frozen=True)
class Failure:
    """Why an instruction failed; see :class:`damocles_worker.errors.WorkerError`."""

    level: Level
    cause: str
    next_step: str
    waits_for: str | None = None
    #: The manager does not know the sector (code 11001): asked again before anything is given up.
    sector_unknown: bool = False
    #: The manager does not serve the method (code -32601): an older one, or one without this service.
    method_missing: bool = False
    #: The manager answered something that can't be read: what it did is done.
    unreadable: bool = False

    @property
    def text(self) -> str:
        """One line: level in lower case, cause, next step (``last_error`` of upstream)."""
        return f"{self.level.value.lower()}: {self.cause}. {self.next_step}"


# ---- events -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """The last instruction was carried out; ``value`` is its result."""

    value: Any = None


@dataclass(frozen=True)
class Failed:
    """The last instruction failed."""

    failure: Failure


@dataclass(frozen=True)
class Dropped:
    """The manager has finalised the sector (ReportState answered ``Finalized: true``)."""

    reason: str
    #: Somebody gave the sector up at the manager; else its work is merely over.
    aborted: bool = False


@dataclass(frozen=True)
class SectorUnknown:
    """The manager was asked (``Report(confirm=True)``) and knows nothing of the sector."""


@dataclass(frozen=True)
class SectorKnown:
    """The manager was asked and still has the sector."""


@dataclass(frozen=True)
class Pause:
    """The operator pauses the thread."""


@dataclass(frozen=True)
class Resume:
    """The operator resumes the thread, in ``state`` if one is given."""

    state: str | None = None


@dataclass(frozen=True)
class Drain:
    """Finish what is assigned, take nothing new, then end."""


@dataclass(frozen=True)
class SettingsChanged:
    """The thread's settings are no longer those the run began with; a run that waits for work heeds it."""


Event = Answered | Failed | Dropped | SectorUnknown | SectorKnown | Pause | Resume | Drain | SettingsChanged

# ---- instructions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Save:
    """Commit the record (``None`` removes it) with a history row; durable before anything after it."""

    task: Task | None
    event: str
    state: str
    sector: str
    detail: str = ""
    #: The detail is something the operator should see: logged as a warning.
    warning: bool = False


@dataclass(frozen=True)
class Notify:
    """Call the manager without waiting for the outcome: an error is logged only.

    ``repeat``: told again, for as long as the thread is paused after it, until the manager has heard.
    """

    method: str
    args: tuple[Any, ...] = ()
    repeat: bool = False


@dataclass(frozen=True)
class Report:
    """ReportState. An error is logged only; ``Finalized`` comes back as :class:`Dropped`.

    With ``confirm`` the answer always comes back, as Dropped, SectorUnknown, SectorKnown or Failed.
    """

    task: Task
    prev: str
    next: str
    event: str
    failure: Failure | None = None
    confirm: bool = False


@dataclass(frozen=True)
class Release:
    """Give the held stage limit back."""


@dataclass(frozen=True)
class Wipe:
    """Empty the store's ``data/``."""


@dataclass(frozen=True)
class AcquireLimit:
    """Take a slot of the stage's limit; answered when it is held, failed after ``patience`` seconds."""

    stage: str
    patience: float | None = None


@dataclass(frozen=True)
class CallManager:
    """Call a manager method by its client name; answered with its result."""

    method: str
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class RunStage:
    """Do the work of a stage; answered with its typed output."""

    stage: str
    task: Task
    args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Sleep:
    """Wait; ``why`` is shown. ``kind`` is ``idle``, ``retry``, ``poll`` or ``blocked``."""

    seconds: float
    why: str
    kind: str


@dataclass(frozen=True)
class AwaitResume:
    """Nothing to do until the operator resumes the thread."""


@dataclass(frozen=True)
class End:
    """The run is over: ``finished``, ``aborted``, ``dropped``, ``idle``, ``changed`` or ``drained``."""

    outcome: str


Instruction = (
    Save
    | Notify
    | Report
    | Release
    | Wipe
    | AcquireLimit
    | CallManager
    | RunStage
    | Sleep
    | AwaitResume
    | End
)

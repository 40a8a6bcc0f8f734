"""What a sealing thread shows of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ThreadInfo:
    """What ``worker list`` shows of a thread. Times in seconds."""

    index: int
    location: str
    plan: str
    job_id: str | None
    job_state: str
    job_stage: str | None
    #: ``Idle``, ``Paused``, ``Running`` or ``Waiting``, and since when.
    state: str
    elapsed: float
    processor: str | None
    last_error: str | None
    #: Done and total of the running stage, in its own unit; None where it can't tell.
    progress: tuple[int, int] | None
    #: Seconds until the running stage ends, from earlier runs of it or from its progress.
    eta: float | None = None
    #: The thread finishes what it has and takes nothing new.
    draining: bool = False


class Observer(Protocol):
    """Told what the threads do; metrics attach here. Times in seconds."""

    def stage_waited(self, stage: str, seconds: float) -> None: ...
    def stage_ended(self, stage: str, processor: str | None, seconds: float, level: str | None) -> None: ...
    def sector_ended(self, plan: str, result: str) -> None: ...

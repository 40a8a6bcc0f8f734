"""Failures as the operator meets them: a level, a one-line cause, and what to do next.

Every error that can stop a sector or a command is a :class:`WorkerError`. The text of an error is
``cause``; ``next_step`` says what the reader can do about it. Long chains go to the log only.
"""

from __future__ import annotations

from enum import StrEnum


class Level(StrEnum):
    """How a failure is treated by the sealing machine (upstream's four levels, same names)."""

    #: Tried again after ``recover_interval``, at most ``max_retries`` times in a row per state.
    TEMPORARY = "Temporary"
    #: The thread pauses until it is resumed.
    PERMANENT = "Permanent"
    #: The local environment is broken (file system, journal, configuration); pauses like permanent.
    CRITICAL = "Critical"
    #: The sector is given up: reported to the manager, local data wiped.
    ABORT = "Abort"


class WorkerError(Exception):
    """A failure with a level, a one-line cause and a next step; neither text is ever empty.

    ``waits_for`` is set when the cause can clear by itself (no space, store unmounted, parameter or
    piece missing, child down, manager away): the task is looked at again every ``recover_interval``
    without burning a retry, and ``worker list`` shows what is waited for.
    """

    def __init__(
        self,
        cause: str,
        *,
        next_step: str,
        level: Level = Level.PERMANENT,
        waits_for: str | None = None,
    ) -> None:
        super().__init__(cause)
        self.cause = cause
        self.level = level
        self.next_step = next_step
        self.waits_for = waits_for

    def __str__(self) -> str:
        return f"{self.cause}. {self.next_step}"


class UsageError(Exception):
    """A command line or file that can't be acted on; the CLI prints it and exits 1 or 2."""

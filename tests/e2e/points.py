"""What the crash tests killed, for the summary that a run of the tests ends with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from damocles_worker.journal import HistoryRow

#: A line for each test, printed by ``conftest.pytest_terminal_summary``.
LINES: list[str] = []


@dataclass(frozen=True)
class Kill:
    """The end of one life of a worker, right before or after a write."""

    #: Event and state of the write.
    point: str
    #: ``before`` or ``after``.
    moment: str
    #: Rows in the journal when the worker was dead: whatever follows them, a later life wrote.
    rows: int


def report(plan: str, moment: str, kills: Sequence[Kill], rows: Sequence[HistoryRow]) -> None:
    """Remember the points at which ``plan`` was killed ``moment`` (before, after) the write.

    ``rows`` are those of the journal after the last life, which nobody killed. Fails when a point has not
    resumed after one of the kills.
    """
    stuck = unresumed(kills, rows)
    points = len({_place(kill) for kill in kills})
    resumed = points - len({_place(kill) for kill in stuck})
    assert not stuck, f"{points} points, {resumed} resumed, not {stuck}; the journal: {rows}"
    LINES.append(f"kill -9, {plan}, {moment} the write: {points} points, {resumed} resumed")


def unresumed(kills: Sequence[Kill], rows: Sequence[HistoryRow]) -> list[Kill]:
    """The kills after which no later life went on where that one ended."""
    return [kill for kill in kills if not _resumed(kill, rows)]


def is_over(rows: Sequence[HistoryRow]) -> bool:
    """The last write of a task removes its record: it is the second one of the last state."""
    return len(rows) > 1 and rows[-1].state == rows[-2].state == "Finished"


def _resumed(kill: Kill, rows: Sequence[HistoryRow]) -> bool:
    """A lost write was made by a later life; a kept one was followed by another, unless it was the last."""
    place = _place(kill)
    if place >= len(rows) or f"{rows[place].event} {rows[place].state}" != kill.point:
        return False
    return len(rows) > kill.rows or (kill.moment == "after" and is_over(rows[: kill.rows]))


def _place(kill: Kill) -> int:
    """Where the write is in the journal, or ought to be."""
    return kill.rows - (kill.moment == "after")

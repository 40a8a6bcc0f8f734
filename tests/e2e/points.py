"""What the crash tests killed, for the summary that a run of the tests ends with."""

from __future__ import annotations

from damocles_worker.journal import HistoryRow

#: A line for each test, printed by ``conftest.pytest_terminal_summary``.
LINES: list[str] = []


def report(plan: str, moment: str, killed: list[str], rows: list[HistoryRow]) -> None:
    """Remember the points at which ``plan`` was killed ``moment`` (before, after) the write.

    A point has resumed when the history went on behind its write in a later life.
    """
    found = [f"{row.event} {row.state}" for row in rows]
    resumed = sum(point in found[:-1] or point == found[-1] for point in killed)
    LINES.append(f"kill -9, {plan}, {moment} the write: {len(killed)} points, {resumed} resumed")

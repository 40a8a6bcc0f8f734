"""What the demonstration shows: a live table on a terminal, a line per step elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from damocles_worker import units
from damocles_worker.sealing.plans import PLANS

#: Off a terminal a long stage is said again this often, seconds.
STILL_RUNNING = 30


class StageView:
    """Shows ``worker list`` as it changes."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._shown: dict[int, tuple[str, ...]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, threads: Sequence[Mapping[str, Any]], sectors: Sequence[Mapping[str, Any]]) -> None:
        """Show the threads as they are now; ``sectors`` is the manager's side."""
        if self._live:
            self._live.update(_table(threads, sectors))
            return
        for thread in threads:
            state = thread["thread_state"]
            minutes = state.get("elapsed", 0) // STILL_RUNNING
            waiting = "waiting for another proof to end" if state["state"] == "Waiting" else ""
            still = f"for {units.format_duration(minutes * STILL_RUNNING)}" if minutes else ""
            now = (
                thread["job_id"] or "-",
                thread["job_stage"] or "-",
                waiting,
                still,
                thread["last_error"] or "",
            )
            if thread["job_id"] and self._shown.get(thread["index"]) != now:
                self._shown[thread["index"]] = now
                self._console.print("  ".join(filter(None, now)), highlight=False, soft_wrap=True)


def _table(threads: Sequence[Mapping[str, Any]], sectors: Sequence[Mapping[str, Any]]) -> Table:
    verified = {sector["sector"] for sector in sectors if sector["proof_verified"]}
    table = Table(title="Sealing threads", title_justify="left")
    for column in ("#", "Sector", "State", "Stage", "Thread", "For", "Proof", "Last error"):
        table.add_column(column)
    for thread in threads:
        state = thread["thread_state"]
        name = thread["job_id"] or "-"
        table.add_row(
            str(thread["index"]), name, thread["job_state"] or "-", thread["job_stage"] or "-",
            state["state"], units.format_duration(state.get("elapsed", 0)),
            "verified" if name in verified else "", thread["last_error"] or "",
        )  # fmt: skip
    for name in sorted(verified - {thread["job_id"] for thread in threads}):
        table.add_row("", name, "Finished", "-", "", "", "verified", "")
    return table


def stage_times(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Seconds per stage and sector, from history rows in order.

    The time of a stage runs from the commit that entered its state to the commit that left it.
    """
    states = PLANS["sealer"].states
    times: dict[str, dict[str, float]] = {}
    before: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        sector = row["sector"]
        if entered := before.get(sector):
            stage = states[entered["state"]].stage
            if stage != "-":
                spent = times.setdefault(sector, {})
                spent[stage] = spent.get(stage, 0.0) + row["at"] - entered["at"]
        before[sector] = row
    return times

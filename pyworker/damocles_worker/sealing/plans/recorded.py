"""Moves that look into the manager's own record of a sector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from damocles_worker.cid import parse_cid
from damocles_worker.errors import Level
from damocles_worker.manager.types import SectorState
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import Ask, Context, Fail, Outcome
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans.common import failure

#: What to do with the record: it is None, with the reason, when the manager has none to show.
WithRecord = Callable[[SectorState | None, str, Context], Outcome]
#: What to do after a comparison, with a warning where there was nothing to compare with.
Compared = Callable[[str, Context], Outcome]


def find(task: Task, then: WithRecord) -> Outcome:
    """Read the manager's record of the sector, of the online ones first.

    A manager that is away or answers an error is asked again; one without this method has no record.
    """

    def ask(where: str) -> Outcome:
        assert task.sector is not None
        return Ask("find_sector", (where, task.sector.id), then=found(where), on_failure=failed(where))

    def found(where: str) -> Callable[[Task, Any, Context], Outcome]:
        def answered(_task: Task, record: Any, context: Context) -> Outcome:
            if record is None and where == "online":
                return ask("offline")
            return then(record, "" if record else "the manager has no record of the sector", context)

        return answered

    def failed(where: str) -> Callable[[Task, Failure, Context], Outcome]:
        def refused(task: Task, problem: Failure, context: Context) -> Outcome:
            if problem.sector_unknown:
                return found(where)(task, None, context)
            if problem.method_missing:
                return then(None, "the manager does not show its records (FindSector)", context)
            return Fail(problem)

        return refused

    return ask("online")


def compare(task: Task, what: str, computed: list[int], recorded: bytes | None, why: str) -> Fail | str:
    """Compare comm_r: the failure, or the warning that nothing was compared (empty when equal)."""
    if recorded is None:
        return f"comm_r of the {what} was not compared: {why}"
    if bytes(computed) == recorded:
        return ""
    return failure(
        Level.PERMANENT,
        f"the {what} of sector {task.sector_text} has comm_r {bytes(computed).hex()}, recorded is"
        f" {recorded.hex()}",
        "It was first sealed from other data, with another ticket or proof type: compare them with the"
        " manager's record. Nothing was stored; resume with --state Allocated to begin again",
    )


def sealed_comm_r(record: SectorState) -> bytes | None:
    """comm_r of the sector as it was first sealed."""
    if record.upgrade_public is not None:
        return bytes(record.upgrade_public.comm_r)
    return parse_cid(record.pre.comm_r.text)[1] if record.pre else None


def updated_comm_r(record: SectorState) -> bytes | None:
    """comm_r of the sector's replica update."""
    return parse_cid(record.upgraded_info.sealed_cid.text)[1] if record.upgraded_info else None

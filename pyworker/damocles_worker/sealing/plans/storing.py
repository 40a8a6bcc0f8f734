"""Moves that bring finished files into an attached store and tell the manager where they are."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker import sectors
from damocles_worker.errors import Level
from damocles_worker.sealing.machine.events import Failure
from damocles_worker.sealing.machine.plan import Ask, Change, Compute, Context, Fail, Outcome, Wait
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans.common import StateMove, failure

#: What a manager with a file-system store says in an error when it can't find files, and behind that when
#: they are missing: the rest (a chain node that is away, a stale mount) may be different the next time.
_CHECKED = "check persisted file"
_MISSING = ("no such file", "not found", "not exist")


def files_missed(problem: Failure) -> bool:
    """Whether the manager says that files of the sector are not where they were stored."""
    said = problem.cause.partition(_CHECKED)[2]
    return any(words in said for words in _MISSING)


def reserve_size(sector_size: int) -> int:
    """Bytes asked of the manager for a persisted sector."""
    return 2 * sector_size if sector_size < 32 << 30 else sector_size + sector_size // 50


def is_update(task: Task) -> bool:
    """Whether the files to store are those of a replica update."""
    return task.plan == "snapup" or task.upgraded


def persist(next_state: str) -> StateMove:
    """Reserve space, then copy: the replica and its cache files, or those of the update."""

    def move(task: Task, context: Context) -> Outcome:
        assert task.sector is not None
        if not context.stores:
            return failure(
                Level.PERMANENT,
                "no attached store may be written to",
                "Add an [[attached]] store without readonly = true and restart",
            )
        size = reserve_size(sectors.sector_size(task.sector.proof_type))
        return Ask("store_reserve_space", (task.sector.id, size, sorted(context.stores)), then=reserved)

    def reserved(task: Task, store: Any, context: Context) -> Outcome:
        if store is None:
            return _no_room(context)
        if store.name not in context.stores:
            return failure(
                Level.PERMANENT,
                f"the manager chose store {store.name}, which is not attached here (attached:"
                f" {', '.join(sorted(context.stores))})",
                "Give the [[attached]] store the name the manager uses, restart, then resume",
            )
        name = store.name
        return Compute(
            "persist",
            then=lambda task, _, __: Change(
                "Persist", replace(task, persist_instance=name), next_state, name
            ),
            args={"instance": name, "update": is_update(task), "meta": store.meta},
            cut_by_pause=True,
        )

    return move


def _no_room(context: Context) -> Wait:
    names, pause = ", ".join(sorted(context.stores)), context.policy.rpc_polling_interval
    trouble = Failure(
        Level.TEMPORARY,
        f"the manager reserves space in none of the attached stores ({names})",
        "Make room in one that the manager knows, or attach another; the sector is kept, and the manager"
        f" asked again every {pause:g} s",
    )
    return Wait(pause, f"waiting for the manager to reserve space in one of: {names}", trouble=trouble)


def submit_persisted(next_state: str, stored_in: str) -> StateMove:
    """Say where the files are; the manager looks whether all of them are there.

    ``stored_in``: the state in which they are stored.
    """

    def move(task: Task, _context: Context) -> Outcome:
        assert task.sector is not None
        return Ask(
            "submit_persisted_ex",
            (task.sector.id, task.persist_instance, is_update(task)),
            then=answered,
            on_failure=refused,
        )

    def answered(task: Task, found: Any, _context: Context) -> Outcome:
        return Change("SubmitPersistance", task, next_state) if found else missed(task, "")

    def refused(task: Task, problem: Failure, _context: Context) -> Outcome:
        return missed(task, f": {problem.cause}") if files_missed(problem) else Fail(problem)

    def missed(task: Task, said: str) -> Fail:
        return failure(
            Level.PERMANENT,
            f"the manager does not find the files of sector {task.sector_text} in store"
            f" {task.persist_instance}{said}",
            "Check that the store is mounted on the manager's host at the same place, then resume, or resume"
            f" with --state {stored_in} to store them again",
        )

    return move

"""The ``unseal`` plan: a piece is decoded from a sealed sector and brought where it is wanted.

The sector is live: nothing here gives it up. A task that stops for good is told to the manager, whose
requester would wait for ever otherwise.
"""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from msgspec.structs import replace

from damocles_worker import sectors
from damocles_worker.cid import parse_cid
from damocles_worker.errors import Level
from damocles_worker.manager.rpc_error import NO_REQUEST
from damocles_worker.manager.types import SectorState, SectorUnsealInfo
from damocles_worker.sealing.machine.events import Failure, Notify
from damocles_worker.sealing.machine.plan import (
    Ask,
    Change,
    Compute,
    Context,
    Fail,
    Forget,
    Outcome,
    Plan,
    State,
)
from damocles_worker.sealing.machine.task import Task, UnsealRange
from damocles_worker.sealing.plans import recorded
from damocles_worker.sealing.plans.common import allocate, failure, finish, holding, never

#: For the operator: what giving a task up does.
GIVING_UP = (
    "`resume --state Aborted` gives this task up: the requester is told, the sector stays as it is, and the"
    " piece has to be asked for again"
)


def _accept(task: Task, info: SectorUnsealInfo) -> Outcome:
    allocated = replace(
        task,
        sector=info.sector,
        ticket=info.ticket,
        access_instance=info.private_info.access_instance,
        unseal=UnsealRange(info.piece_cid, info.offset, info.size, info.comm_d),
    )
    return Change("AllocatedUnsealSector", allocated, "Allocated")


def _unseal(task: Task, context: Context) -> Outcome:
    assert task.sector and task.unseal
    capacity = sectors.unpadded(sectors.sector_size(task.sector.proof_type))
    first, size = task.unseal.offset, task.unseal.size
    if size == 0 or first + size > capacity:
        return failure(
            Level.PERMANENT,
            f"piece {task.unseal.piece_cid.text} is asked for as {size} bytes from byte {first} of sector"
            f" {task.sector_text}, which has {capacity}",
            f"Ask for the piece again with the offset and size of its deal. {GIVING_UP}",
        )
    return holding("unseal", lambda task, _context: recorded.find(task, _decode(task)))(task, context)


def _decode(task: Task) -> recorded.WithRecord:
    """Decode from the sector as it was first sealed, or from its update where it has one."""

    def unsealed(task: Task, _answer: Any, _context: Context) -> Outcome:
        return Change("Unsealed", task, "Unsealed")

    def with_record(record: SectorState | None, _why: str, _context: Context) -> Outcome:
        sealed_as = _sealed_as(task, record)
        if record is None or not record.upgraded or record.upgraded_info is None:
            return Compute("unseal", then=unsealed, args=sealed_as, cut_by_pause=True)
        update = record.upgraded_info
        comm_r_old = recorded.sealed_comm_r(record)
        if comm_r_old is None:
            return failure(
                Level.PERMANENT,
                f"the manager's record of the upgraded sector {task.sector_text} has neither UpgradePublic"
                " nor a pre-commit, so its comm_r before the upgrade is unknown",
                "Repair the manager's record, then resume",
            )
        arguments = {
            "instance": update.access_instance,
            "comm_d_new": list(parse_cid(update.unsealed_cid.text)[1]),
            "comm_r_old": list(comm_r_old),
            **sealed_as,
        }
        return Compute("unseal_update", then=unsealed, args=arguments, cut_by_pause=True)

    return with_record


def _sealed_as(task: Task, record: SectorState | None) -> dict[str, Any]:
    """The proof type in the manager's record, where it is another than the one handed out.

    Managers hand out the one that the miner seals with now.
    """
    assert task.sector
    handed_out = task.sector.proof_type
    if record is None or record.sector_type == handed_out:
        return {}
    try:
        same_size = sectors.sector_size(record.sector_type) == sectors.sector_size(handed_out)
    except ValueError:
        return {}
    return {"proof_type": record.sector_type} if same_size else {}


def destination_digest(url: str) -> str:
    """What is remembered of a destination that was reached: its URL may hold a token."""
    return hashlib.blake2b(url.encode(), digest_size=8).hexdigest()


def _upload(task: Task, context: Context) -> Outcome:
    """One destination after the other; each that was reached is in the journal, and that all were.

    A manager that has been told of it knows of no destinations any more, should its answer be lost.
    """
    assert task.sector and task.unseal
    sector, piece = task.sector.id, task.unseal.piece_cid
    achieved = Ask("achieve_unseal_sector", (sector, piece, ""), then=_delivered, on_failure=_over_already)
    if task.all_uploaded:
        return achieved

    def with_destinations(task: Task, urls: Any, _context: Context) -> Outcome:
        left = [url for url in urls or () if destination_digest(url) not in task.uploaded]
        if not left:
            return achieved
        url = left[0]

        def reached(task: Task, _answer: Any, _context: Context) -> Outcome:
            reached_now = replace(
                task, uploaded=[*task.uploaded, destination_digest(url)], all_uploaded=len(left) == 1
            )
            return Change("UploadPiece", reached_now, "Unsealed", urlsplit(url)._replace(query="").geturl())

        return Compute("upload", then=reached, args={"url": url}, cut_by_pause=True)

    return Ask("acquire_unseal_dest", (sector, piece), then=with_destinations)


def _delivered(task: Task, _answer: Any, _context: Context) -> Outcome:
    return Change("UploadPieceDone", task, "Finished")


def _over_already(task: Task, problem: Failure, context: Context) -> Outcome:
    """The answer to an earlier call was lost: whoever waited has the piece."""
    return _delivered(task, None, context) if NO_REQUEST in problem.cause else Fail(problem)


def _give_up(task: Task, _context: Context) -> Outcome:
    """Tell the requester, who waits; the sector itself is finalised, never aborted."""
    assert task.sector and task.unseal
    sector, reason = task.sector.id, task.abort_reason or "given up"
    over = Forget("Aborted", "aborted", reason)

    def told(_task: Task, _answer: Any, _context: Context) -> Outcome:
        return Ask("report_finalized", (sector,), then=lambda _, __, ___: over, on_failure=not_finalized)

    def not_finalized(_task: Task, problem: Failure, _context: Context) -> Outcome:
        return over if problem.sector_unknown else Fail(problem)

    def not_told(task: Task, problem: Failure, context: Context) -> Outcome:
        nobody_waits = problem.sector_unknown or NO_REQUEST in problem.cause
        return told(task, None, context) if nobody_waits else Fail(problem)

    piece = task.unseal.piece_cid
    return Ask("achieve_unseal_sector", (sector, piece, reason), then=told, on_failure=not_told)


def _tell_requester(task: Task, problem: Failure) -> Notify:
    assert task.sector and task.unseal
    return Notify("achieve_unseal_sector", (task.sector.id, task.unseal.piece_cid, problem.text), repeat=True)


_ALLOCATED = ("sector", "ticket", "unseal", "access_instance")

UNSEAL = Plan(
    "unseal",
    {
        "Empty": State("-", allocate("allocate_unseal_sector", _accept)),
        "Allocated": State("Unseal", _unseal, _ALLOCATED),
        "Unsealed": State("UploadPiece", holding("transfer", _upload), _ALLOCATED),
        "Finished": State("-", finish, ("sector",), settable=never),
        "Aborted": State("-", _give_up, ("sector", "unseal")),
    },
    live=True,
    shared=True,
    giving_up=GIVING_UP,
    on_stop=_tell_requester,
)

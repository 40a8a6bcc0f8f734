"""What a thread tells the manager on its way: states, failures, notices. Errors are logged, never raised."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from damocles_worker.manager.client import ManagerClient, RpcError
from damocles_worker.manager.rpc_error import NO_REQUEST, SECTOR_NOT_FOUND
from damocles_worker.manager.types import ReportFailure, ReportStateReq, StateChange, WorkerIdentifier
from damocles_worker.sealing.failures import failure_of
from damocles_worker.sealing.machine.events import (
    Dropped,
    Event,
    Failed,
    Notify,
    Report,
    SectorKnown,
    SectorUnknown,
)

log = logging.getLogger(__name__)


async def notify(manager: ManagerClient, notice: Notify) -> bool:
    """Make a call whose outcome changes nothing here; whether the manager has heard, or can't hear, of it."""
    call: Any = getattr(manager, notice.method)
    try:
        await call(*notice.args)
    except RpcError as error:
        log.warning("the manager was not told: %s", error)
        return error.code == SECTOR_NOT_FOUND or NO_REQUEST in error.cause
    return True


async def repeat(manager: ManagerClient, notice: Notify, pause: float) -> None:
    """Make the call every ``pause`` seconds until the manager has heard of it."""
    while True:
        await asyncio.sleep(pause)
        if await notify(manager, notice):
            log.info("the manager was told at last")
            return


async def report(manager: ManagerClient, worker: WorkerIdentifier, told: Report) -> Event | None:
    """ReportState; what its answer means for the task, or None when it goes on."""
    assert told.task.sector is not None
    failure = told.failure
    request = ReportStateReq(
        worker=worker,
        state_change=StateChange(told.prev, told.next, told.event),
        failure=ReportFailure(failure.level.value, failure.text) if failure else None,
    )
    try:
        answer = await manager.report_state(told.task.sector.id, request)
    except RpcError as error:
        log.warning("%s: state not reported: %s", told.task.sector_text, error)
        if not told.confirm:
            return None
        return SectorUnknown() if error.code == SECTOR_NOT_FOUND else Failed(failure_of(error))
    if answer.finalized:
        return Dropped(answer.abort_reason or "finalised by the manager", aborted=bool(answer.abort_reason))
    return SectorKnown() if told.confirm else None

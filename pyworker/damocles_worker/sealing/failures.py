"""Exceptions as the machine and the operator see them."""

from __future__ import annotations

import errno
import logging
from dataclasses import replace

from damocles_worker.errors import Level, WorkerError
from damocles_worker.logs.secrets import without_secrets
from damocles_worker.manager.client import RpcError
from damocles_worker.manager.rpc_error import METHOD_NOT_FOUND, SECTOR_NOT_FOUND
from damocles_worker.sealing.machine.events import Failure

log = logging.getLogger(__name__)


def failure_of(error: BaseException) -> Failure:
    """What went wrong, with level, cause and next step; a surprise is logged with its traceback.

    It is kept and shown in many places, so nothing secret is in it.
    """
    failure = _failure_of(error)
    return replace(failure, cause=without_secrets(failure.cause))


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, RpcError):
        return Failure(
            error.level,
            error.cause,
            error.next_step,
            error.waits_for,
            sector_unknown=error.code == SECTOR_NOT_FOUND,
            method_missing=error.code == METHOD_NOT_FOUND,
            unreadable=error.unreadable,
        )
    if isinstance(error, WorkerError):
        return Failure(error.level, error.cause, error.next_step, error.waits_for)
    if isinstance(error, OSError) and error.errno is not None:
        name = f"{error.strerror} ({errno.errorcode.get(error.errno, error.errno)})"
        where = error.filename or "a file"
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Failure(
            Level.CRITICAL,
            f"{where}: {name}",
            "Free space on that file system" if full else "Check the file system, then resume",
            f"space on the file system of {where}" if full else None,
        )
    log.error("unexpected failure", exc_info=error)
    return Failure(
        Level.PERMANENT,
        f"unexpected {type(error).__name__}: {error}",
        "The log has the whole story; please report it, then resume",
    )

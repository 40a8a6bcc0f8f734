"""What a failed call to the manager is to the worker: a cause, a level and a next step."""

from __future__ import annotations

from damocles_worker.errors import Level, WorkerError

#: The one code the manager wraps in errors: "sector state not found".
SECTOR_NOT_FOUND = 11001
#: JSON-RPC: the method is not registered (``WdPoSt…`` without ``--worker-prover``, for example).
METHOD_NOT_FOUND = -32601
#: What the manager says of an unseal request that it does not know, or has ended already.
NO_REQUEST = "task not found"


class RpcError(WorkerError):
    """A call that brought no usable answer.

    ``code`` is the manager's error code, None when it never answered with one. Level: abort for code
    11001, temporary for everything else. ``waits_for`` is set when nobody answered as a manager does.
    """

    def __init__(
        self,
        method: str,
        cause: str,
        *,
        next_step: str,
        code: int | None = None,
        level: Level = Level.TEMPORARY,
        waits_for: str | None = None,
        unreadable: bool = False,
    ) -> None:
        super().__init__(f"{method}: {cause}", level=level, next_step=next_step, waits_for=waits_for)
        self.method = method
        self.code = code
        #: The manager did what was asked, and what it answered can't be read.
        self.unreadable = unreadable


def manager_away(method: str, url: str, what: str) -> RpcError:
    """Nobody at ``url`` answers as a manager does; it can come back by itself. ``what`` ends the sentence."""
    return RpcError(
        method,
        f"the manager at {url} {what}",
        next_step="Check that damocles-manager runs there and that [sector_manager.rpc_client] addr is right",
        waits_for=f"the manager at {url}",
    )


def bad_answer(method: str, url: str, what: str) -> RpcError:
    """The manager answered, but not as its interface says. ``what`` ends the sentence."""
    return RpcError(
        method,
        f"the manager at {url} {what}",
        next_step="Look whether something between sits on the wire (a proxy), "
        "and whether the manager's version fits this worker",
        unreadable=True,
    )


def refused_by_manager(method: str, url: str, code: int, message: str) -> RpcError:
    """The manager answered with an error object; its message may have several lines."""
    message = " ".join(message.split())
    if code == SECTOR_NOT_FOUND:
        return RpcError(
            method,
            f"the manager at {url} does not know this sector (code {code}: {message})",
            code=code,
            level=Level.ABORT,
            next_step="It was aborted or removed there, or this is another manager, or one started with "
            "another home directory; `damocles-manager util sealer sectors state` shows what it knows",
        )
    if code == METHOD_NOT_FOUND:
        return RpcError(
            method,
            f"the manager at {url} does not serve this method (code {code}: {message})",
            code=code,
            next_step="For the WdPoSt methods start the manager with --worker-prover; for the others update"
            " it: its version is too old",
        )
    return RpcError(
        method,
        f"the manager at {url} answered with an error (code {code}: {message})",
        code=code,
        next_step="Look into the manager's log, which says more",
    )

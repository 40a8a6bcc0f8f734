"""Connections that a pause cuts, whatever is being waited for on them."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait

from damocles_worker.stores.pump import CancelFlag, CopyCancelledError

#: Seconds between two looks at the cancel flag.
LOOK = 0.2


def connected(host: str, port: int, timeout: float, cancel: CancelFlag | None) -> socket.socket:
    """A TCP connection; neither a server nor a name server that says nothing holds a pause up.

    Raises :class:`OSError`, and :class:`CopyCancelledError`.
    """
    outcome: Future[socket.socket] = Future()

    def connect() -> None:
        try:
            outcome.set_result(socket.create_connection((host, port), timeout))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=connect, name="connect", daemon=True).start()
    while not wait([outcome], LOOK).done:
        if cancel is not None and cancel.cancelled:
            # Nobody waits for the connection any more.
            outcome.add_done_callback(_close)
            raise CopyCancelledError(f"the connection to {host} was stopped before it was there")
    return outcome.result()


def _close(outcome: Future[socket.socket]) -> None:
    if outcome.exception() is None:
        outcome.result().close()


@contextlib.contextmanager
def cut_when_cancelled(connection: socket.socket, cancel: CancelFlag | None, what: str) -> Iterator[None]:
    """A context in which ``connection`` is shut down when ``cancel`` is set.

    Whoever sends or receives on it, also through TLS, fails at once; that becomes a
    :class:`CopyCancelledError`, which says that ``what`` was stopped. The server sees the end of the
    connection, so that a resume does not send beside it.
    """
    if cancel is None:
        yield
        return
    ended = threading.Event()
    # A descriptor of our own: TLS takes the socket object over, and a closed number may be somebody else's.
    with socket.socket(fileno=os.dup(connection.fileno())) as same:

        def watch() -> None:
            while not ended.wait(LOOK):
                if cancel.cancelled:
                    with contextlib.suppress(OSError):  # the server was faster
                        same.shutdown(socket.SHUT_RDWR)
                    return

        watcher = threading.Thread(target=watch, name="cut", daemon=True)
        watcher.start()
        try:
            yield
        except (OSError, ValueError, http.client.HTTPException) as error:
            if cancel.cancelled:
                raise CopyCancelledError(f"{what} was stopped") from error
            raise
        finally:
            ended.set()
            watcher.join()

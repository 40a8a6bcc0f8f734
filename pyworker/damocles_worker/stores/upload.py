"""Unsealed pieces on their way out: to the manager, the market, any HTTP server, a store or a file.

Uploads are streamed with a length (a manager refuses those without one) and have no limit of time
except for silence. A refusal counts as soon as it is there, also in the middle of the piece.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import BinaryIO
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from damocles_worker.errors import Level, WorkerError
from damocles_worker.filesystem import file_error, make_directories
from damocles_worker.stores.attached import AttachedStore
from damocles_worker.stores.cut import connected, cut_when_cancelled
from damocles_worker.stores.pump import PROGRESS_INTERVAL, CancelFlag, CopyCancelledError, Progress
from damocles_worker.stores.transfer import copy_durable, present

CONNECT_TIMEOUT = 10.0
#: Seconds in which a server takes no byte after which a connection counts as broken.
SILENCE = 60.0
#: Seconds for the answer after the last byte: a server may make 32 GiB durable first.
ANSWER = 3600.0
#: Seconds for the answer of a server that has closed the connection already.
REFUSAL = 5.0
#: Seconds without a packet, between two probes, and probes without an answer until a server counts as dead.
KEEPALIVE = (60, 15, 4)
#: Bytes read from the piece at once.
BUFFER = 1 << 20
_EXPECTED = (
    "Expected http(s)://…, market://STORE/CID?host=…&scheme=…&token=…, file:///PATH, store://NAME/PATH or"
    " store:///CID"
)


class Uploader:
    """Knows the manager and the attached stores that destinations may name.

    :param manager_origin: ``scheme://host:port`` of the manager.
    """

    def __init__(self, manager_origin: str, attached: Mapping[str, AttachedStore]) -> None:
        self._origin = manager_origin
        self._attached = attached

    def upload(
        self,
        piece: Path,
        cid: str,
        url: str,
        *,
        progress: Progress | None = None,
        cancel: CancelFlag | None = None,
    ) -> None:
        """Bring the file ``piece`` to ``url``; complete and durable on return.

        Raises :class:`WorkerError` naming the destination without its query, which may hold a token:
        temporary for what a server or the network does, permanent for a destination that can't be used.
        """
        parts = urlsplit(url)
        match parts.scheme:
            case "http" | "https":
                _put(piece, url, {}, None, progress, cancel)
            case "market":
                target, headers = _market(parts)
                _put(piece, target, headers, 200, progress, cancel)
            case "file" if not parts.netloc and parts.path.startswith("/"):
                _copy(piece, Path(unquote(parts.path)), progress, cancel)
            case "store" if parts.netloc:
                store, destination = self._in_store(parts)
                with present(store):
                    _copy(piece, destination, progress, cancel)
            case "store" if parts.path.strip("/"):
                target = f"{self._origin}/piecestore/{parts.path.strip('/')}"
                _put(piece, target, {}, None, progress, cancel)
            case _:
                raise _unusable(f"the destination {shown(url)} of piece {cid} is not understood", _EXPECTED)

    def place_in_store(self, url: str) -> tuple[AttachedStore, Path] | None:
        """The store and the file that ``store://NAME/PATH`` stands for; None for any other destination.

        Raises :class:`WorkerError` (permanent) when the store can't take it.
        """
        parts = urlsplit(url)
        return self._in_store(parts) if parts.scheme == "store" and parts.netloc else None

    def _in_store(self, parts: SplitResult) -> tuple[AttachedStore, Path]:
        store = self._attached.get(parts.netloc)
        path = unquote(parts.path).lstrip("/")
        if store is None:
            here = ", ".join(sorted(self._attached)) or "none"
            raise _unusable(
                f"the destination {shown(parts.geturl())} names store {parts.netloc}, which is not attached"
                f" here (attached: {here})",
                "Add an [[attached]] store of that name, restart, then resume",
            )
        if not path or ".." in Path(path).parts or path.startswith("."):
            raise _unusable(
                f"the destination {shown(parts.geturl())} names no path inside of store {store.name}",
                _EXPECTED,
            )
        if store.readonly:
            raise _unusable(
                f"the destination store {store.name} is configured read-only",
                "Remove readonly = true of the [[attached]] store, restart, then resume",
            )
        return store, store.root / path


def shown(url: str) -> str:
    """``url`` without user, password and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def _unusable(cause: str, next_step: str) -> WorkerError:
    return WorkerError(cause, level=Level.PERMANENT, next_step=next_step)


def _market(parts: SplitResult) -> tuple[str, dict[str, str]]:
    """URL and headers of ``market://<store>/<cid>?host=H&scheme=S&token=T``."""
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    missing = [key for key in ("host", "scheme", "token") if not query.get(key)]
    if missing:
        raise _unusable(
            f"the market destination {shown(parts.geturl())} lacks {', '.join(missing)}",
            "Set the market's address and token in the manager, then resume",
        )
    host = urlsplit(query["host"] if "//" in query["host"] else f"//{query['host']}").netloc
    resource = f"resource-id={quote(parts.path.strip('/'))}&store={quote(parts.netloc)}"
    return f"{query['scheme']}://{host}/resource?{resource}", {"Authorization": f"Bearer {query['token']}"}


def _copy(piece: Path, destination: Path, progress: Progress | None, cancel: CancelFlag | None) -> None:
    try:
        make_directories(destination.parent)
    except OSError as error:
        raise file_error(error, "create", destination.parent) from error
    copy_durable(piece, destination, progress=progress, cancel=cancel)


def _put(
    piece: Path,
    url: str,
    headers: dict[str, str],
    only: int | None,
    progress: Progress | None,
    cancel: CancelFlag | None,
) -> None:
    """PUT the file; ``only`` is the one status that will do, any 2xx if None."""
    size = piece.stat().st_size
    parts = urlsplit(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    what = f"the upload of {piece.name} to {shown(url)}"
    try:
        with closing(_Connection(parts)) as connection:
            plain = connected(connection.host, connection.port, CONNECT_TIMEOUT, cancel)
            connection.sock = plain
            with cut_when_cancelled(plain, cancel, what):
                _keep_alive(plain)
                if parts.scheme == "https":
                    connection.sock = _secured(plain, connection.host)
                length = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
                body = _chunks(piece, size, progress, cancel)
                # Closed as well: after "Connection: close" it is the response that owns the socket.
                with closing(_request(connection, path, {**headers, **length}, body)) as response:
                    text = " ".join(response.read(300).decode(errors="replace").split())
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WorkerError(
            f"piece {piece.name} can't be uploaded to {shown(url)}: {error or type(error).__name__}",
            level=Level.TEMPORARY,
            next_step="Check that the destination can be reached",
        ) from error
    if response.status == only or (only is None and 200 <= response.status < 300):
        return
    raise WorkerError(
        f"{shown(url)} answered {response.status} {response.reason} to piece {piece.name}"
        + (f": {text}" if text else ""),
        level=Level.TEMPORARY if only is None else Level.PERMANENT,
        next_step=f"Expected {only or '200'}: look into the log of that server"
        + ("" if only is None else ", check the market's token, then resume"),
    )


class _Connection(http.client.HTTPConnection):
    """A connection that is given its socket, over TLS as well."""

    def __init__(self, parts: SplitResult) -> None:
        if parts.scheme == "https":
            self.default_port = http.client.HTTPS_PORT
        super().__init__(parts.hostname or "", parts.port)


def _secured(plain: socket.socket, host: str) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(plain, server_hostname=host)


def _keep_alive(plain: socket.socket) -> None:
    """Have a server that is gone noticed, however long it may be silent while it is there."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
    for name, value in zip(names, KEEPALIVE, strict=True):
        plain.setsockopt(socket.IPPROTO_TCP, name, value)


def _request(
    connection: http.client.HTTPConnection,
    path: str,
    headers: dict[str, str],
    body: Iterator[bytes],
) -> http.client.HTTPResponse:
    """The answer to a PUT, also one that comes before the whole body, which the server then stops reading."""
    connection.sock.settimeout(SILENCE)
    try:
        connection.request("PUT", path, body=body, headers=headers)
    except (BrokenPipeError, ConnectionResetError, TimeoutError, ssl.SSLEOFError):
        connection.sock.settimeout(REFUSAL)
        with contextlib.suppress(OSError, http.client.HTTPException):
            response = connection.getresponse()
            if response.status >= 300:
                return response
            response.close()
        # No answer, or one to a piece that did not get there.
        raise
    connection.sock.settimeout(ANSWER)
    return connection.getresponse()


def _opened(piece: Path) -> BinaryIO:
    try:
        return piece.open("rb")
    except OSError as error:
        raise file_error(error, "read", piece) from error


def _read(file: BinaryIO, piece: Path) -> bytes:
    """The next bytes; that they can't be read is nothing that the destination does."""
    try:
        return file.read(BUFFER)
    except OSError as error:
        raise file_error(error, "read", piece) from error


def _chunks(piece: Path, size: int, progress: Progress | None, cancel: CancelFlag | None) -> Iterator[bytes]:
    done, last_report = 0, 0.0
    with _opened(piece) as file:
        while chunk := _read(file, piece):
            if cancel is not None and cancel.cancelled:
                raise CopyCancelledError(f"the upload of {piece.name} was stopped at {done} of {size} bytes")
            yield chunk
            done += len(chunk)
            if progress and (time.monotonic() - last_report >= PROGRESS_INTERVAL or done == size):
                last_report = time.monotonic()
                progress(done, size)

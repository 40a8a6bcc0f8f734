"""Piece data over HTTP: from the manager's piece store, or from the market it redirects to.

The manager is asked without credentials. When it redirects, the market gets the piece token. A broken
connection is taken up again where it stopped: with ``Range``, or, where the server ignores that, by
passing over the bytes already had. Where an answer over plain HTTP tells its length, the bytes don't pass
through this process.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import SplitResult, urljoin, urlsplit

from damocles_worker.errors import Level, WorkerError

log = logging.getLogger(__name__)

CONNECT_TIMEOUT = 5.0
#: Seconds of silence after which a connection counts as broken.
READ_TIMEOUT = 60.0
#: Breaks in a row before a piece is given up while nothing has come.
ATTEMPTS = 5
#: Seconds without a byte before it is where something has come, which would have to come again.
PATIENCE = 1800.0
#: Seconds before the second attempt; doubled for each further one, up to ``LONGEST_BACKOFF``.
BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
#: Redirects followed after the first.
REDIRECTS = 10
#: Bytes taken from the socket at once.
BUFFER = 256 << 10
NAMESPACE_HEADER = {"X-VENUS-API-NAMESPACE": "v1.IMarket"}

_REDIRECT = frozenset({301, 302, 303, 307, 308})
#: Answers that may be different the next time: overload, a gateway without its backend.
_PASSING = frozenset({408, 429, 500, 502, 503, 504})


class DownloadStoppedError(Exception):
    """The download was told to stop."""


class _BrokenError(Exception):
    """The connection failed; the rest may come over another one."""


class Sink(Protocol):
    """Where the bytes of a download go, in order."""

    def write(self, view: memoryview) -> None:
        """Take all of ``view``."""

    def splice(self, source: socket.socket, count: int) -> int:
        """Take up to ``count`` bytes that have come to ``source``; 0 at its end.

        Raises :class:`OSError` of ``source``, among them TimeoutError after its timeout without a byte.
        """


class Download:
    """One piece on its way. :meth:`stop` may be called from another thread."""

    def __init__(self, origin: str, token: str | None, cid: str, size: int) -> None:
        self.url = f"{origin}/piecestore/{cid}"
        self.cid = cid
        self.size = size
        self._token = token
        #: Bytes handed on so far.
        self._done = 0
        self._stopping = threading.Event()
        self._socket: socket.socket | None = None

    def run(self, sink: Sink, *, patient: bool = False) -> None:
        """Fetch exactly ``size`` bytes and hand them to ``sink``.

        ``patient``: other pieces came before, and would have to come again if this one were given up.
        Raises :class:`WorkerError` naming the URL, the status and the bytes got and expected;
        ``waits_for`` is set unless the source itself is wrong. :class:`DownloadStoppedError` after
        :meth:`stop`.
        """
        failures, progressed = 0, time.monotonic()
        while self._done < self.size:
            before = self._done
            try:
                self._fetch_rest(sink)
            except _BrokenError as broken:
                self._raise_if_stopped()
                if self._done > before:
                    failures, progressed = 0, time.monotonic()
                failures += 1
                kept = (patient or self._done > 0) and time.monotonic() - progressed < PATIENCE
                if failures >= ATTEMPTS and not kept:
                    raise WorkerError(
                        f"piece {self.cid}: {broken}; {self._done} of {self.size} bytes after"
                        f" {failures} attempts without progress",
                        next_step="Check that manager and market can be reached; the task goes on by itself",
                        waits_for=f"piece {self.cid}",
                    ) from broken
                # The first of an outage tells all that there is to tell.
                level = logging.WARNING if failures == 1 else logging.INFO
                log.log(level, "piece %s: %s; trying again from byte %d", self.cid, broken, self._done)
                self._stopping.wait(min(BACKOFF * 2 ** min(failures - 1, 10), LONGEST_BACKOFF))
                self._raise_if_stopped()

    def check(self) -> bool:
        """Ask for the first byte, to find out that nobody has the piece before others are fetched.

        False without an answer, or with one that may be different the next time. Raises like :meth:`run`.
        """
        try:
            self._answered({"Range": "bytes=0-0"}, lambda _url, _response: None)
        except _BrokenError:
            return False
        finally:
            self._raise_if_stopped()
        return True

    def stop(self) -> None:
        """Make :meth:`run` end soon, whatever it waits for."""
        self._stopping.set()
        current = self._socket
        if current is not None:
            try:
                current.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected yet, or no longer: nothing waits on it

    def _raise_if_stopped(self) -> None:
        if self._stopping.is_set():
            raise DownloadStoppedError

    def _fetch_rest(self, sink: Sink) -> None:
        wanted = {"Range": f"bytes={self._done}-"} if self._done else {}
        self._answered(wanted, lambda url, response: self._receive(url, response, sink))

    def _answered(
        self, wanted: dict[str, str], take: Callable[[str, http.client.HTTPResponse], None]
    ) -> None:
        """Ask, with the headers ``wanted``, and follow redirects; ``take`` gets the answer and its URL."""
        url, headers = self.url, wanted
        for hop in range(REDIRECTS + 2):
            # Both are closed: which of them owns the socket depends on the server's answer.
            with (
                contextlib.closing(self._connect(urlsplit(url))) as connection,
                contextlib.closing(self._request(connection, url, headers)) as response,
            ):
                if response.status not in _REDIRECT:
                    self._check_status(url, response)
                    take(url, response)
                    return
                target = urljoin(url, response.getheader("Location", ""))
                if urlsplit(target).scheme not in ("http", "https"):
                    raise self._wrong(url, f"redirects to {target!r}", "Expected an http or https URL")
                if hop == 0:
                    headers = {**wanted, **self._credentials()}
                elif _host(url) != _host(target):
                    headers = wanted
                url = target
        raise self._wrong(
            self.url, f"redirected more than {REDIRECTS} times", "Check the market's configuration"
        )

    def _credentials(self) -> dict[str, str]:
        if not self._token:
            return {}
        return {"Authorization": f"Bearer {self._token}", **NAMESPACE_HEADER}

    def _connect(self, parts: SplitResult) -> http.client.HTTPConnection:
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        try:
            connection = kind(parts.hostname or "", parts.port, timeout=CONNECT_TIMEOUT)
            connection.connect()
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _BrokenError(f"can't connect to {_shown(parts.geturl())}: {error}") from error
        connection.sock.settimeout(READ_TIMEOUT)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = connection.sock
        return connection

    def _request(
        self, connection: http.client.HTTPConnection, url: str, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        self._raise_if_stopped()
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenError(f"no answer from {_shown(url)}: {_reason(error)}") from error

    def _check_status(self, url: str, response: http.client.HTTPResponse) -> None:
        status = f"{response.status} {response.reason}"
        if response.status in (200, 206):
            return
        if response.status in _PASSING:
            raise _BrokenError(f"{_shown(url)} answered {status}")
        if response.status == 416:
            raise self._wrong(
                url,
                f"has no byte {self._done} of the {self.size} expected",
                "Replace the piece at its source",
            )
        if response.status == 404:
            raise WorkerError(
                f"piece {self.cid}: {_shown(url)} answered {status}: nobody has it",
                next_step="Import the piece into a piece store of the manager or the market, or put it into a"
                " directory of worker.local_pieces_dirs; the task goes on by itself",
                waits_for=f"piece {self.cid}",
            )
        hint = "Expected 200 with the piece's bytes"
        if response.status in (401, 403):
            hint = "Set sector_manager.piece_token to a token that the market accepts"
        raise self._wrong(url, f"answered {status}", hint)

    def _receive(self, url: str, response: http.client.HTTPResponse, sink: Sink) -> None:
        """Hand on the bytes from ``_done`` to ``size``; more than ``size`` are left unread."""
        position = self._first_byte(url, response)
        length = response.getheader("Content-Length", "")
        end = position + int(length) if length.isdecimal() and not response.chunked else None
        if end is not None and end < self.size:
            raise self._too_short(url, end)
        while position < self.size:
            try:
                # read1 hands on what has come; readinto would hold it back until the buffer is full.
                part = response.read1(min(BUFFER, self.size - position))
            except (OSError, http.client.HTTPException) as error:
                raise _broke_off(url, position, error) from error
            if not part:
                if response.chunked:
                    raise self._too_short(url, position)
                raise _broke_off(url, position)
            # A server without ranges starts from the first byte again.
            known = min(len(part), max(0, self._done - position))
            position += len(part)
            if known < len(part):
                sink.write(memoryview(part)[known:])
                self._done = position
            if end is not None and position == self._done and urlsplit(url).scheme == "http":
                # read1 has emptied the buffer that was filled along with the headers.
                self._splice(url, sink)
                return

    def _splice(self, url: str, sink: Sink) -> None:
        """Have the rest moved inside the kernel, for as long as the connection holds."""
        source = self._socket
        assert source is not None, "a response has come over it"
        while self._done < self.size:
            try:
                count = sink.splice(source, self.size - self._done)
            except OSError as error:
                raise _broke_off(url, self._done, error) from error
            if count == 0:
                raise _broke_off(url, self._done)
            self._done += count

    def _first_byte(self, url: str, response: http.client.HTTPResponse) -> int:
        """The offset in the piece that the body of ``response`` starts at."""
        if response.status == 200:
            return 0
        content_range = response.getheader("Content-Range", "")
        if not content_range.startswith(f"bytes {self._done}-"):
            raise self._wrong(
                url, f"answered with the range {content_range!r}", f"Expected bytes from {self._done} on"
            )
        return self._done

    def _too_short(self, url: str, found: int) -> WorkerError:
        return self._wrong(
            url,
            f"has {found} bytes where the deal's payload has {self.size}",
            "Replace the piece at its source, then resume",
        )

    def _wrong(self, url: str, what: str, next_step: str) -> WorkerError:
        return WorkerError(
            f"piece {self.cid}: {_shown(url)} {what}", level=Level.PERMANENT, next_step=next_step
        )


def _host(url: str) -> tuple[str | None, int | None, str]:
    parts = urlsplit(url)
    return parts.hostname, parts.port, parts.scheme


def _shown(url: str) -> str:
    """``url`` without its query: a pre-signed one holds a secret there, and no one can read it anyway.

    The market's ``resource-id`` is the piece CID, which every message names already.
    """
    return url.split("?", 1)[0]


def _broke_off(url: str, position: int, error: Exception | None = None) -> _BrokenError:
    reason = "" if error is None else f": {_reason(error)}"
    return _BrokenError(f"{_shown(url)} broke off at byte {position}{reason}")


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {READ_TIMEOUT:.0f} s"
    return str(error) or type(error).__name__

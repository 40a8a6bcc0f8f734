"""Where the data of a deal's pieces come from: local directories first, then the manager."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error
from damocles_worker.stores.download import Download, DownloadStoppedError

#: Bytes the pipe holds, so that download and add_pieces don't wait for each other at every block.
PIPE_SIZE = 1 << 20
#: Milliseconds between two looks at whether to stop, while the pipe is full.
POLL = 500
#: Seconds to wait for the thread after a context; only a connection being set up takes longer.
JOIN = 1.0
_CID = re.compile(r"[A-Za-z0-9]{1,128}")

#: ``piece_file`` of a task: ``{"local": path}``, ``{"fd": n}`` or ``"pledge"``.
PieceFile = dict[str, str | int] | str


class WantedPiece(Struct, frozen=True):
    """A piece with data: its CID as text, and its payload in bytes (what is behind it is zeros)."""

    cid: str
    payload_size: int


class PieceStore:
    """Finds pieces in ``local_dirs``, then at ``manager_origin`` (``scheme://host:port``, or None)."""

    def __init__(
        self, local_dirs: Sequence[str | Path], manager_origin: str | None, token: str | None = None
    ) -> None:
        self._local_dirs = [Path(directory) for directory in local_dirs]
        self._origin = manager_origin
        self._token = token

    @contextlib.contextmanager
    def open(self, wanted: Sequence[WantedPiece | None]) -> Iterator[list[PieceFile]]:
        """:meth:`find` and :meth:`feed`; at its end the download's thread has ended too. Blocks."""
        feed = self.feed(wanted, self.find(wanted))
        try:
            with feed:
                yield feed.files
        finally:
            feed.join()

    def find(self, wanted: Sequence[WantedPiece | None]) -> list[PieceFile | None]:
        """The ``piece_file`` of every piece; a pledge (zeros) for None, None for what has to be fetched.

        Looks into the local directories: a network store that hangs makes this hang. Raises
        :class:`WorkerError` naming a file that is too short or can't be looked at.
        """
        return ["pledge" if piece is None else self._find_local(piece) for piece in wanted]

    def feed(self, wanted: Sequence[WantedPiece | None], found: Sequence[PieceFile | None]) -> Feed:
        """The ``piece_file`` of every piece, for as long as the context lasts; never blocks.

        ``found`` is the answer of :meth:`find`. All remote pieces come one after the other through one
        descriptor, each with exactly its payload, so the reader has to take them in this order and no
        byte more than their payload; add_pieces does. One connection is open at a time, however many
        pieces a sector has.

        A failed download ends the stream early; when the body then fails, the context raises the
        download's :class:`WorkerError` in its place, naming the URL and what was found.
        """
        remote = _remote(wanted, found)
        return Feed(found, _Feeder(self._downloads(remote)) if remote else None)

    def locate(self, wanted: Sequence[WantedPiece | None]) -> list[PieceFile]:
        """The ``piece_file`` of every piece for another process: ``{"url": …}`` where it has to download."""
        found = self.find(wanted)
        remote = _remote(wanted, found)
        urls = iter([download.url for download in self._downloads(remote)] if remote else ())
        return [{"url": next(urls)} if file is None else file for file in found]

    def _find_local(self, piece: WantedPiece) -> PieceFile | None:
        """``<dir>/<cid>``, then ``<dir>/<cid>.car``, in each directory in turn; regular files only."""
        if _CID.fullmatch(piece.cid) is None:
            raise WorkerError(
                f"{piece.cid!r} is no piece CID",
                next_step="Expected letters and digits, such as baga6ea4seaq…; check the deal at the manager",
            )
        for directory in self._local_dirs:
            for name in (piece.cid, f"{piece.cid}.car"):
                path = directory / name
                try:
                    if not path.is_file():
                        continue
                    size = path.stat().st_size
                except OSError as error:
                    raise file_error(error, "look for the piece file", path) from error
                if size < piece.payload_size:
                    raise WorkerError(
                        f"the piece file {path} has {size} bytes, the deal's payload {piece.payload_size}",
                        next_step="Put it there whole, or remove it to fetch the manager's; then resume",
                    )
                return {"local": str(path)}
        return None

    def _downloads(self, pieces: list[WantedPiece]) -> list[Download]:
        if self._origin is None:
            looked = ", ".join(str(directory) for directory in self._local_dirs) or "no directory"
            raise WorkerError(
                f"piece {pieces[0].cid} is in none of the local piece directories ({looked})"
                " and no manager is asked",
                next_step="Put the piece there, or set enable_deals = true in [sealing] to ask the manager",
                waits_for=f"piece {pieces[0].cid}",
            )
        return [Download(self._origin, self._token, piece.cid, piece.payload_size) for piece in pieces]


def _remote(wanted: Sequence[WantedPiece | None], found: Sequence[PieceFile | None]) -> list[WantedPiece]:
    pairs = zip(wanted, found, strict=True)
    return [piece for piece, file in pairs if piece is not None and file is None]


class Feed:
    """A context in which :attr:`files` can be read; see :meth:`PieceStore.feed`."""

    def __init__(self, found: Sequence[PieceFile | None], feeder: _Feeder | None) -> None:
        self._feeder = feeder
        descriptor = -1 if feeder is None else feeder.descriptor
        self.files: list[PieceFile] = [{"fd": descriptor} if file is None else file for file in found]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if self._feeder is None:
            return
        self._feeder.close()
        if isinstance(error, Exception) and self._feeder.failure is not None:
            raise self._feeder.failure from error

    def join(self) -> None:
        """Wait a moment for the download's thread, which ends by itself after the context."""
        if self._feeder is not None:
            self._feeder.join()


class _Feeder:
    """A thread that writes downloads one after the other into a pipe; ``descriptor`` is its read end."""

    def __init__(self, downloads: list[Download]) -> None:
        self.descriptor, self._writer = os.pipe()
        #: Why the stream ended early; set before it ends.
        self.failure: WorkerError | None = None
        os.set_blocking(self._writer, False)
        with contextlib.suppress(OSError):  # a user over the pipe quota keeps the default size
            fcntl.fcntl(self._writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        self._downloads = downloads
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pieces", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Close the pipe and tell the thread to stop, without waiting for it."""
        self._stopping.set()
        for download in self._downloads:
            download.stop()
        os.close(self.descriptor)

    def join(self) -> None:
        """Wait for the thread, but not for a connection that is being set up."""
        self._thread.join(JOIN)

    def _run(self) -> None:
        try:
            # One that nobody has would throw away all that came before it, every time.
            all(download.check() for download in self._downloads[1:])
            for index, download in enumerate(self._downloads):
                download.run(self, patient=index > 0)
        except DownloadStoppedError:
            pass
        except WorkerError as error:
            self.failure = error
        except Exception as error:
            self.failure = WorkerError(
                f"the download of pieces failed: {error!r}", next_step="Report this as a bug"
            )
        finally:
            os.close(self._writer)

    def write(self, view: memoryview) -> None:
        while view:
            self._raise_if_stopped()
            try:
                view = view[os.write(self._writer, view) :]
            except BlockingIOError:
                _ready(self._writer, select.POLLOUT, POLL)
            except BrokenPipeError:
                raise DownloadStoppedError from None

    def splice(self, source: socket.socket, count: int) -> int:
        patience = int(1000 * (source.gettimeout() or 0))
        while True:
            self._raise_if_stopped()
            try:
                return os.splice(source.fileno(), self._writer, count, flags=os.SPLICE_F_NONBLOCK)
            except BlockingIOError:
                # The pipe is full, or nothing has come.
                if _ready(self._writer, select.POLLOUT, POLL) and not _ready(source, select.POLLIN, patience):
                    raise TimeoutError from None
            except BrokenPipeError:
                raise DownloadStoppedError from None

    def _raise_if_stopped(self) -> None:
        if self._stopping.is_set():
            raise DownloadStoppedError


def _ready(descriptor: int | socket.socket, event: int, patience: int) -> bool:
    """Whether ``event`` comes within ``patience`` milliseconds."""
    poller = select.poll()
    poller.register(descriptor, event)
    return bool(poller.poll(patience))

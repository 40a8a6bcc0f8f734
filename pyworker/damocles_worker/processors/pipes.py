"""The ends of a child's pipes on the event loop.

They are read and written here and not by the loop's own transports, for two reasons: those of uvloop
close the descriptor of a pipe twice, which in a process with threads can hit a file that another thread
has just opened; and a task of a hundred megabytes is written from where it is, without a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections import deque
from collections.abc import Callable

from damocles_worker.processors import protocol

#: Bytes a pipe holds, where the user's quota allows it: fewer turns of the loop for large lines.
PIPE_SIZE = 1 << 20
#: Bytes read at once.
CHUNK = 256 << 10
#: Lines passed on in one turn of the loop: a chunk of the shortest ones has a quarter of a million.
LINES_A_TURN = 200
#: Parts of messages written with one call.
_PARTS = 16


class Lines:
    """Cuts a stream into lines (without their ends). A line in many parts is put together once.

    :param on_line: gets each whole line.
    :param on_end: called once at the end of the stream, with the bytes of the line that it cut.
    :param on_flood: called once when a line is longer than is allowed; nothing is read after that.
    """

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_end: Callable[[int], None],
        on_flood: Callable[[], None],
    ) -> None:
        self._on_line = on_line
        self._on_end = on_end
        self._on_flood = on_flood
        self._parts: list[bytes] = []
        self._length = 0
        self._flooded = False

    def feed(self, data: bytes, start: int = 0, most: int | None = None) -> int:
        """Take the next bytes of the stream, ``data`` from ``start`` on, or the first ``most`` lines of it.

        Answers where it stopped: ``len(data)`` when it took everything.
        """
        passed_on = 0
        while not self._flooded:
            if passed_on == most:
                return start
            end = data.find(b"\n", start)
            part = data[start:] if end < 0 else data[start:end]
            if part or end >= 0:
                self._parts.append(part)
                self._length += len(part)
            if self._length > protocol.LONGEST_LINE:
                self._flooded = True
                self._parts.clear()
                self._on_flood()
            elif end < 0:
                break
            else:
                line = protocol.joined(self._parts)
                self._parts.clear()
                self._length = 0
                start = end + 1
                passed_on += 1
                self._on_line(line)
        return len(data)

    def end(self) -> None:
        """There are no more."""
        self._on_end(self._length)


class Reader:
    """Feeds ``lines`` from ``descriptor``, which it owns, until the end or :meth:`close`."""

    def __init__(self, descriptor: int, lines: Lines) -> None:
        self._descriptor: int | None = descriptor
        self._lines = lines
        self._loop = asyncio.get_running_loop()
        _prepare(descriptor)
        self._loop.add_reader(descriptor, self._on_readable)

    def close(self) -> None:
        """Read no more; the end of the stream is not reported then."""
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _on_readable(self) -> None:
        if self._descriptor is None:
            return
        try:
            data = os.read(self._descriptor, CHUNK)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if data:
            self._pass_on(data, 0, paused=False)
        else:
            self.close()
            self._lines.end()

    def _pass_on(self, data: bytes, start: int, *, paused: bool) -> None:
        """Pass some lines on; while there are more of them others get their turns, and nothing is read."""
        if self._descriptor is None:
            return
        start = self._lines.feed(data, start, LINES_A_TURN)
        # A line may have been the reason to close this.
        if self._descriptor is None:
            return
        more = start < len(data)
        if more:
            self._loop.call_soon(lambda: self._pass_on(data, start, paused=True))
        if more and not paused:
            self._loop.remove_reader(self._descriptor)
        elif paused and not more:
            self._loop.add_reader(self._descriptor, self._on_readable)


class Writer:
    """Writes to ``descriptor``, which it owns.

    :param on_broken: called once, soon after a write that nobody will read.
    """

    def __init__(self, descriptor: int, on_broken: Callable[[], None] = lambda: None) -> None:
        self._descriptor: int | None = descriptor
        self._on_broken = on_broken
        #: Whether the other end was closed.
        self.is_broken = False
        self._parts: deque[memoryview] = deque()
        self._loop = asyncio.get_running_loop()
        self._waits = False
        self._closing = False
        _prepare(descriptor)

    def write(self, *parts: bytes) -> None:
        """Write the parts one after the other, as soon as there is room; nothing is copied."""
        self._parts.extend(memoryview(part) for part in parts if part)
        if not self._waits:
            self._flush()

    def close(self) -> None:
        """Close the descriptor when everything is written."""
        self._closing = True
        if not self._parts:
            self.abort()

    def abort(self) -> None:
        """Close the descriptor now."""
        self._parts.clear()
        if self._descriptor is not None:
            self._wait_for_room(False)
            os.close(self._descriptor)
            self._descriptor = None

    def _flush(self) -> None:
        while self._parts and self._descriptor is not None:
            some = [self._parts[index] for index in range(min(len(self._parts), _PARTS))]
            try:
                written = os.writev(self._descriptor, some)
            except BlockingIOError:
                self._wait_for_room(True)
                return
            except ConnectionError:
                self.abort()
                self.is_broken = True
                self._loop.call_soon(self._on_broken)
                return
            while written:
                part = self._parts.popleft()
                if written < len(part):
                    self._parts.appendleft(part[written:])
                    break
                written -= len(part)
        self._wait_for_room(False)
        if self._closing:
            self.abort()

    def _wait_for_room(self, waits: bool) -> None:
        if waits != self._waits and self._descriptor is not None:
            self._waits = waits
            if waits:
                self._loop.add_writer(self._descriptor, self._flush)
            else:
                self._loop.remove_writer(self._descriptor)


def _prepare(descriptor: int) -> None:
    os.set_blocking(descriptor, False)
    with contextlib.suppress(OSError):  # a socket, or a user over the quota of pipes
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_SIZE)

"""The child's side: ``damocles-worker processor <stage>`` answers requests until its input ends.

File descriptor 1 belongs to the protocol: it is duplicated at the start and then pointed at stderr, so
that a library which prints can't break an answer. Every request runs in a thread of its own.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import BinaryIO, NoReturn

from damocles_worker import _native, logs
from damocles_worker.errors import WorkerError
from damocles_worker.logs import engine, place
from damocles_worker.processors import protocol
from damocles_worker.processors.protocol import Control, Response, UnreadableLineError

log = logging.getLogger(__name__)

#: Bytes read from the parent at once.
BUFFER = 1 << 20
#: Seconds that a request waits to hear for whom it is, which its parent has said before it sent it.
PLACE_PATIENCE = 1.0

Progress = Callable[[int, int], None]
#: Task JSON, progress callback, cancel flag; output JSON.
StageFunction = Callable[[bytes, Progress | None, _native.Cancel | None], bytes]


def serve(stage: str, function: StageFunction) -> NoReturn:
    """Say that ``stage`` is ready, answer requests with ``function``, and exit 1 when the input ends.

    Running tasks die with the process: a parent that is gone can't use what they compute, and a task
    can be run again from its inputs at any time.
    """
    consumer = Consumer(function, _take_stdout(), _take_control())
    consumer.write(f"{protocol.ready_line(stage)}\n".encode())
    log.info("sub{name=%s pid=%d}: processor ready", stage, os.getpid())
    with open(0, "rb", buffering=BUFFER, closefd=False) as requests:
        consumer.read(requests)
    # Our own daemon ends its children so; of others it is not known what they mean by it.
    log.log(logging.INFO if consumer.is_ours else logging.ERROR, "got empty line, parent might be out")
    _leave(1)


def _take_stdout() -> int:
    """A descriptor for the protocol; what prints to stdout from now on ends up on stderr."""
    sys.stdout.flush()
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def _take_control() -> socket.socket | None:
    """The control socket, if the parent gave one; processes started from here don't inherit it."""
    number = os.environ.pop(protocol.CONTROL_FD, None)
    if number is None:
        return None
    control = socket.socket(fileno=int(number))
    control.set_inheritable(False)
    return control


def _leave(status: int) -> NoReturn:
    logs.flush()
    sys.stderr.flush()
    os._exit(status)


class Consumer:
    """Answers requests on ``output``; ``control`` carries progress up and stop requests down."""

    def __init__(self, function: StageFunction, output: int, control: socket.socket | None) -> None:
        self._function = function
        self._output = output
        self._output_lock = threading.Lock()
        self._control = control
        #: Guards what the control thread and the others share, and tells that a place has come.
        self._shared = threading.Condition()
        self._flags: dict[int, _native.Cancel] = {}
        self._places: dict[int, tuple[int, str, str]] = {}
        #: The newest request that was read, and those that were stopped before they were.
        self._newest = -1
        self._stopped: set[int] = set()
        if control is not None:
            threading.Thread(target=self._listen, args=(control,), name="control", daemon=True).start()

    @property
    def is_ours(self) -> bool:
        """Whether the parent is this program."""
        return self._control is not None

    def read(self, requests: BinaryIO) -> None:
        """Start every request of the stream; returns at its end (a line cut by it is no request)."""
        for line in requests:
            if not line.endswith(b"\n"):
                return
            try:
                request = protocol.parse_request(line)
            except UnreadableLineError as error:
                log.error("%s: '%s'", error, protocol.excerpt(line))
                if error.id is not None:
                    self.write(protocol.error_line(Response(error.id, str(error))))
                continue
            with self._shared:
                flag = self._flags[request.id] = _native.Cancel()
                self._newest = request.id
                # A large request takes longer to come than the word to stop it.
                if request.id in self._stopped:
                    self._stopped.remove(request.id)
                    flag.cancel()
            threading.Thread(
                target=self._answer, args=(request,), name=f"request-{request.id}", daemon=True
            ).start()

    def write(self, *parts: bytes) -> None:
        """Write one line; the process ends when the parent doesn't read any more."""
        views = [memoryview(part) for part in parts]
        with self._output_lock:
            try:
                while views:
                    written = os.writev(self._output, views)
                    while views and written >= len(views[0]):
                        written -= len(views.pop(0))
                    if views:
                        views[0] = views[0][written:]
            except OSError as error:
                log.error("the parent closed its end: %s", error.strerror)
                _leave(1)

    def _answer(self, request: protocol.Request) -> None:
        self._take_place(request.id)
        log.info("request{id=%d size=%d} started", request.id, memoryview(request.task).nbytes)
        progress = None if self._control is None else self._reporter(request.id)
        parts: tuple[bytes, ...]
        try:
            output = self._function(bytes(request.task), progress, self._flags[request.id])
            parts = protocol.response_line(request.id, output)
        except BaseException as error:
            # A panic of the engines is no Exception; without an answer its request would wait for ever.
            response = self._failure(request.id, error)
            log.error("request{id=%d} failed: %s", request.id, response.err_msg)
            parts = (protocol.error_line(response),)
        with self._shared:
            del self._flags[request.id]
        self.write(*parts)

    def _take_place(self, number: int) -> None:
        """What is logged in this thread belongs to the sealing thread that the request is for."""
        if self._control is None:
            return
        with self._shared:
            self._shared.wait_for(lambda: number in self._places, PLACE_PATIENCE)
            index, sector, stage = self._places.pop(number, (-1, "", ""))
        if index >= 0:
            place.enter(index).is_at(sector, stage)
            engine.here()

    def _failure(self, number: int, error: BaseException) -> Response:
        if isinstance(error, WorkerError):
            if self._control is None:
                return Response(number, str(error))
            return Response(
                number,
                error.cause,
                level=error.level.value,
                next_step=error.next_step,
                waits_for=error.waits_for,
            )
        if isinstance(error, (_native.StageError, _native.Cancelled)):
            return Response(number, str(error))
        log.error("unexpected failure", exc_info=error)
        return Response(number, f"unexpected {type(error).__name__}: {error}")

    def _reporter(self, number: int) -> Progress:
        def report(done: int, total: int) -> None:
            assert self._control is not None
            line = protocol.control_line(Control(number, (done, total)))
            try:
                # A parent that is busy misses a report; a computing thread never waits for it.
                self._control.send(line, socket.MSG_DONTWAIT)
            except OSError as error:
                log.debug("progress not sent: %s", error)

        return report

    def _listen(self, control: socket.socket) -> None:
        with control.makefile("rb") as lines:
            for line in lines:
                try:
                    wanted = protocol.parse_control(line)
                except UnreadableLineError as error:
                    log.error("%s: '%s'", error, protocol.excerpt(line))
                    continue
                with self._shared:
                    self._obey(wanted)

    def _obey(self, wanted: Control) -> None:
        if wanted.place is not None:
            self._places[wanted.id] = wanted.place
            self._shared.notify_all()
        elif (flag := self._flags.get(wanted.id)) is not None:
            log.info("request{id=%d} is asked to stop", wanted.id)
            flag.cancel()
        elif wanted.id > self._newest:
            self._stopped.add(wanted.id)

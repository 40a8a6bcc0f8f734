"""The lines between a parent and a processor child: one JSON document each, UTF-8, ``\\n`` at the end.

A request is ``{"id": u64, "task": …}``, a response ``{"id": u64, "err_msg": …, "output": …}``, as the
Rust worker writes them. Tasks and outputs can have a hundred megabytes: they stay raw bytes here and
never become Python objects. No system calls in this module.

Between our parent and our own child there is a second channel, the socket whose number the child finds
in :data:`CONTROL_FD`: progress goes up, requests to stop go down. Binaries of others don't get it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

#: Environment variable with the number of the control socket; absent when there is none.
CONTROL_FD = "DAMOCLES_WORKER_CONTROL_FD"
#: Bytes of a line that can't be read that are shown.
EXCERPT = 100
#: Longest line that is taken (bytes): a C1 output of 64 GiB sectors is a fraction of it. A child that
#: prints for ever without a line end must not eat the memory of the daemon.
LONGEST_LINE = 1 << 30

_NULL = msgspec.Raw(b"null")
_SENT_ID = re.compile(rb'\s*\{\s*"id"\s*:\s*([0-9]{1,20})\s*[,}]')
_ANY_ID = re.compile(rb'"id"\s*:\s*([0-9]{1,20})\s*[,}]')
#: How an answer may begin behind something else on its line.
_BEGINNINGS = (b'{"id":', b'{"err_msg":', b'{"output":')


class Request(Struct, frozen=True):
    """A task for a child; ids grow by one and are never used twice."""

    id: int
    task: msgspec.Raw


class Response(Struct, frozen=True):
    """The answer to the request of the same id. Fields that are missing are null, unknown ones ignored.

    The last three are ours: a child that has a control channel says more about its failure, with the
    meaning they have in :class:`~damocles_worker.errors.WorkerError`.
    """

    id: int
    err_msg: str | None = None
    output: msgspec.Raw = _NULL
    level: str | None = None
    next_step: str | None = None
    waits_for: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it has neither an output nor an error."""
        return self.err_msg is None and memoryview(self.output) == memoryview(b"null")


class Control(Struct, frozen=True, omit_defaults=True):
    """A line of the control channel: up with ``progress`` (done, total); down with ``place``, else: stop.

    ``place`` is for whom the log of the request is: sealing thread (negative: none), sector, stage. It is
    sent before each request.
    """

    id: int
    progress: tuple[int, int] | None = None
    place: tuple[int, str, str] | None = None


class _Anonymous(Struct, frozen=True):
    """What an answer has, its id aside."""

    err_msg: str | msgspec.UnsetType | None = msgspec.UNSET
    output: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class UnreadableLineError(ValueError):
    """A line that is no request or response; ``id`` is the one it begins with, if it can be read."""

    def __init__(self, message: str, number: int | None) -> None:
        super().__init__(message)
        self.id = number


_anonymous = msgspec.json.Decoder(_Anonymous)
_requests = msgspec.json.Decoder(Request)
_responses = msgspec.json.Decoder(Response)
_controls = msgspec.json.Decoder(Control)


def ready_line(stage: str) -> str:
    """What a child has to print first, ``pc1 processor ready``."""
    return f"{stage} processor ready"


def request_line(number: int, task: bytes) -> tuple[bytes, bytes, bytes]:
    """The parts of a request's line; the task is not copied (unless it is spread over lines)."""
    return b'{"id":%d,"task":' % number, on_one_line(task), b"}\n"


def response_line(number: int, output: bytes) -> tuple[bytes, bytes, bytes]:
    """The parts of the line of a good answer."""
    return b'{"id":%d,"err_msg":null,"output":' % number, on_one_line(output), b"}\n"


def error_line(response: Response) -> bytes:
    """The line of a failed answer; our own fields are left out where they are not set."""
    fields: dict[str, object] = {"id": response.id, "err_msg": response.err_msg, "output": None}
    for name in ("level", "next_step", "waits_for"):
        value = getattr(response, name)
        if value is not None:
            fields[name] = value
    return msgspec.json.encode(fields) + b"\n"


def control_line(control: Control) -> bytes:
    """A line of the control channel."""
    return msgspec.json.encode(control) + b"\n"


def parse_request(line: bytes) -> Request:
    """A request; its task is a view of ``line``. Raises :class:`UnreadableLineError`."""
    try:
        return _requests.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableLineError(f"no request: {error}", _id_of(line)) from error


def parse_response(line: bytes) -> Response:
    """A response; its output is a view of ``line``. Raises :class:`UnreadableLineError`."""
    try:
        return _responses.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableLineError(f"no response: {error}", _id_of(line)) from error


def behind_noise(line: bytes) -> tuple[Response, bytes] | None:
    """The answer at the end of a line that begins with something else, and that; None: there is none."""
    starts = {find(beginning) for beginning in _BEGINNINGS for find in (line.find, line.rfind)}
    for start in sorted(start for start in starts if start > 0):
        try:
            response = _responses.decode(memoryview(line)[start:])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        # A piece of an output may have an id of its own.
        if not response.is_empty:
            return response, line[:start]
    return None


def is_answer_without_id(line: bytes) -> bool:
    """Whether a line has all that an answer has, but not whose answer it is."""
    try:
        found = _anonymous.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return found.err_msg is not msgspec.UNSET or found.output is not msgspec.UNSET


def ids_in(line: bytes) -> set[int]:
    """The ids anywhere in a line that was meant to be an answer; none in any other."""
    if not line.lstrip().startswith(b"{") or not (b'"err_msg"' in line or b'"output"' in line):
        return set()
    return {int(match[1]) for match in _ANY_ID.finditer(line)}


def parse_control(line: bytes) -> Control:
    """A line of the control channel. Raises :class:`UnreadableLineError`."""
    try:
        return _controls.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableLineError(f"no control message: {error}", None) from error


def on_one_line(document: bytes) -> bytes:
    """A JSON document without line ends; one that has none (all that we write) is returned as it is."""
    return msgspec.json.format(document, indent=-1) if b"\n" in document else document


def excerpt(line: bytes) -> str:
    """The beginning of a line for a message, cut at a character, ``...`` where something is missing."""
    if len(line) <= EXCERPT:
        return line.decode(errors="replace").rstrip("\n")
    # errors="ignore" drops the character that the cut went through.
    return line[:EXCERPT].decode(errors="ignore") + "..."


def joined(parts: Sequence[bytes]) -> bytes:
    """One line from the parts it came in; a line in one part is not copied."""
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _id_of(line: bytes) -> int | None:
    """The id at the very beginning: further inside, a number could belong to something else."""
    match = _SENT_ID.match(line)
    return int(match[1]) if match else None

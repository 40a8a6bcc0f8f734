"""The requests that a child has not answered yet, and what its lines mean for them.

A request that ends while its child lives on (it took too long, was cancelled, or was answered under a
wrong id) is *given up*: the child may still be working on its files, and nobody else must touch them. So
its error is raised when the child has ended: at once if it has nothing else to do, otherwise when its other
requests are done. Until then the child gets no new ones.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors import protocol
from damocles_worker.processors.explain import explain
from damocles_worker.processors.protocol import Control, Response, UnreadableLineError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

#: Troubles of a child that are logged one by one; of later ones only the last in each interval (seconds).
LOGGED_TROUBLES = 10
LOG_INTERVAL = 1.0
#: Lines without an answer between them that a child may print before it is given up.
HOPELESS = 10_000


class Pending:
    """One request. ``given_up`` is why it ends, once that is sure."""

    def __init__(self, number: int, progress: Progress | None) -> None:
        self.id = number
        self.since = time.monotonic()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.given_up: WorkerError | None = None
        self.progress = progress


class InFlight:
    """The requests of one child.

    :param name: the child's name, ``ext(pid: 1)``, for errors.
    :param ids: numbers that are not used yet.
    :param unreadable: called with a line that nobody can read; answers where it was dumped, or None.
    :param changed: called when :attr:`accepts` or :attr:`is_stuck` may have changed.
    :param hopeless: called once with why, when nothing can be expected of the child any more.
    """

    def __init__(
        self,
        name: str,
        ids: Iterator[int],
        unreadable: Callable[[bytes], object],
        changed: Callable[[], None],
        hopeless: Callable[[str], None],
    ) -> None:
        self._name = name
        self._ids = ids
        self._unreadable = unreadable
        self._changed = changed
        self._hopeless = hopeless
        self._pending: dict[int, Pending] = {}
        self._first: int | None = None
        self._last = 0
        #: Answers that fit no request, in words, and the requests that one of them was meant for.
        self._strays: list[str] = []
        self._suspects: set[int] = set()
        #: What was wrong with the child's lines: the last of it, and how often.
        self.trouble = ""
        self.troubles = 0
        self._troubles_in_a_row = 0
        self._unlogged = 0
        self._logged_at = 0.0
        self.answered = 0
        self.last_heard = time.monotonic()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def accepts(self) -> bool:
        """Whether the child may get new requests."""
        return all(pending.given_up is None for pending in self._pending.values())

    @property
    def is_stuck(self) -> bool:
        """Whether it has requests, and all of them are given up."""
        return bool(self._pending) and all(p.given_up is not None for p in self._pending.values())

    @property
    def given_up_for(self) -> str:
        """Why its requests were given up."""
        errors = [pending.given_up for pending in self._pending.values() if pending.given_up is not None]
        return "; ".join(error.cause.removeprefix(f"{self._name} ") for error in errors)

    @property
    def silent_for(self) -> float:
        """Seconds since its last word while a request waits; 0 when none does."""
        if not self._pending:
            return 0.0
        oldest = min(pending.since for pending in self._pending.values())
        return time.monotonic() - max(oldest, self.last_heard)

    def add(self, progress: Progress | None) -> Pending:
        """A new request, to be sent now."""
        number = next(self._ids)
        self._first = number if self._first is None else self._first
        self._last = number
        pending = self._pending[number] = Pending(number, progress)
        return pending

    def give_up(self, pending: Pending, error: WorkerError) -> None:
        """End a request that the child may still be working on; the first reason counts."""
        if pending.id in self._pending and pending.given_up is None:
            pending.given_up = error
            self._changed()

    def fail_all(self, cause: str) -> None:
        """The child has ended: whoever still waits gets the reason, and may try again elsewhere."""
        for pending in list(self._pending.values()):
            error = pending.given_up or WorkerError(
                f"{self._name} {cause} while it worked on request {pending.id}",
                level=Level.TEMPORARY,
                next_step="The stage is tried again; the child's own lines are in the log",
            )
            self._settle(pending, error)

    def heard(self, line: bytes) -> None:
        """Take a line of the child's output."""
        if self._troubles_in_a_row >= HOPELESS:
            return
        self.last_heard = time.monotonic()
        try:
            response = protocol.parse_response(line)
        except UnreadableLineError as error:
            salvaged = protocol.behind_noise(line) if error.id is None else None
            if salvaged is None:
                self._on_unreadable(line, error)
                return
            response, noise = salvaged
            self._note(f"it printed '{protocol.excerpt(noise)}' before an answer, on the same line")
        self._take(response)
        self._give_up_unanswerable()

    def _take(self, response: Response) -> None:
        pending = self._pending.get(response.id)
        if pending is not None:
            self.answered += 1
            self._troubles_in_a_row = 0
            self._settle(pending, self._outcome(response))
        elif self._first is not None and self._first <= response.id <= self._last:
            # A program that gives every answer the same id means another request by it.
            self._on_stray(f"request {response.id} again")
        else:
            self._on_stray(f"request {response.id}, which was never sent,")

    def progressed(self, control: Control) -> None:
        """Take a progress report."""
        self.last_heard = time.monotonic()
        pending = self._pending.get(control.id)
        if pending is not None and pending.progress is not None and control.progress is not None:
            pending.progress(*control.progress)

    def _on_stray(self, what: str) -> None:
        """An answer of which only one thing is sure: one of the waiting requests won't get another."""
        if self._pending:
            self._strays.append(what)
            self._suspects |= self._pending.keys()
        self._note(f"it answered {what.rstrip(',')}; that answer is dropped")

    def _on_unreadable(self, line: bytes, error: UnreadableLineError) -> None:
        dumped = self._unreadable(line)
        where = f" (the line is in {dumped})" if dumped else ""
        if protocol.is_answer_without_id(line):
            self._on_stray(f"without an id ('{protocol.excerpt(line)}'){where}")
            self._give_up_unanswerable()
            return
        what = f"it printed a line of {len(line)} bytes that is no answer: '{protocol.excerpt(line)}'{where}"
        self._note(what)
        pending = self._meant_by(line, error)
        if pending is None:
            # Noise: the answer may still come.
            return
        self._settle(
            pending,
            WorkerError(
                f"{self._name} answered request {pending.id} with a line that can't be read: {error}:"
                f" '{protocol.excerpt(line)}'",
                level=Level.TEMPORARY,
                next_step="The stage is tried again; keep such lines with"
                " `damocles-worker worker enable-dump` and show them to the program's author",
            ),
        )
        self._give_up_unanswerable()

    def _meant_by(self, line: bytes, error: UnreadableLineError) -> Pending | None:
        """The request that a line names, at its beginning or, if that is sure, further inside."""
        if error.id is not None:
            return self._pending.get(error.id)
        named = protocol.ids_in(line) & self._pending.keys()
        return self._pending[named.pop()] if len(named) == 1 else None

    def _outcome(self, response: Response) -> bytes | WorkerError:
        if response.err_msg is not None:
            log.error("%s: request %d failed: %s", self._name, response.id, response.err_msg)
            return _failure(self._name, response)
        if response.is_empty:
            return WorkerError(
                f"{self._name} answered request {response.id} with neither output nor error"
                " (output field lost)",
                next_step="Its program does not fit this worker: check its version",
            )
        return bytes(response.output)

    def _give_up_unanswerable(self) -> None:
        """As many suspects as there were stray answers get none: sure once no other suspect is left."""
        suspects = [self._pending[number] for number in sorted(self._suspects & self._pending.keys())]
        if not suspects:
            self._strays.clear()
            self._suspects.clear()
        if len(suspects) > len(self._strays):
            return
        for pending in suspects:
            self.give_up(
                pending,
                WorkerError(
                    f"{self._name} answered {self._strays[-1]} in place of request {pending.id}",
                    level=Level.TEMPORARY,
                    next_step="The child is started again and the stage tried again; if it happens again,"
                    " its program is faulty",
                ),
            )

    def _settle(self, pending: Pending, outcome: bytes | WorkerError) -> None:
        del self._pending[pending.id]
        if not pending.answer.done():
            if isinstance(outcome, bytes):
                pending.answer.set_result(outcome)
            else:
                pending.answer.set_exception(outcome)
        self._changed()

    def _note(self, trouble: str) -> None:
        self.troubles += 1
        self._troubles_in_a_row += 1
        self.trouble = trouble
        self._log(trouble)
        if self._troubles_in_a_row == HOPELESS:
            self._hopeless(f"printed {HOPELESS} lines that are no answers")

    def _log(self, trouble: str) -> None:
        """A child that prints without end must not fill the log as well."""
        now = time.monotonic()
        if self.troubles > LOGGED_TROUBLES and now - self._logged_at < LOG_INTERVAL:
            self._unlogged += 1
            return
        others = f" (and {self._unlogged} more troubles since the last line)" if self._unlogged else ""
        self._unlogged, self._logged_at = 0, now
        log.error("%s: %s%s", self._name, trouble, others)


def _failure(name: str, response: Response) -> WorkerError:
    """A failed stage; our own child says itself what it waits for, others' texts are explained."""
    assert response.err_msg is not None
    if response.level not in tuple(Level):
        return explain(name, response.err_msg)
    return WorkerError(
        f"{name} failed: {response.err_msg}",
        level=Level(response.level),
        next_step=response.next_step or "",
        waits_for=response.waits_for,
    )

"""Who may start when: stage limits, children and locks under one fair roof.

A request asks for everything it needs at once: a place in its stage, a child if the stage has any, and
the locks of that child. It gets all of it or holds nothing, so nobody sits on a permit that another
could use, and two requests can't wait for each other. Requests are served in the order they came:
a later one never takes what an earlier one is waiting for, so none starves. An earlier request claims
only what it really could use next: while its stage is full, it claims no child and no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from damocles_worker.errors import Level, WorkerError

#: The load a child without its own limit is reckoned to take (upstream's number).
UNLIMITED = 64


class Usage(Struct, frozen=True):
    """How far a stage limit or a lock is used. ``permits``: None where only starts are spread out."""

    #: ``stage`` or ``lock``.
    kind: str
    name: str
    held: int
    permits: int | None
    #: Requests in the queue that need it.
    waiting: int


class Slot:
    """A child as the scheduler sees it. It gets no tasks before it is up."""

    def __init__(self, stage: str, concurrent: int | None, locks: Sequence[str]) -> None:
        self.stage = stage
        self.concurrent = concurrent
        self.locks = frozenset(locks)
        self.load = 0
        self.up = False
        #: Why it won't come back; None: it may.
        self.gone: str | None = None

    @property
    def spare(self) -> int:
        """How many tasks more it is reckoned to take: the child with the most gets the next."""
        return (UNLIMITED if self.concurrent is None else self.concurrent) - self.load


class Lease:
    """What a request got; given back at the end of its context."""

    def __init__(self, scheduler: Scheduler, stage: str, start: int | None, slot: Slot | None) -> None:
        self.stage = stage
        #: The child, until :meth:`release_child`.
        self.slot = slot
        #: The child that does or did the work, also after that.
        self.worker = slot
        self._scheduler = scheduler
        self._start = start

    def release_child(self) -> None:
        """Give the child and its locks back before the place in the stage; a second call does nothing."""
        if self.slot is not None:
            slot, self.slot = self.slot, None
            self._scheduler._give_back(slot=slot)

    def keep_until(self, work: asyncio.Future[Any]) -> None:
        """Give everything back when ``work`` is done, and not before: nobody waits for it any more."""
        slot, self.slot = self.slot, None
        start, self._start = self._start, None
        given_back = None if start is None else (self.stage, start)
        work.add_done_callback(lambda _work: self._scheduler._give_back(slot=slot, start=given_back))

    def _release(self) -> None:
        slot, self.slot = self.slot, None
        start, self._start = self._start, None
        self._scheduler._give_back(slot=slot, start=None if start is None else (self.stage, start))


class Scheduler:
    """Limits of one daemon: ``[processors.limitation]``, children's ``concurrent``, and ``ext_locks``.

    ``staggered`` is in seconds. A stage without limits and children never waits; a lock that is not in
    ``locks`` has one permit. All methods belong to one event loop.
    """

    def __init__(
        self,
        concurrent: Mapping[str, int],
        staggered: Mapping[str, float],
        locks: Mapping[str, int] | None = None,
    ) -> None:
        for kind, counts in (("limit of stage", concurrent), ("lock", locks or {})):
            for name, count in counts.items():
                if count < 1:
                    raise ValueError(f"{kind} {name} is {count}: expected at least 1")
        self._gates = {
            stage: _Gate(concurrent.get(stage), staggered.get(stage, 0.0))
            for stage in {*concurrent, *staggered}
        }
        self._permits = dict(locks or {})
        self._locked: Counter[str] = Counter()
        self._slots: dict[str, list[Slot]] = {}
        self._queue: list[_Turn] = []
        self._timer: asyncio.TimerHandle | None = None

    # ---- children -------------------------------------------------------------------------------

    def add_child(self, stage: str, concurrent: int | None, locks: Sequence[str]) -> Slot:
        """A child of ``stage``, down until :meth:`set_up`. The order of calls is that of the file."""
        if concurrent is not None and concurrent < 1:
            raise ValueError(f"concurrent of a {stage} child is {concurrent}: expected at least 1")
        slot = Slot(stage, concurrent, locks)
        self._slots.setdefault(stage, []).append(slot)
        return slot

    def set_up(self, slot: Slot, up: bool) -> None:
        """A child is ready for tasks, or no longer; what it is working on keeps its place."""
        if slot.up != up:
            slot.up = up
            self._admit()

    def set_gone(self, slot: Slot, why: str) -> None:
        """A child is down for good: who waits for nothing but such children gets an error."""
        slot.up = False
        slot.gone = why
        self._admit()

    def usage(self) -> list[Usage]:
        """All stage limits and locks as they are now, each kind by name."""
        stages: Counter[str] = Counter(turn.stage for turn in self._queue if turn.gate is not None)
        locks: Counter[str] = Counter()
        for turn in self._queue:
            locks.update({lock for slot in self._slots.get(turn.stage, ()) for lock in slot.locks})
        names = {*self._permits, *(lock for slots in self._slots.values() for s in slots for lock in s.locks)}
        return [
            Usage("stage", stage, gate.running, gate.places, stages[stage])
            for stage, gate in sorted(self._gates.items())
        ] + [
            Usage("lock", name, self._locked[name], self._permits.get(name, 1), locks[name])
            for name in sorted(names)
        ]

    # ---- requests -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def hold(self, stage: str, on_wait: Callable[[], None] | None = None) -> AsyncIterator[Lease]:
        """Hold a place in ``stage``, and a child with its locks if the stage has children.

        Who waits holds nothing; ``on_wait`` is called once before a wait. Cancelling a waiting task
        takes it out of the queue at once. Raises :class:`WorkerError` when all children are gone.
        """
        lease = await self._acquire(stage, limited=True, on_wait=on_wait)
        try:
            yield lease
        finally:
            lease._release()

    @contextlib.asynccontextmanager
    async def child(self, stage: str) -> AsyncIterator[Lease]:
        """Hold a child of ``stage`` with its locks, without a place in the stage."""
        lease = await self._acquire(stage, limited=False, on_wait=None)
        try:
            yield lease
        finally:
            lease._release()

    async def _acquire(self, stage: str, *, limited: bool, on_wait: Callable[[], None] | None) -> Lease:
        turn = _Turn(stage, self._gates.get(stage) if limited else None, asyncio.get_running_loop())
        self._queue.append(turn)
        self._admit()
        try:
            if turn.granted.done():
                # Whoever was given a turn in this instant, but has not run since, goes first.
                await asyncio.sleep(0)
            elif on_wait is not None:
                on_wait()
            return await turn.granted
        except BaseException:
            # Cancelled. If everything was given in the same moment, it goes back.
            if turn.granted.done() and not turn.granted.cancelled() and turn.granted.exception() is None:
                turn.granted.result()._release()
            else:
                turn.granted.cancel()
                self._admit()
            raise

    def _give_back(self, slot: Slot | None, start: tuple[str, int] | None = None) -> None:
        if slot is not None:
            slot.load -= 1
            self._locked.subtract(slot.locks)
        if start is not None:
            stage, number = start
            self._gates[stage].leave(number)
        self._admit()

    # ---- the one decision -----------------------------------------------------------------------

    def _admit(self) -> None:
        """Go through the queue in its order and give to each what is free and not claimed before it."""
        if not self._queue:
            return
        loop = asyncio.get_running_loop()
        claims = _Claims()
        waiting = []
        for turn in self._queue:
            if not turn.granted.done() and not self._serve(turn, claims, loop.time()):
                waiting.append(turn)
        self._queue = waiting
        self._wake_up(loop)

    def _serve(self, turn: _Turn, claims: _Claims, now: float) -> bool:
        """Settle ``turn``, or note what it claims; answers whether it is settled."""
        gate = turn.gate
        if gate is not None and (turn.stage in claims.stages or not gate.is_open(now)):
            claims.stages.add(turn.stage)
            return False
        slot = None
        slots = self._slots.get(turn.stage)
        if slots:
            if all(slot.gone is not None for slot in slots):
                turn.granted.set_exception(_all_gone(turn.stage, slots))
                return True
            free = [slot for slot in slots if slot.up and self._is_free(slot, claims)]
            if not free:
                claims.stages.add(turn.stage)
                for slot in slots:
                    # A child without room is no use of its locks: they come free with its room.
                    if slot.up and self._has_room(slot, claims):
                        claims.children[slot] += 1
                        claims.locks.update(slot.locks)
                return False
            # Of equal ones the last in the file, as upstream.
            slot = max(reversed(free), key=lambda slot: slot.spare)
            slot.load += 1
            self._locked.update(slot.locks)
        start = gate.start(now) if gate is not None else None
        turn.granted.set_result(Lease(self, turn.stage, start, slot))
        return True

    def _is_free(self, slot: Slot, claims: _Claims) -> bool:
        return self._has_room(slot, claims) and all(
            self._locked[lock] + claims.locks[lock] < self._permits.get(lock, 1) for lock in slot.locks
        )

    @staticmethod
    def _has_room(slot: Slot, claims: _Claims) -> bool:
        return slot.concurrent is None or slot.load + claims.children[slot] < slot.concurrent

    def _wake_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """Come back when the interval of a stage ends that somebody waits for."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        gates = {turn.gate for turn in self._queue if turn.gate is not None}
        times = [gate.opens_at for gate in gates if gate.opens_at is not None]
        times = [time for time in times if time > loop.time()]
        if times:
            self._timer = loop.call_at(min(times), self._admit)


class _Turn:
    """A request in the queue."""

    def __init__(self, stage: str, gate: _Gate | None, loop: asyncio.AbstractEventLoop) -> None:
        self.stage = stage
        self.gate = gate
        self.granted: asyncio.Future[Lease] = loop.create_future()


class _Claims:
    """What earlier requests of the queue wait for."""

    def __init__(self) -> None:
        #: Stages with an earlier request in the queue.
        self.stages: set[str] = set()
        self.children: Counter[Slot] = Counter()
        self.locks: Counter[str] = Counter()


class _Gate:
    """The limits of one stage: a counter, and the time of the last start."""

    def __init__(self, places: int | None, interval: float) -> None:
        self.places = places
        self._interval = interval
        self.running = 0
        self._starts = 0
        #: The last start, which keeps the gate shut for the interval; None when it no longer does.
        self._last_start: int | None = None
        self._opens_at = 0.0

    @property
    def opens_at(self) -> float | None:
        """When the interval ends, if that is all the gate waits for."""
        if self._last_start is None or (self.places is not None and self.running >= self.places):
            return None
        return self._opens_at

    def is_open(self, now: float) -> bool:
        if self.places is not None and self.running >= self.places:
            return False
        return self._last_start is None or now >= self._opens_at

    def start(self, now: float) -> int:
        """Take a place; answers the number of this start, for :meth:`leave`."""
        self.running += 1
        self._starts += 1
        if self._interval > 0:
            self._last_start = self._starts
            self._opens_at = now + self._interval
        return self._starts

    def leave(self, start: int) -> None:
        """Give the place of ``start`` back. The end of the last started task opens the gate early."""
        self.running -= 1
        if self._last_start == start:
            self._last_start = None


def _all_gone(stage: str, slots: Sequence[Slot]) -> WorkerError:
    return WorkerError(
        f"no processor of {stage} is left: {slots[0].gone}",
        level=Level.PERMANENT,
        next_step="auto_restart = false keeps an ended processor down: restart the worker, or remove the key",
    )

"""The scheduler in virtual time: stage limits, children and locks together."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from damocles_worker.errors import WorkerError
from damocles_worker.processors.scheduler import Lease, Scheduler, Slot
from tests.unit import virtual_time

STAGES = ("pc1", "pc2", "c2")
LOCKS = ("gpu1", "gpu2", "disk")


class ChildPlan(Struct, frozen=True):
    """A child, and the times between which it is down."""

    stage: str
    concurrent: int | None
    locks: tuple[str, ...]
    down: tuple[int, int] | None


class Job(Struct, frozen=True):
    """Asks at ``arrives``, computes for ``works``, keeps its place in the stage for ``tail`` more."""

    stage: str
    arrives: int
    works: int
    tail: int
    limited: bool
    cancelled: int | None


class World(Struct, frozen=True):
    limits: dict[str, int]
    staggered: dict[str, float]
    locks: dict[str, int]
    children: list[ChildPlan]
    jobs: list[Job]


children = st.builds(
    ChildPlan,
    stage=st.sampled_from(STAGES),
    concurrent=st.none() | st.integers(1, 3),
    locks=st.lists(st.sampled_from(LOCKS), unique=True, max_size=3).map(tuple),
    down=st.none() | st.tuples(st.integers(0, 20), st.integers(1, 20)).map(lambda d: (d[0], d[0] + d[1])),
)
jobs = st.builds(
    Job,
    stage=st.sampled_from(STAGES),
    arrives=st.integers(0, 20),
    works=st.integers(0, 9),
    tail=st.integers(0, 2),
    limited=st.booleans(),
    cancelled=st.none() | st.none() | st.integers(0, 40),
)
worlds = st.builds(
    World,
    limits=st.dictionaries(st.sampled_from(STAGES), st.integers(1, 3)),
    staggered=st.dictionaries(st.sampled_from(STAGES), st.sampled_from([1.0, 5.0])),
    locks=st.fixed_dictionaries({}, optional={lock: st.integers(1, 3) for lock in LOCKS}),
    children=st.lists(children, max_size=6),
    jobs=st.lists(jobs, min_size=1, max_size=14),
)


#: Few devices and much to do: children are full while permits of their locks are free, and the reverse.
crowded = st.builds(
    World,
    limits=st.just({}),
    staggered=st.just({}),
    locks=st.fixed_dictionaries({"gpu1": st.integers(2, 3)}),
    children=st.lists(
        st.builds(
            ChildPlan,
            stage=st.sampled_from(STAGES),
            concurrent=st.integers(1, 2),
            locks=st.sampled_from([("gpu1",), ("gpu1", "gpu2"), ()]),
            down=st.none(),
        ),
        min_size=2,
        max_size=4,
    ),
    jobs=st.lists(
        st.builds(
            Job,
            stage=st.sampled_from(STAGES),
            arrives=st.integers(0, 4),
            works=st.integers(2, 9),
            tail=st.just(0),
            limited=st.booleans(),
            cancelled=st.none(),
        ),
        min_size=4,
        max_size=12,
    ),
)


class Watch:
    """What is held at each moment; fails in the moment something is held too often."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.stages: Counter[str] = Counter()
        self.slots: Counter[Slot] = Counter()
        self.locks: Counter[str] = Counter()
        self.finished: set[int] = set()
        #: When each child last went down.
        self.down: dict[Slot, float] = {}

    def take_down(self, scheduler: Scheduler, slot: Slot) -> None:
        self.down[slot] = asyncio.get_running_loop().time()
        scheduler.set_up(slot, False)

    def take(self, job: Job, slot: Slot | None) -> None:
        if job.limited:
            self.stages[job.stage] += 1
            assert self.stages[job.stage] <= self.world.limits.get(job.stage, 1000)
        if slot is not None:
            assert slot.stage == job.stage
            # One that goes down between the grant and the first step of its task can't give it back; the pool
            # sees that then, and the task waits for another.
            now = asyncio.get_running_loop().time()
            assert slot.up or self.down[slot] == now, "a child that is down gets no tasks"
            self.slots[slot] += 1
            assert slot.concurrent is None or self.slots[slot] <= slot.concurrent
            for lock in slot.locks:
                self.locks[lock] += 1
                assert self.locks[lock] <= self.world.locks.get(lock, 1)

    def leave_child(self, slot: Slot | None) -> None:
        if slot is not None:
            self.slots[slot] -= 1
            self.locks.subtract(slot.locks)


def idle_for_nobody(scheduler: Scheduler, now: float) -> list[str]:
    """The stages of requests that wait although a child and its locks are free and no earlier request
    could use these. Counted anew from what is held, in the order of the queue."""
    wronged: list[str] = []
    waiting: set[str] = set()
    #: What earlier requests could use: room of children, permits of locks.
    children: Counter[Slot] = Counter()
    locks: Counter[str] = Counter()
    for turn in scheduler._queue:
        first = turn.gate is None or (turn.stage not in waiting and turn.gate.is_open(now))
        slots = scheduler._slots.get(turn.stage, [])
        useful = [
            slot
            for slot in slots
            if slot.up and (slot.concurrent is None or slot.load + children[slot] < slot.concurrent)
        ]
        waiting.add(turn.stage)
        if not first:
            continue
        if not slots or any(
            all(
                scheduler._permits.get(lock, 1) - scheduler._locked[lock] > locks[lock] for lock in slot.locks
            )
            for slot in useful
        ):
            wronged.append(turn.stage)
        for slot in useful:
            children[slot] += 1
            locks.update(slot.locks)
    return wronged


async def simulate(world: World) -> Watch:
    """Run all jobs; nobody waits for what is free.

    A job that never gets its turn would stop virtual time for ever, which fails.
    """
    scheduler = Scheduler(world.limits, world.staggered, world.locks)
    watch = Watch(world)
    loop = asyncio.get_running_loop()
    with_children = {child.stage for child in world.children}
    for plan in world.children:
        slot = scheduler.add_child(plan.stage, plan.concurrent, plan.locks)
        scheduler.set_up(slot, True)
        if plan.down is not None:
            loop.call_at(plan.down[0], watch.take_down, scheduler, slot)
            loop.call_at(plan.down[1], scheduler.set_up, slot, True)

    async def job(index: int, one: Job) -> None:
        await asyncio.sleep(one.arrives)
        async with scheduler.hold(one.stage) if one.limited else scheduler.child(one.stage) as lease:
            slot = lease.slot
            assert (slot is not None) == (one.stage in with_children)
            watch.take(one, slot)
            try:
                await asyncio.sleep(one.works)
                watch.leave_child(slot)
                slot = None
                lease.release_child()
                await asyncio.sleep(one.tail)
            finally:
                watch.leave_child(slot)
                watch.stages[one.stage] -= one.limited
        watch.finished.add(index)

    async def look() -> None:
        # Between the whole seconds, at which everything happens.
        for moment in range(80):
            await asyncio.sleep(moment + 0.5 - loop.time())
            assert idle_for_nobody(scheduler, loop.time()) == []

    tasks = [asyncio.create_task(job(index, one)) for index, one in enumerate(world.jobs)]
    looks = asyncio.create_task(look())
    for task, one in zip(tasks, world.jobs, strict=True):
        if one.cancelled is not None:
            loop.call_at(one.cancelled, task.cancel)
    for task in tasks:
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()
    if looks.done():
        looks.result()
    looks.cancel()
    # Everything came back: nothing is held, and nothing waits.
    assert not any(watch.stages.values()) and not any(watch.slots.values())
    assert not any(scheduler._locked.values()) and not scheduler._queue
    return watch


@settings(max_examples=400, deadline=None)
@given(worlds | crowded)
def test_never_over_a_limit_nobody_starves_no_deadlock(world: World) -> None:
    watch = virtual_time.run(simulate(world))
    for index, one in enumerate(world.jobs):
        if one.cancelled is None:
            assert index in watch.finished


@settings(max_examples=200, deadline=None)
@given(worlds)
def test_an_endless_stream_of_later_requests_does_not_starve_an_early_one(world: World) -> None:
    """After each end a new request of the same kind comes: the first ones must get through all the same."""

    async def main() -> None:
        scheduler = Scheduler(world.limits, world.staggered, world.locks)
        for plan in world.children:
            scheduler.set_up(scheduler.add_child(plan.stage, plan.concurrent, plan.locks), True)
        served: set[int] = set()

        async def stream(index: int, one: Job) -> None:
            while True:
                async with scheduler.hold(one.stage):
                    await asyncio.sleep(1 + one.works)
                served.add(index)

        streams = [asyncio.create_task(stream(index, one)) for index, one in enumerate(world.jobs)]
        # At most all others go before it, each for at most ten seconds and an interval of five.
        await asyncio.sleep(2 * 15 * len(streams))
        for task in streams:
            task.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        assert served == set(range(len(streams)))

    virtual_time.run(main())


def up(scheduler: Scheduler, stage: str, concurrent: int | None = 1, locks: tuple[str, ...] = ()) -> Slot:
    slot = scheduler.add_child(stage, concurrent, locks)
    scheduler.set_up(slot, True)
    return slot


class Held:
    """Requests that were made and not given back, by name, in the order they were served."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.leases: dict[str, Lease] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def ask(self, name: str, stage: str) -> None:
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._hold(name, stage))
        await asyncio.sleep(0.001)

    async def _hold(self, name: str, stage: str) -> None:
        async with self.scheduler.hold(stage) as lease:
            self.leases[name] = lease
            await self._ends[name].wait()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await asyncio.sleep(0.001)

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


def test_a_task_takes_the_first_child_that_becomes_free() -> None:
    """Upstream waits for the first entry, whatever becomes free: an idle second GPU."""

    async def main() -> None:
        scheduler = Scheduler({}, {})
        first, second = up(scheduler, "pc2"), up(scheduler, "pc2")
        held = Held(scheduler)
        await held.ask("a", "pc2")
        await held.ask("b", "pc2")
        assert {held.leases["a"].slot, held.leases["b"].slot} == {first, second}
        await held.ask("c", "pc2")
        assert "c" not in held.leases
        on_second = "a" if held.leases["a"].slot is second else "b"
        await held.end(on_second)
        assert held.leases["c"].slot is second
        await held.close()

    virtual_time.run(main())


def test_the_least_loaded_child_is_chosen_and_of_equal_ones_the_last() -> None:
    async def main() -> None:
        scheduler = Scheduler({}, {})
        larger, smaller = up(scheduler, "pc1", 3), up(scheduler, "pc1", 2)
        held = Held(scheduler)
        for name in "abcde":
            await held.ask(name, "pc1")
        chosen = [held.leases[name].slot for name in "abcde"]
        assert chosen == [larger, smaller, larger, smaller, larger]
        await held.close()

    virtual_time.run(main())


def test_two_stages_take_turns_on_one_lock() -> None:
    """Upstream lets one stage starve the other."""

    async def main() -> None:
        scheduler = Scheduler({}, {}, {"gpu": 1})
        up(scheduler, "pc2", 1, ("gpu",))
        up(scheduler, "c2", 1, ("gpu",))
        held = Held(scheduler)
        for name, stage in (("p1", "pc2"), ("p2", "pc2"), ("c1", "c2"), ("p3", "pc2"), ("c2", "c2")):
            await held.ask(name, stage)
        for name in ("p1", "p2", "c1", "p3", "c2"):
            assert list(held.leases)[-1] == name
            await held.end(name)

    virtual_time.run(main())


def test_a_waiter_holds_nothing() -> None:
    """Upstream's waiter for a lock keeps the child's permit and the stage's place from others."""

    async def main() -> None:
        scheduler = Scheduler({"c2": 1}, {}, {"gpu": 1})
        up(scheduler, "pc2", 1, ("gpu",))
        up(scheduler, "c2", 1, ("gpu",))
        held = Held(scheduler)
        await held.ask("p", "pc2")
        await held.ask("c", "c2")
        assert "c" not in held.leases
        held.tasks["c"].cancel()
        await asyncio.sleep(0.001)
        await held.end("p")
        await held.ask("d", "c2")
        assert "d" in held.leases
        await held.close()

    virtual_time.run(main())


def test_a_full_stage_does_not_keep_a_gpu_from_others() -> None:
    async def main() -> None:
        scheduler = Scheduler({"pc2": 1}, {}, {"gpu1": 1, "gpu2": 1})
        up(scheduler, "pc2", 1, ("gpu1",))
        up(scheduler, "pc2", 1, ("gpu2",))
        up(scheduler, "c2", 1, ("gpu1",))
        held = Held(scheduler)
        await held.ask("p1", "pc2")
        assert held.leases["p1"].slot is not None
        assert held.leases["p1"].slot.locks == {"gpu2"}
        await held.ask("p2", "pc2")
        await held.ask("c", "c2")
        assert "p2" not in held.leases
        assert "c" in held.leases, "the stage limit keeps p2 from gpu1, so it is free"
        await held.close()

    virtual_time.run(main())


def test_a_full_child_keeps_no_free_permit_of_its_lock_from_others() -> None:
    async def main() -> None:
        scheduler = Scheduler({}, {}, {"gpu": 2})
        up(scheduler, "pc2", 1, ("gpu",))
        up(scheduler, "c2", 1, ("gpu",))
        held = Held(scheduler)
        for name, stage in (("p1", "pc2"), ("p2", "pc2"), ("c1", "c2")):
            await held.ask(name, stage)
        assert list(held.leases) == ["p1", "c1"]
        await held.ask("c2", "c2")
        await held.end("p1")
        assert list(held.leases) == ["p1", "c1", "p2"]
        await held.close()

    virtual_time.run(main())


def test_locks_are_taken_all_or_none_and_in_any_order_of_the_file() -> None:
    async def main() -> None:
        scheduler = Scheduler({}, {}, {"a": 1, "b": 1})
        up(scheduler, "pc2", 1, ("a", "b"))
        up(scheduler, "c2", 1, ("b", "a"))
        up(scheduler, "pc1", 1, ("a",))
        held = Held(scheduler)
        await held.ask("one", "pc1")
        await held.ask("both", "pc2")
        await held.ask("other", "c2")
        assert list(held.leases) == ["one"]
        await held.end("one")
        assert list(held.leases) == ["one", "both"]
        await held.end("both")
        assert list(held.leases) == ["one", "both", "other"]
        await held.close()

    virtual_time.run(main())


def test_the_child_is_free_before_the_place_in_the_stage() -> None:
    async def main() -> None:
        scheduler = Scheduler({"pc2": 1}, {}, {"gpu": 1})
        up(scheduler, "pc2", 1, ("gpu",))
        up(scheduler, "c2", 1, ("gpu",))
        held = Held(scheduler)
        await held.ask("p", "pc2")
        await held.ask("c", "c2")
        held.leases["p"].release_child()
        held.leases["p"].release_child()
        await asyncio.sleep(0.001)
        assert "c" in held.leases
        await held.ask("p2", "pc2")
        assert "p2" not in held.leases
        await held.close()

    virtual_time.run(main())


def test_children_that_are_down_are_waited_for_and_gone_ones_are_not() -> None:
    async def main() -> None:
        scheduler = Scheduler({}, {})
        first, second = scheduler.add_child("c2", 1, ()), scheduler.add_child("c2", 1, ())
        held = Held(scheduler)
        await held.ask("a", "c2")
        await held.ask("b", "c2")
        assert not held.leases
        scheduler.set_gone(first, "ext(pid: 1) exited with status 1")
        scheduler.set_up(second, True)
        await asyncio.sleep(0.001)
        assert list(held.leases) == ["a"]
        scheduler.set_gone(second, "ext(pid: 2) exited with status 1")
        await asyncio.wait({held.tasks["b"]})
        with pytest.raises(WorkerError, match=r"no processor of c2 is left: ext\(pid: 1\)"):
            held.tasks["b"].result()
        with pytest.raises(WorkerError, match="auto_restart = false"):
            async with scheduler.hold("c2"):
                raise AssertionError("got a child that is gone")
        await held.close()

    virtual_time.run(main())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"pc1": 0}, {}, {}), "limit of stage pc1 is 0"),
        (({}, {}, {"gpu": 0}), "lock gpu is 0"),
    ],
)
def test_zero_is_refused(
    arguments: tuple[dict[str, int], dict[str, float], dict[str, int]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Scheduler(*arguments)
    with pytest.raises(ValueError, match="concurrent of a pc1 child is 0"):
        Scheduler({}, {}).add_child("pc1", 0, ())

"""Stage limits, in virtual time."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from damocles_worker.processors.scheduler import Scheduler
from tests.unit import virtual_time


class Job(Struct, frozen=True):
    """A task that asks for a place at ``arrives`` and keeps it for ``works`` unless it is ``cancelled``."""

    arrives: int
    works: int
    cancelled: int | None = None


class Run(Struct):
    """What happened to the jobs of one stage: times by the index of the job."""

    asked: list[int]
    started: dict[int, float]
    ended: dict[int, float]
    waited: set[int]
    busiest: int


async def simulate(jobs: list[Job], places: int | None, interval: float) -> Run:
    """Run ``jobs`` through one stage; fails if a place is lost on the way."""
    concurrent = {} if places is None else {"pc1": places}
    limits = Scheduler(concurrent, {"pc1": interval} if interval else {})
    run = Run([], {}, {}, set(), 0)
    loop = asyncio.get_running_loop()

    async def job(index: int, one: Job) -> None:
        await asyncio.sleep(one.arrives)
        run.asked.append(index)
        async with limits.hold("pc1", lambda: run.waited.add(index)):
            run.started[index] = loop.time()
            run.busiest = max(run.busiest, len(run.started) - len(run.ended))
            try:
                await asyncio.sleep(one.works)
            finally:
                run.ended[index] = loop.time()

    tasks = [asyncio.create_task(job(index, one)) for index, one in enumerate(jobs)]
    for task, one in zip(tasks, jobs, strict=True):
        if one.cancelled is not None:
            loop.call_at(one.cancelled, task.cancel)
    await asyncio.gather(*tasks, return_exceptions=True)
    await check_nothing_lost(limits, places or 3)
    return run


async def check_nothing_lost(limits: Scheduler, places: int) -> None:
    """All places can be held at the same time again; a lost one would stop virtual time for ever."""
    held = asyncio.Barrier(places)

    async def hold() -> None:
        async with limits.hold("pc1"):
            await held.wait()

    await asyncio.gather(*(hold() for _ in range(places)))


jobs = st.builds(
    Job,
    arrives=st.integers(0, 20),
    works=st.integers(0, 12),
    cancelled=st.none() | st.none() | st.integers(0, 40),
)


@settings(max_examples=300, deadline=None)
@given(
    jobs=st.lists(jobs, min_size=1, max_size=12),
    places=st.none() | st.integers(1, 4),
    interval=st.sampled_from([0.0, 1.0, 5.0]),
)
def test_never_over_the_limit_in_order_and_nothing_lost(
    jobs: list[Job], places: int | None, interval: float
) -> None:
    run = virtual_time.run(simulate(jobs, places, interval))
    if places is not None:
        assert run.busiest <= places
    began = list(run.started)
    assert began == [index for index in run.asked if index in run.started], "first come, first served"
    for index, one in enumerate(jobs):
        if one.cancelled is None:
            assert index in run.ended, "everyone gets a turn"
    for earlier, later in itertools.pairwise(began):
        gap = run.started[later] - run.started[earlier]
        assert gap >= interval or run.ended[earlier] <= run.started[later]
    for index in run.started:
        if index not in run.waited:
            assert run.started[index] == jobs[index].arrives


def test_staggered_starts_are_an_interval_apart() -> None:
    jobs = [Job(0, 100), Job(0, 100), Job(3, 100)]
    run = virtual_time.run(simulate(jobs, None, 10.0))
    assert run.started == {0: 0.0, 1: 10.0, 2: 20.0}
    assert run.waited == {1, 2}


def test_interval_is_measured_from_a_start_not_from_a_clock() -> None:
    run = virtual_time.run(simulate([Job(0, 100), Job(17, 100), Job(18, 100)], None, 10.0))
    assert run.started == {0: 0.0, 1: 17.0, 2: 27.0}


def test_end_of_the_earlier_task_opens_the_gate() -> None:
    run = virtual_time.run(simulate([Job(0, 4), Job(0, 100), Job(0, 100)], None, 10.0))
    assert run.started == {0: 0.0, 1: 4.0, 2: 14.0}


def test_end_of_a_task_before_the_last_start_does_not() -> None:
    run = virtual_time.run(simulate([Job(0, 12), Job(0, 100), Job(0, 100)], None, 10.0))
    assert run.started == {0: 0.0, 1: 10.0, 2: 20.0}


def test_both_limits_together() -> None:
    run = virtual_time.run(simulate([Job(0, 30), Job(0, 30), Job(0, 30)], 2, 10.0))
    assert run.started == {0: 0.0, 1: 10.0, 2: 30.0}


def test_cancelled_head_of_the_queue_makes_way() -> None:
    run = virtual_time.run(simulate([Job(0, 50), Job(1, 5, cancelled=2), Job(1, 5)], 1, 0.0))
    assert run.started == {0: 0.0, 2: 50.0}


def test_stage_without_limit_never_waits() -> None:
    async def main() -> int:
        limits = Scheduler({"pc1": 1}, {})
        async with limits.hold("pc2"), limits.hold("pc2"), limits.hold("pc1"), limits.hold("c2"):
            return 1

    assert virtual_time.run(main()) == 1


def test_failing_body_gives_the_place_back() -> None:
    async def main() -> None:
        limits = Scheduler({"pc1": 1}, {})
        with pytest.raises(RuntimeError, match="stage"):
            async with limits.hold("pc1"):
                raise RuntimeError("stage")
        await check_nothing_lost(limits, 1)

    virtual_time.run(main())


def test_failing_callback_gives_the_turn_back() -> None:
    async def main() -> None:
        limits = Scheduler({"pc1": 1}, {})

        def fail() -> None:
            raise RuntimeError("display")

        async with limits.hold("pc1"):
            with pytest.raises(RuntimeError, match="display"):
                async with limits.hold("pc1", fail):
                    raise AssertionError("entered a full stage")
        await check_nothing_lost(limits, 1)

    virtual_time.run(main())


def test_cancel_in_the_moment_the_place_is_given() -> None:
    async def main() -> None:
        limits = Scheduler({"pc1": 1}, {})
        entered: list[str] = []

        async def wait() -> None:
            async with limits.hold("pc1"):
                entered.append("waiter")

        async with limits.hold("pc1"):
            waiter = asyncio.create_task(wait())
            await asyncio.sleep(1)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert entered == []
        await check_nothing_lost(limits, 1)

    virtual_time.run(main())


def test_limit_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="limit of stage pc1 is 0"):
        Scheduler({"pc1": 0}, {})

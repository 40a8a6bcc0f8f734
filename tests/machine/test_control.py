"""Pause, drain and changed settings on the pure machine, whatever the plan."""

from __future__ import annotations

import pytest

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import OnChainState, PollResp
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    AwaitResume,
    CallManager,
    Drain,
    Failed,
    Failure,
    Pause,
    Resume,
    RunStage,
    SettingsChanged,
    Sleep,
)
from damocles_worker.sealing.machine.step import check_resume, start, step_before
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import World

ALLOCATE = {
    "sealer": "allocate_sector",
    "snapup": "allocate_snap_up_sector",
    "rebuild": "allocate_rebuild_sector",
    "unseal": "allocate_unseal_sector",
    "wdpost": "wdpost_allocate_jobs",
}


def idle(plan: str) -> World:
    """A thread that was told there is nothing to do."""
    world = World(plan=PLANS[plan], scripted={ALLOCATE[plan]: [None]})
    world.boot()
    while not isinstance(world.waiting_on, Sleep):
        world.send(world.answer())
    return world


def test_every_plan_allocates() -> None:
    assert ALLOCATE.keys() == PLANS.keys()


@pytest.mark.parametrize("plan", PLANS)
def test_an_idle_thread_ends_its_run_when_its_settings_change(plan: str) -> None:
    world = idle(plan)
    world.send(SettingsChanged())
    assert world.ended == "changed" and not world.saves and world.wiped == 0


@pytest.mark.parametrize("plan", sorted(PLANS.keys() - {"wdpost"}))
def test_a_thread_without_space_for_a_sector_heeds_changed_settings(plan: str) -> None:
    no_space = Failure(Level.PERMANENT, "the disk is full", "Free space", waits_for="space")
    world = World(plan=PLANS[plan], scripted={"reserve_space": [Failed(no_space)]})
    world.boot()
    world.send(world.answer())
    world.send(SettingsChanged())
    assert world.ended == "changed" and not world.saves


def test_changed_settings_never_drop_an_allocated_sector() -> None:
    world = World(policy=Sealing(enable_deals=True, disable_cc=True), scripted={"acquire_deals": [[]]})
    world.boot()
    while not world.slept:
        world.send(world.answer())
    world.send(SettingsChanged())
    assert world.ended == "changed" and world.journal is not None and world.wiped == 0
    world.boot()
    world.run()
    assert world.ended == "finished"


@pytest.mark.parametrize("plan", PLANS)
def test_changed_settings_leave_work_alone(plan: str) -> None:
    world = World(plan=PLANS[plan])
    world.boot()
    for _ in range(200):
        if world.ended:
            break
        # Who waits for a place before it asks for a job has no work yet.
        assert world.machine is not None
        waits = isinstance(world.waiting_on, AcquireLimit) and not world.machine.task.assigned
        if not isinstance(world.waiting_on, Sleep) and not waits:
            world.send(SettingsChanged())
            assert not world.ended
        world.send(world.answer())
    assert world.ended == "finished"


@pytest.mark.parametrize("plan", PLANS)
def test_a_drain_ends_an_idle_thread_at_once(plan: str) -> None:
    world = idle(plan)
    world.send(Drain())
    assert world.ended == "drained"


@pytest.mark.parametrize("plan", PLANS)
def test_a_drain_finishes_what_is_assigned_and_takes_nothing_new(plan: str) -> None:
    world = World(plan=PLANS[plan])
    world.boot()
    while world.machine is not None and not world.machine.task.assigned:
        world.send(world.answer())
    world.send(Drain())
    world.run()
    assert world.ended == "finished"
    world.draining = True
    calls = len(world.calls)
    world.boot()
    assert world.ended == "drained" and len(world.calls) == calls


@pytest.mark.parametrize("plan", PLANS)
def test_an_allocation_under_way_is_waited_for(plan: str) -> None:
    """What the manager hands out in this moment must not be lost."""
    world = World(plan=PLANS[plan])
    world.boot()
    while not isinstance(world.waiting_on, CallManager):
        world.send(world.answer())
    world.send(Drain())
    assert world.ended is None
    world.run()
    assert [world.ended] == ["finished"]
    empty = World(plan=PLANS[plan], scripted={ALLOCATE[plan]: [None]})
    empty.boot()
    while not isinstance(empty.waiting_on, CallManager):
        empty.send(empty.answer())
    empty.send(Drain())
    empty.run()
    assert empty.ended == "drained"


def test_a_drain_of_a_paused_task_waits_for_its_resume() -> None:
    world = World()
    world.boot()
    while world.journal is None:
        world.send(world.answer())
    world.send(Pause())
    if not isinstance(world.waiting_on, AwaitResume):
        world.send(world.answer())
    world.send(Drain())
    assert isinstance(world.waiting_on, AwaitResume)
    world.send(Resume())
    world.run()
    assert world.ended == "finished"


@pytest.mark.parametrize(
    ("plan", "stage"),
    [
        ("sealer", "add_pieces"),
        ("sealer", "tree_d"),
        ("snapup", "fetch_replica"),
        ("snapup", "persist"),
        ("unseal", "unseal"),
        ("unseal", "upload"),
    ],
)
def test_a_pause_cuts_what_is_no_proof_and_a_resume_repeats_it(plan: str, stage: str) -> None:
    world = World(plan=PLANS[plan])
    world.boot()
    while not (isinstance(world.waiting_on, RunStage) and world.waiting_on.stage == stage):
        world.send(world.answer())
    before = world.stages.count(stage)
    world.send(Pause())
    assert isinstance(world.waiting_on, AwaitResume) and world.held == 0
    world.send(Resume())
    world.run()
    assert world.ended == "finished" and world.stages.count(stage) > before


@pytest.mark.parametrize("plan", PLANS)
def test_resume_can_not_end_a_task_whose_work_is_not_done(plan: str) -> None:
    """Finished removes the data; Generated without an outcome tells the manager of an empty success."""
    broken = Failed(Failure(Level.PERMANENT, "it is broken", "mend it"))
    world = World(plan=PLANS[plan])
    world.boot()
    while world.machine is not None and not world.machine.task.assigned:
        world.send(world.answer())
    if plan == "wdpost":
        world.send(Failed(Failure(Level.TEMPORARY, "the child has died", "it is tried again")))
        world.send(Pause())
    else:
        world.send(broken)
    assert isinstance(world.waiting_on, AwaitResume) and world.machine is not None
    for state in ("Finished", "Generated", "Persisted", "ProofSubmitted"):
        refused = check_resume(world.machine, state)
        assert refused is not None and state in refused, state
        world.send(Resume(state))
        assert isinstance(world.waiting_on, AwaitResume) and world.wiped == 0


@pytest.mark.parametrize(
    ("plan", "method"), [("snapup", "submit_snap_up_proof"), ("rebuild", "submit_persisted_ex")]
)
def test_resume_can_not_end_a_task_before_the_manager_has_everything(plan: str, method: str) -> None:
    """The proof would be gone with the data, and the deals stay reserved."""
    refused = Failed(Failure(Level.PERMANENT, "the manager refuses", "look"))
    world = World(plan=PLANS[plan], scripted={method: [refused]})
    world.boot()
    world.run()
    assert world.machine is not None and world.machine.task.state == "Persisted"
    assert check_resume(world.machine, "Finished") is not None
    assert check_resume(world.machine, "Persisted") is None


def test_a_sector_whose_proof_was_submitted_can_be_finished_by_hand() -> None:
    """The chain has the proof, and the manager does not find its message any more."""
    lost = PollResp(OnChainState.NOT_FOUND)
    world = World(plan=PLANS["sealer"], scripted={"poll_proof_state": [lost]})
    world.boot()
    world.run()
    world.send(Resume("Finished"))
    world.run()
    assert world.ended == "finished"


def test_a_task_that_waits_to_be_finished_can_be_finished() -> None:
    refused = Failed(Failure(Level.PERMANENT, "the manager refuses", "look"))
    for plan in ("sealer", "snapup", "rebuild", "unseal"):
        world = World(plan=PLANS[plan], scripted={"report_finalized": [refused]})
        world.boot()
        world.run()
        assert isinstance(world.waiting_on, AwaitResume)
        assert not world.notified, "nobody is told that what is done has failed"
        world.send(Resume("Finished"))
        world.run()
        assert world.ended == "finished", plan


AWAY = Failure(Level.TEMPORARY, "the manager can't be reached", "Start it", waits_for="the manager")
OLD = Failure(Level.TEMPORARY, "does not serve this method", "Update it", method_missing=True)
GARBLED = Failure(Level.TEMPORARY, "sent a result that can't be read: '{xx'", "Look", unreadable=True)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("failure", [AWAY, OLD, GARBLED])
def test_why_an_idle_thread_gets_no_work_is_shown_until_there_is_an_answer(
    plan: str, failure: Failure
) -> None:
    world = World(plan=PLANS[plan], scripted={ALLOCATE[plan]: [Failed(failure), Failed(failure), None]})
    world.boot()
    while len(world.slept) < 2:
        world.send(world.answer())
    assert world.machine is not None and world.machine.failure is not None
    assert world.machine.failure.cause == failure.cause
    assert ("queue it again at the manager" in world.machine.failure.next_step) == failure.unreadable
    while len(world.slept) < 3:
        world.send(world.answer())
    assert world.machine.failure is None


@pytest.mark.parametrize("plan", PLANS)
def test_why_there_was_no_work_stays_shown_in_the_next_run(plan: str) -> None:
    machine, _ = start(PLANS[plan], Task(plan), World().context(), failure=AWAY)
    assert machine.failure == AWAY


def test_a_pause_before_a_proof_is_begun_has_no_proof_to_wait_for() -> None:
    world = World()
    world.boot()
    while not (isinstance(world.waiting_on, RunStage) and world.waiting_on.stage == "pc1"):
        world.send(world.answer())
    assert world.machine is not None
    paused, todo = step_before(world.machine, Pause(), world.context())
    assert paused.activity == "paused" and isinstance(todo[-1], AwaitResume)
    unchanged, todo = step_before(world.machine, Drain(), world.context())
    assert todo == [] and unchanged.move == world.machine.move


@pytest.mark.parametrize("plan", PLANS)
def test_a_drain_before_an_allocation_is_begun_takes_nothing(plan: str) -> None:
    world = World(plan=PLANS[plan])
    world.boot()
    while not isinstance(world.waiting_on, CallManager):
        world.send(world.answer())
    assert world.machine is not None
    drained, _ = step_before(world.machine, Drain(), world.context())
    assert drained.activity == "ended"


@pytest.mark.parametrize("plan", PLANS)
def test_a_pause_during_an_allocation_that_fails_acts_when_it_has_failed(plan: str) -> None:
    world = World(plan=PLANS[plan], policy=Sealing(request_task_max_retries=0))
    world.boot()
    while not isinstance(world.waiting_on, CallManager):
        world.send(world.answer())
    world.send(Pause())
    world.send(Failed(AWAY))
    assert isinstance(world.waiting_on, AwaitResume) and world.machine is not None
    assert world.machine.failure is not None and world.machine.failure.cause == AWAY.cause

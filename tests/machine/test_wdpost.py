"""The wdpost plan on the pure machine."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import WdPoStAllocatedJob, WindowPoStOutput
from damocles_worker.sealing.machine.events import (
    AcquireLimit,
    Answered,
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
from damocles_worker.sealing.plans import PLANS
from damocles_worker.sealing.plans.wdpost import PATIENCE
from tests.machine.world import JOB, World

NOT_SERVED = Failed(Failure(Level.TEMPORARY, "does not serve this method", "update it", method_missing=True))
REFUSED = Failed(Failure(Level.TEMPORARY, "code 1: key not found", "look"))


def post(policy: Sealing | None = None, **scripted: list[Any]) -> World:
    world = World(plan=PLANS["wdpost"], policy=policy or Sealing(), scripted=scripted)
    world.boot()
    world.run()
    return world


def test_a_job_is_proved_and_handed_in() -> None:
    world = post(Sealing(allowed_miners=(1000,), allowed_sizes=(2048,)))
    assert world.ended == "finished" and world.held == 0 and not world.reports
    asked, finished = world.calls
    assert asked.args[0].allowed_proof_types == [
        "StackedDrgWinning2KiBV1", "StackedDrgWindow2KiBV1", "StackedDrgWindow2KiBV1_2",
    ]  # fmt: skip
    assert asked.args[1:] == (1, "w1")
    assert finished.args == ("job1", WindowPoStOutput(["cHJvb2Y="], []), "")


def test_a_proof_that_can_not_be_made_is_handed_in_as_an_error() -> None:
    world = post(window_post=[None, (None, "permanent: store s2 is not attached here")])
    assert world.ended == "finished" and world.calls[-1].args == (
        "job1", None, "permanent: store s2 is not attached here",
    )  # fmt: skip


def test_a_manager_without_jobs_or_without_the_prover_is_asked_again() -> None:
    world = post(wdpost_allocate_jobs=[[], NOT_SERVED])
    assert world.ended == "finished" and [sleep.kind for sleep in world.slept] == ["idle", "idle"]


def test_a_job_that_can_not_be_handed_in_is_dropped_and_the_thread_goes_on() -> None:
    world = post(Sealing(max_retries=2), wdpost_finish_job=[REFUSED] * 3)
    assert world.ended == "dropped" and len(world.slept) == 2
    assert "key not found" in world.saves[-1].detail


def test_a_pause_waits_for_the_proof_and_a_resume_hands_it_in() -> None:
    world = World(plan=PLANS["wdpost"])
    world.boot()
    while not isinstance(world.waiting_on, RunStage):
        world.send(world.answer())
    world.send(Pause())
    assert isinstance(world.waiting_on, RunStage)
    world.send(world.answer())
    world.send(Resume())
    world.run()
    assert world.ended == "finished" and world.stages == ["window_post"]


NO_PROCESSOR = Failed(Failure(Level.PERMANENT, "no processor of window_post is left", "restart the worker"))
DIED = Failed(Failure(Level.TEMPORARY, "the child has died", "it is tried again"))
NO_PLACE = Failed(Failure(Level.PERMANENT, "no processor of window_post had a place within 60 s", "look"))


def test_no_job_is_taken_before_there_is_a_place_to_work_on_it() -> None:
    """Heartbeats kept it from every other worker for as long as all processors were busy or down."""
    world = World(plan=PLANS["wdpost"])
    world.boot()
    assert world.waiting_on == AcquireLimit("window_post") and not world.calls
    world.send(Answered())
    assert isinstance(world.waiting_on, CallManager)
    world.send(world.answer())
    # The place was kept for the job.
    assert isinstance(world.waiting_on, RunStage) and world.held == 1
    world.run()
    assert world.ended == "finished" and world.held == 0


def test_a_thread_without_a_job_holds_no_place() -> None:
    world = World(plan=PLANS["wdpost"], scripted={"wdpost_allocate_jobs": [[]]})
    world.boot()
    while not isinstance(world.waiting_on, Sleep):
        world.send(world.answer())
    assert world.held == 0
    world.run()
    assert world.ended == "finished"


def test_a_thread_that_waits_for_a_place_heeds_the_operator_and_changed_settings() -> None:
    for event, outcome in ((SettingsChanged(), "changed"), (Drain(), "drained")):
        world = World(plan=PLANS["wdpost"])
        world.boot()
        world.send(event)
        assert world.ended == outcome and world.held == 0


def test_a_job_that_lost_its_place_is_told_to_the_manager_after_a_while() -> None:
    """It was held by heartbeats for ever while its child could not be started again."""
    world = post(window_post=[None, DIED, NO_PLACE])
    assert [(told.method, told.args) for told in world.notified] == [
        ("wdpost_finish_job", ("job1", None, NO_PLACE.failure.text))
    ]
    assert world.ended == "dropped" and world.held == 0
    world = World(plan=PLANS["wdpost"], scripted={"window_post": [None, DIED]})
    world.boot()
    while not world.slept:
        world.send(world.answer())
    world.send(world.answer())
    assert isinstance(world.waiting_on, AcquireLimit) and world.waiting_on.patience == PATIENCE


def test_without_any_processor_left_no_job_is_taken() -> None:
    world = post(window_post=[NO_PROCESSOR])
    assert isinstance(world.waiting_on, AwaitResume) and not world.calls and not world.notified
    assert world.machine is not None and world.machine.failure == NO_PROCESSOR.failure


def test_a_job_whose_proof_breaks_is_told_and_the_thread_takes_the_next() -> None:
    broken = Failed(Failure(Level.PERMANENT, "unexpected ValueError", "report it"))
    world = post(window_post=[None, broken])
    assert world.ended == "dropped"
    assert world.notified[0].args == ("job1", None, broken.failure.text)


def paused(state: str, **scripted: list[Any]) -> World:
    """A job whose thread was paused in ``state`` between two tries, and resumed."""
    world = World(plan=PLANS["wdpost"], scripted=scripted)
    world.boot()
    while not world.slept:
        world.send(world.answer())
    assert world.machine is not None and world.machine.task.state == state
    world.send(Pause())
    world.send(Resume())
    world.run()
    return world


def test_after_a_pause_no_stale_error_replaces_the_proof_of_another_worker() -> None:
    """Without heartbeats the manager had given the job to another worker, which had done it."""
    world = paused("Generated", window_post=[None, (None, "store s2 is gone")], wdpost_finish_job=[REFUSED])
    assert world.ended == "dropped" and len(world.calls) == 2 and not world.notified
    assert "store s2 is gone" in world.saves[-1].detail and "another worker" in world.saves[-1].detail


def test_an_error_after_a_pause_is_not_told_but_a_proof_is_handed_in() -> None:
    for failed in ((None, "store s2 is gone"), NO_PROCESSOR):
        world = paused("Allocated", window_post=[None, DIED, None, failed])
        assert world.ended == "dropped" and len(world.calls) == 1 and not world.notified
    world = paused("Allocated", window_post=[None, DIED])
    assert world.ended == "finished"
    assert world.calls[-1].args == ("job1", WindowPoStOutput(["cHJvb2Y="], []), "")


def test_a_proof_that_could_not_be_handed_in_is_never_called_an_error() -> None:
    world = post(Sealing(max_retries=0), wdpost_finish_job=[REFUSED])
    assert world.ended == "dropped"
    assert world.notified[0].args == ("job1", WindowPoStOutput(["cHJvb2Y="], []), "")


def of_sectors(count: int) -> WdPoStAllocatedJob:
    job = JOB.input
    assert job.sectors
    return replace(JOB, input=replace(job, sectors=job.sectors * count))


def test_the_history_says_how_many_and_which_sectors_of_a_window_are_faulty() -> None:
    faulty = WindowPoStOutput([], [9, 7])
    world = post(wdpost_allocate_jobs=[[of_sectors(5)]], window_post=[None, (faulty, "")])
    (saved,) = [save for save in world.saves if save.event == "Generate"]
    assert saved.detail.startswith("2 of 5 sectors faulty (s-t01000-7, s-t01000-9): ") and saved.warning
    assert "Restore the files" in saved.detail and "rebuild the sectors" in saved.detail
    # What the manager is told stays as the library says it.
    assert world.calls[-1].args == ("job1", faulty, "")


def test_many_faulty_sectors_are_shortened_in_the_history() -> None:
    faulty = WindowPoStOutput([], list(range(2349)))
    world = post(wdpost_allocate_jobs=[[of_sectors(2349)]], window_post=[None, (faulty, "")])
    (saved,) = [save for save in world.saves if save.event == "Generate"]
    assert "2349 of 2349 sectors faulty (s-t01000-0, " in saved.detail
    assert "s-t01000-9 and 2339 more)" in saved.detail and len(saved.detail) < 400


def test_a_proof_without_faults_has_nothing_to_say_in_the_history() -> None:
    assert [(save.detail, save.warning) for save in post().saves if save.event == "Generate"] == [("", False)]

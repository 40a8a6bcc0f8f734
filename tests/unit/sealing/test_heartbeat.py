"""What a stopping worker tells the manager of its WindowPoSt job."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from damocles_worker.manager.client import ManagerClient
from damocles_worker.manager.types import WindowPoStOutput
from damocles_worker.sealing.heartbeat import hand_back
from damocles_worker.sealing.machine.step import Machine
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import JOB

PROOF = WindowPoStOutput(["cHJvb2Y="], [])


class Manager:
    """Notes the jobs that are handed in."""

    def __init__(self) -> None:
        self.finished: list[tuple[Any, ...]] = []

    async def wdpost_finish_job(self, *args: Any) -> None:
        self.finished.append(args)


def stopped(activity: str = "busy", **known: Any) -> list[tuple[Any, ...]]:
    """What the manager hears when a worker with this job is stopped."""
    manager = Manager()
    task = Task("wdpost", job=JOB, **known)
    machine = Machine(PLANS["wdpost"], task, activity=activity)
    asyncio.run(hand_back(cast(ManagerClient, manager), machine))
    return manager.finished


def test_a_job_without_an_outcome_is_handed_back() -> None:
    assert stopped(state="Allocated") == [("job1", None, "the worker was stopped")]


def test_a_computed_proof_is_not_replaced_by_an_error() -> None:
    assert stopped(state="Generated", window_proof=PROOF) == [("job1", PROOF, "")]


def test_a_known_reason_is_not_replaced_by_the_stop() -> None:
    assert stopped(state="Generated", job_error="store s2 is gone") == [("job1", None, "store s2 is gone")]


def test_a_proof_of_a_paused_thread_is_handed_in_when_the_worker_stops() -> None:
    """The documented pause before a stop threw the proof away, and the window was missed."""
    assert stopped("paused", state="Generated", window_proof=PROOF) == [("job1", PROOF, "")]
    assert stopped("paused", state="Generated", job_error="store s2 is gone") == []


@pytest.mark.parametrize("activity", ["paused", "ended"])
def test_a_job_that_another_worker_may_have_finished_is_left_alone(activity: str) -> None:
    assert stopped(activity, state="Allocated") == []
    assert stopped("ended", state="Generated", window_proof=PROOF) == []


def test_a_job_that_was_not_held_for_a_while_is_handed_in_with_a_proof_only() -> None:
    assert stopped(state="Allocated", job_let_go=True) == []
    assert stopped(state="Generated", job_error="store s2 is gone", job_let_go=True) == []
    assert stopped(state="Generated", window_proof=PROOF, job_let_go=True) == [("job1", PROOF, "")]

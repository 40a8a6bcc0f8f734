"""Random lives of a sector: any answer, failure, operator command or crash at any moment.

Whatever happens, the invariants hold: nothing is reported or submitted before it is durable, an
unverified proof never leaves, no limit leaks, and a sector always ends or can be taken further.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import PollResp, StoreBasicInfo, SubmitResp, WaitSeedResp
from damocles_worker.sealing.machine.events import (
    Answered,
    AwaitResume,
    CallManager,
    Drain,
    Dropped,
    Failed,
    Failure,
    Pause,
    Report,
    Resume,
    RunStage,
    SectorKnown,
    SectorUnknown,
    SettingsChanged,
)
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import SYNTHETIC_2KIB, V1_1_2KIB, World, record, unsealed

STATES = sorted({state for plan in PLANS.values() for state in plan.states})

FAILURES = st.builds(
    Failure,
    level=st.sampled_from(list(Level)),
    cause=st.just("it went wrong"),
    next_step=st.just("mend it"),
    waits_for=st.none() | st.just("space"),
    sector_unknown=st.booleans(),
)
POLICIES = st.builds(
    Sealing,
    enable_deals=st.booleans(),
    disable_cc=st.booleans(),
    max_retries=st.integers(0, 3),
    ignore_proof_check=st.booleans(),
    ticket_max_age=st.sampled_from([1.0, 1e9]),
)
SUBMITTED = st.builds(SubmitResp, res=st.integers(0, 7))
POLLED = st.builds(PollResp, state=st.integers(0, 9))
STRANGE: dict[str, st.SearchStrategy[Any]] = {
    "allocate_sector": st.none(),
    "acquire_deals": st.just([]) | st.none(),
    "submit_pre_commit": SUBMITTED,
    "submit_proof": SUBMITTED,
    "poll_pre_commit_state": POLLED,
    "poll_proof_state": POLLED,
    "store_reserve_space": st.none() | st.just(StoreBasicInfo("elsewhere")),
    "submit_persisted_ex": st.just(False),
    "wait_seed": st.builds(WaitSeedResp, should_wait=st.booleans(), delay=st.integers(0, 100)),
    "verify_proof": st.just(False),
    "c2": st.none(),
    "allocate_snap_up_sector": st.none(),
    "allocate_rebuild_sector": st.none(),
    "allocate_unseal_sector": st.sampled_from([None, unsealed(offset=5000), unsealed(size=0)]),
    "store_basic_info": st.none(),
    "submit_snap_up_proof": SUBMITTED,
    "find_sector": st.sampled_from([None, record(), record(upgraded=True)]),
    "acquire_unseal_dest": st.sampled_from([None, [], ["file:///elsewhere"]]),
    "verify_snap": st.just(False),
    "wdpost_allocate_jobs": st.just([]),
    "window_post": st.just((None, "a store is missing")),
}


class SectorLife(RuleBasedStateMachine):
    """One thread and everything that can happen to it."""

    plan = "sealer"

    def __init__(self) -> None:
        super().__init__()
        self.world = World(plan=PLANS[self.plan])
        self.verified: str | None = None
        self.restart()

    def restart(self) -> None:
        self.world.boot()

    @rule(
        policy=POLICIES,
        proof_type=st.sampled_from([V1_1_2KIB, SYNTHETIC_2KIB]),
        upgraded=st.booleans(),
        draining=st.booleans(),
    )
    def crash_and_start_again(self, policy: Sealing, proof_type: int, upgraded: bool, draining: bool) -> None:
        """kill -9: only the journal survives, of a WindowPoSt job nothing; settings may have changed."""
        self.world.policy, self.world.proof_type = policy, proof_type
        self.world.upgraded, self.world.draining = upgraded, draining
        if self.plan == "wdpost":
            self.world.journal = None
        self.restart()

    @rule()
    @precondition(lambda self: self.world.ended)
    def next_run(self) -> None:
        self.restart()

    def is_open(self) -> bool:
        return not self.world.ended and not isinstance(self.world.waiting_on, AwaitResume)

    @rule(steps=st.integers(1, 12))
    @precondition(is_open)
    def all_goes_well(self, steps: int) -> None:
        for _ in range(steps):
            if not self.is_open() or isinstance(self.world.waiting_on, Report):
                return
            self.answered(self.world.answer())

    @rule(data=st.data())
    @precondition(is_open)
    def a_strange_answer(self, data: st.DataObject) -> None:
        waiting = self.world.waiting_on
        key = getattr(waiting, "method", None) or getattr(waiting, "stage", "")
        if isinstance(waiting, CallManager | RunStage) and key in STRANGE:
            self.answered(Answered(data.draw(STRANGE[key])))

    @rule(failure=FAILURES)
    @precondition(is_open)
    def a_failure(self, failure: Failure) -> None:
        self.world.send(Failed(failure))

    @rule(
        event=st.sampled_from(
            [Dropped("by the manager"), SectorUnknown(), SectorKnown(), Pause(), Drain(), SettingsChanged()]
        )
    )
    @precondition(lambda self: not self.world.ended)
    def something_else(self, event: Any) -> None:
        self.world.send(event)

    @rule(state=st.none() | st.sampled_from(STATES) | st.just("Nonsense"))
    @precondition(lambda self: not self.world.ended)
    def resumed(self, state: str | None) -> None:
        self.world.send(Resume(state))

    def answered(self, event: Any) -> None:
        waiting = self.world.waiting_on
        if isinstance(waiting, RunStage) and event == Answered(True):
            if waiting.stage == "verify_proof":
                self.verified = waiting.task.proof
            if waiting.stage == "verify_snap":
                self.verified = waiting.task.snap_proof
        self.world.send(event)

    @invariant()
    def what_the_machine_holds_is_what_the_journal_holds(self) -> None:
        machine = self.world.machine
        assert machine is not None
        if self.world.journal is not None:
            assert self.world.journal.state == machine.task.state
            assert self.world.journal.sector == machine.task.sector
            assert self.world.journal.proof == machine.task.proof or machine.activity == "paused"
            assert self.world.journal.snap_proof == machine.task.snap_proof or machine.activity == "paused"
        else:
            assert not machine.task.assigned

    @invariant()
    def pc1_never_runs_without_a_journaled_ticket(self) -> None:
        waiting = self.world.todo[-1]
        if isinstance(waiting, RunStage) and waiting.stage == "pc1":
            assert (
                self.world.journal is not None
                and self.world.journal.ticket == waiting.task.ticket is not None
            )

    @invariant()
    def an_unverified_proof_never_leaves(self) -> None:
        waiting = self.world.todo[-1]
        if isinstance(waiting, CallManager) and waiting.method == "submit_proof":
            assert self.world.policy.ignore_proof_check or self.verified == waiting.args[1].proof

    @invariant()
    def an_unverified_update_is_never_stored(self) -> None:
        waiting = self.world.todo[-1]
        if isinstance(waiting, RunStage) and waiting.stage == "persist" and waiting.args["update"]:
            assert self.verified == waiting.task.snap_proof is not None

    @invariant()
    def a_live_sector_is_never_aborted(self) -> None:
        waiting = self.world.todo[-1]
        if isinstance(waiting, CallManager) and waiting.method == "report_aborted":
            assert not self.world.plan.live

    @invariant()
    def what_is_finished_was_made(self) -> None:
        machine, waiting = self.world.machine, self.world.todo[-1]
        assert machine is not None
        if isinstance(waiting, CallManager) and waiting.method == "wdpost_finish_job":
            assert waiting.args[1] or waiting.args[2]
        if machine.task.state == "Finished" and self.plan in ("sealer", "snapup", "rebuild"):
            assert machine.task.persist_instance

    @invariant()
    def a_draining_thread_takes_nothing_new(self) -> None:
        machine, waiting = self.world.machine, self.world.todo[-1]
        assert machine is not None
        if machine.draining and not machine.task.assigned and not self.world.ended:
            # Only what was under way when the drain began, and can't be taken back.
            assert isinstance(waiting, CallManager) and "allocate" in waiting.method

    @invariant()
    def a_failure_that_stops_the_thread_says_what_to_do(self) -> None:
        machine = self.world.machine
        if machine is not None and machine.failure is not None:
            assert machine.failure.cause and machine.failure.next_step

    @invariant()
    def limits_are_held_only_while_working(self) -> None:
        assert self.world.held in (0, 1)
        if self.world.ended or isinstance(self.world.waiting_on, AwaitResume):
            assert self.world.held == 0

    @invariant()
    def data_are_wiped_only_with_the_record(self) -> None:
        if self.world.wiped:
            forgotten = sum(save.task is None for save in self.world.saves)
            assert forgotten == self.world.wiped

    @invariant()
    def submissions_carry_only_what_is_durable(self) -> None:
        waiting = self.world.todo[-1]
        if isinstance(waiting, CallManager) and waiting.method == "submit_pre_commit":
            assert self.world.journal is not None and self.world.journal.pc2out is not None
            assert waiting.args[1].comm_r == self.world.journal.pc2out.comm_r

    def teardown(self) -> None:
        """From wherever it got to, an undisturbed sector can still reach its end."""
        world = self.world
        world.policy, world.draining = Sealing(), False
        world.boot()
        world.scripted.clear()
        world.run()
        assert world.ended in ("finished", "aborted") or isinstance(world.waiting_on, AwaitResume)


@pytest.mark.parametrize("plan_name", sorted(PLANS))
def test_random_lives(plan_name: str) -> None:
    """A thousand lives of the sealer, and as many of the other plans together.

    The same lives in every run, other ones with ``RANDOM_LIVES=1`` (``make test-slow``): what chance
    finds is for whoever looks for it, not for whoever changed something else.
    """

    class Life(SectorLife):
        plan = plan_name

    count = 1000 if plan_name == "sealer" else 250
    life = settings(
        max_examples=count,
        stateful_step_count=40,
        deadline=None,
        derandomize="RANDOM_LIVES" not in os.environ,
    )
    run_state_machine_as_test(Life, settings=life)

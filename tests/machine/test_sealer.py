"""The sealer plan on the pure machine: every path a sector can take, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import (
    AllocatedSector,
    OnChainState,
    PollResp,
    Res,
    StoreBasicInfo,
    SubmitResp,
    WaitSeedResp,
)
from damocles_worker.sealing.machine.events import (
    AwaitResume,
    Dropped,
    Failed,
    Failure,
    Pause,
    Report,
    Resume,
    RunStage,
    Save,
    SectorKnown,
    SectorUnknown,
    Sleep,
)
from damocles_worker.sealing.machine.step import check_resume
from damocles_worker.sealing.machine.task import DamagedLayer, Task
from tests.machine.world import SECTOR, SYNTHETIC_2KIB, V1_1_2KIB, World

TEMPORARY = Failed(Failure(Level.TEMPORARY, "the answer is garbage", "look"))
PERMANENT = Failed(Failure(Level.PERMANENT, "it is broken", "mend it"))
UNKNOWN = Failed(Failure(Level.ABORT, "not found", "look", sector_unknown=True))


def blocked(what: str) -> Failed:
    return Failed(Failure(Level.TEMPORARY, f"no {what}", "wait", waits_for=what))


def sealed(world: World) -> World:
    world.boot()
    world.run()
    return world


def test_a_sector_without_deals_goes_through_every_state() -> None:
    world = sealed(World())
    assert world.ended == "finished" and world.journal is None and world.wiped == 1 and world.held == 0
    assert [save.event for save in world.saves] == [
        "Allocate", "AcquireDeals", "AddPiece", "BuildTreeD", "AssignTicket", "AssignTicket", "PC1", "PC2",
        "SubmitPC", "CheckPC", "Persist", "SubmitPersistance", "AssignSeed", "C1", "C2", "SubmitProof",
        "Finish", "Finish",
    ]  # fmt: skip
    assert [(report.prev, report.next) for report in world.reports][:2] == [
        ("Empty", "Allocated"),
        ("Allocated", "DealsAcquired"),
    ]
    assert (world.reports[-1].prev, world.reports[-1].next) == ("ProofSubmitted", "Finished")
    assert [call.method for call in world.calls] == [
        "allocate_sector", "assign_ticket", "submit_pre_commit", "poll_pre_commit_state",
        "store_reserve_space", "submit_persisted_ex", "wait_seed", "submit_proof", "poll_proof_state",
        "report_finalized",
    ]  # fmt: skip


def test_deals_are_asked_for_with_the_configured_limits() -> None:
    world = sealed(World(policy=Sealing(enable_deals=True, max_deals=3, min_deal_space=1024)))
    asked = next(call for call in world.calls if call.method == "acquire_deals")
    assert asked.args[0] == SECTOR and asked.args[1].max_deals == 3 and asked.args[1].min_used_space == 1024


def test_disable_cc_waits_for_deals_and_keeps_the_sector_when_the_run_ends() -> None:
    world = World(policy=Sealing(enable_deals=True, disable_cc=True), scripted={"acquire_deals": [[]] * 9})
    sealed(world)
    assert world.ended == "idle" and world.journal is not None and world.journal.state == "Allocated"
    world.scripted.clear()
    assert sealed(world).ended == "finished"


def test_nothing_allocated_ends_the_run_after_the_configured_number_of_asks() -> None:
    world = World(policy=Sealing(request_task_max_retries=3), scripted={"allocate_sector": [None] * 9})
    sealed(world)
    assert world.ended == "idle" and len(world.calls) == 4 and world.journal is None and not world.saves


def test_an_allocation_that_fails_is_nothing_allocated() -> None:
    world = World(scripted={"allocate_sector": [UNKNOWN, blocked("the manager"), TEMPORARY]})
    assert sealed(world).ended == "finished"
    assert [sleep.kind for sleep in world.slept] == ["idle"] * 3


def test_the_ticket_is_in_the_journal_before_pc1_starts() -> None:
    world = World()
    world.boot()
    while not (isinstance(world.waiting_on, RunStage) and world.waiting_on.stage == "pc1"):
        world.send(world.answer())
    assert world.journal is not None and world.journal.ticket is not None
    assert world.journal.ticket_at == world.now


def test_an_expired_ticket_redoes_pc1_instead_of_losing_the_sector() -> None:
    world = World(policy=Sealing(ticket_max_age=86400))
    world.boot()
    while world.machine and world.machine.task.state != "PC1Done":
        world.send(world.answer())
    world.now += 90_000
    world.boot()
    world.run()
    assert world.ended == "finished"
    assert [call.method for call in world.calls].count("assign_ticket") == 2
    assert world.stages.count("pc1") == 2 and world.stages.count("pc2") == 1


def test_a_damaged_layer_leads_back_to_pc1_with_the_same_ticket() -> None:
    # The first answer is the slot.
    world = World(scripted={"pc2": [None, DamagedLayer("label layer 7: its checksum is wrong")]})
    assert sealed(world).ended == "finished"
    assert [call.method for call in world.calls].count("assign_ticket") == 1
    assert world.stages.count("pc1") == 2 and world.stages.count("pc2") == 2
    again = next(save for save in world.saves if save.warning)
    assert (again.state, again.detail) == ("TicketAssigned", "label layer 7: its checksum is wrong")
    assert again.task is not None and again.task.pc1out is None


def damaged(stage: str, times: int) -> World:
    """A disk that damages what ``stage`` reads, so many times."""

    class Damaged(World):
        def usual(self, instruction: Any) -> Any:
            reads_it = isinstance(instruction, RunStage) and instruction.stage == stage
            if not reads_it or self.stages.count(stage) > times:
                return super().usual(instruction)
            return DamagedLayer("label layer 7: its checksum is wrong") if stage == "pc2" else None

    return sealed(Damaged())


@pytest.mark.parametrize(("stage", "cause"), [("pc2", "label layer 7"), ("c2", "the C1 output")])
def test_a_disk_that_damages_every_file_is_named_instead_of_working_for_ever(stage: str, cause: str) -> None:
    world = damaged(stage, 99)
    assert isinstance(world.waiting_on, AwaitResume) and world.machine and world.machine.failure
    failure = world.machine.failure
    assert cause in failure.cause and "3 times in a row" in failure.cause and "/mnt/s1" in failure.next_step
    assert world.stages.count(stage) == 3 and world.wiped == 0


@pytest.mark.parametrize("stage", ["pc2", "c2"])
def test_after_the_disk_was_mended_a_resume_makes_what_was_damaged_again(stage: str) -> None:
    world = damaged(stage, 4)
    world.send(Resume())
    world.run()
    assert world.ended == "finished" and world.stages.count(stage) == 5


def test_a_rejection_after_the_ticket_expired_redoes_pc1() -> None:
    world = World(policy=Sealing(ticket_max_age=100))
    world.boot()
    while not (world.calls and world.calls[-1].method == "submit_pre_commit"):
        world.send(world.answer())
    world.now += 101
    world.scripted["submit_pre_commit"] = [SubmitResp(Res.REJECTED, "ticket expired")]
    world.run()
    assert world.ended == "finished" and world.stages.count("pc1") == 2


def rejected(age: float, desc: str) -> World:
    """A pre-commit that is rejected once, ``age`` seconds after the ticket of at most 1000."""
    world = World(policy=Sealing(ticket_max_age=1000))
    world.boot()
    while not (world.calls and world.calls[-1].method == "submit_pre_commit"):
        world.send(world.answer())
    world.now += age
    world.scripted["submit_pre_commit"] = [SubmitResp(Res.REJECTED, desc)]
    world.run()
    return world


@pytest.mark.parametrize(
    ("age", "desc"),
    [(960, "no reason given"), (10, "ticket expired: seal height: 900, head: 4681"), (10, "Expired Ticket")],
)
def test_a_ticket_that_expires_by_the_managers_head_first_does_not_lose_the_sector(
    age: float, desc: str
) -> None:
    world = rejected(age, desc)
    assert world.ended == "finished" and world.stages.count("pc1") == 2


@pytest.mark.parametrize(
    "desc", ["piece 3 refers to expired deal 7", "bad ticket epoch: 5 != 6", "sector number is allocated"]
)
def test_a_rejection_that_pc1_can_not_mend_gives_the_sector_up(desc: str) -> None:
    assert rejected(900, desc).ended == "aborted"


def test_a_rejection_with_a_fresh_ticket_aborts_and_tells_the_manager_before_wiping() -> None:
    world = World(
        scripted={"submit_pre_commit": [SubmitResp(Res.REJECTED, "bad deal")], "report_aborted": [TEMPORARY]}
    )
    sealed(world)
    assert world.ended == "aborted" and world.wiped == 1 and world.journal is None
    assert [call.method for call in world.calls][-2:] == ["report_aborted"] * 2
    assert "bad deal" in world.calls[-1].args[1]


@pytest.mark.parametrize(
    ("method", "next_state"), [("submit_pre_commit", "PC2Done"), ("submit_proof", "C2Done")]
)
def test_a_mismatch_pauses_and_keeps_the_deals(method: str, next_state: str) -> None:
    world = sealed(World(scripted={method: [SubmitResp(Res.MISMATCHED_SUBMISSION)]}))
    assert isinstance(world.waiting_on, AwaitResume) and world.journal is not None
    assert world.journal.state == next_state and world.wiped == 0


@pytest.mark.parametrize(
    ("poll", "submit"), [("poll_pre_commit_state", "submit_pre_commit"), ("poll_proof_state", "submit_proof")]
)
def test_a_failed_message_is_submitted_again_with_reset(poll: str, submit: str) -> None:
    states = [PollResp(OnChainState.PENDING), PollResp(OnChainState.FAILED, "out of gas")]
    world = sealed(World(scripted={poll: list(states)}))
    assert world.ended == "finished"
    assert [call.args[2] for call in world.calls if call.method == submit] == [False, True]


@pytest.mark.parametrize("poll", ["poll_pre_commit_state", "poll_proof_state"])
def test_a_message_the_chain_will_never_take(poll: str) -> None:
    paused = sealed(World(scripted={poll: [PollResp(OnChainState.PERM_FAILED, "x")]}))
    assert isinstance(paused.waiting_on, AwaitResume)
    # Without reset the manager, which has it, took the same again for done, and nothing was ever sent.
    submit, state = {
        "poll_pre_commit_state": ("submit_pre_commit", "PC2Done"),
        "poll_proof_state": ("submit_proof", "C2Done"),
    }[poll]
    assert paused.machine and paused.machine.failure
    assert f"--state {state}" in paused.machine.failure.next_step
    paused.send(Resume(state))
    paused.run()
    assert paused.ended == "finished"
    assert [call.args[2] for call in paused.calls if call.method == submit] == [False, True]
    aborted = sealed(World(scripted={poll: [PollResp(OnChainState.SHOULD_ABORT, "x")]}))
    assert aborted.ended == "aborted"


@pytest.mark.parametrize("state", ["TreeDBuilt", "TicketAssigned", "PC1Done"])
def test_a_sector_whose_pre_commit_is_taken_keeps_its_ticket_whatever_is_made_again(state: str) -> None:
    """Days after it PC1 was repeated for a damaged layer, with a new ticket: the sector was lost."""
    world = World(policy=Sealing(ticket_max_age=86400), scripted={"c1": [None, PERMANENT]})
    sealed(world)
    assert (
        isinstance(world.waiting_on, AwaitResume) and world.journal and world.journal.state == "SeedAssigned"
    )
    ticket = world.journal.ticket
    world.now += 90_000
    world.send(Resume(state))
    world.run()
    assert world.ended == "finished"
    assert [call.method for call in world.calls].count("assign_ticket") == 1
    infos = [call.args[1] for call in world.calls if call.method == "submit_pre_commit"]
    assert [info.ticket for info in infos] == [ticket, ticket]


def test_a_pre_commit_that_failed_and_is_too_old_to_be_taken_again_redoes_pc1() -> None:
    world = World(
        policy=Sealing(ticket_max_age=1000),
        scripted={
            "poll_pre_commit_state": [PollResp(OnChainState.FAILED, "out of gas")],
            "submit_pre_commit": [SubmitResp(Res.ACCEPTED), SubmitResp(Res.REJECTED, "no reason given")],
        },
    )
    world.boot()
    while not (world.slept and "again" in world.slept[-1].why):
        world.send(world.answer())
    world.now += 1000
    world.run()
    assert world.ended == "finished" and world.stages.count("pc1") == 2
    assert [call.method for call in world.calls].count("assign_ticket") == 2


def test_a_new_ticket_leaves_nothing_of_the_old_one() -> None:
    """`resume --state PC2Done` was possible then, with the old replica and the new ticket."""
    world = World(scripted={"pc2": [None, PERMANENT]})
    sealed(world)
    world.scripted["pc1"] = [None, PERMANENT]
    world.send(Resume("TreeDBuilt"))
    world.run()
    assert world.journal and world.journal.ticket and world.machine
    assert world.journal.pc1out is None and world.journal.pc2out is None
    assert check_resume(world.machine, "PC2Done") is not None


def test_a_proof_that_is_rejected_for_its_seed_is_made_with_another() -> None:
    """A reorganisation of the chain cost the sector minutes before its end."""
    rejected = SubmitResp(Res.REJECTED, "seed has changed")
    world = sealed(World(scripted={"submit_proof": [rejected] * 2}))
    assert world.ended == "finished" and world.stages.count("c2") == 3
    lost = sealed(World(scripted={"submit_proof": [rejected] * 9}))
    assert lost.ended == "aborted"
    assert (
        sealed(World(scripted={"submit_proof": [SubmitResp(Res.REJECTED, "bad proof")]})).ended == "aborted"
    )


def test_failures_between_good_answers_of_a_poll_are_not_in_a_row() -> None:
    """Six passing errors in a day of waiting paused the thread for good."""
    pending = PollResp(OnChainState.PENDING)
    world = sealed(
        World(policy=Sealing(max_retries=1), scripted={"poll_proof_state": [TEMPORARY, pending] * 4})
    )
    assert world.ended == "finished"


def test_an_error_is_not_shown_any_more_once_a_poll_is_answered() -> None:
    world = World(scripted={"poll_proof_state": [blocked("manager"), PollResp(OnChainState.PENDING)]})
    world.boot()
    while not (world.machine and world.machine.failure):
        world.send(world.answer())
    while not (world.slept and "waiting for the proof" in world.slept[-1].why):
        world.send(world.answer())
    assert world.machine.failure is None


@pytest.mark.parametrize(
    "said", ["get network version: connection refused", "stat /s/x: stale NFS file handle"]
)
def test_a_check_of_files_that_fails_for_another_reason_is_tried_again(said: str) -> None:
    """A chain node that restarted paused the sector, with the advice to look at the mounts."""
    error = Failed(Failure(Level.TEMPORARY, f"code 1: check persisted filed: {said}", "look"))
    assert sealed(World(scripted={"submit_persisted_ex": [error]})).ended == "finished"


def test_a_drain_does_not_wait_for_deals() -> None:
    """It never ended, and took the deals that came meanwhile: a day of sealing."""
    policy = Sealing(enable_deals=True, disable_cc=True)
    world = World(policy=policy, scripted={"acquire_deals": [None] * 9}, draining=True)
    world.journal = Task("sealer", state="Allocated", sector=AllocatedSector(SECTOR, V1_1_2KIB))
    world.boot()
    world.run()
    assert world.ended == "drained" and world.journal and world.journal.state == "Allocated"


def test_synthetic_layers_are_cleared_only_after_the_proofs_are_journaled() -> None:
    world = sealed(World(proof_type=SYNTHETIC_2KIB))
    assert world.ended == "finished"
    assert world.stages.index("synth_proof") < world.stages.index("clear_layers")
    events = [save.event for save in world.saves]
    assert "PC2NeedSyntheticProof" in events and "SyntheticPoRep" in events


def test_the_seed_is_waited_for_as_long_as_the_manager_says() -> None:
    world = sealed(World(scripted={"wait_seed": [WaitSeedResp(True, 75), WaitSeedResp(True, 0)]}))
    assert world.ended == "finished" and [sleep.seconds for sleep in world.slept] == [75, 1]


def test_a_finished_c2_is_journaled_before_it_is_verified_or_submitted() -> None:
    world = World()
    world.boot()
    while world.stages[-1:] != ["verify_proof"]:
        world.send(world.answer())
    assert world.journal is not None and world.journal.proof is not None and world.journal.state == "C2Done"
    world.boot()
    world.run()
    assert world.ended == "finished" and world.stages.count("c2") == 1


def test_a_proof_that_does_not_verify_is_made_once_more_then_named() -> None:
    once = sealed(World(scripted={"verify_proof": [False]}))
    assert once.ended == "finished" and once.stages.count("c2") == 2
    twice = sealed(World(scripted={"verify_proof": [False, False]}))
    assert isinstance(twice.waiting_on, AwaitResume) and twice.machine is not None
    assert twice.machine.failure is not None and "builtin C2" in twice.machine.failure.text
    assert not any(call.method == "submit_proof" for call in twice.calls)


def test_a_damaged_c1_output_is_computed_again() -> None:
    class Damaged(World):
        def usual(self, instruction: Any) -> Any:
            if (
                isinstance(instruction, RunStage)
                and instruction.stage == "c2"
                and self.stages.count("c2") == 1
            ):
                return None
            return super().usual(instruction)

    world = sealed(Damaged())
    assert world.ended == "finished" and world.stages.count("c1") == 2


def test_ignore_proof_check_neither_verifies_nor_waits() -> None:
    world = sealed(World(policy=Sealing(ignore_proof_check=True)))
    assert world.ended == "finished" and "verify_proof" not in world.stages
    assert "poll_proof_state" not in [call.method for call in world.calls]


def test_no_store_with_space_is_waited_for() -> None:
    class Full(World):
        full = 2

        def usual(self, instruction: Any) -> Any:
            if getattr(instruction, "method", "") == "store_reserve_space" and self.full:
                self.full -= 1
                return None
            if isinstance(instruction, Sleep) and instruction.kind == "poll":
                assert self.machine is not None and self.machine.failure is not None
                shown.append(self.machine.failure.text)
            return super().usual(instruction)

    shown: list[str] = []
    world = sealed(Full())
    assert world.ended == "finished" and [sleep.seconds for sleep in world.slept] == [180, 180]
    assert len(shown) == 2 and "none of the attached stores (store-a" in shown[0]
    assert "asked again every 180 s" in shown[0]
    assert world.machine is not None and world.machine.failure is None


def test_a_store_that_is_not_attached_pauses_with_both_names() -> None:
    world = sealed(World(scripted={"store_reserve_space": [StoreBasicInfo("elsewhere")]}))
    assert world.machine is not None and world.machine.failure is not None
    assert "elsewhere" in world.machine.failure.text and "store-a" in world.machine.failure.text


def test_temporary_failures_use_up_a_budget_that_a_success_restores() -> None:
    policy = Sealing(max_retries=2)
    world = sealed(World(policy=policy, scripted={"tree_d": [TEMPORARY] * 2, "pc1": [TEMPORARY] * 2}))
    # The stage name is the key of its limit too: one of each pair is the limit's own failure.
    assert world.ended == "finished"
    world = sealed(World(policy=policy, scripted={"assign_ticket": [TEMPORARY] * 3}))
    assert isinstance(world.waiting_on, AwaitResume) and world.journal is not None
    assert world.journal.retries == 0 and world.machine is not None and world.machine.failure is not None
    assert world.machine.failure.level is Level.PERMANENT


def test_a_cause_that_can_clear_burns_no_retry_and_is_reported_once() -> None:
    world = World(policy=Sealing(max_retries=0), scripted={"assign_ticket": [blocked("the manager")] * 20})
    sealed(world)
    assert world.ended == "finished"
    assert sum(report.failure is not None for report in world.reports) == 1
    assert [sleep.kind for sleep in world.slept] == ["blocked"] * 20


def test_the_limit_is_given_back_while_a_blocked_task_waits() -> None:
    world = World(scripted={"assign_ticket": [blocked("the manager")]})
    world.boot()
    while not world.slept:
        world.send(world.answer())
    assert world.held == 0


def test_a_sector_the_manager_does_not_know_is_kept_until_the_operator_decides() -> None:
    world = World(scripted={"assign_ticket": [UNKNOWN]})
    world.boot()
    while not (world.reports and world.reports[-1].confirm):
        world.send(world.answer())
    world.send(SectorUnknown())
    assert isinstance(world.waiting_on, AwaitResume) and world.wiped == 0 and world.journal is not None
    world.send(Resume("Aborted"))
    world.run()
    assert world.ended == "aborted"


def test_a_sector_the_manager_still_has_is_tried_again() -> None:
    world = World(scripted={"assign_ticket": [UNKNOWN]})
    world.boot()
    while not (world.reports and world.reports[-1].confirm):
        world.send(world.answer())
    world.send(SectorKnown())
    world.run()
    assert world.ended == "finished"


def test_a_sector_finalized_by_the_manager_is_dropped() -> None:
    world = World()
    world.boot()
    while not world.stages or world.stages[-1] != "pc1":
        world.send(world.answer())
    world.send(Dropped("aborted by the operator of the manager"))
    assert world.ended == "dropped" and world.wiped == 1 and world.journal is None and world.held == 0


def test_finalizing_twice_after_a_lost_answer_is_a_finished_sector() -> None:
    world = sealed(World(scripted={"report_finalized": [TEMPORARY, UNKNOWN]}))
    assert world.ended == "finished"


def test_a_pause_acts_at_once_while_waiting_and_after_the_stage_otherwise() -> None:
    world = World(scripted={"poll_pre_commit_state": [PollResp(OnChainState.PENDING)]})
    world.boot()
    while not world.slept:
        world.send(world.answer())
    world.send(Pause())
    assert isinstance(world.waiting_on, AwaitResume)
    world.send(Resume())
    while world.stages[-1] != "c2" or not isinstance(world.waiting_on, RunStage):
        world.send(world.answer())
    world.send(Pause())
    assert isinstance(world.waiting_on, RunStage)
    world.send(world.answer())
    assert isinstance(world.waiting_on, AwaitResume)
    assert world.journal is not None and world.journal.proof is not None
    world.send(Resume())
    world.run()
    assert world.ended == "finished" and world.stages.count("c2") == 1


def test_resume_with_a_state_lists_what_is_legal_and_refuses_the_rest() -> None:
    world = sealed(World(scripted={"submit_pre_commit": [SubmitResp(Res.MISMATCHED_SUBMISSION)]}))
    assert world.machine is not None
    for bad in ("Nonsense", "C1Done", "Empty", "SnapEncoded"):
        refused = check_resume(world.machine, bad)
        assert refused is not None and bad in refused and "PC1Done" in refused
        before = world.journal
        world.send(Resume(bad))
        assert isinstance(world.waiting_on, AwaitResume) and world.journal == before
    assert check_resume(world.machine, "TreeDBuilt") is None
    world.send(Resume("TreeDBuilt"))
    world.run()
    assert world.ended == "finished" and world.stages.count("pc1") == 2


def test_every_failure_text_has_a_cause_and_a_next_step() -> None:
    for method, answer in [
        ("submit_pre_commit", SubmitResp(Res.MISMATCHED_SUBMISSION)),
        ("submit_proof", SubmitResp(Res.FILES_MISSED)),
        ("submit_proof", SubmitResp(99)),
        ("poll_proof_state", PollResp(OnChainState.NOT_FOUND)),
        ("poll_proof_state", PollResp(0)),
        ("submit_persisted_ex", False),
        ("wait_seed", WaitSeedResp(False, 0, None)),
        ("store_reserve_space", StoreBasicInfo("elsewhere")),
    ]:
        world = sealed(World(policy=Sealing(max_retries=0), scripted={method: [answer]}))
        assert world.machine is not None and world.machine.failure is not None, method
        assert world.machine.failure.cause and world.machine.failure.next_step, method


def test_nothing_is_reported_before_it_is_durable() -> None:
    world = World()
    order: list[str] = []
    world.boot()
    while not world.ended:
        for instruction in world.todo:
            if isinstance(instruction, Save):
                order.append(f"saved {instruction.state}")
            if isinstance(instruction, Report):
                assert f"saved {instruction.next}" in order
        world.send(world.answer())
    assert isinstance(world.todo[-2], Save) and world.todo[-2].task is None


def test_a_long_sleep_is_named() -> None:
    world = sealed(World(scripted={"poll_proof_state": [PollResp(OnChainState.PENDING)]}))
    assert world.slept == [Sleep(180.0, "waiting for the proof to land", "poll")]
    assert PERMANENT.failure.text == "permanent: it is broken. mend it"

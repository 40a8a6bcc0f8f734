"""The rebuild plan on the pure machine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.cid import commr_cid
from damocles_worker.errors import Level
from damocles_worker.manager.types import CommitmentCid
from damocles_worker.sealing.machine.events import AwaitResume, Failed, Failure, Resume
from damocles_worker.sealing.machine.step import check_resume
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import LEGACY, PLEDGE_LEGACY, SECTOR, SYNTHETIC_2KIB, World, rebuilt, record

AWAY = Failed(Failure(Level.TEMPORARY, "the manager is away", "wait", waits_for="the manager"))
MISSING = Failed(Failure(Level.TEMPORARY, "no such method", "update it", method_missing=True))
OTHER_COMM_R = CommitmentCid(commr_cid(bytes([8] * 32)))
BROKEN = Failed(Failure(Level.PERMANENT, "broken", "mend"))
UNKNOWN = Failed(Failure(Level.ABORT, "not found", "look", sector_unknown=True))


def rebuild(**given: Any) -> World:
    world = World(plan=PLANS["rebuild"], **given)
    world.boot()
    world.run()
    return world


def events(world: World) -> list[str]:
    return [save.event for save in world.saves]


def test_a_sealed_sector_is_made_again_compared_and_stored() -> None:
    world = rebuild()
    assert world.ended == "finished" and world.wiped == 1 and world.journal is None
    assert events(world) == [
        "AllocatedRebuildSector", "AddPiece", "BuildTreeD", "PC1", "PC2", "CheckSealed", "SkipSnap",
        "Persist", "SubmitPersistance", "Finish",
    ]  # fmt: skip
    assert [call.method for call in world.calls] == [
        "allocate_rebuild_sector", "find_sector", "store_reserve_space", "submit_persisted_ex",
        "report_finalized",
    ]  # fmt: skip
    assert world.calls[-2].args == (SECTOR, "store-a", False)
    assert (world.reports[-1].prev, world.reports[-1].next) == ("Persisted", "Finished")


def test_an_upgraded_sector_is_sealed_from_zeros_and_updated_on_top() -> None:
    world = rebuild(upgraded=True)
    assert world.ended == "finished"
    assert events(world) == [
        "AllocatedRebuildSector", "AddPiece", "BuildTreeD", "PC1", "PC2", "CheckSealed", "AddPiece",
        "BuildTreeD", "SnapEncode", "SnapProve", "Persist", "SubmitPersistance", "Finish",
    ]  # fmt: skip
    assert [call.args for call in world.calls if call.method == "submit_persisted_ex"] == [
        (SECTOR, "store-a", True)
    ]
    assert world.stages.index("verify_snap") < world.stages.index("persist")


def test_a_synthetic_sector() -> None:
    world = rebuild(proof_type=SYNTHETIC_2KIB)
    assert world.ended == "finished" and "synth_proof" in world.stages


def test_the_flag_and_not_the_public_information_says_whether_it_was_upgraded() -> None:
    info = rebuilt(upgrade_public=record(upgraded=True).upgrade_public)
    world = rebuild(scripted={"allocate_rebuild_sector": [info]})
    assert world.ended == "finished" and "snap_encode" not in world.stages


def test_legacy_pieces_hide_the_newer_ones_and_keep_their_fillers() -> None:
    world = World(plan=PLANS["rebuild"])
    world.scripted["allocate_rebuild_sector"] = [rebuilt(pieces=[LEGACY, PLEDGE_LEGACY])]
    world.boot()
    while world.journal is None:
        world.send(world.answer())
    deals = world.journal.deals or []
    assert [(deal.is_pledge, deal.payload_size, deal.piece.size) for deal in deals] == [
        (False, 900, 1024),
        (True, 0, 1024),
    ]
    empty = World(plan=PLANS["rebuild"], scripted={"allocate_rebuild_sector": [rebuilt(pieces=[])]})
    empty.boot()
    while empty.journal is None:
        empty.send(empty.answer())
    assert empty.journal.deals == []


def paused(world: World) -> Failure:
    assert isinstance(world.waiting_on, AwaitResume) and world.machine is not None
    failure = world.machine.failure
    assert failure is not None and failure.cause and failure.next_step
    assert world.wiped == 0 and world.journal is not None
    assert not any(call.method == "report_aborted" for call in world.calls)
    return failure


def test_a_replica_with_another_comm_r_is_never_stored() -> None:
    state = record()
    assert state.pre is not None
    other = replace(state, pre=replace(state.pre, comm_r=OTHER_COMM_R))
    world = rebuild(scripted={"find_sector": [other]})
    failure = paused(world)
    assert "01" * 32 in failure.cause and "08" * 32 in failure.cause and failure.level is Level.PERMANENT
    assert "check_sealed" not in world.stages and "persist" not in world.stages


def test_an_update_with_another_comm_r_is_refused_before_the_long_proof() -> None:
    state = record(upgraded=True)
    assert state.upgraded_info is not None
    other = replace(state, upgraded_info=replace(state.upgraded_info, sealed_cid=OTHER_COMM_R))
    world = rebuild(upgraded=True, scripted={"find_sector": [other]})
    failure = paused(world)
    assert "03" * 32 in failure.cause and "08" * 32 in failure.cause
    assert "snap_prove" not in world.stages


@pytest.mark.parametrize("answers", [[None, None], [UNKNOWN, UNKNOWN], [MISSING]])
@pytest.mark.parametrize("upgraded", [False, True])
def test_a_record_that_is_not_there_is_a_warning(answers: list[Any], upgraded: bool) -> None:
    world = rebuild(upgraded=upgraded, scripted={"find_sector": list(answers)})
    assert world.ended == "finished"
    warnings = [save for save in world.saves if save.warning]
    assert len(warnings) == 1 and "not compared" in warnings[0].detail


def test_a_manager_that_is_away_is_waited_for_before_anything_is_stored() -> None:
    world = rebuild(scripted={"find_sector": [AWAY, AWAY]})
    assert world.ended == "finished" and [sleep.kind for sleep in world.slept] == ["blocked"] * 2


def test_an_upgraded_sector_without_its_old_comm_r_pauses() -> None:
    world = rebuild(scripted={"allocate_rebuild_sector": [rebuilt(is_snap_up=True)]})
    assert "UpgradePublic" in paused(world).cause


def test_a_live_sector_is_given_up_by_the_operator_only() -> None:
    abort = Failed(Failure(Level.ABORT, "it can't go on", "The sector is given up"))
    world = rebuild(scripted={"persist": [abort]})
    failure = paused(world)
    assert failure.level is Level.PERMANENT and "live on chain" in failure.next_step
    world.send(Resume("Aborted"))
    world.run()
    assert world.ended == "aborted" and world.wiped == 1 and world.journal is None
    assert world.calls[-1].method == "report_finalized"


@pytest.mark.parametrize("upgraded", [False, True])
def test_giving_a_rebuild_up_keeps_the_deals_and_the_record_of_the_sector(upgraded: bool) -> None:
    """ReportAborted releases the deals of a live sector and erases its upgrade at the manager."""
    world = rebuild(upgraded=upgraded, scripted={"pc2": [None, BROKEN]})
    world.send(Resume("Aborted"))
    world.run()
    assert world.ended == "aborted" and "report_aborted" not in [call.method for call in world.calls]


def test_the_text_of_a_kept_rebuild_says_what_giving_it_up_does() -> None:
    abort = Failed(Failure(Level.ABORT, "it can't go on", "The sector is given up"))
    told = paused(rebuild(scripted={"persist": [abort]})).next_step
    assert "keeps the sector with its deals" in told and "queue it again" in told


def test_a_rebuild_that_is_given_up_is_forgotten_only_once_the_manager_has_heard() -> None:
    world = rebuild(scripted={"pc2": [None, BROKEN], "report_finalized": [AWAY]})
    world.send(Resume("Aborted"))
    world.send(world.answer())
    assert world.wiped == 0 and world.journal is not None
    world.run()
    assert world.ended == "aborted" and world.wiped == 1
    unknown = rebuild(scripted={"pc2": [None, BROKEN], "report_finalized": [UNKNOWN]})
    unknown.send(Resume("Aborted"))
    unknown.run()
    assert unknown.ended == "aborted"


def test_a_bad_update_proof_is_made_once_more_then_named() -> None:
    once = rebuild(upgraded=True, scripted={"verify_snap": [False]})
    assert once.ended == "finished" and once.stages.count("snap_prove") == 2
    twice = rebuild(upgraded=True, scripted={"verify_snap": [False, False]})
    assert "builtin SnapProve" in paused(twice).cause and "persist" not in twice.stages


def test_storing_an_update_that_is_not_made_yet_makes_it_first() -> None:
    world = World(plan=PLANS["rebuild"], upgraded=True)
    world.boot()
    while world.journal is None or world.journal.state != "SealedChecked":
        world.send(world.answer())
    world.scripted["add_pieces"] = [BROKEN]
    world.run()
    assert world.machine is not None and check_resume(world.machine, "SnapDone") is None
    world.send(Resume("SnapDone"))
    world.run()
    assert world.ended == "finished" and "snap_prove" in world.stages


@pytest.mark.parametrize("state", ["SealedChecked", "SnapDone"])
def test_a_replica_that_is_not_the_recorded_one_can_not_be_stored_by_resuming_behind_the_check(
    state: str,
) -> None:
    recorded = record()
    assert recorded.pre is not None
    other = replace(recorded, pre=replace(recorded.pre, comm_r=OTHER_COMM_R))
    world = rebuild(scripted={"find_sector": [other]})
    paused(world)
    assert world.machine is not None
    refused = check_resume(world.machine, state)
    assert refused is not None and f"state {state} can't be set" in refused


def test_a_replica_sealed_anew_is_checked_anew() -> None:
    world = rebuild(scripted={"persist": [BROKEN]})
    assert world.machine is not None and check_resume(world.machine, "SnapDone") is None
    world.scripted["check_sealed"] = [BROKEN]
    world.send(Resume("PC1Done"))
    world.run()
    assert world.journal is not None and world.journal.state == "PC2Done"
    assert check_resume(world.machine, "SnapDone") is not None


def test_files_that_a_manager_with_a_file_system_store_misses_are_named_at_once() -> None:
    """Such a manager answers an error, which was tried six times and then explained by nothing."""
    error = Failed(Failure(Level.TEMPORARY, "code 1: check persisted filed: not found", "look"))
    world = rebuild(scripted={"submit_persisted_ex": [error]})
    failure = paused(world)
    assert failure.level is Level.PERMANENT and not world.slept
    assert "store-a" in failure.cause and "--state SnapDone" in failure.next_step
    assert world.machine is not None and check_resume(world.machine, "SnapDone") is None

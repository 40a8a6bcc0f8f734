"""The snapup plan on the pure machine."""

from __future__ import annotations

from typing import Any

import pytest

from damocles_worker.config.settings import Sealing
from damocles_worker.errors import Level
from damocles_worker.manager.types import (
    AllocatedSector,
    AllocatedSnapUpSector,
    Res,
    SectorPrivateInfo,
    StoreBasicInfo,
    SubmitResp,
)
from damocles_worker.sealing.machine.events import AwaitResume, Failed, Failure, Resume
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import NEW_DATA, PIECE, PUBLIC, SECTOR, UPDATED, V1_1_2KIB, World

DUPLICATE = Failed(Failure(Level.TEMPORARY, "code 1: commit snapup sector: duplicate commit job", "look"))
NO_FILE = Failed(
    Failure(Level.TEMPORARY, "code 1: check persisted filed: /s/update/x: no such file or directory", "look")
)


def upgrade(policy: Sealing | None = None, **scripted: list[Any]) -> World:
    world = World(plan=PLANS["snapup"], policy=policy or Sealing(), scripted=scripted)
    world.boot()
    world.run()
    return world


def failure_of(world: World) -> Failure:
    assert isinstance(world.waiting_on, AwaitResume) and world.machine and world.machine.failure
    failure = world.machine.failure
    assert failure.cause and failure.next_step and world.wiped == 0 and world.journal is not None
    return failure


def test_an_upgrade_goes_through_every_state() -> None:
    world = upgrade(Sealing(max_deals=3, min_deal_space=1024))
    assert world.ended == "finished" and world.wiped == 1 and world.held == 0
    assert [save.event for save in world.saves] == [
        "AllocatedSnapUpSector", "AddPiece", "BuildTreeD", "SnapEncode", "SnapProve", "Persist", "Finish",
        "Finish",
    ]  # fmt: skip
    assert [call.method for call in world.calls] == [
        "allocate_snap_up_sector", "store_basic_info", "store_reserve_space", "submit_snap_up_proof",
        "report_finalized",
    ]  # fmt: skip
    asked = world.calls[0].args[0]
    assert asked.deals.max_deals == 3 and asked.deals.min_used_space == 1024
    info = world.calls[3].args[1]
    assert (info.comm_r, info.comm_d, info.access_instance) == (UPDATED, NEW_DATA, "store-a")
    assert info.pieces == [PIECE.piece.piece_cid] and info.proof == "cHJvb2Y="


def test_the_old_replica_is_brought_before_it_is_encoded_and_the_proof_verified_before_it_is_stored() -> None:
    stages = [stage for stage in upgrade().stages if stage != "reserve_space"]
    assert stages == ["add_pieces", "tree_d", "fetch_replica", "snap_encode", "snap_prove", "verify_snap",
                      "persist"]  # fmt: skip


def test_a_lost_answer_to_the_submission_is_a_finished_upgrade() -> None:
    lost = Failed(Failure(Level.TEMPORARY, "no answer", "wait", waits_for="the manager"))
    world = upgrade(submit_snap_up_proof=[lost, DUPLICATE])
    assert world.ended == "finished"
    assert "already" in world.saves[-2].detail


@pytest.mark.parametrize("answer", [SubmitResp(Res.FILES_MISSED, "tree-r-last"), NO_FILE])
def test_missed_files_are_stored_again_and_the_proof_is_kept(answer: Any) -> None:
    world = upgrade(submit_snap_up_proof=[answer])
    assert world.ended == "finished"
    assert world.stages.count("persist") == 2 and world.stages.count("snap_prove") == 1
    assert [save.event for save in world.saves if save.warning] == ["RePersist"]


def test_files_that_stay_missed_pause_with_the_store_named() -> None:
    world = upgrade(submit_snap_up_proof=[SubmitResp(Res.FILES_MISSED)] * 9)
    failure = failure_of(world)
    assert "store-a" in failure.cause and world.stages.count("persist") == 4
    assert "resume with --state SnapProved" in failure.next_step


@pytest.mark.parametrize("state", ["SnapProved", None])
def test_after_the_operator_has_looked_missed_files_are_stored_again(state: str | None) -> None:
    world = upgrade(submit_snap_up_proof=[SubmitResp(Res.FILES_MISSED)] * 5)
    failure_of(world)
    stored = world.stages.count("persist")
    world.send(Resume(state))
    world.run()
    assert world.ended == "finished" and world.stages.count("persist") > stored
    assert world.stages.count("snap_prove") == 1


def test_a_rejected_upgrade_is_given_up_and_a_mismatch_is_kept() -> None:
    rejected = upgrade(submit_snap_up_proof=[SubmitResp(Res.REJECTED, "number of pieces")])
    assert rejected.ended == "aborted" and "number of pieces" in rejected.calls[-1].args[1]
    failure_of(upgrade(submit_snap_up_proof=[SubmitResp(Res.MISMATCHED_SUBMISSION)]))


def test_a_store_the_manager_does_not_know_pauses() -> None:
    assert "store-a" in failure_of(upgrade(store_basic_info=[None])).cause
    other = upgrade(store_reserve_space=[StoreBasicInfo("elsewhere")])
    assert "elsewhere" in failure_of(other).cause


@pytest.mark.parametrize(("pieces", "instance"), [([], "store-a"), ([PIECE], "")])
def test_a_candidate_without_deals_or_files_is_given_back(pieces: list[Any], instance: str) -> None:
    answer = AllocatedSnapUpSector(
        AllocatedSector(SECTOR, V1_1_2KIB), pieces, PUBLIC, SectorPrivateInfo(instance)
    )
    world = upgrade(allocate_snap_up_sector=[answer])
    assert world.ended == "aborted" and world.calls[-1].method == "report_aborted"

"""The unseal plan on the pure machine."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.errors import Level
from damocles_worker.manager.types import Cid
from damocles_worker.sealing.machine.events import AwaitResume, Dropped, Failed, Failure, Resume, RunStage
from damocles_worker.sealing.plans import PLANS
from tests.machine.world import (
    NEW_DATA,
    SEALED,
    SECTOR,
    SYNTHETIC_2KIB,
    V1_1_2KIB,
    World,
    record,
    unsealed,
)

AWAY = Failed(Failure(Level.TEMPORARY, "the manager is away", "wait", waits_for="the manager"))
NO_REQUEST = Failed(Failure(Level.TEMPORARY, "code 1: achieve unseal info(x): task not found", "look"))
UNKNOWN = Failed(Failure(Level.ABORT, "not found", "look", sector_unknown=True))
BROKEN = Failed(Failure(Level.PERMANENT, "s-t01000-7: no such file", "mount it"))


def unseal(*, upgraded: bool = False, **scripted: list[Any]) -> World:
    world = World(plan=PLANS["unseal"], upgraded=upgraded, scripted=scripted)
    world.boot()
    world.run()
    return world


def test_a_piece_is_decoded_and_brought_to_every_destination_once() -> None:
    world = unseal()
    assert world.ended == "finished" and world.wiped == 1 and world.held == 0
    assert [save.event for save in world.saves] == [
        "AllocatedUnsealSector", "Unsealed", "UploadPiece", "UploadPiece", "UploadPieceDone", "Finish",
    ]  # fmt: skip
    achieved = [call.args for call in world.calls if call.method == "achieve_unseal_sector"]
    assert achieved == [(SECTOR, Cid("baga"), "")]
    assert world.calls[-1].method == "report_finalized"
    assert "secret" not in "".join(save.detail for save in world.saves)


def test_after_a_crash_only_the_destinations_that_are_left_get_the_piece() -> None:
    world = World(plan=PLANS["unseal"])
    world.boot()
    while world.stages.count("upload") < 2:
        world.send(world.answer())
    world.boot()
    world.run()
    assert world.ended == "finished" and world.stages.count("upload") == 3
    assert world.journal is None


def test_an_upgraded_sector_is_decoded_from_its_update() -> None:
    world = World(plan=PLANS["unseal"], upgraded=True)
    world.boot()
    while not (isinstance(world.waiting_on, RunStage) and world.waiting_on.stage == "unseal_update"):
        world.send(world.answer())
    assert world.waiting_on.args == {"instance": "store-a", "comm_d_new": NEW_DATA, "comm_r_old": SEALED}
    world.run()
    assert world.ended == "finished" and "unseal" not in world.stages


@pytest.mark.parametrize("upgraded", [False, True])
@pytest.mark.parametrize(
    ("recorded", "args"), [(SYNTHETIC_2KIB, {"proof_type": 10}), (V1_1_2KIB, {}), (6, {}), (99, {})]
)
def test_a_sector_is_decoded_with_the_proof_type_it_was_sealed_with(
    upgraded: bool, recorded: int, args: dict[str, Any]
) -> None:
    """What is handed out is the miner's present one; a record of another size is of no use."""
    known = replace(record(upgraded=upgraded), sector_type=recorded)
    world = World(plan=PLANS["unseal"], scripted={"find_sector": [known]})
    world.boot()
    while not (isinstance(world.waiting_on, RunStage) and world.waiting_on.stage.startswith("unseal")):
        world.send(world.answer())
    given = {key: value for key, value in world.waiting_on.args.items() if key == "proof_type"}
    assert given == args


@pytest.mark.parametrize(("offset", "size"), [(1017, 1016), (0, 4064), (0, 0)])
def test_a_range_outside_of_the_sector_pauses_and_the_requester_hears_of_it(offset: int, size: int) -> None:
    world = unseal(allocate_unseal_sector=[unsealed(offset=offset, size=size)])
    assert isinstance(world.waiting_on, AwaitResume) and world.machine and world.machine.failure
    failure = world.machine.failure
    assert str(size) in failure.cause and "2032" in failure.cause and "Aborted" in failure.next_step
    assert [notice.method for notice in world.notified] == ["achieve_unseal_sector"]
    assert world.notified[0].args == (SECTOR, Cid("baga"), failure.text)


def test_a_failure_for_good_is_told_to_the_requester_and_can_be_mended() -> None:
    world = unseal(unseal=[None, BROKEN])
    assert isinstance(world.waiting_on, AwaitResume) and world.wiped == 0
    assert BROKEN.failure.cause in world.notified[0].args[2]
    world.send(Resume())
    world.run()
    assert world.ended == "finished"


def test_giving_up_tells_the_requester_and_never_aborts_the_live_sector() -> None:
    world = unseal(unseal=[None, BROKEN])
    world.send(Resume("Aborted"))
    world.run()
    assert world.ended == "aborted" and world.wiped == 1
    methods = [call.method for call in world.calls]
    assert methods[-2:] == ["achieve_unseal_sector", "report_finalized"] and "report_aborted" not in methods


@pytest.mark.parametrize("untold", ["achieve_unseal_sector", "report_finalized"])
def test_a_given_up_piece_is_forgotten_only_once_the_manager_has_heard(untold: str) -> None:
    world = unseal(unseal=[None, BROKEN])
    world.scripted[untold] = [AWAY, AWAY]
    world.send(Resume("Aborted"))
    while not world.slept:
        world.send(world.answer())
    assert world.wiped == 0 and world.journal is not None and world.ended is None
    world.run()
    assert world.ended == "aborted" and [sleep.kind for sleep in world.slept] == ["blocked"] * 2


def test_a_request_that_the_manager_does_not_know_any_more_can_be_given_up() -> None:
    world = unseal(unseal=[None, BROKEN])
    world.scripted["achieve_unseal_sector"] = [NO_REQUEST]
    world.scripted["report_finalized"] = [UNKNOWN]
    world.send(Resume("Aborted"))
    world.run()
    assert world.ended == "aborted" and not world.slept


def test_no_destination_is_nothing_to_upload() -> None:
    world = unseal(acquire_unseal_dest=[None])
    assert world.ended == "finished" and "upload" not in world.stages


@pytest.mark.parametrize("lost", [AWAY, NO_REQUEST])
def test_a_piece_is_delivered_though_the_answer_to_telling_so_is_lost(lost: Failed) -> None:
    """The manager that has been told knows of no destinations any more."""
    gone = Failed(Failure(Level.TEMPORARY, "code 0: nil pointer dereference", "look"))
    world = World(plan=PLANS["unseal"], scripted={"achieve_unseal_sector": [lost, NO_REQUEST]})
    world.boot()
    while world.stages.count("upload") < 2:
        world.send(world.answer())
    world.scripted["acquire_unseal_dest"] = [gone] * 20
    world.run()
    assert world.ended == "finished" and not world.notified


def test_a_piece_is_still_delivered_when_another_task_has_finalised_its_sector() -> None:
    world = World(plan=PLANS["unseal"])
    world.boot()
    while world.stages.count("unseal") < 1:
        world.send(world.answer())
    world.send(Dropped("finalised by the manager"))
    world.run()
    assert world.ended == "finished"
    assert [call.args[2] for call in world.calls if call.method == "achieve_unseal_sector"] == [""]


def test_a_requester_hears_of_a_sector_that_was_given_up_at_the_manager() -> None:
    world = World(plan=PLANS["unseal"])
    world.boot()
    while world.stages.count("unseal") < 1:
        world.send(world.answer())
    world.send(Dropped("lost to fire", aborted=True))
    assert world.ended == "dropped" and world.wiped == 1
    assert "lost to fire" in world.notified[0].args[2]

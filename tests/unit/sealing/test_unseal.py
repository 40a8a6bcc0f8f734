"""Pieces decoded from sectors that are not what the task says, or whose stores go away."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.cid import commd_cid
from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.types import AllocatedSector, Cid
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing.machine.task import Task
from damocles_worker.stores.attached import AttachedStore
from tests.e2e.sealed import V1_1, SealedSector, seal
from tests.e2e.test_plans import SYNTHETIC, deal, whole_piece
from tests.unit.sealing.bench import Place, at_work, range_of, task_of


def asked_as(task: Task, proof_type: int) -> Task:
    assert task.sector
    return replace(task, sector=AllocatedSector(task.sector.id, proof_type))


def test_a_piece_is_decoded_with_the_proof_type_its_sector_was_sealed_with(tmp_path: Path) -> None:
    """The miner seals with another one by now, and managers hand that out."""
    sector = seal(tmp_path, 1, deals=True)
    piece = deal(sector.pieces)

    async def unseal(there: Place) -> bytes:
        await there.run("unseal", asked_as(task_of(sector), SYNTHETIC), proof_type=V1_1)
        return there.store.unsealed_piece(piece.piece.piece_cid.text).read_bytes()

    assert at_work(tmp_path, unseal) == whole_piece(tmp_path, piece)


@pytest.mark.parametrize("recorded", [None, SYNTHETIC])
def test_a_piece_that_is_another_is_told_with_the_proof_types(tmp_path: Path, recorded: int | None) -> None:
    sector = seal(tmp_path, 1, deals=True)
    handed_out = SYNTHETIC if recorded is None else V1_1

    async def unseal(there: Place) -> None:
        await there.run("unseal", asked_as(task_of(sector), handed_out), proof_type=recorded)

    with pytest.raises(WorkerError, match=sector.text) as failed:
        at_work(tmp_path, unseal)
    assert "StackedDrg2KiBV1_1_Feat_SyntheticPoRep" in failed.value.cause
    both = "type StackedDrg2KiBV1_1_Feat_SyntheticPoRep, the task it handed out StackedDrg2KiBV1_1)"
    assert (both in failed.value.cause) == (recorded is not None)


@pytest.fixture
def upgraded(tmp_path: Path) -> SealedSector:
    """A sector whose replica from before the update lies in a store of its own, ``old``."""
    sector = seal(tmp_path, 1, upgraded=True)
    for kind in ("sealed", "cache"):
        shutil.move(tmp_path / "persist" / kind, tmp_path / "old" / kind)
    return sector


def decode(root: Path, sector: SealedSector, there: Place) -> Any:
    """Decode the update's piece; the sector is asked for as one with another proof type."""
    assert sector.update
    there.bench.services.attached["old"] = AttachedStore.at(root / "old", "old")
    task = replace(
        asked_as(task_of(sector), SYNTHETIC),
        access_instance="old",
        unseal=range_of(sector, sector.update_pieces),
    )
    return there.run(
        "unseal_update",
        task,
        instance="persist",
        comm_d_new=sector.update.comm_d_new,
        comm_r_old=sector.comm_r,
        proof_type=V1_1,
    )


@pytest.mark.parametrize("old", ["there", "removed"])
def test_the_key_of_an_update_is_the_one_its_sector_was_sealed_with(
    tmp_path: Path, upgraded: SealedSector, old: str
) -> None:
    piece = deal(upgraded.update_pieces)
    if old == "removed":
        (tmp_path / "old/sealed" / upgraded.text).unlink()

    async def unseal(there: Place) -> bytes:
        await decode(tmp_path, upgraded, there)
        return there.store.unsealed_piece(piece.piece.piece_cid.text).read_bytes()

    assert at_work(tmp_path, unseal) == whole_piece(tmp_path, piece)


@pytest.mark.parametrize("when", ["at the start", "while it is read"])
def test_the_store_of_an_old_replica_that_went_away_is_waited_for(
    tmp_path: Path, upgraded: SealedSector, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is not computed anew, which takes hours, and the requester is not told that it failed."""

    def go_away() -> None:
        (tmp_path / "old").rename(tmp_path / "aside")
        (tmp_path / "old").mkdir()

    async def unseal(there: Place) -> None:
        decoding = decode(tmp_path, upgraded, there)
        if when == "at the start":
            go_away()
        else:
            pool = there.bench.services.processors

            async def gone(*_: Any, **__: Any) -> bytes:
                go_away()
                raise WorkerError("cut short", next_step="none", level=Level.PERMANENT)

            monkeypatch.setattr(pool, "run", gone)
        await decoding

    with pytest.raises(WorkerError, match="'old' is gone") as failed:
        at_work(tmp_path, unseal)
    assert failed.value.waits_for and upgraded.text in failed.value.cause


#: A processor of others, which leaves a layer beside the files it finds, and fails.
LAYERS = """
import json, pathlib, sys
print("unseal processor ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    cache = pathlib.Path(asked["task"]["cache_dir"])
    found = sorted(file.name for file in cache.iterdir())
    (cache / "sc-02-data-layer-1.dat").write_bytes(b"layer")
    print(json.dumps({"id": asked["id"], "err_msg": f"found {found}"}), flush=True)
"""


def test_a_program_of_others_leaves_no_layers_in_the_persistent_store(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1, deals=True)
    cache = tmp_path / "persist/cache" / sector.text
    there_before = sorted(file.name for file in cache.iterdir())
    foreign = ChildSpec("unseal", 0, bin=sys.executable, args=("-c", LAYERS))

    async def unseal(there: Place) -> None:
        with pytest.raises(WorkerError) as failed:
            await there.run("unseal", task_of(sector))
        assert str(there_before) in failed.value.cause
        assert (there.store.cache_dir(sector.text) / "sc-02-data-layer-1.dat").is_file()

    at_work(tmp_path, unseal, foreign)
    assert sorted(file.name for file in cache.iterdir()) == there_before


def test_a_piece_that_is_another_is_not_left_to_be_delivered(tmp_path: Path) -> None:
    """`resume --state Unsealed` sent it to whoever had asked."""
    sector = seal(tmp_path, 1, deals=True)

    async def unseal(there: Place) -> None:
        with pytest.raises(WorkerError, match="asked for is"):
            task = task_of(sector)
            assert task.unseal
            other = replace(task.unseal, piece_cid=Cid(commd_cid(bytes(32))))
            await there.run("unseal", replace(task, unseal=other))
        assert not there.store.unsealed_piece(commd_cid(bytes(32))).exists()

    at_work(tmp_path, unseal)

"""Pieces on their way into a sector."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.cid import parse_cid
from damocles_worker.errors import Level, WorkerError
from damocles_worker.manager.types import SectorPiece
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing import stages
from damocles_worker.stores.pieces import PieceStore
from damocles_worker.stores.sealing import initialise
from tests.e2e.sealed import seal
from tests.processors.support import until
from tests.unit.sealing.bench import Place, at_work, task_of
from tests.unit.stores.servers import serving, stalled

#: A pause acts within a second, as promised, and this machine may be busy.
ACTS = 3.0
#: A processor of others that answers what it was started with, whatever it is asked.
PROGRAM = """
import json, sys
print("add_pieces processor ready", flush=True)
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "output": json.loads(sys.argv[1])}), flush=True)
"""


@pytest.mark.parametrize("kept", ["none", "first", "one too many", "another size"])
def test_pieces_that_a_processor_did_not_answer_for_never_get_into_a_sector(
    tmp_path: Path, kept: str
) -> None:
    sector = seal(tmp_path, 1, deals=True)

    async def add(there: Place) -> Any:
        return await there.run("add_pieces", task_of(sector))

    infos = at_work(tmp_path, add)
    answer = [{"commitment": info.commitment, "size": info.size} for info in infos]
    sizes = [info["size"] for info in answer]
    changed = {
        "none": [],
        "first": answer[:1],
        "one too many": [*answer, answer[0]],
        "another size": [{**answer[0], "size": 127}, *answer[1:]],
    }[kept]
    foreign = ChildSpec("add_pieces", 0, bin=sys.executable, args=("-c", PROGRAM, json.dumps(changed)))
    with pytest.raises(WorkerError, match=sector.text) as failed:
        at_work(tmp_path, add, foreign)
    assert str(sizes) in failed.value.cause and failed.value.level is Level.PERMANENT


def test_a_stage_does_not_count_when_its_disk_was_swapped_while_it_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The staged file was written to the other disk, and the record of the sector said that it was there."""
    sector = seal(tmp_path, 1, deals=True)
    initialise(tmp_path / "two")
    add_pieces = stages._STAGES["add_pieces"]

    async def on_swapped_disks(*args: Any, **kwargs: Any) -> Any:
        (tmp_path / "store").rename(tmp_path / "aside")
        (tmp_path / "two").rename(tmp_path / "store")
        (tmp_path / "aside").rename(tmp_path / "two")
        return await add_pieces(*args, **kwargs)

    monkeypatch.setitem(stages._STAGES, "add_pieces", on_swapped_disks)

    async def add(there: Place) -> None:
        with pytest.raises(WorkerError, match="another file system or directory") as failed:
            await there.run("add_pieces", task_of(sector))
        assert there.store.replaced and failed.value.waits_for == f"the store at {there.store.root}"

    at_work(tmp_path, add)


def without_a_deal(piece: SectorPiece) -> SectorPiece:
    """The piece as of a direct deal whose data are not verified: no deal id, no allocation."""
    assert piece.deal_info is not None
    return replace(
        piece, deal_info=replace(piece.deal_info, deal_id=0, is_builtin_market=False, allocation_id=0)
    )


def test_a_direct_deal_without_an_allocation_gets_its_data(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1, deals=True)
    task = task_of(sector)
    deals = [piece if piece.is_pledge else without_a_deal(piece) for piece in sector.pieces]

    async def add(there: Place) -> Any:
        return await there.run("add_pieces", replace(task, deals=deals))

    wanted = [parse_cid(piece.piece.piece_cid.text)[1] for piece in deals]
    assert [bytes(info.commitment) for info in at_work(tmp_path, add)] == wanted


def test_a_piece_that_was_taken_for_a_filler_is_not_blamed_on_a_file(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1, deals=True)
    task = task_of(sector)
    deals = [replace(piece, deal_info=None) for piece in sector.pieces]

    async def add(there: Place) -> None:
        await there.run("add_pieces", replace(task, deals=deals))

    with pytest.raises(WorkerError, match="taken for a filler of zeros") as failed:
        at_work(tmp_path, add)
    assert "file" not in failed.value.next_step and failed.value.level is Level.PERMANENT


def test_a_pause_does_not_wait_for_a_download_that_has_stalled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stage was left to itself after five seconds, in the middle of its file."""
    sector = seal(tmp_path, 1, deals=True)
    release = threading.Event()

    async def add(there: Place) -> float:
        adding = asyncio.create_task(there.run("add_pieces", task_of(sector)))
        await until(lambda: bool(manager.requests))
        await asyncio.sleep(0.3)
        started = time.monotonic()
        adding.cancel()
        await asyncio.wait({adding})
        return time.monotonic() - started

    (tmp_path / "pieces").rename(tmp_path / "elsewhere")
    with serving(stalled(b"piece", release)) as manager:
        monkeypatch.setattr("tests.unit.sealing.bench.PieceStore", lambda *_: PieceStore([], manager.origin))
        took: float = at_work(tmp_path, add)
        release.set()
    assert took < ACTS

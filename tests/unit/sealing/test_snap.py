"""Encoding an update again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from damocles_worker.manager.types import AllocatedSector, SectorID
from damocles_worker.processors.tasks import PieceInfo, SnapEncodeOutput
from damocles_worker.sealing.machine.task import Task
from tests.e2e.sealed import MINER
from tests.unit.sealing.bench import Place, at_work


def test_the_update_of_an_earlier_run_takes_no_space_beside_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Space is reserved for one update: with two, the sector waited for space that never came."""
    sector = AllocatedSector(SectorID(MINER, 7), 5)

    async def encode(there: Place) -> bool:
        update = there.store.update(f"s-t0{MINER}-7")
        update.parent.mkdir(parents=True, exist_ok=True)
        update.write_bytes(bytes(2048))
        left = []

        async def compute(*_: Any) -> SnapEncodeOutput:
            left.append(update.exists())
            return SnapEncodeOutput([1] * 32, [2] * 32, [3] * 32)

        monkeypatch.setattr(there.bench, "compute", compute)
        await there.run("snap_encode", Task("snapup", sector=sector, snap_pieces=[PieceInfo([0] * 32, 2048)]))
        return left[0]

    assert not at_work(tmp_path, encode)

"""A disk that loses what was written to it after it has taken it: no damaged file gets its name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from damocles_worker import _native
from tests.unit.mounts import thin_disk
from tests.unit.native.sector import Sector


def test_pc2_fails_when_the_disk_loses_its_files(tmp_path: Path) -> None:
    """The error of the wait for the disk was passed over, and the flush after it knew of none.

    The replica was published with a hole, and missing windows were the first sign of it.
    """
    with thin_disk(tmp_path / "disk") as (disk, exhaust):
        sector = Sector(disk, "StackedDrg8MiBV1_1")
        pc1out = _native.pc1(sector.pc1_task(sector.stage_zeros()))
        staged = sector.sealed.read_bytes()
        os.sync()
        exhaust()
        with pytest.raises(_native.StageError, match=r"write /.*\.dat\.partial: "):
            _native.pc2(sector.pc2_task(pc1out))
        assert sector.sealed.read_bytes() == staged
        assert not list(sector.cache.glob("*tree-[cr]*.dat"))

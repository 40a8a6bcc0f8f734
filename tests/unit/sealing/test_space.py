"""Space that is promised to a sector before it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing.machine.task import Task
from damocles_worker.stores import space
from damocles_worker.stores.space import replica_bytes, update_bytes
from tests.unit.sealing.bench import Place, at_work

GIB = 1 << 30
#: The largest, of which the thread may get a sector.
SIZE = 64 * GIB
TRANSFER = ChildSpec("transfer", 0, envs={"DISABLE_LINK": "true"}, stable_wait=60.0)
UPDATE = update_bytes(SIZE)


@pytest.mark.parametrize(("children", "needed"), [((), UPDATE), ((TRANSFER,), UPDATE + replica_bytes(SIZE))])
def test_an_upgrade_whose_old_replica_is_copied_has_room_for_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, children: tuple[ChildSpec, ...], needed: int
) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _path: 1000 * GIB)

    async def reserve(there: Place) -> int:
        assert SIZE in await there.run("reserve_space", Task("snapup"))
        return 1000 * GIB - there.bench.services.space.free(there.store.root)

    assert at_work(tmp_path, reserve, *children) == needed

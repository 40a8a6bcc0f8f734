"""The old replica of an upgrade, from a store that goes away while a processor copies it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from damocles_worker.errors import WorkerError
from damocles_worker.sealing.stages import storing
from tests.e2e.sealed import seal
from tests.unit.sealing.bench import Place, at_work, task_of


@pytest.mark.parametrize("fails", [True, False])
def test_a_store_that_goes_away_while_the_old_replica_is_copied_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The thread stopped for good: "src path not exists", or went on with what lay there instead."""
    sector = seal(tmp_path, 1)

    async def main(there: Place) -> None:
        async def goes_away(_bench: Any, pairs: Any, *_: Any, **__: Any) -> None:
            for source, target in pairs:
                target.write_bytes(source.read_bytes())
            there.attached.root.rename(tmp_path / "away")
            there.attached.root.mkdir()
            if fails:
                raise WorkerError("src path not exists", next_step="Check the paths, then resume")

        monkeypatch.setattr(storing, "_by_child", goes_away)
        monkeypatch.setattr(type(there.bench.services.processors), "is_external", lambda *_: True)
        with pytest.raises(WorkerError, match="the attached store 'persist' is gone") as caught:
            await there.run("fetch_replica", task_of(sector, "snapup"))
        assert caught.value.waits_for == f"store 'persist' to be back at {there.attached.root}"

    at_work(tmp_path, main)

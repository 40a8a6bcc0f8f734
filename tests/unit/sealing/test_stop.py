"""SIGTERM at a bad moment: nothing that the manager handed out is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from damocles_worker.manager.types import AllocatedSector
from damocles_worker.sealing import thread
from damocles_worker.sealing.machine import task as records
from damocles_worker.stores.sealing import SealingStore
from tests.machine.world import JOB
from tests.unit.sealing.harness import SECTOR, Bench, Manager, hang, until


def slow(answer: object) -> object:
    async def call(*_: object) -> object:
        await asyncio.sleep(0.3)
        return answer

    return call


def stop_while_asking(bench: Bench, method: str) -> None:
    async def main() -> None:
        async with bench.running():
            await until(lambda: bench.manager.count(method) == 1)

    asyncio.run(main())


def test_a_sector_that_is_handed_out_while_the_worker_stops_is_in_the_journal(tmp_path: Path) -> None:
    location = tmp_path / "store"
    stop_while_asking(Bench(location, Manager(allocate_sector=slow(SECTOR))), "allocate_sector")
    store = SealingStore.open(location)
    record = store.journal.load()
    store.close()
    assert record is not None and records.decode(record).sector == AllocatedSector(SECTOR.id, 5)
    assert records.decode(record).state == "Allocated"


def test_a_job_that_is_handed_out_while_the_worker_stops_is_handed_back() -> None:
    manager = Manager(wdpost_allocate_jobs=slow([JOB]))
    stop_while_asking(Bench(None, manager, "wdpost"), "wdpost_allocate_jobs")
    assert manager.calls[-1] == ("wdpost_finish_job", ("job1", None, "the worker was stopped"))


def test_an_allocation_that_is_never_answered_does_not_keep_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(thread, "LAST_ANSWER_TIMEOUT", 0.1)
    stop_while_asking(Bench(tmp_path / "store", Manager(allocate_sector=hang)), "allocate_sector")
    assert "allocate_sector was not answered" in caplog.text

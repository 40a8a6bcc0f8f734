"""Where a thread keeps its task: what a run measured is there for the estimates of the next one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from damocles_worker.config.settings import Sealing
from damocles_worker.manager.types import AllocatedSector, SectorID, SectorStateResp
from damocles_worker.sealing import runner
from damocles_worker.sealing.machine.events import Dropped, Event, Instruction, Report, Save
from damocles_worker.sealing.machine.task import Task
from damocles_worker.sealing.records import StoreRecords
from damocles_worker.stores.sealing import SealingStore

PC1 = ("pc1", "StackedDrg2KiBV1_1", "builtin PC1")


def test_an_expected_duration_follows_the_newest_and_outlives_the_process(tmp_path: Path) -> None:
    store = SealingStore.open(str(tmp_path / "store"))
    records = StoreRecords(store)
    assert records.expected(PC1) is None
    records.measured(PC1, 100.0)
    assert records.expected(PC1) == 100.0
    records.measured(PC1, 200.0)
    assert records.expected(PC1) == 130.0
    records.commit(Save(None, "PC1", "PC1Done", "s-t01000-1", ""))
    store.close()
    again = SealingStore.open(str(tmp_path / "store"))
    assert StoreRecords(again).expected(PC1) == 130.0
    again.close()


def test_the_history_shows_no_password_of_a_destination(tmp_path: Path) -> None:
    store = SealingStore.open(str(tmp_path / "store"))
    StoreRecords(store).commit(
        Save(None, "UploadPiece", "Unsealed", "s-t01000-1", "http://me:sesame@host/piece?token=open")
    )
    (row,) = store.journal.history()
    assert row.detail == "http://***@host/piece?***"
    store.close()


def test_a_record_is_saved_while_a_dead_network_store_holds_every_thread(tmp_path: Path) -> None:
    store = SealingStore.open(str(tmp_path / "store"))
    nobody: Any = None
    thread = runner.Runner(nobody, nobody, "worker", None, asyncio.Event())
    save = Save(None, "PC1", "PC1Done", "s-t01000-1", "")
    answered = threading.Event()

    async def saved() -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
        asking = asyncio.create_task(asyncio.to_thread(answered.wait))
        await asyncio.sleep(0)
        try:
            await asyncio.wait_for(thread.settle([save], nobody, StoreRecords(store)), 10)
        finally:
            answered.set()
            await asking

    asyncio.run(saved())
    assert [row.event for row in store.journal.history()] == ["PC1"]
    store.close()


def test_a_sector_that_another_task_has_finished_is_no_news_to_an_unseal(tmp_path: Path) -> None:
    """It ended with "unexpected RuntimeError", and a drain with exit code 1."""
    store = SealingStore.open(str(tmp_path / "store"))
    sector = AllocatedSector(SectorID(1000, 1), 5)

    class Manager:
        async def report_state(self, *_: Any) -> SectorStateResp:
            return SectorStateResp(SectorID(1000, 1), finalized=True)

    nobody: Any = None
    place: Any = SimpleNamespace(policy=Sealing(), location="/mnt/s1")
    task = Task("unseal", state="Unsealed", sector=sector)
    report = Report(task, "Allocated", "Unsealed", "Unseal")
    save = Save(task, "Unseal", "Unsealed", "s-t01000-1", "")
    asking = Report(task, "Unsealed", "Unsealed", "Failure", confirm=True)
    manager: Any = Manager()

    async def settled(shared: bool, *todo: Instruction) -> Event | None:
        thread = runner.Runner(nobody, manager, "worker", None, asyncio.Event())
        return await thread.settle(list(todo), place, StoreRecords(store), shared=shared)

    assert isinstance(asyncio.run(settled(False, report, save)), Dropped)
    assert store.journal.load() is None
    assert asyncio.run(settled(True, report, save)) is None
    assert store.journal.load() is not None
    assert isinstance(asyncio.run(settled(True, asking)), Dropped)
    store.close()

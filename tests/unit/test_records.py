"""Where a thread keeps its task: what a run measured is there for the estimates of the next one."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from damocles_worker.sealing import runner
from damocles_worker.sealing.machine.events import Save
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

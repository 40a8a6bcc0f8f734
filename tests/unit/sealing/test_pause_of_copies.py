"""Copies that are paused while a disk does not answer."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.sealed import seal
from tests.unit.sealing.bench import Place, at_work, task_of


def test_a_pause_does_not_wait_until_a_slow_disk_has_made_a_copy_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took as long as the fsync of a replica, or five seconds."""
    sector = seal(tmp_path, 1)
    begun, on = threading.Event(), threading.Event()
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            begun.set()
            on.wait()
        fsync(descriptor)

    async def story(there: Place) -> None:
        processors: Any = there.bench.services.processors
        # Longer than any test: whoever waits for the copy waits for ever.
        processors._inprocess._grace = 3600.0
        for path in (there.store.sealed(sector.text), there.store.cache_dir(sector.text)):
            path.parent.mkdir(parents=True, exist_ok=True)
        persisted = there.attached.sealed(sector.text)
        persisted.rename(there.store.sealed(sector.text))
        there.attached.cache_dir(sector.text).rename(there.store.cache_dir(sector.text))
        monkeypatch.setattr(os, "fsync", slow)
        copying = asyncio.create_task(there.run("persist", task_of(sector), instance="persist"))
        await asyncio.to_thread(begun.wait)
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
        on.set()
        # What goes on by itself puts nothing in its place, and a resume begins anew.
        await there.run("persist", task_of(sector), instance="persist")
        assert persisted.read_bytes() == there.store.sealed(sector.text).read_bytes()
        assert [path.name for path in persisted.parent.iterdir()] == [sector.text]

    at_work(tmp_path, story)

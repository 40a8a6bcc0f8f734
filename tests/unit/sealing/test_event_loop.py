"""A file system that hangs stops the sector that needs it, and nothing else of the daemon."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from damocles_worker.errors import WorkerError
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.sealing.machine.task import Task
from tests.e2e.sealed import seal
from tests.processors.support import until
from tests.unit.sealing.bench import Place, at_work, task_of

CALLS = ("stat", "lstat", "mkdir", "unlink", "symlink", "rename", "scandir", "open")
TRANSFER = ChildSpec("transfer", 0, stable_wait=60.0)
ADD_PIECES = ChildSpec("add_pieces", 0, stable_wait=60.0)


async def add_pieces_and_tree_d(there: Place, task: Task) -> None:
    for _twice in range(2):
        await there.run("add_pieces", task)
        await there.run("tree_d", task)


async def static_tree_d(there: Place, task: Task) -> None:
    tree = there.store.root.parent / "tree_d"
    await asyncio.to_thread(tree.touch)
    there.bench.services.static_tree_d[2048] = str(tree)
    await there.run("tree_d", replace(task, deals=[]))


async def unseal_and_upload(there: Place, task: Task) -> None:
    await there.run("unseal", task)
    await there.run("upload", task, url="store://persist/unsealed/piece")


async def fetch_replica(there: Place, task: Task) -> None:
    await there.run("fetch_replica", task)


async def unseal_update(there: Place, task: Task) -> None:
    # There is no update: what counts is who looks for the files.
    with pytest.raises(WorkerError, match="SnapDecode"):
        await there.run("unseal_update", task, instance="persist", comm_d_new=[0] * 32, comm_r_old=[0] * 32)


@pytest.mark.parametrize(
    ("work", "children"),
    [
        (add_pieces_and_tree_d, ()),
        (add_pieces_and_tree_d, (ADD_PIECES,)),
        (static_tree_d, ()),
        (unseal_and_upload, ()),
        (unseal_and_upload, (TRANSFER,)),
        (unseal_update, ()),
        (fetch_replica, ()),
        (fetch_replica, (TRANSFER,)),
    ],
)
def test_no_stage_touches_a_file_system_on_the_event_loop(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[Place, Task], Coroutine[Any, Any, None]],
    children: tuple[ChildSpec, ...],
) -> None:
    sector = seal(tmp_path, 1, deals=True)
    if work is unseal_update:
        (tmp_path / "persist/update").mkdir()
        (tmp_path / "persist/update" / sector.text).write_bytes(bytes(2048))
    blocked: list[str] = []

    async def main(there: Place) -> None:
        loop = threading.get_ident()
        for name in CALLS:
            original = getattr(os, name)

            def called(path: Any, *rest: Any, _call: Any = original, _name: str = name, **more: Any) -> Any:
                if threading.get_ident() == loop and str(path).startswith(str(tmp_path)):
                    blocked.append(f"{_name} {path}")
                return _call(path, *rest, **more)

            monkeypatch.setattr(os, name, called)
        try:
            await work(there, task_of(sector))
        finally:
            monkeypatch.undo()

    at_work(tmp_path, main, *children)
    assert not blocked


def test_the_loop_goes_on_while_a_directory_of_pieces_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sector = seal(tmp_path, 1, deals=True)
    asked, answer = threading.Event(), threading.Event()
    is_file = Path.is_file

    def hanging(path: Path) -> bool:
        if path.parent == tmp_path / "pieces":
            asked.set()
            assert answer.wait(20), "nothing else went on"
        return is_file(path)

    async def main(there: Place) -> None:
        monkeypatch.setattr(Path, "is_file", hanging)
        stage = asyncio.ensure_future(there.run("add_pieces", task_of(sector)))
        await until(asked.is_set)
        for _tick in range(10):
            await asyncio.sleep(0.005)
        assert not stage.done()
        answer.set()
        await stage

    at_work(tmp_path, main)

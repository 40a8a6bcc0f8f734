"""Stages in this process: threads, failures, cancelling."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from damocles_worker._native import Cancel, Cancelled, StageError
from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors.inprocess import STAGES, InProcess

Progress = Callable[[int, int], None]


def executor(
    function: Callable[[bytes, Progress | None, Cancel | None], bytes], grace: float = 5.0
) -> InProcess:
    return InProcess({"pc1": function}, grace)


def test_output_and_progress_of_a_stage() -> None:
    def stage(task: bytes, progress: Progress | None, _cancel: Cancel | None) -> bytes:
        assert progress is not None
        progress(1, 2)
        return task + b"!"

    reports: list[tuple[int, int]] = []
    run = executor(stage).run("pc1", b"task", progress=lambda *report: reports.append(report))
    assert asyncio.run(run) == b"task!"
    assert reports == [(1, 2)]


def test_every_stage_has_a_name() -> None:
    names = [InProcess().name(stage) for stage in STAGES]
    assert names[:4] == ["builtin AddPieces", "builtin TreeD", "builtin PC1", "builtin PC2"]
    assert len(set(names)) == len(STAGES)


def test_stages_run_side_by_side_in_threads_of_their_own() -> None:
    """Far more than the default pool of the event loop has threads."""
    together = threading.Barrier(40)

    def stage(_task: bytes, _progress: Progress | None, _cancel: Cancel | None) -> bytes:
        together.wait(timeout=60)
        return threading.current_thread().name.encode()

    async def main() -> list[bytes]:
        runs = [executor(stage).run("pc1", b"") for _ in range(40)]
        return await asyncio.gather(*runs)

    assert asyncio.run(main()) == [b"pc1"] * 40


def test_failure_is_permanent_and_explained() -> None:
    def stage(_task: bytes, _progress: Progress | None, _cancel: Cancel | None) -> bytes:
        raise StageError("create file: No space left on device (os error 28)")

    with pytest.raises(WorkerError, match="builtin PC1 failed: create file") as caught:
        asyncio.run(executor(stage).run("pc1", b""))
    assert caught.value.level is Level.PERMANENT
    assert caught.value.waits_for is not None
    assert caught.value.waits_for.startswith("space")


def test_cancelled_task_tells_the_stage_and_waits_for_it() -> None:
    ended = threading.Event()

    def stage(_task: bytes, _progress: Progress | None, cancel: Cancel | None) -> bytes:
        assert cancel is not None
        while not cancel.cancelled:
            ended.wait(0.001)
        ended.set()
        raise Cancelled("stopped")

    async def main() -> None:
        task = asyncio.create_task(executor(stage, grace=60.0).run("pc1", b""))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    asyncio.run(main())


def test_stage_that_can_not_be_cancelled_is_abandoned() -> None:
    release = threading.Event()
    ended = threading.Event()

    def stage(_task: bytes, _progress: Progress | None, _cancel: Cancel | None) -> bytes:
        assert threading.current_thread().daemon, "the process must be able to exit"
        release.wait(60)
        ended.set()
        return b""

    async def main() -> None:
        task = asyncio.create_task(executor(stage, grace=0.01).run("pc1", b""))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not ended.is_set()

    asyncio.run(main())
    release.set()
    assert ended.wait(60)


def test_flag_set_by_somebody_else() -> None:
    def stage(_task: bytes, _progress: Progress | None, cancel: Cancel | None) -> bytes:
        assert cancel is not None and cancel.cancelled
        raise Cancelled("stopped")

    flag = Cancel()
    flag.cancel()
    with pytest.raises(Cancelled):
        asyncio.run(executor(stage).run("pc1", b"", cancel=flag))


def test_other_work_in_a_thread() -> None:
    async def main() -> str:
        return await InProcess().call("transfer", lambda cancel: f"{cancel.cancelled}")

    assert asyncio.run(main()) == "False"
    with pytest.raises(WorkerError, match="no space"):

        def fail(_cancel: Cancel) -> None:
            raise WorkerError("no space", next_step="Free some")

        asyncio.run(InProcess().call("transfer", fail))


def test_real_stages(tmp_path: Path) -> None:
    """A sector without pieces: a hole of sector size, the zero commitment, and its tree."""
    staged = tmp_path / "staged"
    add = {"seal_proof_type": "StackedDrg2KiBV1_1", "pieces": [], "staged_filepath": str(staged)}
    tree = {
        "registered_proof": "StackedDrg2KiBV1_1",
        "staged_file": str(staged),
        "cache_dir": str(tmp_path),
    }
    clear = {"registered_proof": "StackedDrg2KiBV1_1", "cache_path": str(tmp_path)}

    async def main() -> None:
        stages = InProcess()
        (piece,) = json.loads(await stages.run("add_pieces", json.dumps(add).encode()))
        assert bytes(piece["commitment"]).hex().startswith("fc7e9282")
        assert await stages.run("tree_d", json.dumps(tree).encode()) == b"true"
        assert (tmp_path / "sc-02-data-tree-d.dat").stat().st_size == 2 * 2048 - 32
        assert await stages.run("clear_cache", json.dumps(clear).encode()) == b"null"
        with pytest.raises(WorkerError, match="builtin PC1 failed"):
            await stages.run("pc1", b"{}")

    asyncio.run(main())
    assert staged.stat().st_size == 2048

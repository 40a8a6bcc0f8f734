"""The executor: who runs a stage, what a lease is for, what a cancelled request leaves behind."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from damocles_worker import _native
from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.sealing.machine.events import AcquireLimit
from damocles_worker.sealing.runner import Runner
from damocles_worker.sealing.stages import Workbench
from tests.processors.support import ask, pool, run, stub, until


def test_stage_without_children_runs_in_process() -> None:
    async def main() -> None:
        inprocess = InProcess({"c1": lambda task, _progress, _cancel: task + b"!"})
        running = Pool({}, Scheduler({}, {}), inprocess)
        await running.start()
        assert await running.run("c1", b"task") == b"task!"
        assert await running.call("transfer", lambda _cancel: 3) == 3
        assert running.name("c1") == "builtin C1"
        assert not running.is_external("c1")
        assert running.status() == []
        await running.stop()

    run(main())


def test_lease_names_the_child_and_frees_it_with_the_answer() -> None:
    async def main() -> None:
        scheduler = Scheduler({"pc2": 1}, {}, {"gpu": 1})
        specs = [stub("pc2", index=index, concurrent=1, locks=("gpu",)) for index in range(2)]
        async with pool(*specs, stub("c2", locks=("gpu",)), scheduler=scheduler) as running:
            assert running.name("pc2") == "ext(2 children)"
            async with scheduler.hold("pc2") as lease:
                name = running.name("pc2", lease)
                output = await running.run("pc2", b'{"do":"report"}', lease=lease)
                assert f'"pid": {name[len("ext(pid: ") : -1]}'.encode() in output
                # The place in the stage is still held; the lock is free.
                assert await ask(running, "c2", do="echo", value=1) == 1
                # A second run under the same place finds a child of its own.
                assert running.name("pc2", lease) == name, "who did the work is known afterwards"
                assert await running.run("pc2", b'{"do":"echo","value":2}', lease=lease) == b"2"

    run(main())


def test_lease_on_a_child_that_went_down_is_no_place_to_wait_in() -> None:
    """The place in the stage is another's, who has a child for it."""

    async def main() -> None:
        scheduler = Scheduler({"pc1": 1}, {})
        async with (
            pool(stub(concurrent=1), scheduler=scheduler) as running,
            scheduler.hold("pc1") as lease,
        ):
            pid = running.status()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            assert lease.slot is not None
            await until(lambda: lease.slot is not None and not lease.slot.up)
            with pytest.raises(WorkerError, match="went down before it got its task") as caught:
                await running.run("pc1", b'{"do":"echo","value":1}', lease=lease)
            assert caught.value.level is Level.TEMPORARY
            assert caught.value.waits_for == "a processor of pc1"

    run(main())


def test_child_and_locks_of_a_cancelled_request_are_free_when_its_work_is_over(tmp_path: Path) -> None:
    """A program of others can't be told to stop: after a pause and a resume two of them wrote one file."""

    async def main() -> None:
        scheduler = Scheduler({"tree_d": 3}, {}, {"disk": 2})
        async with pool(stub("tree_d", concurrent=2, locks=("disk",)), scheduler=scheduler) as running:

            async def one(owner: str) -> None:
                task = json.dumps({"do": "when", "file": str(tmp_path / owner)}).encode()
                async with scheduler.hold("tree_d") as lease:
                    await running.run("tree_d", task, lease=lease, owner=owner)

            def held() -> list[int]:
                return [usage.held for usage in scheduler.usage()]

            keeps_it_alive = asyncio.create_task(one("b"))
            paused = asyncio.create_task(one("a"))
            await until(lambda: running.status()[0].tasks == 2)
            paused.cancel()
            await asyncio.wait({paused})
            assert running.status()[0].tasks == 2, "a pause acts at once"
            assert held() == [2, 2], "stage and lock"
            await running.settled("b")
            again = asyncio.create_task(running.settled("a"))
            await asyncio.sleep(0.1)
            assert not again.done() and held() == [2, 2]
            (tmp_path / "a").touch()
            await again
            assert running.status()[0].tasks == 1 and held() == [1, 1]
            (tmp_path / "b").touch()
            await keeps_it_alive
            assert running.status()[0].restarts == 0, "it answered: there was no reason to end it"

    run(main())


def test_thread_asks_for_a_new_place_when_its_cancelled_request_is_over(tmp_path: Path) -> None:
    async def main() -> None:
        scheduler = Scheduler({"tree_d": 3}, {})
        async with pool(stub("tree_d"), scheduler=scheduler) as running:
            services: Any = SimpleNamespace(processors=running, limits=scheduler)
            store: Any = SimpleNamespace(root="/mnt/a")
            nothing: Any = None
            bench = Workbench(services, store, nothing)
            runner = Runner(services, nothing, "worker", None, asyncio.Event())
            others = asyncio.create_task(ask(running, "tree_d", do="when", file=str(tmp_path / "others")))
            task = {"do": "when", "file": str(tmp_path / "cut")}
            cut = asyncio.create_task(bench.run_raw("tree_d", task, lambda _done, _total: None))
            await until(lambda: running.status()[0].tasks == 2)
            cut.cancel()
            await asyncio.wait({cut})
            event = runner.begin(AcquireLimit("tree_d"), bench, nothing)
            await asyncio.sleep(0.1)
            assert not event.done() and not any(usage.waiting for usage in scheduler.usage())
            (tmp_path / "cut").touch()
            await event
            assert running.status()[0].tasks == 1 and bench.lease is not None
            await runner.release()
            (tmp_path / "others").touch()
            await others

    run(main())


def test_cancel_flag_ends_a_request() -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            flag = _native.Cancel()
            task = asyncio.create_task(running.run("pc1", b'{"do":"silent"}', cancel=flag))
            await until(lambda: running.status()[0].tasks == 1)
            flag.cancel()
            with pytest.raises(_native.Cancelled):
                await task

    run(main())


def test_stop_ends_all_children_and_running_requests() -> None:
    async def main() -> None:
        async with pool(stub(), stub("c2")) as running:
            pids = [status.pid for status in running.status()]
            task = asyncio.create_task(ask(running, do="silent"))
            await until(lambda: running.status()[0].tasks == 1)
            await running.stop()
            with pytest.raises(WorkerError, match="was stopped while it worked on request 1"):
                await task
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    run(main())


def test_cancelled_request_leaves_nothing_to_complain_about() -> None:
    complaints: list[dict[str, Any]] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        async with pool(stub()) as running:
            task = asyncio.create_task(ask(running, do="silent"))
            await until(lambda: running.status()[0].tasks == 1)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled()
        del task
        gc.collect()

    run(main())
    assert complaints == []


def test_passing_lack_of_descriptors_does_not_end_the_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            opened = os.pidfd_open
            left = [2]

            def pidfd_open(pid: int) -> int:
                if left[0]:
                    left[0] -= 1
                    raise OSError(24, "Too many open files")
                return opened(pid)

            monkeypatch.setattr(os, "pidfd_open", pidfd_open)
            with pytest.raises(WorkerError):
                await ask(running, do="exit", status=1)
            assert await ask(running, do="echo", value=1) == 1
            assert "Too many open files" in running.status()[0].last_error

    run(main())


def test_limit_of_threads_does_not_end_the_restarts_nor_leave_requests_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A service has a limit of tasks; the processor stayed away for good, its requests waited for ever."""

    async def main() -> None:
        async with pool(stub()) as running:
            asked = [asyncio.create_task(ask(running, do="silent"))]
            await until(lambda: running.status()[0].tasks == 1)
            asked.append(asyncio.create_task(ask(running, do="exit", status=1)))
            started = threading.Thread.start

            def no_threads(_thread: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            # Idle threads of the loop would do what needs a new one.
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
            monkeypatch.setattr(threading.Thread, "start", no_threads)
            for task in asked:
                with pytest.raises(WorkerError, match="exited with status 1"):
                    await task
            await until(lambda: running.status()[0].restarts >= 2)
            assert "can't start new thread" in running.status()[0].last_error
            monkeypatch.setattr(threading.Thread, "start", started)
            assert await ask(running, do="echo", value=1) == 1

    run(main())


@pytest.mark.parametrize("moment", [0.0, 0.005, 0.015, 0.03])
def test_stop_while_a_child_is_started_again_leaves_nothing(moment: float) -> None:
    async def main() -> None:
        async with pool(stub(), stub("c2", before="slow:0.01")) as running:
            for stage in ("pc1", "c2"):
                with pytest.raises(WorkerError):
                    await ask(running, stage, do="exit", status=1)
            await asyncio.sleep(moment)

    run(main())
    assert not Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def test_shared_lock_is_never_held_by_two_children(tmp_path: Path) -> None:
    """Each stub takes a file lock for every lock of its entry, and fails if another process holds it."""

    async def main() -> None:
        scheduler = Scheduler({}, {}, {"gpu1": 1, "gpu2": 1})
        tables = {
            ("pc2", 0): ("gpu1",),
            ("pc2", 1): ("gpu2",),
            ("c2", 0): ("gpu1",),
            ("c2", 1): ("gpu2",),
            ("c2", 2): ("gpu2", "gpu1"),
        }
        specs = [
            stub(stage, index=index, locks=locks, lock_files=tmp_path)
            for (stage, index), locks in tables.items()
        ]
        async with pool(*specs, scheduler=scheduler) as running:
            by_pid = {status.pid: status.locks for status in running.status()}

            async def one(stage: str) -> int:
                async with scheduler.hold(stage) as lease:
                    output = await running.run(stage, b'{"do":"locks","seconds":0.01}', lease=lease)
                    return int(json.loads(output)["pid"])

            pids = await asyncio.gather(*(one(stage) for _ in range(12) for stage in ("pc2", "c2")))
            used = {lock for pid in pids for lock in by_pid[pid]}
            assert used == {"gpu1", "gpu2"}, "no GPU stays idle"
            assert {path.name for path in tmp_path.iterdir()} == used, "the stubs took file locks"

    run(main())

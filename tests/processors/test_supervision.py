"""Children that end are started again, in their place, with the same rights and duties."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors.spec import ChildSpec
from damocles_worker.processors.supervisor import Supervisor
from tests.processors.support import ask, pool, run, stub, until
from tests.unit import virtual_time


def test_killed_child_comes_back_and_its_task_may_be_tried_again() -> None:
    async def main() -> None:
        async with pool(stub(concurrent=3)) as running:
            tasks = [asyncio.create_task(ask(running, do="silent")) for _ in range(3)]
            await until(lambda: running.status()[0].tasks == 3)
            waiting = asyncio.create_task(ask(running, do="echo", value="served by the next"))
            first = running.status()[0].pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            for task in tasks:
                with pytest.raises(WorkerError, match="was killed by SIGKILL") as caught:
                    await task
                assert caught.value.level is Level.TEMPORARY
            assert await waiting == "served by the next"
            status = running.status()[0]
            assert status.restarts == 1
            assert status.pid != first
            assert f"ext(pid: {first}) was killed by SIGKILL" in status.last_error
            assert running.name("pc1") == f"ext(pid: {status.pid})"

    run(main())


def test_start_that_fails_is_tried_for_ever_with_growing_pauses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    caplog.set_level(logging.WARNING)

    async def main() -> None:
        async with pool(stub(before=f"once:{broken}")) as running:
            broken.touch()
            with pytest.raises(WorkerError):
                await ask(running, do="exit", status=1)
            await until(lambda: running.status()[0].restarts >= 4)
            assert "exited with status 5 before it was ready" in running.status()[0].last_error
            waiting = asyncio.create_task(ask(running, do="echo", value="back"))
            broken.unlink()
            assert await waiting == "back"

    run(main())
    pauses = [text.split()[-2] for text in caplog.messages if "starting it again in" in text]
    assert pauses[:4] == ["0.01", "0.02", "0.04", "0.08"]


def test_pauses_end_at_a_minute(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A program that can't be started for hours, in virtual time."""

    async def main() -> None:
        ended = asyncio.get_running_loop().create_future()
        requests = SimpleNamespace(answered=0, troubles=0)
        first = SimpleNamespace(
            pid=1, name="ext(pid: 1)", ended=ended, requests=requests, is_up=True, started_at=time.monotonic()
        )
        left = [first]

        async def start(*_arguments: object) -> SimpleNamespace:
            if left:
                return left.pop()
            raise WorkerError("no such program", next_step="Wait")

        monkeypatch.setattr("damocles_worker.processors.parent.start", start)
        isolation: Any = None
        keeper = Supervisor(stub(), isolation, lambda _up: None, lambda _why: None)
        await keeper.start()
        ended.set_result("exited with status 1")
        await asyncio.sleep(3600)
        await keeper.stop()

    virtual_time.run(main())
    pauses = [float(text.split()[-2]) for text in caplog.messages if "starting it again in" in text]
    assert pauses[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert set(pauses[8:]) == {60} and 64 <= len(pauses) <= 66


def test_without_auto_restart_requests_fail_with_the_cause() -> None:
    async def main() -> None:
        async with pool(stub(auto_restart=False)) as running:
            waiting = asyncio.create_task(ask(running, do="silent"))
            await until(lambda: running.status()[0].tasks == 1)
            with pytest.raises(WorkerError, match="exited with status 7"):
                await ask(running, do="exit", status=7)
            with pytest.raises(WorkerError, match="exited with status 7"):
                await waiting
            with pytest.raises(WorkerError, match=r"no processor of pc1 is left: .* status 7"):
                await ask(running, do="echo", value=1)
            assert running.status()[0].state == "ended"

    run(main())


def test_the_other_child_does_the_work_while_one_is_down(tmp_path: Path) -> None:
    broken = tmp_path / "broken"

    async def main() -> None:
        async with pool(stub(before=f"once:{broken}", concurrent=9), stub(index=1, concurrent=1)) as running:
            broken.touch()
            with pytest.raises(WorkerError):
                await ask(running, do="exit", status=1)
            second = running.status()[1].pid
            for _ in range(3):
                assert (await ask(running, do="report"))["pid"] == second

    run(main())


def test_request_ids_go_on_over_restarts() -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            await ask(running, do="echo", value=1)
            for number in (2, 3):
                with pytest.raises(WorkerError, match=f"on request {number}$|on request {number}\\."):
                    await ask(running, do="exit", status=1)

    run(main())


def test_environment_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_DAEMON", "1")
    monkeypatch.setenv("WINS", "daemon")

    async def main() -> None:
        inherits = stub(envs={"WINS": "envs", "VENUS_WORKER_NUMA_PREFERRED": "7"}, numa_preferred=0)
        clean = stub("c2", envs={"ONLY": "this"}, inherit_envs=False, cpuset="0", cpus=frozenset({0}))
        async with pool(inherits, clean) as running:
            got = (await ask(running, do="report"))["environment"]
            assert got["FROM_DAEMON"] == "1"
            assert got["WINS"] == "envs"
            assert got["VENUS_WORKER_NUMA_PREFERRED"] == "7", "envs are stronger than what the worker adds"
            assert "DAMOCLES_WORKER_CONTROL_FD" not in got, "a binary of others gets no control channel"
            got = (await ask(running, "c2", do="report"))["environment"]
            expected = {
                "ONLY": "this",
                "VC_CG_NAME": f"vc-worker/sub-c2-{os.getpid()}-0",
                "VC_CG_CPUSET": "0",
            }
            assert {name: got[name] for name in expected} == expected
            # What Python itself adds at its start is all there is besides.
            assert got.keys() - expected.keys() <= {"LC_CTYPE"}
            # The environment of this moment counts: worker set-env reaches a restarted child.
            monkeypatch.setenv("FROM_DAEMON", "2")
            with pytest.raises(WorkerError):
                await ask(running, do="exit", status=1)
            assert (await ask(running, do="report"))["environment"]["FROM_DAEMON"] == "2"

    run(main())


def test_default_arguments_are_given_to_other_programs_too() -> None:
    assert ChildSpec("c2", 0, bin="/opt/c2").command() == ["/opt/c2", "processor", "c2"]
    assert ChildSpec("c2", 0, bin="/opt/c2", args=("run",)).command() == ["/opt/c2", "run"]
    assert ChildSpec("pc1", 0).command()[-2:] == ["processor", "pc1"]
    assert ChildSpec("sealing_daemons", 2, bin="/x").group(17) == "vc-worker/sub-EMPTY-17-2"


def test_sealing_daemon_is_kept_alive() -> None:
    async def main() -> None:
        async with pool(stub("sealing_daemons")) as running:
            status = running.status()[0]
            assert (status.path, status.stage, status.state) == (
                "processors.sealing_daemons[0]",
                "EMPTY",
                "ready",
            )
            assert status.pid is not None
            assert not running.is_external("sealing_daemons")
            os.kill(status.pid, signal.SIGTERM)
            await until(lambda: running.status()[0].restarts == 1 and running.status()[0].state == "ready")
            assert "was killed by SIGTERM" in running.status()[0].last_error

    run(main())


# ---- enable-dump ----------------------------------------------------------------------------------


def test_dump_keeps_working_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "dumps"

    async def main() -> None:
        async with pool(stub()) as running:
            first = running.status()[0].pid
            assert first is not None
            monkeypatch.setenv(f"DUMP_ERR_RESP_{first}", str(target))
            await ask(running, do="noise")
            with pytest.raises(WorkerError):
                await ask(running, do="exit", status=1)
            await ask(running, do="noise")
            second = running.status()[0].pid
            names = sorted(path.name.rpartition("-")[0] for path in target.iterdir())
            assert names == sorted(f"ext-processor-err-resp-{pid}" for pid in (first, second))
            assert {path.read_bytes() for path in target.iterdir()} == {b"hello from a library that prints"}
            assert str(target) in running.status()[0].last_error
            # Whoever still knows the first pid switches the present child.
            name = running.dump_variable(f"DUMP_ERR_RESP_{first}")
            assert name == f"DUMP_ERR_RESP_{second}"
            assert running.dump_variable("DUMP_ERR_RESP_1") == "DUMP_ERR_RESP_1"
            assert running.dump_variable("RUST_LOG") == "RUST_LOG"
            monkeypatch.delenv(name)
            await ask(running, do="noise")
            assert len(list(target.iterdir())) == 2

    run(main())


def test_dump_into_a_file_is_logged_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()

    async def main() -> None:
        async with pool(stub()) as running:
            monkeypatch.setenv(f"DUMP_ERR_RESP_{running.status()[0].pid}", str(tmp_path / "file"))
            assert await ask(running, do="noise") is True

    run(main())
    assert "can't be dumped" in caplog.text

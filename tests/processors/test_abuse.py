"""Whatever a child does, a request ends with a named cause, and other requests go on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from damocles_worker.errors import Level, WorkerError
from damocles_worker.processors import protocol
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.spec import ChildSpec
from tests.processors.support import ask, is_alive, pool, run, stub, until


async def failure(running: Pool, **task: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        await ask(running, **task)
    return caught.value


@pytest.mark.parametrize(
    ("task", "cause"),
    [
        ({"do": "exit", "status": 3}, r"ext\(pid: \d+\) exited with status 3 while it worked on request 1"),
        ({"do": "signal", "number": signal.SIGSEGV}, "was killed by SIGSEGV .* while it worked on request 1"),
        ({"do": "signal", "number": signal.SIGABRT}, "was killed by SIGABRT .* while it worked on request 1"),
        ({"do": "signal", "number": signal.SIGKILL}, "was killed by SIGKILL .* while it worked on request 1"),
        ({"do": "half_and_die"}, r"status 3 in the middle of a line \(37 bytes of it came\) while it worked"),
        ({"do": "close"}, "closed its output but went on while it worked on request 1"),
        ({"do": "wrong_id"}, "answered request 1001, which was never sent, in place of request 1"),
        ({"do": "unreadable"}, "answered request 1 with a line that can't be read: .*'{\"id\":1,"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("uv", [True, False])
def test_request_ends_with_its_cause_and_the_next_one_is_served(
    task: dict[str, Any], cause: str, uv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("damocles_worker.processors.parent.EXIT_GRACE", 0.1)

    async def main() -> None:
        async with pool(stub()) as running:
            error = await failure(running, **task)
            assert re.search(cause, error.cause)
            assert error.level is Level.TEMPORARY, "the plan's retry budget tries it again"
            assert await ask(running, do="echo", value=5) == 5

    run(main(), uv=uv)


def test_failed_stage_is_permanent_and_explained() -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            error = await failure(
                running, do="fail", text="create file: No space left on device (os error 28)"
            )
            assert error.level is Level.PERMANENT
            assert error.cause.startswith(running.name("pc1") + " failed: create file")
            assert error.waits_for is not None
            error = await failure(running, do="empty")
            assert "neither output nor error (output field lost)" in error.cause
            assert running.status()[0].restarts == 0

    run(main())


def test_noise_is_shown_and_the_answer_still_counts() -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            assert await ask(running, do="noise") is True
            status = running.status()[0]
            assert status.bad_lines == 1
            assert "'hello from a library that prints'" in status.last_error
            assert await ask(running, do="twice") is True
            await until(lambda: running.status()[0].bad_lines == 2)
            assert "answered request 2 again" in running.status()[0].last_error
            assert await ask(running, do="echo", value=1) == 1
            assert running.status()[0].restarts == 0

    run(main())


def test_wrong_id_among_others_ends_the_right_request() -> None:
    """Which request a stray answer was for is known once the others are answered; these go on."""

    async def main() -> None:
        async with pool(stub()) as running:
            long = asyncio.create_task(ask(running, do="echo", value="long", seconds=0.4))
            await asyncio.sleep(0.1)
            error = await failure(running, do="wrong_id")
            assert long.done() and await long == "long"
            assert "in place of request 2" in error.cause

    run(main())


def test_request_to_a_child_that_closed_its_input_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("damocles_worker.processors.parent.EXIT_GRACE", 0.1)
    script = 'echo "c2 processor ready"; exec 0<&-; exec sleep 600'

    async def main() -> None:
        async with pool(ChildSpec("c2", 0, bin="/bin/sh", args=("-c", script))) as running:
            await asyncio.sleep(0.1)
            with pytest.raises(
                WorkerError, match="closed its input but went on while it worked on"
            ) as caught:
                await running.run("c2", b"{}")
            assert caught.value.level is Level.TEMPORARY
            await until(lambda: running.status()[0].restarts == 1)

    run(main())


def test_list_says_for_what_a_child_was_ended() -> None:
    async def main() -> None:
        async with pool(stub(answer_timeout=0.1)) as running:
            await failure(running, do="silent")
            await until(lambda: running.status()[0].last_error)
            assert re.search(
                r"was ended: did not answer request 1 within 0\.1 s \(answer_timeout\)$",
                running.status()[0].last_error,
            )

    run(main())


def test_request_answered_under_the_id_of_an_earlier_one_ends() -> None:
    """A script that writes ``"id":1`` into every answer: its second request waited for ever."""

    async def main() -> None:
        async with pool(stub()) as running:
            assert await ask(running, do="same_id") is True
            error = await failure(running, do="same_id")
            assert error.cause.endswith("answered request 1 again in place of request 2")
            assert error.level is Level.TEMPORARY
            assert await ask(running, do="echo", value=5) == 5

    run(main())


def test_answer_behind_noise_on_its_line_is_taken() -> None:
    """A library that prints progress without a line end: the request waited for ever."""

    async def main() -> None:
        async with pool(stub()) as running:
            for text in (
                'progress 10%%{"id":%d,"err_msg":null,"output":{"at":[{"id":7}]}}',
                'progress 10%%{"err_msg":null,"output":{"at":[{"id":7}]},"id":%d}',
            ):
                assert await ask(running, do="line", text=text) == {"at": [{"id": 7}]}
                assert (
                    "printed 'progress 10%' before an answer, on the same" in running.status()[0].last_error
                )
            assert running.status()[0].restarts == 0

    run(main())


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ('{"output":tru,"id":%d}', "answered request 1 with a line that can't be read"),
        ('{"err_msg":null,"id":%d,"output":fals}', "answered request 1 with a line that can't be read"),
        (
            '{"err_msg":"x","output":null}%.0s',
            """answered without an id ('{"err_msg":"x","output":null}') in place of request 1""",
        ),
        (
            '{"id":"%d","output":true}',
            """answered without an id ('{"id":"1","output":true}') in place of request 1""",
        ),
    ],
)
def test_request_whose_answer_has_no_id_in_its_place_ends(text: str, cause: str) -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            error = await failure(running, do="line", text=text)
            assert cause in error.cause
            assert error.level is Level.TEMPORARY
            assert await ask(running, do="echo", value=5) == 5

    run(main())


def test_noise_with_an_id_in_it_ends_no_request(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            waiting = asyncio.create_task(ask(running, do="when", file=str(tmp_path / "f"), value="at last"))
            await until(lambda: running.status()[0].tasks == 1)
            for text in ('request "id": 1, started%.0s', '{"step": {"id": 1}, %.0s'):
                lost = asyncio.create_task(ask(running, do="line", text=text))
            await until(lambda: running.status()[0].bad_lines == 2)
            (tmp_path / "f").touch()
            assert await waiting == "at last"
            assert running.status()[0].restarts == 0
            lost.cancel()

    run(main())


def test_child_that_prints_without_end_neither_stops_the_daemon_nor_fills_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    script = 'echo "c2 processor ready"; read -r request; exec yes'

    async def main() -> float:
        endless = ChildSpec("c2", 0, bin="/bin/sh", args=("-c", script))
        async with pool(endless, stub()) as running:
            asked = asyncio.create_task(running.run("c2", b"{}"))
            began = time.monotonic()
            while not asked.done():
                assert await ask(running, do="echo", value=1) == 1
            with pytest.raises(WorkerError, match="printed 10000 lines that are no answers") as caught:
                await asked
            assert caught.value.level is Level.TEMPORARY
            return time.monotonic() - began

    seconds = run(main())
    lines = [text for text in caplog.messages if "that is no answer" in text]
    assert 10 <= len(lines) <= 12 + seconds, "one a second after the first ten"


def test_silent_child_is_never_touched() -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            silent = asyncio.create_task(ask(running, do="echo", value="at last", seconds=1.0))
            lost = asyncio.create_task(ask(running, do="silent"))
            await asyncio.sleep(0.5)
            status = running.status()[0]
            assert status.silent_for >= 0.4
            assert (status.state, status.tasks, status.restarts) == ("ready", 2, 0)
            assert await ask(running, do="echo", value="meanwhile") == "meanwhile"
            assert await silent == "at last"
            assert not lost.done()
            lost.cancel()
            with pytest.raises(asyncio.CancelledError):
                await lost

    run(main())


def test_answer_timeout_spares_other_requests() -> None:
    async def main() -> None:
        # The other one is answered half a second after the first is given up, and in time itself.
        async with pool(stub(answer_timeout=2.0)) as running:
            lost = asyncio.create_task(failure(running, do="silent"))
            await asyncio.sleep(1.0)
            other = asyncio.create_task(ask(running, do="echo", value="other", seconds=1.5))
            # It gets no new tasks.
            await until(lambda: running.status()[0].state == "ending")
            assert not lost.done(), "the child may still be working on its files"
            new = asyncio.create_task(ask(running, do="echo", value="new"))
            assert await other == "other"
            error = await lost
            assert "did not answer request 1 within 2 s (answer_timeout)" in error.cause
            assert error.level is Level.TEMPORARY
            assert await new == "new"
            assert running.status()[0].restarts == 1

    run(main())


def test_late_answer_is_taken() -> None:
    async def main() -> None:
        async with pool(stub(answer_timeout=0.3)) as running:
            late = asyncio.create_task(ask(running, do="echo", value="late", seconds=0.4))
            await asyncio.sleep(0.2)
            keeps_it_alive = asyncio.create_task(ask(running, do="echo", value=2, seconds=0.25))
            assert await late == "late"
            assert await keeps_it_alive == 2
            await until(lambda: running.status()[0].state == "ready")
            assert running.status()[0].restarts == 0

    run(main())


def test_cancelled_request_frees_its_files() -> None:
    """A child of others can't be told to stop: when it has nothing else to do it is ended."""

    async def main() -> None:
        async with pool(stub()) as running:
            pid = running.status()[0].pid
            assert pid is not None
            task = asyncio.create_task(running.run("pc1", b'{"do":"silent"}', owner="/mnt/a"))
            await until(lambda: running.status()[0].tasks == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await running.settled("/mnt/a")
            assert not Path(f"/proc/{pid}").exists()
            assert await ask(running, do="echo", value=1) == 1

    run(main())


def test_wrapper_script_takes_its_program_with_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with pool(stub()) as running:
            error = await failure(running, do="grandchild", file=str(tmp_path / "pid"))
            assert "exited with status 0" in error.cause
            grandchild = int((tmp_path / "pid").read_text())
            await until(lambda: not is_alive(grandchild))

    run(main())


def test_endless_line_ends_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LONGEST_LINE", 1 << 20)

    async def main() -> None:
        async with pool(stub()) as running:
            error = await failure(running, do="large", bytes=2 << 20)
            assert "printed a line of more than 1 MiB" in error.cause

    run(main())


def test_memory_killer_is_named(tmp_path: Path) -> None:
    """A child in a memory group of 64 MiB, which the kernel enforces."""
    group = Path("/sys/fs/cgroup/memory") / f"damocles-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no memory group can be made here: {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(64 << 20))

        async def main() -> None:
            async with pool(stub()) as running:
                (group / "cgroup.procs").write_text(str(running.status()[0].pid))
                error = await failure(running, do="memory")
                assert (
                    "was killed by SIGKILL (the kernel has been killing for want of memory: see dmesg)"
                    in error.cause
                )

        run(main())
    finally:
        group.rmdir()


@pytest.mark.parametrize("size", [100 << 20])
def test_lines_of_a_hundred_megabytes(size: int) -> None:
    async def main() -> None:
        async with pool(stub(), stub("c2")) as running:
            output = await running.run("pc1", b'{"do":"large","bytes":%d}' % size)
            assert len(output) == size + 2
            task = b'{"do":"size","value":' + output + b"}"
            assert await running.run("c2", task) == b"%d" % size

    run(main())

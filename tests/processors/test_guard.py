"""What a killed daemon leaves behind: nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from damocles_worker.processors import cgroup
from tests.processors.support import LIMIT

#: A daemon with one child, which does not care that its input ends, and has started a program itself.
DAEMON = """\
import asyncio, os, sys
from damocles_worker.processors.inprocess import InProcess
from damocles_worker.processors.pool import Pool
from damocles_worker.processors.scheduler import Scheduler
from damocles_worker.processors.spec import ChildSpec

async def main():
    script = "echo 'pc1 processor ready'; %ssleep 600 & echo $! > %s; trap '' TERM HUP; sleep 600"
    script %= sys.argv[2], sys.argv[1]
    last = max(os.sched_getaffinity(0))
    place = {"cpuset": str(last), "cpus": frozenset({last})}
    spec = ChildSpec("pc1", 0, bin="/bin/sh", args=("-c", script), stable_wait=60.0, **place)
    pool = Pool({"pc1": [spec]}, Scheduler({}, {}), InProcess())
    await pool.start()
    print(pool.status()[0].pid, flush=True)
    if sys.stdin.readline():
        await pool.stop()

asyncio.run(main())
"""


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_there(pid: int) -> bool:
    """Whether the process lives; one that only waits to be collected does not."""
    return Path(f"/proc/{pid}/exe").exists()


def ignores(pid: int, number: int) -> bool:
    mask = re.search(r"SigIgn:\s+([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


def start(directory: Path, prefix: str = "") -> tuple[subprocess.Popen[str], int, int, int]:
    """The daemon, its child, the child's program, and the guard."""
    file = directory / "grandchild"
    daemon = subprocess.Popen(
        [sys.executable, "-c", DAEMON, str(file), prefix],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert daemon.stdout is not None
    child = int(daemon.stdout.readline())
    (guard,) = guards(daemon.pid)
    return daemon, child, int(file.read_text()), guard


def guards(daemon: int) -> list[int]:
    children = Path(f"/proc/{daemon}/task/{daemon}/children")
    threads = [thread / "children" for thread in children.parent.parent.iterdir()]
    pids = [int(pid) for file in threads for pid in file.read_text().split()]
    return [pid for pid in pids if Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0guard\0")]


def test_children_and_what_they_started_end_with_a_killed_daemon(tmp_path: Path) -> None:
    daemon, child, grandchild, guard = start(tmp_path)
    for number in (signal.SIGTERM, signal.SIGINT):
        until(partial(ignores, guard, number))
        os.kill(guard, number)
    assert is_there(child) and is_there(grandchild) and is_there(guard)
    daemon.kill()
    daemon.communicate()
    until(lambda: not (is_there(child) or is_there(grandchild) or is_there(guard)))


def test_guard_runs_where_the_daemon_does(tmp_path: Path) -> None:
    """It was started by the thread that takes the child's place, and took its cpus."""
    daemon, _, _, guard = start(tmp_path)
    assert os.sched_getaffinity(guard) == os.sched_getaffinity(daemon.pid)
    daemon.communicate("stop\n")


def test_program_in_a_session_of_its_own_ends_with_a_killed_daemon(tmp_path: Path) -> None:
    if (hierarchy := cgroup.find()) is None or not os.access(hierarchy.own, os.W_OK):
        pytest.skip("no control group can be made here")
    daemon, _, grandchild, _ = start(tmp_path, "setsid ")
    daemon.kill()
    daemon.communicate()
    until(lambda: not is_there(grandchild))


def test_nothing_stays_after_an_orderly_end(tmp_path: Path) -> None:
    daemon, child, grandchild, guard = start(tmp_path)
    daemon.communicate("stop\n")
    assert daemon.returncode == 0
    assert not (is_there(child) or is_there(grandchild) or is_there(guard))

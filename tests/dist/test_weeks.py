"""What happens to a daemon that runs for weeks: kills, cleaners, upgrades."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.dist.conftest import EXECUTABLE
from tests.e2e.cluster import Cluster, cluster
from tests.launcher.small import files, run

PROCESSORS = """\
[[processors.tree_d]]
stable_wait = "60s"
"""
DEVNET = [str(EXECUTABLE), "devnet", "--listen", "127.0.0.1:0", "--sectors", "0"]


def test_50_kills_of_a_daemon_with_a_sector_and_a_child_leave_nothing_that_grows(
    environment: dict[str, str], runtime: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    options = ("--sectors", "1", "--deals", "none", "--seed-delay", "1000000")
    with cluster(tmp_path, *options, sealing=PROCESSORS + 'cgroup.cpuset = "0"') as running:
        running.program = [EXECUTABLE]
        running.environment = {
            **environment,
            "TMPDIR": str(temporary),
            "HOME": str(temporary),
            "PATH": "/nowhere",
        }
        running.start_worker()
        running.wait(lambda: seen(running) == "PersistanceSubmitted", what="the wait for the seed")

        def left() -> tuple[list[str], set[str], dict[str, tuple[int, int]]]:
            return groups(), set(files(running.store)), files(runtime)

        before = left()
        for attempt in range(50):
            running.kill()
            running.start_worker()
            if attempt % 5:
                time.sleep(attempt / 50)
            else:
                running.wait(
                    lambda: seen(running) == "PersistanceSubmitted" and child(running)["pid"],
                    what="the start",
                )
        running.kill()
        running.start_worker()
        running.wait(
            lambda: seen(running) == "PersistanceSubmitted" and child(running)["pid"], what="the last start"
        )
        after = left()
        assert after[1:] == before[1:] and len(after[0]) == len(before[0])
        assert files(temporary) == {}
        assert running.terminate() == 0
        assert not processes_of(runtime) and not groups()


def seen(running: Cluster) -> str:
    """The state of the daemon's sector."""
    return next((thread["job_state"] for thread in running.threads()), "")


def groups() -> list[str]:
    """The control groups of children of tree_d; groups come and go while one looks, which walk bears."""
    found = (name for _, names, _ in os.walk("/sys/fs/cgroup") for name in names)
    return sorted(name for name in found if name.startswith("sub-tree_d-"))


def processes_of(tree: Path) -> list[int]:
    """Processes that run a program below ``tree``."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if program_of(int(directory.name)).is_relative_to(tree):
                found.append(int(directory.name))
    return found


def test_it_is_one_process_that_runs_from_its_tree(environment: dict[str, str], runtime: Path) -> None:
    process = subprocess.Popen(DEVNET, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    assert program_of(process.pid).is_relative_to(runtime)
    assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
    process.terminate()
    assert process.wait(10) == 0
    process.stdout.close()


def program_of(pid: int) -> Path:
    """The file that a process runs."""
    return Path(f"/proc/{pid}/exe").readlink()


def child(running: Cluster) -> dict[str, Any]:
    """What the daemon says of its only external processor."""
    (found,) = running.call("WorkerProcessors")
    return dict(found)


def test_cleaned_temporary_directory_and_replaced_file_under_a_daemon_whose_child_crashes(
    newer: Path, tmp_path: Path
) -> None:
    program, runtime, temporary = tmp_path / "damocles-worker", tmp_path / "runtime", tmp_path / "tmp"
    shutil.copy2(EXECUTABLE, program)
    temporary.mkdir()
    options = ("--sectors", "1", "--deals", "none", "--seed-delay", "1000000")
    with cluster(tmp_path, *options, sealing=PROCESSORS) as running:
        running.program = [program]
        running.environment = {
            "DAMOCLES_WORKER_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary), "PATH": "/nowhere",
        }  # fmt: skip
        running.order({"method": "AllocateSector", "action": "refuse", "count": None})
        running.start_worker()
        running.wait(running.threads, what="the daemon")
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/", timeout=10) as page:
            assert b"</style>" in page.read(), "the status page comes with the executable"
        first = child(running)
        tree = program_of(first["pid"]).parent
        assert running.worker is not None and tree == program_of(running.worker.pid).parent

        shutil.rmtree(temporary)
        newer.replace(program)
        assert "version 2" in run(program, runtime).stdout
        os.kill(first["pid"], signal.SIGKILL)
        running.clear_faults()
        running.wait(lambda: "BuildTreeD" in [row.event for row in running.history()], what="tree_d")
        second = child(running)
        assert second["restarts"] == 1 and second["pid"] != first["pid"]
        assert program_of(second["pid"]).parent == tree
        assert running.terminate() == 0

        assert "version 2" in run(program, runtime).stdout
        assert not tree.exists()

"""What happens to a daemon that runs for weeks: kills, cleaners, upgrades."""

from __future__ import annotations

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


def test_50_kills_leave_nothing_that_grows(environment: dict[str, str], runtime: Path, tmp_path: Path) -> None:
    subprocess.run([EXECUTABLE, "--version"], env=environment, check=True, capture_output=True)
    before = files(runtime)
    surroundings = {**environment, "TMPDIR": str(tmp_path), "HOME": str(tmp_path)}
    for attempt in range(50):
        process = subprocess.Popen(DEVNET, env=surroundings, stdout=subprocess.PIPE)
        assert process.stdout is not None
        if attempt % 5:
            time.sleep(attempt / 100)
        else:
            process.stdout.readline()
        process.kill()
        process.wait()
        process.stdout.close()
    assert files(runtime) == before
    assert files(tmp_path) == {}


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

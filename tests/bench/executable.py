"""``make bench-dist``: size, start-up time and memory of the executable, beside an empty Python program and
beside the virtual environment.

Prints figures, judges nothing. Times are CPU seconds, the median of rounds in which every program runs once.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from damocles_worker.program import own_command
from tests.e2e.cluster import cluster

EXECUTABLE = Path("dist/damocles-worker")
RUNTIME = "DAMOCLES_WORKER_RUNTIME_DIR"
ROUNDS = 15
EMPTY = "python -c pass"
#: What is started, by its name in the table: in the virtual environment, and as one file.
PROGRAMS: dict[str, Sequence[str | Path]] = {
    EMPTY: (sys.executable, "-c", "pass"),
    "venv --version": (*own_command(), "--version"),
    "executable --version": (EXECUTABLE, "--version"),
    "venv hwinfo": (*own_command(), "util", "hwinfo"),
    "executable hwinfo": (EXECUTABLE, "util", "hwinfo"),
}


def start(command: Sequence[str | Path], environment: dict[str, str]) -> float:
    """Run a command to its end; the CPU seconds it took."""
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return used.ru_utime + used.ru_stime


def starts(runtime: Path) -> None:
    """The table of start-up times; the first start of the executable by itself."""
    environment = {**os.environ, RUNTIME: str(runtime)}
    first = start((EXECUTABLE, "--version"), environment)
    rounds = [{name: start(line, environment) for name, line in PROGRAMS.items()} for _ in range(ROUNDS)]
    seconds = {name: statistics.median(one[name] for one in rounds) for name in PROGRAMS}
    print(f"| start of | CPU ms | ratio to {EMPTY} |")
    print("|---|---|---|")
    for name, spent in seconds.items():
        print(f"| {name} | {1000 * spent:.0f} | {spent / seconds[EMPTY]:.1f} |")
    print(f"First start, which unpacks it: {first:.2f} s CPU, {first / seconds[EMPTY]:.0f} times {EMPTY}")


def idle(root: Path, program: Sequence[str | Path], runtime: Path) -> float:
    """MiB that an idle daemon with one sealing thread has in memory."""
    root.mkdir()
    with cluster(root, "--sectors", "0") as running:
        running.program = program
        running.environment = {RUNTIME: str(runtime)}
        running.start_worker()
        running.wait(running.threads)
        assert running.worker is not None
        found = resident(running.worker.pid)
        running.terminate()
        return found


def empty() -> float:
    """MiB that Python without a program has in memory."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        (sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()
        found = resident(process.pid)
        process.stdin.close()
        return found


def resident(pid: int) -> float:
    """MiB of a process in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


def main() -> None:
    """Print everything."""
    if not EXECUTABLE.exists():
        sys.exit(f"{EXECUTABLE} is not built: make dist")
    with tempfile.TemporaryDirectory(prefix="damocles-bench-") as name:
        runtime = Path(name) / "runtime"
        starts(runtime)
        unpacked = sum(path.stat().st_size for path in runtime.rglob("*") if path.is_file()) / 1e6
        print(f"Size: {EXECUTABLE.stat().st_size / 1e6:.1f} MB, unpacked {unpacked:.1f} MB")
        ours = idle(Path(name) / "executable", (EXECUTABLE.absolute(),), runtime)
        venv, python = idle(Path(name) / "venv", own_command(), runtime), empty()
        print(
            f"Idle daemon: executable {ours:.0f} MiB RSS; ratio to the venv's {ours / venv:.2f}, "
            f"to {EMPTY} {ours / python:.1f}"
        )


if __name__ == "__main__":
    main()

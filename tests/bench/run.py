"""``make bench``: what the orchestrator costs beside the proofs, and data throughput beside the crate's own.

Prints figures, judges nothing. One C2 proof (a quarter of a CPU minute to one) is computed.
"""

from __future__ import annotations

import itertools
import os
import re
import resource
import tempfile
import time
from pathlib import Path

from tests.e2e.cluster import SECTOR_TIMEOUT, Cluster, cluster

IDLE_THREADS = 100
IDLE_SECONDS = 30.0
#: The stages that are proofs; everything else is the orchestrator's.
PROOFS = ("AddPieces", "TreeD", "PC1", "PC2", "C1", "C2", "VerifySeal")
#: The configuration's only sealing thread, whatever keys it has.
ONE_THREAD = re.compile(r"\[\[sealing_thread\]\]\n(?:[^\[].*\n|\n)*")
TOOK = re.compile(r"builtin (\w+) took ([0-9.]+) s")


def overhead(root: Path) -> None:
    """Wall time of a 2 KiB sector from its allocation to its end, less the proof calls."""
    options = ("--sectors", "1", "--deals", "none", "--pending-polls", "0", "--seed-delay", "0")
    with cluster(root, *options) as running:
        running.start_worker()
        running.wait(
            lambda: running.history() and running.history()[-1].detail == "" and _ended(running),
            SECTOR_TIMEOUT,
        )
        running.terminate()
        rows = running.history()
        calls = TOOK.findall(running.log)
        proofs = sum(float(seconds) for name, seconds in calls if name in PROOFS)
        copies = sum(float(seconds) for name, seconds in calls if name == "Transfer")
        waits = sum(b.at - a.at for a, b in itertools.pairwise(rows) if b.event == "AssignSeed")
        wall = rows[-1].at - rows[0].at
    print("Orchestrator, one 2 KiB sector (manager that never lets wait):")
    print(f"  wall {wall:.3f} s, proof calls {proofs:.3f} s, seed wait {waits:.3f} s")
    spent = 1000 * (wall - proofs - waits)
    print(f"  overhead {spent:.0f} ms in {len(rows)} commits, {1000 * copies:.0f} ms of it persisting")
    took = dict(calls)
    for a, b in itertools.pairwise(rows):
        proof = float(took.get(b.event, 0.0))
        print(f"    {b.event:<22} {1000 * (b.at - a.at):6.0f} ms, the call {1000 * proof:6.0f} ms")


def _ended(running: Cluster) -> bool:
    return running.history()[-1].event == "Finish" and running.finalized()


def idle(root: Path) -> None:
    """CPU and memory of a daemon whose sealing threads all wait for a sector."""
    with cluster(root, "--sectors", "0") as running:
        running.start_worker()
        running.wait(running.threads)
        running.terminate()
        config = root / "worker.toml"
        text = config.read_text().replace("500ms", "30s").replace("300ms", "30s")
        threads = "".join(f'[[sealing_thread]]\nlocation = "{root}/store-{i}"\n' for i in range(IDLE_THREADS))
        running.config_text, replaced = ONE_THREAD.subn(threads, text)
        assert replaced == 1, text
        running.start_worker()
        running.wait(lambda: len(running.threads()) == IDLE_THREADS)
        assert running.worker is not None
        time.sleep(5)
        before, started = _cpu_seconds(running.worker.pid), time.monotonic()
        time.sleep(IDLE_SECONDS)
        used = _cpu_seconds(running.worker.pid) - before
        share = 100 * used / (time.monotonic() - started)
        rss = (
            int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{running.worker.pid}/status").read_text())[0])
            / 1024
        )
        running.terminate()
    print(f"Idle daemon, {IDLE_THREADS} sealing threads: {share:.2f} % of a core, {rss:.0f} MiB RSS")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run every measurement in a directory of its own."""
    for number, measure in enumerate((idle, overhead)):
        with tempfile.TemporaryDirectory(prefix="damocles-bench-") as name:
            root = Path(name) / str(number)
            root.mkdir()
            measure(root)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"CPU of all of it: {children.ru_utime + children.ru_stime:.0f} s")


if __name__ == "__main__":
    main()

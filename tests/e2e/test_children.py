"""A real daemon with external processors of every kind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from damocles_worker.journal import HistoryRow, read_history
from tests.e2e.cluster import SECTOR_TIMEOUT, Cluster, children, cluster

FOREIGN = Path(__file__).parents[1] / "processors" / "tree_d.py"
STUB = Path(__file__).parents[1] / "processors" / "stub.py"
#: A C2 that takes for ever, as far as these tests are concerned.
SILENT_C2 = """\
[[processors.c2]]
bin = "/bin/sh"
args = ["-c", "echo 'c2 processor ready'; while read task; do :; done"]
locks = ["gpu"]
"""
LOCK = "[processors.ext_locks]\ngpu = 1\n"
#: The deals' pieces come from a store that redirects and wants a token.
DEALS = ("--deals", "every", "--piece-redirect", "--piece-token", "open-sesame")
AT_ONCE = ("--pending-polls", "0", "--seed-delay", "0")


def start_held_back(running: Cluster, sectors: int = 0) -> None:
    """Start the worker; so many sectors are given out before the faults are cleared."""
    running.order({"method": "AllocateSector", "action": "http502", "nth": sectors + 1, "count": None})
    running.start_worker()
    running.wait(running.threads, what="the control port")


def second_thread(root: Path) -> str:
    return f'[[sealing_thread]]\nlocation = "{root / "store-2"}"\n'


def second_history(root: Path) -> list[HistoryRow]:
    journal = root / "store-2" / "meta"
    return read_history(journal) if (journal / "journal.db").exists() else []


def worker(running: Cluster, *arguments: str) -> str:
    """Run ``damocles-worker worker …``."""
    command = [sys.executable, "-m", "damocles_worker", "worker", "-H", f"127.0.0.1:{running.port}"]
    return subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout


def mapped_parameters(pid: int) -> list[str]:
    """Where a process has parameter files in its memory."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line.split()[0] for line in maps if line.endswith(".params")]


def test_two_sectors_through_children_one_of_them_killed_while_busy(logged: Path) -> None:
    """All stages in children: each pc1 child has cpus of its own, PC2 and C2 share a lock."""
    first, last = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))
    text = (
        LOCK
        + children("add_pieces", "tree_d", "synth_proof", "transfer")
        + children("pc1")
        + f'cgroup.cpuset = "{first}"\nnuma_preferred = 0\nconcurrent = 1\n'
        + children("pc1")
        + f'cgroup.cpuset = "{last}"\nnuma_preferred = 0\nconcurrent = 1\n'
        + children("pc2")
        + 'locks = ["gpu"]\n'
        + children("c2")
        + 'locks = ["gpu"]\n'
        + second_thread(logged)
    )
    options = ("--sectors", "2", "--synthetic", *DEALS, *AT_ONCE)
    with cluster(logged, *options, sealing=text) as running:
        start_held_back(running)
        pc1 = [running.processor("pc1[0]"), running.processor("pc1[1]")]
        assert [child["cpus"] for child in pc1] == [str(first), str(last)]
        # Stopped children are as busy as can be.
        for child in pc1:
            os.kill(child["pid"], signal.SIGSTOP)
        running.clear_faults()
        for path in ("pc1[0]", "pc1[1]"):
            running.wait(partial(_is_busy, running, path), what=f"a task of {path}")
        os.kill(pc1[0]["pid"], signal.SIGKILL)
        os.kill(pc1[1]["pid"], signal.SIGCONT)
        running.wait(lambda: running.processor("pc1[0]")["restarts"] == 1, what="the new child")
        running.wait(lambda: running.processor("pc1[0]")["state"] == "ready", what="the new child")
        _check_new_child(running, pc1[0], first)
        c2 = running.processor("c2[0]")["pid"]
        running.wait(lambda: running.finalized(1) or running.finalized(2), SECTOR_TIMEOUT, "a sector")
        mapped = mapped_parameters(c2)
        running.wait(
            lambda: running.finalized(1) and running.finalized(2), 2 * SECTOR_TIMEOUT, "both sectors"
        )
        for number in (1, 2):
            sector = running.sector(number)
            assert sector["deals"] > 0 and sector["comm_d_checked"]
            assert sorted(
                file.name for file in (running.persist / f"cache/s-t010000-{number}").iterdir()
            ) == ["p_aux", "sc-02-data-tree-r-last.dat", "t_aux"]
            assert (running.persist / f"sealed/s-t010000-{number}").stat().st_size == 2048
        rows = [*running.history(), *second_history(logged)]
        assert [row.event for row in rows].count("Retry") == 1
        assert "Pause" not in [row.event for row in rows], "a crash is retried, nobody has to resume"
        assert running.processor("c2[0]")["restarts"] == 0
        assert mapped_parameters(c2) == mapped != [], "the second C2 of a child loads nothing"
        assert running.terminate() == 0
        assert running.children_left() == []


def _is_busy(running: Cluster, path: str) -> bool:
    return bool(running.processor(path)["tasks"] == 1)


def _check_new_child(running: Cluster, old: dict[str, Any], cpu: int) -> None:
    """It is where the old one was, as the kernel and ``worker list`` say."""
    new = running.processor("pc1[0]")
    assert new["pid"] != old["pid"] and new["problems"] == []
    assert os.sched_getaffinity(new["pid"]) == {cpu}
    maps = Path(f"/proc/{new['pid']}/numa_maps")
    if maps.exists():
        assert maps.read_text().split()[1] == new["memory"] == "prefer:0"
    assert f"ext(pid: {old['pid']}) was killed by SIGKILL" in new["last_error"]
    (line,) = [row for row in worker(running, "list").splitlines() if row.startswith("pc1[0]")]
    assert f"  {new['pid']}  ready(" in line and f"  {cpu} (" in line


def test_who_waits_for_a_lock_can_be_paused_and_gets_it_before_those_that_come_later(tmp_path: Path) -> None:
    """An endless C2 has the lock that the PC2 of the other sector waits for."""
    text = (
        f'{LOCK}[[processors.tree_d]]\nbin = "{FOREIGN}"\n{SILENT_C2}'
        + children("pc2")
        + 'locks = ["gpu"]\n'
        + second_thread(tmp_path)
    )
    with cluster(tmp_path, "--sectors", "2", *DEALS, *AT_ONCE, sealing=text) as running:
        start_held_back(running, sectors=1)
        running.wait(partial(_is_busy, running, "c2[0]"), what="a task of c2")
        (first,) = [thread for thread in running.threads() if thread["job_id"]]
        old = running.processor("c2[0]")
        assert first["thread_state"]["proc"] == f"ext(pid: {old['pid']})"
        running.clear_faults()
        index = 1 - first["index"]
        running.wait(lambda: _waits_for_pc2(running, index), what="the other sector")
        assert running.call("WorkerPause", index) is True
        running.wait(lambda: running.threads()[index]["thread_state"]["state"] == "Paused", what="the pause")
        assert running.call("WorkerResume", index, None) is True
        running.wait(lambda: _waits_for_pc2(running, index), what="the other sector again")
        assert running.processor("pc2[0]")["tasks"] == 0
        assert running.processor("c2[0]")["silent_for"] > 0 and old["last_error"] == ""
        os.kill(old["pid"], signal.SIGKILL)
        running.wait(lambda: running.sector(2).get("comm_r"), what="the pre-commit of the other sector")
        running.wait(partial(_is_busy, running, "c2[0]"), what="the next task of c2")
        assert all(running.sector(number)["comm_d_checked"] for number in (1, 2)), "by the foreign tree_d"
        rows = [*running.history(), *second_history(tmp_path)]
        (retry,) = [row.detail for row in rows if row.event == "Retry"]
        assert retry.startswith(f"sector {first['job_id']}: ext(pid: {old['pid']}) was killed by SIGKILL (")
        assert retry.endswith(" while it worked on request 1")
        assert "Pause" not in [row.event for row in rows]
        assert running.terminate() == 0
        assert running.children_left() == []


def _waits_for_pc2(running: Cluster, index: int) -> bool:
    thread = running.threads()[index]
    return (thread["thread_state"]["state"], thread["job_stage"]) == ("Waiting", "PC2")


def abusive(stage: str, root: Path, *kinds: str) -> str:
    """A child that meets its first tasks with ``kinds``, and is this program after that."""
    args = [str(STUB), stage, "--abuse", str(root / stage), *kinds, "--then", sys.executable, "-m"]
    args += ["damocles_worker", "processor", stage]
    return f'[[processors.{stage}]]\nbin = "{sys.executable}"\nargs = {json.dumps(args)}\n'


def test_every_abuse_by_a_child_is_named_and_survived(tmp_path: Path) -> None:
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    text = (
        abusive("add_pieces", tmp_path, "half_and_die", "silent", "killed")
        + 'answer_timeout = "5s"\nstable_wait = "60s"\n'
        + abusive("tree_d", tmp_path, "unreadable", "segv", "unreadable", "wrong_id")
        + 'stable_wait = "60s"\n'
        + abusive("pc1", tmp_path, "noise_only", "slow_ready")
        + 'answer_timeout = "5s"\nstable_wait = "8s"\n'
        + LOCK
        + SILENT_C2
    )
    with cluster(tmp_path, "--sectors", "1", *DEALS, *AT_ONCE, sealing=text) as running:
        start_held_back(running)
        first = running.processor("tree_d[0]")["pid"]
        worker(running, "enable-dump", "--child-pid", str(first), "--dump-dir", str(dumps))
        running.clear_faults()
        running.wait(partial(_is_busy, running, "c2[0]"), 120, "a task of c2")
        assert running.sector()["comm_d_checked"]
        rows = running.history()
        causes = [
            re.sub(r"^sector s-t010000-1: ext\(pid: \d+\) ", "", row.detail)
            for row in rows
            if row.event == "Retry"
        ]
        for cause, text in zip(causes, CAUSES, strict=True):
            assert cause.startswith(text)
        assert "Pause" not in [row.event for row in rows]
        assert "timeout exceeded before it was ready" in running.processor("pc1[0]")["last_error"]
        pids = {file.name.split("-")[4] for file in dumps.iterdir()}
        assert len(pids) == 2 and str(first) in pids, "dumping follows the child over a restart"
        assert running.terminate() == 0


CAUSES = [
    "exited with status 3 in the middle of a line",
    "did not answer request 2 within 5 s (answer_timeout)",
    "was killed by SIGKILL",
    "answered request 1 with a line that can't be read",
    "was killed by SIGSEGV",
    "answered request 3 with a line that can't be read",
    "answered request 1004, which was never sent, in place of request 4",
    "did not answer request 1 within 5 s (answer_timeout)",
]


def test_what_a_transfer_program_of_others_does_not_bring_is_missed_by_the_manager(tmp_path: Path) -> None:
    """It may have its reasons, an object store, so it is believed at first."""
    program = tmp_path / "nothing.sh"
    answer = """while read -r task; do echo '{"id":1,"output":true}'; done"""
    program.write_text(f"#!/bin/sh\necho transfer processor ready\n{answer}\n")
    program.chmod(0o755)
    text = f'[[processors.transfer]]\nbin = "{program}"\n'
    with cluster(tmp_path, "--sectors", "1", *DEALS, *AT_ONCE, sealing=text) as running:
        running.start_worker()
        running.wait(
            lambda: running.threads() and running.threads()[0]["thread_state"]["state"] == "Paused",
            what="the pause",
        )
        error = running.threads()[0]["last_error"]
        assert "SubmitPersistedEx" in error and "sealed/s-t010000-1: no such file" in error


def test_processor_that_does_not_start_is_named_with_its_key(tmp_path: Path) -> None:
    text = '[[processors.tree_d]]\nbin = "/bin/sh"\nargs = ["-c", "echo hello"]\n'
    with cluster(tmp_path, "--sectors", "0", sealing=text) as running:
        running.start_worker()
        assert running.worker is not None
        assert running.worker.wait(60) == 1
        assert (
            'processors.tree_d[0]: the processor /bin/sh can\'t be used: unexpected first line: "hello"'
            in running.log
        )


def test_stop_while_a_processor_takes_its_time_to_start(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    script = f"echo $$ > {marker}; sleep 600"
    text = f'[[processors.pc1]]\nbin = "/bin/sh"\nargs = ["-c", "{script}"]\nstable_wait = "1h"\n'
    with cluster(tmp_path, "--sectors", "0", sealing=text) as running:
        running.start_worker()
        running.wait(lambda: marker.exists() and marker.read_text(), what="the processor")
        assert running.terminate() == 0
        assert not Path(f"/proc/{int(marker.read_text())}/exe").exists()


def test_pc1_inside_the_daemon_shares_its_cores_out_by_the_limit_of_its_stage(tmp_path: Path) -> None:
    """Told to hash all its sectors at once, it took the lanes of a measurement: it did not know how many."""
    text = "[processors.limitation.concurrent]\npc1 = 1\n"
    with cluster(tmp_path, "--sectors", "1", "--deals", "none", sealing=text) as running:
        running.start_worker(FIL_PROOFS_USE_MULTICORE_SDR="1")
        running.wait(lambda: "PC1 engine: " in running.log, what="PC1")
        assert re.search(r"PC1 engine: .* kernel, \d+ cores, 1 lanes each", running.log), running.log

"""The hot file of a thread, and the management of tasks, on a running daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from damocles_worker.errors import UsageError
from tests.e2e.cluster import Cluster, cluster
from tests.e2e.sealed import files, remove, seal
from tests.e2e.test_plans import done, options

#: Nothing is asked for again for so long that only a look at the hot file can explain a change.
SEALING = "request_task_max_retries = 1000"


def plan(running: Cluster) -> str:
    threads = running.threads()
    return str(threads[0]["plan"]) if threads else ""


def last_error(running: Cluster) -> str:
    return str(running.threads()[0]["last_error"] or "")


def command(running: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``damocles-worker worker …`` against the daemon."""
    where = ("-m", "damocles_worker", "worker", "-H", f"127.0.0.1:{running.port}")
    return subprocess.run([sys.executable, *where, *arguments], capture_output=True, text=True)


def test_the_plan_is_switched_there_and_back_without_a_restart(tmp_path: Path) -> None:
    sector = seal(tmp_path, 7)
    before = files(tmp_path / "persist")
    with cluster(
        tmp_path, "--sectors", "2", "--data", str(tmp_path / "pieces"), "--deals", "none", sealing=SEALING
    ) as running:
        running.import_sector(sector.record())
        remove(running.persist, sector)
        # The devnet hands out sectors while there are fewer than --sectors: number 8 is the only one.
        running.order({"method": "PollPreCommitState", "action": "not-landed", "state": "PermFailed"})
        running.start_worker()
        running.wait(lambda: running.sector(8).get("comm_r"), what="the sealer's pre-commit")
        hot = running.store / "config.toml"
        hot.write_text('plan = "rebuild"\n')
        # The change waits for the end of the sector; giving it up is the quickest one.
        running.wait(lambda: running.threads()[0]["thread_state"]["state"] == "Paused", what="the pause")
        assert plan(running) == "sealer"
        assert running.call("WorkerResume", 0, "Aborted") is True
        running.wait(lambda: plan(running) == "rebuild", what="the plan of the hot file")
        running.order_work(plan="rebuild", number=7)
        running.wait(lambda: running.sector(7).get("rebuilt") == 1, what="the rebuild")
        running.wait(lambda: done(running))
        assert files(running.persist) == before
        hot.unlink()
        running.wait(lambda: plan(running) == "sealer", what="the plan of the main file")
        assert running.worker is not None and running.lives == 1
        assert running.terminate() == 0


def test_a_broken_hot_file_changes_nothing_and_is_shown_until_it_is_mended(tmp_path: Path) -> None:
    (tmp_path / "pieces").mkdir()
    with cluster(tmp_path, *options(tmp_path), sealing=SEALING, plan="rebuild") as running:
        running.start_worker()
        running.wait(lambda: plan(running) == "rebuild" and running.store.is_dir())
        hot = running.store / "config.toml"
        hot.write_text('plan = "unseal"\n')
        running.wait(lambda: plan(running) == "unseal", what="the change")
        hot.write_text('plan = "unseal\n')
        running.wait(lambda: "config.toml:1" in last_error(running), what="the error")
        assert plan(running) == "unseal"
        assert running.threads()[0]["thread_state"]["state"] != "Paused"
        hot.write_text('plan = "unseal"\n')
        running.wait(lambda: not last_error(running), what="the end of the error")
        assert plan(running) == "unseal"


def test_an_allocated_sector_is_not_dropped_for_a_change(tmp_path: Path) -> None:
    sealing = f"{SEALING}\ndisable_cc = true"
    with cluster(tmp_path, "--sectors", "1", "--deals", "none", sealing=sealing) as running:
        running.start_worker()
        running.wait(lambda: running.threads() and running.threads()[0]["job_state"] == "Allocated")
        (running.store / "config.toml").write_text('plan = "rebuild"\nsealing.disable_cc = false\n')
        running.wait(lambda: running.sector().get("comm_r"), what="the sector sealed without deals")
        assert len(running.state()["sectors"]) == 1 and plan(running) == "sealer"


def test_list_shows_elapsed_progress_and_eta_after_upstreams_columns(tmp_path: Path) -> None:
    (tmp_path / "pieces").mkdir()
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        running.start_worker()
        running.wait(running.threads)
        for arguments in ([], ["--json"]):
            listed = command(running, "list", *arguments)
            assert listed.returncode == 0, listed.stderr
        assert command(running, "list").stdout.splitlines()[0].split() == [
            "#", "location", "Plan", "JobID", "JobState", "JobStage", "ThreadState", "LastErr", "Elapsed",
            "Progress", "ETA",
        ]  # fmt: skip
        thread = json.loads(command(running, "list", "--json").stdout)[0]
        assert {"elapsed", "progress", "eta", "draining"} <= thread.keys()
        by_config = subprocess.run(
            [sys.executable, "-m", "damocles_worker", "worker", "-c", str(tmp_path / "worker.toml"), "list"],
            capture_output=True,
            text=True,
        )
        assert by_config.returncode == 0 and str(running.store) in by_config.stdout


def test_a_drain_finishes_the_sector_takes_no_other_and_exits_0(tmp_path: Path) -> None:
    sector = seal(tmp_path, 1)
    with cluster(tmp_path, *options(tmp_path), plan="rebuild") as running:
        running.import_sector(sector.record())
        remove(running.persist, sector)
        running.order_work(plan="rebuild", number=1)
        running.order_work(plan="rebuild", number=1)
        running.order({"method": "StoreReserveSpace", "action": "null", "count": None})
        running.start_worker()
        running.wait(lambda: running.threads() and running.threads()[0]["job_state"] == "SnapDone")
        drained = command(running, "drain")
        assert drained.returncode == 0 and "s-t010000-1" in drained.stdout
        assert running.threads()[0]["draining"] is True
        running.clear_faults()
        assert running.worker is not None and running.worker.wait(60) == 0
        assert running.sector()["rebuilt"] == 1 and done(running)
        assert running.state()["calls"]["AllocateRebuildSector"] == 1
        try:
            running.call("WorkerList")
        except UsageError:
            return
        raise AssertionError("the daemon still answers")


def test_a_drain_of_an_idle_worker_exits_at_once(tmp_path: Path) -> None:
    (tmp_path / "pieces").mkdir()
    with cluster(tmp_path, *options(tmp_path), plan="unseal") as running:
        running.start_worker()
        running.wait(lambda: running.state()["calls"].get("AllocateUnsealSector"))
        assert "nothing" in command(running, "drain").stdout
        assert running.worker is not None and running.worker.wait(30) == 0

"""A daemon in bad surroundings: one clear message with the next step, and no sector lost."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from damocles_worker.demo.processes import free_port
from damocles_worker.params.sets import cache_directory
from tests.e2e.cluster import Cluster, cluster
from tests.unit.mounts import remount, small_disk

SECTOR = "s-t010000-1"
NO_DEALS = ("--sectors", "1", "--deals", "none")


def refused_start(running: Cluster) -> str:
    """Start a worker that is expected to exit by itself with status 1; answers what it printed."""
    running.start_worker()
    assert running.worker is not None
    assert running.worker.wait(30) == 1, running.log
    assert "Traceback" not in running.log
    return running.log


def reached(running: Cluster, state: str) -> bool:
    return any(row.state == state for row in running.history())


def last_error(running: Cluster) -> str:
    threads = running.threads()
    return (threads[0]["last_error"] or "") if threads else ""


def paused(running: Cluster) -> bool:
    threads = running.threads()
    return bool(threads) and threads[0]["thread_state"]["state"] == "Paused"


def killed_after(running: Cluster, state: str, commit: int) -> None:
    marker = running.root / f"at-{state}"
    running.start_worker(DAMOCLES_WORKER_FAILPOINT=f"journal:{commit}:after:{marker}")
    running.wait(marker.exists, what=state)
    assert state in marker.read_text()
    running.kill()


def test_a_store_the_manager_does_not_know_is_named_at_start(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        running.start_worker()
        running.wait(running.threads)
        running.terminate()
        config = tmp_path / "worker.toml"
        config.write_text(config.read_text().replace('name = "persist"', 'name = "elsewhere"'))
        done = subprocess.run(
            [sys.executable, "-m", "damocles_worker", "--config", str(config)], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert "elsewhere" in done.stderr and "[[attached]]" in done.stderr and "Traceback" not in done.stderr


def test_a_control_port_in_use_is_named_and_the_exit_status_is_1(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, socket.create_server(("127.0.0.1", 0)) as taken:
        running.port = taken.getsockname()[1]
        text = refused_start(running)
        assert f"127.0.0.1:{running.port}" in text and "rpc_server" in text


def test_a_metrics_port_in_use_is_named_and_the_exit_status_is_1(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        running.sealing = f'[metrics]\nenable = true\nhttp_listen = "{address}"\n'
        text = refused_start(running)
        assert address in text and "[metrics] http_listen" in text and "in use" in text


def test_a_port_in_use_is_named_before_a_manager_that_never_answers(tmp_path: Path) -> None:
    with (
        cluster(tmp_path, *NO_DEALS) as running,
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        running.devnet_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        running.port = taken.getsockname()[1]
        assert "rpc_server" in refused_start(running)
        assert "can't be asked" not in running.log


def test_a_start_does_not_wait_long_for_a_manager_that_never_answers(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, socket.create_server(("127.0.0.1", 0)) as silent:
        running.devnet_url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        running.start_worker()
        running.wait(running.threads, 45, what="the control port")
        assert "has not answered for 10 s" in running.log


def test_no_sector_is_taken_for_a_store_that_the_manager_turns_out_not_to_know(tmp_path: Path) -> None:
    """It could not be asked at the start; the finished sector would have had nowhere to go."""
    (tmp_path / "strange").mkdir()
    with cluster(tmp_path, *NO_DEALS) as running:
        running.more_stores = {"strange": tmp_path / "strange"}
        running.order({"method": "StoreBasicInfo", "action": "refuse", "count": 2})
        running.order({"method": "AllocateSector", "action": "null", "count": 2})
        running.start_worker()
        text = "does not know the attached store strange"
        running.wait(lambda: text in last_error(running), what="the error")
        assert "waiting for the manager to know strange" in last_error(running)
        assert not running.state()["sectors"]


def test_a_manager_that_is_down_is_waited_for(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        real, running.devnet_url = running.devnet_url, f"http://127.0.0.1:{free_port()}"
        running.start_worker()
        running.wait(running.threads, what="the control port")
        assert "can't be asked about the attached stores yet" in running.log
        running.terminate()
        running.devnet_url = real
        running.start_worker()
        running.wait(lambda: running.sector().get("state"))


@pytest.mark.parametrize("action", ["garbage", "http502", "truncate", "wrong-id", "null", "refuse"])
def test_a_manager_that_answers_rubbish_loses_no_sector(tmp_path: Path, action: str) -> None:
    with cluster(tmp_path, "--sectors", "9", "--deals", "none", sealing="max_retries = 3") as running:
        for method in (
            "AssignTicket",
            "SubmitPreCommit",
            "PollPreCommitState",
            "ReportState",
            "StoreReserveSpace",
        ):
            running.order({"method": method, "action": action, "count": 2})
        running.start_worker()
        running.wait(lambda: reached(running, "Persisted"), what="Persisted")
        assert len(running.state()["sectors"]) == 1


def test_a_sector_aborted_at_the_manager_is_dropped_and_wiped(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        running.order({"method": "ReportState", "action": "abort", "nth": 5})
        running.start_worker()
        running.wait(lambda: reached(running, "Allocated") and running.history()[-1].event == "Dropped")
        assert not any((running.store / "data").iterdir())


def test_a_staged_file_truncated_under_us_is_named_and_repaired_by_resuming(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        killed_after(running, "PieceAdded", 3)
        os.truncate(running.store / "data/unsealed" / SECTOR, 1000)
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        assert (
            "1000" in last_error(running) and "2048" in last_error(running) and SECTOR in last_error(running)
        )
        assert running.call("WorkerResume", 0, "DealsAcquired") is True
        running.wait(lambda: reached(running, "PC2Done"), what="PC2Done")


@pytest.mark.parametrize("engine", ["pc2", "crate"])
def test_a_layer_that_rots_before_pc2_is_made_again_and_nothing_else(tmp_path: Path, engine: str) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        killed_after(running, "PC1Done", 7)
        first, second = (
            running.store / f"data/cache/{SECTOR}/sc-02-data-layer-{number}.dat" for number in (1, 2)
        )
        labels = first.read_bytes()
        first.write_bytes(labels[:1000] + bytes([labels[1000] ^ 1]) + labels[1001:])
        kept = second.stat().st_ino
        running.start_worker(DAMOCLES_PC2_ENGINE=engine)
        running.wait(lambda: reached(running, "PC2Done"), what="PC2Done")
        running.kill()
        assert [row.state for row in running.history()].count("PC1Done") == 2
        assert f"label layer 1 {first}: its checksum is wrong" in running.log
        assert (first.read_bytes(), second.stat().st_ino) == (labels, kept)


def test_a_wrong_state_is_refused_with_the_legal_ones_and_the_task_untouched(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        running.order(
            {"method": "PollPreCommitState", "action": "not-landed", "state": "PermFailed", "count": None}
        )
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        before = running.history()
        done = subprocess.run(
            [
                sys.executable, "-m", "damocles_worker", "worker", "-H", f"127.0.0.1:{running.port}",
                "resume", "-i", "0", "--state", "C2Done",
            ],
            capture_output=True,
            text=True,
        )  # fmt: skip
        assert done.returncode == 1 and "C2Done" in done.stderr and "PC1Done" in done.stderr
        assert running.history() == before


def test_missing_parameters_are_reported_at_start_and_waited_for_at_c2(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        (tmp_path / "no-parameters").mkdir()
        running.environment["FIL_PROOFS_PARAMETER_CACHE"] = str(tmp_path / "no-parameters")
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        assert "no-parameters has none" in running.log and "damocles-worker params" in running.log
        assert "waiting for" in last_error(running)
        assert running.history()[-1].state == "C1Done"


def test_a_drain_that_cannot_look_for_a_sector_does_not_end_well(tmp_path: Path) -> None:
    """Exit status 0 told a script that the host may be reinstalled."""
    with cluster(tmp_path, *NO_DEALS) as running:
        running.store.mkdir()
        (running.store / "not-a-store").touch()
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        running.call("WorkerDrain")
        assert running.worker is not None and running.worker.wait(30) == 1
        assert f"{running.store} is not known to be drained" in running.log
        assert "all threads are drained" not in running.log


@pytest.mark.parametrize("damage", ["cut short", "of another set"])
def test_damaged_parameters_are_named_at_c2_with_what_to_do(tmp_path: Path, damage: str) -> None:
    whole, here = cache_directory(), tmp_path / "parameters"
    here.mkdir()
    for file in whole.iterdir():
        (here / file.name).symlink_to(file)
    (seal,) = here.glob("*stacked-proof-of-replication*-032d3138*.params")
    (window,) = whole.glob("*proof-of-spacetime*-0170db1f*.params")
    seal.unlink()
    content = window.read_bytes()
    seal.write_bytes(content[:-1000] if damage == "cut short" else content)
    with cluster(tmp_path, *NO_DEALS) as running:
        running.environment["FIL_PROOFS_PARAMETER_CACHE"] = str(here)
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        assert running.history()[-1].state == "C1Done"
        error = last_error(running)
        assert SECTOR in error and f"params check`, replace {seal}" in error
        assert ("waiting for parameter file" in error) == (damage == "cut short")
        running.kill()


def test_too_little_memory_for_c2_is_waited_for_with_the_figure_that_is_needed(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        running.start_worker(DAMOCLES_C2_MEMORY="100MiB")
        running.wait(lambda: "waiting for" in last_error(running), what="the error")
        error = last_error(running)
        assert "waiting for memory for the proof" in error and "(DAMOCLES_C2_MEMORY=100MiB)" in error
        assert re.search(r"needs [01]\.\d GiB of memory, but may take 0\.1 GiB", error), error
        assert running.history()[-1].state == "C1Done"
        running.kill()


def test_a_read_only_location_is_named(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, small_disk(running.store, "4m") as store:
        remount(store, "ro")
        running.start_worker()
        running.wait(lambda: last_error(running), what="the error")
        assert "read-only" in last_error(running) and str(store) in last_error(running)
        running.kill()


def test_a_store_without_space_waits_until_there_is_some(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, small_disk(running.store, "3m") as store:
        filler = store / "config.toml"
        filler.write_bytes(b"#" * (2 << 20))
        running.start_worker()
        running.wait(lambda: paused(running), what="the pause")
        assert "waiting for space" in last_error(running)
        assert not running.state()["sectors"], "a sector was accepted without space for it"
        filler.unlink()
        running.wait(lambda: reached(running, "TreeDBuilt"), what="the sector")
        running.kill()


#: A worker to which its network store doesn't answer: whoever asks writes a file and waits for ever.
DEAD_STORE = """
import pathlib, sys, threading
from damocles_worker.cli.main import main
from damocles_worker.stores.sealing import SealingStore

def check(store):
    pathlib.Path(sys.argv[-1]).with_name("asked").touch()
    threading.Event().wait()

SealingStore.check = check
sys.exit(main())
"""


def test_sigterm_ends_a_worker_in_ten_seconds_whatever_does_not_answer(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running:
        running.program = [sys.executable, "-c", DEAD_STORE]
        running.start_worker()
        running.wait((tmp_path / "asked").exists, what="a parked thread")
        running.wait(running.threads, what="the control port")
        assert running.terminate() == 0

"""``preflight`` before a real daemon against a real devnet, in good and in bad surroundings."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from damocles_worker.demo.processes import free_port
from tests.e2e.cluster import Cluster, cluster
from tests.unit.mounts import small_disk

NO_DEALS = ("--sectors", "1", "--deals", "none")
SIZES = 'allowed_sizes = ["2KiB"]'


def preflight(running: Cluster, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit status, and the lines by area and subject."""
    config = running.write_config()
    done = subprocess.run(
        [sys.executable, "-m", "damocles_worker", "preflight", "--config", str(config), "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, **running.environment, **environment},
    )
    assert "Traceback" not in done.stderr, done.stderr
    found = json.loads(done.stdout)
    assert found["status"] == done.returncode
    return done.returncode, {f"{line['area']}: {line['subject']}": line for line in found["lines"]}


def test_before_the_first_sector_and_while_the_daemon_runs(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS, sealing=SIZES) as running:
        status, lines = preflight(running)
        assert (status, [line for line in lines.values() if line["level"] != "ok"]) == (0, [])
        assert lines["stores: persist"]["found"] == "known to the manager"
        running.start_worker()
        running.wait(running.threads)
        running.wait(lambda: "preflight: 0 problem(s), 0 warning(s)" in running.log, what="the log at start")
        status, lines = preflight(running)
        assert status == 1
        assert "damocles-worker v" in lines["ports: worker.rpc_server"]["found"]


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with (
        cluster(tmp_path, *NO_DEALS, sealing=SIZES) as running,
        socket.create_server(("127.0.0.1", 0)) as taken,
        small_disk(running.store, "1m"),
    ):
        running.port = taken.getsockname()[1]
        text = running.write_config().read_text().replace('name = "persist"', 'name = "elsewhere"')
        running.config_text = text + '[[processors.pc1]]\ncgroup.cpuset = "8000"\n'
        (tmp_path / "no-parameters").mkdir()
        status, lines = preflight(running, FIL_PROOFS_PARAMETER_CACHE=str(tmp_path / "no-parameters"))
        assert status == 2
        problems = {name for name, line in lines.items() if line["level"] == "problem"}
        assert problems == {
            "stores: elsewhere",
            "ports: worker.rpc_server",
            f"space: {running.store}",
            "cpus: processors.pc1[0].cgroup.cpuset",
            "parameters: 2KiB porep",
        }
        assert all(lines[name]["command"] for name in problems)


def test_a_manager_that_is_down_is_a_problem_and_the_rest_is_looked_at(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS, sealing=SIZES) as running:
        running.devnet_url = f"http://127.0.0.1:{free_port()}"
        status, lines = preflight(running)
        assert status == 2
        assert "can't be reached" in lines[f"manager: {running.devnet_url}"]["found"]
        assert {"limits: open files", "parents cache: StackedDrg2KiBV1_1"} <= set(lines)


def test_a_metrics_port_in_use_is_named_and_the_start_refused(tmp_path: Path) -> None:
    with cluster(tmp_path, *NO_DEALS) as running, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        metrics = f'[metrics]\nenable = true\nhttp_listen = "127.0.0.1:{port}"\n'
        running.config_text = running.write_config().read_text() + metrics
        running.start_worker()
        assert running.worker is not None
        assert running.worker.wait(30) == 1, running.log
        assert f"127.0.0.1:{port}" in running.log and "Traceback" not in running.log
        status, lines = preflight(running)
        assert status == 2 and str(port) in lines["ports: metrics.http_listen"]["found"]

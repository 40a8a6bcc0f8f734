"""Nothing that is secret can be read anywhere, however much is logged and whatever goes wrong."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from pathlib import Path

from damocles_worker.demo.processes import free_port
from tests.e2e.cluster import cluster

SECRETS = ("url-password", "query-token-1", "header-token-1", "open-sesame")

CONFIG = """\
[worker]
rpc_server.host = "127.0.0.1"
rpc_server.port = {port}
[sector_manager]
rpc_client.addr = "http://operator:url-password@{manager}/rpc/v0?token=query-token-1"
rpc_client.headers = {{ Authorization = "Bearer header-token-1" }}
piece_token = "open-sesame"
[sealing]
enable_deals = true
recover_interval = "300ms"
[[sealing_thread]]
location = "{root}/store"
[[attached]]
name = "persist"
location = "{root}/persist"
"""


def test_no_secret_is_printed_by_a_run_that_fails_and_recovers(tmp_path: Path) -> None:
    options = ("--sectors", "1", "--deals", "every", "--piece-redirect", "--piece-token", "open-sesame")
    with cluster(tmp_path, *options) as running:
        running.order(
            {"method": "AllocateSector", "action": "garbage"},
            {"method": "piecestore", "action": "http502", "count": 3},
            {"method": "SubmitPreCommit", "action": "error", "count": None},
        )
        running.port = free_port()
        manager = running.devnet_url.removeprefix("http://")
        running.config_text = CONFIG.format(port=running.port, manager=manager, root=tmp_path)
        running.start_worker(RUST_LOG="trace")
        running.wait(lambda: (running.threads() or [{}])[0].get("job_state") == "PC2Done", 120, "PC2")
        running.wait(lambda: running.threads()[0]["last_error"], 60, "the refused pre-commit")
        commands = (
            ("worker", "-H", f"127.0.0.1:{running.port}", "list", "--json"),
            ("worker", "-H", f"127.0.0.1:{running.port}", "history"),
            ("config", "check", str(tmp_path / "worker.toml")),
        )
        printed = {" ".join(command): _output(*command) for command in commands}
        for path in ("", "status.json"):
            with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/{path}", timeout=10) as answer:
                printed[f"/{path}"] = answer.read().decode()
        assert running.terminate() == 0
        printed["log"] = running.log
    for where, text in printed.items():
        assert text and [secret for secret in SECRETS if secret in text] == [], where
    assert " TRACE " in printed["log"] and "stage=PC2" in printed["log"]


def _output(*command: str) -> str:
    run = subprocess.run(
        [sys.executable, "-m", "damocles_worker", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return run.stdout

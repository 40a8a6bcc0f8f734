"""The table of external processors that ``worker list`` prints."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from damocles_worker.cli import children
from damocles_worker.cli.worker import worker
from tests.processors.support import pool, run, stub

STATUS = {
    "path": "processors.c2[1]",
    "pid": 17,
    "state": "ready",
    "state_for": 3700.5,
    "restarts": 2,
    "tasks": 1,
    "concurrent": 4,
    "silent_for": 7200.0,
    "cpus": "0-3",
    "bound_by": "cgroup v2",
    "memory": "prefer:1",
    "problems": ["memory: node 9 can't be preferred"],
    "last_error": "ext(pid: 9) was killed by SIGKILL\nand more",
}


def test_row_shows_silence_place_and_troubles() -> None:
    assert children.row(STATUS) == (
        "c2[1]",
        "17",
        "ready(1h 1m 40s) silent 2h",
        "1/4",
        "2",
        "0-3 (cgroup v2)",
        "prefer:1",
        "memory: node 9 can't be preferred; ext(pid: 9) was killed by SIGKILL\\nand more",
    )


def test_row_of_a_running_processor_has_every_cell() -> None:
    async def main() -> list[Any]:
        async with pool(stub("tree_d")) as running:
            return [msgspec.to_builtins(status) for status in running.status()]

    (status,) = run(main())
    row = children.row(status)
    assert len(row) == len(children.COLUMNS)
    assert row[0] == "tree_d[0]" and row[2].startswith("ready(") and row[3:5] == ("0", "0")
    assert row[-1] == ""


def test_dump_commands_set_the_variable_of_the_child(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(children, "call", lambda _address, *call: calls.append(call))
    runner = CliRunner()
    for arguments in (
        ["--child-pid", "17", "--dump-dir", str(tmp_path)],
        ["--child_pid", "17", "--dump_dir", str(tmp_path)],
    ):
        assert runner.invoke(children.enable_dump, arguments, obj="address").exit_code == 0
    assert runner.invoke(children.disable_dump, ["--child-pid", "17"], obj="address").exit_code == 0
    assert calls == [
        ("WorkerSetEnv", "DUMP_ERR_RESP_17", str(tmp_path)),
        ("WorkerSetEnv", "DUMP_ERR_RESP_17", str(tmp_path)),
        ("WorkerRemoveEnv", "DUMP_ERR_RESP_17"),
    ]
    missing = runner.invoke(children.enable_dump, ["--child-pid", "17", "--dump-dir", f"{tmp_path}/none"])
    assert missing.exit_code == 2 and "does not exist" in missing.output


RUST_THREAD = {
    "location": "/mnt/s1", "plan": "sealer", "job_id": "s-t01000-7", "index": 0, "job_state": "C1Done",
    "job_stage": "C2", "last_error": None,
    "thread_state": {"state": "Running", "elapsed": 17, "proc": "ext(pid: 5)"},
}  # fmt: skip


def test_list_of_a_daemon_that_knows_nothing_of_processors() -> None:
    """The Rust worker's, which answers with fewer fields as well."""

    class RustWorker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if request["method"] == "VenusWorker.WorkerList":
                answer: dict[str, Any] = {"result": [RUST_THREAD]}
            else:
                answer = {"error": {"code": -32601, "message": "Method not found"}}
            body = json.dumps({"jsonrpc": "2.0", "id": request["id"], **answer}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), RustWorker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            result = CliRunner().invoke(worker, ["-H", f"127.0.0.1:{server.server_address[1]}", "list"])
        finally:
            server.shutdown()
            thread.join()
    assert result.exit_code == 0, result.output
    assert "Running(17s) ext(pid: 5)" in result.output
    assert "Processor" not in result.output

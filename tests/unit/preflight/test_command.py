"""The command: ports, exit status, text and JSON, and the preflight of a starting daemon."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.main import cli
from damocles_worker.control.server import ControlServer
from damocles_worker.metrics.exporter import Exporter
from damocles_worker.preflight import ports, start
from damocles_worker.preflight.lines import Level, Line, to_json, to_text, worst
from damocles_worker.preflight.manager import ManagerView
from damocles_worker.preflight.run import of_this_host
from tests.unit.config.support import settings_of
from tests.unit.control.snapshots import reader
from tests.unit.metrics.daemon import full_metrics
from tests.unit.preflight.support import of, settings, unread


def preflight(path: str, *options: str) -> Result:
    return CliRunner().invoke(cli, ["preflight", "--config", path, *options], catch_exceptions=False)


def line(level: Level) -> Line:
    return Line(level, "space", "/mnt", "1 GiB free", "2 GiB", "make room")


# ---- lines ---------------------------------------------------------------------------------------


def test_the_exit_status_is_that_of_the_worst_line() -> None:
    ok, warning, problem = line("ok"), line("warning"), line("problem")
    assert [worst([]), worst([ok]), worst([ok, warning]), worst([problem, warning])] == [0, 0, 1, 2]


def test_text_has_found_needed_and_what_to_do_and_counts() -> None:
    assert to_text([line("problem"), Line("ok", "limits", "open files", "9")]).splitlines() == [
        "problem  space   /mnt: 1 GiB free; needed: 2 GiB",
        "                   make room",
        "ok       limits  open files: 9",
        "1 problem(s), 0 warning(s), 1 ok",
    ]


def test_json_has_the_same() -> None:
    assert json.loads(to_json([line("warning")])) == {
        "status": 1,
        "lines": [
            {
                "level": "warning",
                "area": "space",
                "subject": "/mnt",
                "found": "1 GiB free",
                "needed": "2 GiB",
                "command": "make room",
            }
        ],
    }


# ---- ports ---------------------------------------------------------------------------------------


def listening(directory: Path, control: int, metrics: int) -> str:
    text = f'[worker]\nrpc_server.host = "127.0.0.1"\nrpc_server.port = {control}\n'
    return text + f'[metrics]\nenable = true\nhttp_listen = "127.0.0.1:{metrics}"\n'


def test_a_port_that_somebody_has_is_named_with_the_way_to_find_out_who(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        lines = ports.look(settings(tmp_path, listening(tmp_path, 0, port)))
    busy = of(lines, "metrics.http_listen")
    assert busy.level == "problem" and f"127.0.0.1:{port}: address already in use" in busy.found
    assert f"ss -ltnp 'sport = :{port}'" in busy.command
    assert of(lines, "worker.rpc_server").level == "ok"


def test_one_port_for_both_is_a_problem(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = ports.look(settings(tmp_path, listening(tmp_path, port, port)))
    assert [found.level for found in lines if "control port too" in found.found] == ["problem"]


def test_a_worker_that_runs_already_is_recognised(tmp_path: Path) -> None:
    async def scenario() -> list[Line]:
        server = ControlServer([], "v9.9", reader([]))
        port = await server.start("127.0.0.1", 0)
        try:
            config = settings(tmp_path, f"[worker]\nrpc_server.port = {port}\n")
            return await asyncio.to_thread(ports.look, config)
        finally:
            await server.stop()

    (found,) = asyncio.run(scenario())
    assert found.level == "warning" and "a damocles-worker v9.9 listens" in found.found


def test_the_metrics_of_a_worker_that_runs_already_are_no_problem(tmp_path: Path) -> None:
    async def scenario() -> list[Line]:
        exporter = Exporter(full_metrics().text)
        port = await exporter.start("127.0.0.1:0")
        try:
            return await asyncio.to_thread(ports.look, settings(tmp_path, listening(tmp_path, 0, port)))
        finally:
            await exporter.stop()

    found = of(asyncio.run(scenario()), "metrics.http_listen")
    assert found.level == "warning" and "the metrics of a damocles-worker are served at" in found.found


def test_a_running_worker_is_asked_at_the_address_it_listens_at(tmp_path: Path) -> None:
    async def scenario() -> list[Line]:
        server = ControlServer([], "v9.9", reader([]))
        port = await server.start("127.0.0.2", 0)
        try:
            text = f'[worker]\nrpc_server.host = "127.0.0.2"\nrpc_server.port = {port}\n'
            return await asyncio.to_thread(ports.look, settings(tmp_path, text))
        finally:
            await server.stop()

    (found,) = asyncio.run(scenario())
    assert found.level == "warning" and "a damocles-worker v9.9 listens" in found.found


@pytest.mark.parametrize(
    ("control", "metrics", "meet"),
    [("127.0.0.1", "127.0.0.2", False), ("0.0.0.0", "127.0.0.2", True), ("127.0.0.1", "[::1]", False)],
)
def test_one_port_on_two_addresses_is_two_ports(
    tmp_path: Path, control: str, metrics: str, meet: bool
) -> None:
    text = f'[worker]\nrpc_server.host = "{control}"\nrpc_server.port = 17\n'
    text += f'[metrics]\nenable = true\nhttp_listen = "{metrics}:17"\n'
    lines = ports.look(settings(tmp_path, text))
    assert any("control port too" in found.found for found in lines) == meet


# ---- the command ---------------------------------------------------------------------------------


def test_a_file_with_errors_is_told_as_problems_and_nothing_else_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text("[sealing]\nmax_retry = 3\n")
    result = preflight(str(path))
    assert result.exit_code == 2
    assert "problem  configuration  sealing.max_retry: " in result.output
    assert 'did you mean "max_retries"' in result.output
    assert "parameters" not in result.output


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\0garbage", b"= = ="])
def test_a_file_that_is_none_is_a_problem(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "worker.toml"
    if content is not None:
        path.write_bytes(content)
    result = preflight(str(path), "--json")
    assert result.exit_code == 2
    assert json.loads(result.output)["lines"][0]["area"] == "configuration"


def test_a_missing_option_is_a_usage_error() -> None:
    result = CliRunner().invoke(cli, ["preflight"], env={"DAMOCLES_WORKER_CONFIG": None})
    assert result.exit_code == 2 and "--config" in result.stderr


# ---- at the start of the daemon ------------------------------------------------------------------


def finished() -> None:
    """Wait for the preflight's thread."""
    for thread in threading.enumerate():
        if thread.name == "preflight":
            thread.join(60)


def test_a_starting_daemon_logs_what_is_not_right_and_a_summary(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path)
    (tmp_path / "persist").rmdir()
    with caplog.at_level(logging.INFO, logger="damocles_worker"):
        start.say_in_background(config, ManagerView("http://m", "devnet", clock_ahead=100.0))
        finished()
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("stores: attached[0].location: ") and "mkdir -p" in text for text in texts)
    assert any(text.startswith("clock: this host: 100 s behind") for text in texts)
    assert texts[-1].startswith("preflight: ") and "problem(s)" in texts[-1]
    assert not any("open files" in text for text in texts), "what is well is not told at info"


def test_a_look_that_fails_hides_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = Path(settings(tmp_path).path).read_text().replace(f"{tmp_path}/1", f"{tmp_path}/file/1")
    lines = of_this_host(settings_of(tmp_path, text), read=False, local_network=True, reading=unread)
    assert of(lines, "sealing_thread[0].location").level == "problem"
    assert {"space", "limits", "parents cache"} <= {found.area for found in lines}

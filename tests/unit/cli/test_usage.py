"""What the command line says to a wrong word, and to a question."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from damocles_worker.cli import hwinfo, worker
from damocles_worker.cli.main import main
from damocles_worker.errors import WorkerError

COMMAND = [sys.executable, "-m", "damocles_worker"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["deamon"], "'daemon'"),
        (["worker", "lst"], "'list'"),
        (["util", "hwinof"], "'hwinfo'"),
        (["--confg", "x"], "'--config'"),
        (["store", "sealing-init", "--lok", "x"], "'--loc'"),
        (["daemon", "--lgo", "x"], "'--log-format'"),
        (["frobnicate"], "there are: completion, config, daemon, demo, devnet"),
        (["--lgo", "x"], "'--log-format'"),
        (["worker", "x"], "there are: "),
        (["worker", "pause", "--qqq"], "there are: --help, --index"),
    ],
)
def test_an_unknown_command_or_option_names_the_nearest_and_exits_2(
    arguments: list[str], nearest: str
) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert "No such" in result.stderr and nearest in result.stderr


@pytest.mark.parametrize("arguments", [[], ["worker"], ["worker", "pause"], ["util", "hwinfo"]])
def test_help_is_a_command_too(arguments: list[str]) -> None:
    asked, option = run("help", *arguments), run(*arguments, "--help")
    assert (asked.returncode, asked.stdout) == (0, option.stdout)


def test_help_on_what_is_not_there_names_the_nearest() -> None:
    result = run("help", "worker", "lst")
    assert result.returncode == 2 and "'list'" in result.stderr
    result = run("help", "daemon", "now")
    assert result.returncode == 2 and "has no command 'now'" in result.stderr


def test_no_command_prints_the_help_and_exits_2() -> None:
    result = run()
    assert result.returncode == 2 and "Commands:" in result.stderr


@pytest.mark.parametrize("arguments", [["processor", "pc1"], ["processor", "transfer"], ["daemon"]])
def test_a_bad_log_filter_is_one_message_of_children_too(arguments: list[str]) -> None:
    environment = {**os.environ, "RUST_LOG": "a=bogus"}
    result = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and "bogus" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_of_the_utility_is_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_root: object) -> None:
        raise WorkerError("nothing can be read", next_step="Look for it")

    monkeypatch.setattr(hwinfo, "read_hardware", fails)
    monkeypatch.setattr(sys, "argv", ["damocles-worker-util", "hwinfo"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: nothing can be read. Look for it\n"


def test_a_host_on_the_command_line_goes_before_a_configuration_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable exported, `-H other pause` paused the thread of this host's worker."""
    asked: list[str] = []
    monkeypatch.setattr(worker, "call", lambda address, *_: asked.append(address))
    config = tmp_path / "worker.toml"
    config.write_text(
        '[worker]\nrpc_server.port = 4\n[sector_manager]\nrpc_client.addr = "http://localhost:1"\n'
        f'[[attached]]\nlocation = "{tmp_path}"\n[[sealing_thread]]\nlocation = "{tmp_path}/store"\n'
    )
    monkeypatch.setenv("DAMOCLES_WORKER_CONFIG", str(config))
    for options in ([], ["-H", "127.0.0.2:5"], ["-H", "127.0.0.2:5", "-c", str(config)]):
        result = CliRunner().invoke(worker.worker, [*options, "pause", "-i", "0"])
        assert result.exit_code == 0, result.output
    assert asked == ["127.0.0.1:4", "127.0.0.2:5", "127.0.0.1:4"]

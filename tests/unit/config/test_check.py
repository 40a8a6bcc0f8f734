"""``config check``: its output and exit status."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.config import config
from tests.unit.config.support import MINIMAL, VECTORS
from tests.unit.config.test_load import EVERYTHING


def check(*arguments: str) -> Result:
    return CliRunner().invoke(config, ["check", *arguments])


def effective(output: str) -> str:
    return output.partition("# Effective configuration (secrets masked)\n")[2].rpartition("\n\n")[0]


def test_a_clean_file_exits_0(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL)
    result = check(str(path), "--no-machine")
    assert result.exit_code == 0
    assert result.output.startswith("# Effective configuration")
    assert result.output.endswith(
        f"{path}: the worker can start with it: 0 errors and 0 warnings in the file; "
        "this machine was not looked at\n"
    )


def test_warnings_exit_0_and_errors_1(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL + "[attached_selection]\n")
    result = check(str(path), "--no-machine")
    assert (result.exit_code, "1 warning in the file" in result.output) == (0, True)
    path.write_text(MINIMAL + "wrong = 1\n")
    result = check(str(path), "--no-machine")
    assert result.exit_code == 1
    assert f'{path}:7:1: error: attached[0].wrong: unknown key "wrong"\n    next: ' in result.output


def test_a_machine_that_lacks_something_is_not_said_to_keep_the_worker_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL.replace('location = "/persist"', f'location = "{tmp_path}/missing"'))
    result = check(str(path))
    assert result.exit_code == 1 and "start with it" not in result.output
    assert "sectors can't be sealed with it while this machine is as it is: 0 errors" in result.output


def test_machine_findings_are_left_out_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = str(VECTORS / "seed-sample.toml")
    assert check(path, "--no-machine").exit_code == 0
    with_machine = check(path)
    assert with_machine.exit_code == 1
    assert "sealing_thread[0].location: " in with_machine.output
    assert "0 errors and" in with_machine.output


def test_a_file_that_can_not_be_read_is_one_message_and_exit_1(tmp_path: Path) -> None:
    result = check(str(tmp_path / "none.toml"))
    assert result.exit_code == 1
    assert result.output.count("error:") == 1
    assert "No effective configuration" in result.output


def test_the_effective_configuration_is_toml_with_every_value(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(EVERYTHING)
    shown = tomllib.loads(effective(check(str(path), "--no-machine").output))
    given = tomllib.loads(EVERYTHING)
    assert shown["worker"]["name"] == given["worker"]["name"]
    assert shown["worker"]["scan_persist_stores"] == given["worker"]["ScanPersistStores"]
    assert shown["metrics"] == given["metrics"]
    assert shown["sealing"] == given["sealing"] | {
        "allowed_sizes": ["2KiB", "32GiB"],
        "min_deal_space": "8 GiB",
    }
    assert shown["sealing_thread"] == given["sealing_thread"]
    assert shown["attached"] == [{"name": "/", "location": "/", "readonly": True}]
    assert shown["processors"]["c2"] == given["processors"]["c2"]
    assert shown["processors"]["ext_locks"] == given["processors"]["ext_locks"]
    assert shown["processors"]["static_tree_d"] == given["processors"]["static_tree_d"]


def test_what_a_thread_overrides_is_shown_with_it(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(MINIMAL.replace('"/stores/1"', '"/stores/1"\nsealing.max_retries = 9'))
    shown = tomllib.loads(effective(check(str(path), "--no-machine").output))
    assert shown["sealing_thread"] == [
        {"location": "/stores/1", "plan": "sealer", "sealing": {"max_retries": 9}}
    ]


def test_values_in_error_are_shown_as_such() -> None:
    shown = effective(check(str(VECTORS / "ten-mistakes.toml"), "--no-machine").output)
    assert "# allowed_sizes: in error, see line 5" in shown
    assert "# plan: in error, see line 15" in shown
    assert "# pc1: in error, see line 22" in shown
    assert "# cgroup.cpuset: in error, see line 30" in shown
    tomllib.loads(shown)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ('piece_token = "hunter2"', "hunter2"),
        ('rpc_client.headers = { Authorization = "Bearer hunter2" }', "hunter2"),
        ('rpc_client.headers = { X-Api-Key = "hunter2" }', "hunter2"),
        ('rpc_client.headers = { X-Auth = "hunter2" }', "hunter2"),
        ('rpc_client.headers = { X-Whatever = "hunter2" }', "hunter2"),
    ],
)
def test_secrets_of_the_manager_are_masked(tmp_path: Path, text: str, secret: str) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(f"sector_manager.{text}\n{MINIMAL}")
    output = check(str(path), "--no-machine").output
    assert secret not in output
    assert "********" in output


def test_secrets_of_processors_and_addresses_are_masked(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    address = "http://user:hunter2@10.0.0.5:1789"
    path.write_text(
        MINIMAL.replace("/ip4/127.0.0.1/tcp/1789", address)
        + "[[processors.c2]]\n"
        + 'envs = { A_TOKEN = "hunter2", SECRET_B = "hunter2", '
        + 'api_key = "hunter2", PASSWORD = "hunter2", PROXY_AUTH = "hunter2", '
        + 'DB_PWD = "hunter2", SENTRY_DSN = "hunter2", C = "seen" }\n'
        + 'args = ["--token", "hunter2", "--api-key=hunter2", '
        + '"--url", "http://me:hunter2@host/", "seen too"]\n'
    )
    output = check(str(path), "--no-machine").output
    assert "hunter2" not in output
    assert 'C = "seen"' in output
    assert '"seen too"' in output

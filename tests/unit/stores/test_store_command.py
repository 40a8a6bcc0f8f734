"""``damocles-worker store`` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.store import store
from damocles_worker.errors import WorkerError
from damocles_worker.stores.sealing import SealingStore
from tests.unit.mounts import remount, small_disk


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(store, [str(argument) for argument in arguments])


def test_sealing_init_takes_values_in_any_form(tmp_path: Path) -> None:
    a, b, c = tmp_path / "a", tmp_path / "deep" / "b", tmp_path / "c"
    result = invoke("sealing-init", "-l", a, b, "--loc", c)
    assert result.exit_code == 0
    for directory in (a, b, c):
        assert f"sealing store made: {directory}" in result.stdout
        SealingStore.open(directory, create=False).close()


def test_one_failure_does_not_stop_the_others(tmp_path: Path) -> None:
    SealingStore.open(tmp_path / "a").close()
    result = invoke("sealing-init", "-l", tmp_path / "a", "-l", tmp_path / "b")
    assert result.exit_code == 1
    assert result.stdout == f"sealing store made: {tmp_path / 'b'}\n"
    assert "sealing store already" in result.stderr


def test_nothing_to_do() -> None:
    for command in ("sealing-init", "file-init"):
        result = invoke(command)
        assert (result.exit_code, result.stdout) == (0, "nothing to do: no directory given (-l DIR)\n")


def test_file_init_makes_plain_directories(tmp_path: Path) -> None:
    result = invoke("file-init", "-l", tmp_path / "x" / "y", tmp_path)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"attached store made: {tmp_path / 'x' / 'y'}",
        f"attached store is there already: {tmp_path}",
    ]
    assert list((tmp_path / "x" / "y").iterdir()) == []


def test_file_init_failure_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = invoke("file-init", "-l", tmp_path / "file" / "x")
    assert result.exit_code == 1
    assert str(tmp_path / "file" / "x") in result.stderr


def test_read_only_disk(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        remount(disk, "ro")
        for command in ("sealing-init", "file-init"):
            result = invoke(command, "-l", disk / "store")
            assert result.exit_code == 1
            assert f"{disk} is mounted read-only" in result.stderr


def test_adopt_and_undo(tmp_path: Path) -> None:
    for directory in ("data", "meta"):
        (tmp_path / directory).mkdir()
    (tmp_path / ".holder").touch()
    (tmp_path / "meta" / "CURRENT").touch()
    result = invoke("adopt", tmp_path)
    assert result.exit_code == 0
    assert f"moved {tmp_path / 'meta'} to {tmp_path / 'meta.rust'}" in result.stdout
    result = invoke("adopt", tmp_path, "--undo")
    assert result.exit_code == 0
    assert f"moved {tmp_path / 'meta.rust'} back" in result.stdout
    with pytest.raises(WorkerError, match="was not adopted"):
        CliRunner().invoke(store, ["adopt", str(tmp_path), "--undo"], catch_exceptions=False)

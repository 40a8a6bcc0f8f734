"""``damocles-worker store hugepage-file-init``: names, places, and what a failure leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker.cli.store import store
from damocles_worker.errors import UsageError, WorkerError


def run(*arguments: str | Path) -> Result:
    command = ["hugepage-file-init", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(store, command)


@pytest.mark.parametrize(
    ("size", "name", "length"),
    [("2KiB", "2.0_kiB", 2048), ("512", "512_B", 512), ("1536KiB", "1.5_MiB", 1536 << 10)],
)
def test_files_are_made_at_full_size_and_listed(tmp_path: Path, size: str, name: str, length: int) -> None:
    result = run("-s", size, "-c", "2", "--path", tmp_path / "huge/")
    files = [tmp_path / "huge" / "numa_0" / f"{name}_{number}" for number in range(2)]
    assert result.output.splitlines() == ["Created hugepage memory files:", *map(str, files)]
    for file in files:
        assert file.stat().st_size == length
        assert file.stat().st_blocks * 512 >= length


def test_the_node_is_in_the_path_and_the_pattern_wins(tmp_path: Path) -> None:
    pattern = f"{tmp_path}/node$NUMA_NODE_INDEX/files/"
    arguments = ["--numa_node_index", "0", "--size=2KiB", "--number_of_files", "1"]
    result = run(*arguments, "--path", tmp_path / "no", "--path_pattern", pattern)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "node0/files/2.0_kiB_0").is_file()
    assert not (tmp_path / "no").exists()


def test_a_file_that_is_there_is_never_touched(tmp_path: Path) -> None:
    directory = tmp_path / "numa_0"
    directory.mkdir()
    for number in (0, 2):
        (directory / f"2.0_kiB_{number}").write_text("labels of somebody")
        result = run("-s", "2KiB", "-c", "3", "--path", tmp_path)
        assert isinstance(result.exception, WorkerError)
        assert f"create huge page file {directory}/2.0_kiB_{number}" in result.exception.cause
        assert [path.name for path in directory.iterdir()] == [f"2.0_kiB_{number}"]
        assert (directory / f"2.0_kiB_{number}").read_text() == "labels of somebody"
        (directory / f"2.0_kiB_{number}").unlink()


def test_a_node_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = run("-n", "1000", "-s", "2KiB", "-c", "1", "--path", tmp_path)
    assert isinstance(result.exception, WorkerError)
    assert "invalid NUMA node 1000" in result.exception.cause
    assert not list(tmp_path.rglob("*_0"))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-s", "2KiB", "-c", "1"], "give --path DIR or --path-pattern PATTERN"),
        (["-s", "2XiB", "-c", "1", "--path", "x"], '"2XiB" is not a size'),
        (["-s", "0B", "-c", "1", "--path", "x"], "0 bytes"),
        (["-s", "2KiB", "-c", "0", "--path", "x"], "-c"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], text: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, text in result.output) == (2, True), result.output


def test_a_pattern_needs_its_placeholder(tmp_path: Path) -> None:
    result = run("-s", "2KiB", "-c", "1", "--path-pattern", tmp_path)
    assert isinstance(result.exception, UsageError)
    assert "$NUMA_NODE_INDEX" in str(result.exception)

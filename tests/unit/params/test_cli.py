"""``damocles-worker params``."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner, Result

from damocles_worker.cli.params import params
from tests.unit.params.conftest import WINDOW


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(params, [str(argument) for argument in arguments])


def test_list_shows_every_set_in_columns(generated: Path) -> None:
    result = run("list", "--dir", generated, "--size", "2KiB")
    assert result.exit_code == 0
    header, *rows = result.output.splitlines()[1:]
    assert [row.split()[1] for row in rows] == ["porep", "update", "window", "winning"]
    state = header.index("state")
    assert [row[state:].split("  ")[0] for row in rows] == ["missing", "missing", "local-insecure", "missing"]


def test_check_looks_at_what_is_there(generated: Path) -> None:
    result = run("check", "--dir", generated)
    assert result.exit_code == 0
    assert "window" in result.output and "porep" not in result.output
    assert "insecure" in result.output.splitlines()[-1]


def test_check_of_a_missing_set_is_a_problem(generated: Path) -> None:
    result = run("check", "--dir", generated, "--size", "2KiB", "--plan", "sealer")
    assert result.exit_code == 1
    assert "problem: 2KiB porep:" in result.output
    assert "damocles-worker params generate --size 2KiB" in result.output


def test_check_of_an_empty_directory_says_so(tmp_path: Path) -> None:
    result = run("check", "--dir", tmp_path)
    assert result.exit_code == 1
    assert "no parameters" in result.output


def test_check_of_a_truncated_file_is_a_problem(whole: Path) -> None:
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.truncate(5000)
    result = run("check", "--dir", whole)
    assert result.exit_code == 1
    assert "truncated" in result.output and WINDOW.params_file in result.output


def test_generate_says_time_files_and_warning(tmp_path: Path) -> None:
    result = run("generate", "--dir", tmp_path, "--size", "2KiB", "--plan", "wdpost")
    assert result.exit_code == 0
    first, *_, last = result.output.splitlines()
    assert first.startswith("generating the 2KiB window parameters in") and "about" in first
    assert str(tmp_path / WINDOW.params_file) in result.output
    assert last.startswith("warning: Local and insecure")


def test_generate_leaves_a_whole_set_alone(whole: Path) -> None:
    result = run("generate", "--dir", whole, "--size", "2KiB", "--plan", "wdpost")
    assert result.exit_code == 0
    assert "there already (local-insecure)" in result.output


def test_generate_does_not_mend_a_spoilt_set(whole: Path) -> None:
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.truncate(5000)
    result = run("generate", "--dir", whole, "--size", "2KiB", "--plan", "wdpost")
    assert result.exit_code == 1
    assert "truncated" in result.output
    assert (whole / WINDOW.params_file).stat().st_size == 5000

"""``damocles-worker generator``: the files that every sector of a size uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from damocles_worker import _native
from damocles_worker.cli.generator import generator
from damocles_worker.errors import WorkerError
from damocles_worker.sectors import TREE_D_FILE, zero_commitment

SIZE = 2048
ROWS = SIZE // 32 * 14 * 4


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(generator, [str(argument) for argument in arguments])


def test_tree_d_of_zeros_has_the_published_root(tmp_path: Path) -> None:
    result = run("tree-d", "--sector-size=2KiB", "--path", tmp_path)
    path = tmp_path / TREE_D_FILE
    assert result.output.splitlines()[-1] == f"generate static tree-d succeed: {path} (3.97 KiB)"
    assert path.stat().st_size == 2 * SIZE - 32
    assert path.read_bytes()[-32:] == zero_commitment(2032)


def test_parents_caches_are_made_checked_and_mended(tmp_path: Path) -> None:
    made = run("parents-cache", "-s", "2KiB", "--variant", "v1", "--variant", "synthetic", "--dir", tmp_path)
    assert made.exit_code == 0, made.output
    files = {path.name: path.read_bytes() for path in tmp_path.glob("*.cache")}
    assert [len(content) for content in files.values()] == [ROWS, ROWS]
    assert len(set(files.values())) == 2

    damaged = tmp_path / next(iter(files))
    damaged.write_bytes(bytes(ROWS - 1))
    mended = run(
        "parents-cache", "-s", "2048", "--variant", "v1", "--variant", "synthetic", "--dir", tmp_path
    )
    assert f"{ROWS - 1} bytes found, {ROWS} expected; making it again" in mended.output
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.cache")} == files


def test_progress_of_a_parents_cache_is_in_nodes(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path, notes = _native.parents_cache(
        "StackedDrg8MiBV1_1", tmp_path, lambda done, total: seen.append((done, total))
    )
    assert (path.stat().st_size, notes) == ((8 << 20) // 32 * 56, [])
    assert seen[-1] == ((8 << 20) // 32, (8 << 20) // 32)
    with pytest.raises(ValueError, match="StackedDrg9KiBV1"):
        _native.parents_cache("StackedDrg9KiBV1", tmp_path)


@pytest.mark.parametrize("command", ["tree-d", "parents-cache"])
def test_a_size_that_is_none_is_refused(command: str, tmp_path: Path) -> None:
    result = run(command, "-s", "3KiB", "--path" if command == "tree-d" else "--dir", tmp_path)
    assert (result.exit_code, "3072 bytes is not a sector size" in result.output) == (2, True)


def test_a_place_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.touch()
    result = run("parents-cache", "-s", "2KiB", "--dir", place / "caches")
    assert isinstance(result.exception, WorkerError)
    assert str(place / "caches") in result.exception.cause
    assert "a parents cache 3.5 KiB" in result.exception.next_step

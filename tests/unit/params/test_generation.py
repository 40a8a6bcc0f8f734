"""Making a set: never over a file, finished by the next run wherever it was killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from damocles_worker import _native
from damocles_worker.errors import WorkerError
from damocles_worker.params import ParameterSet, State, Steps, check, ensure_local, generate
from damocles_worker.params import generation as generation_module
from damocles_worker.params.publish import exclusive
from damocles_worker.sectors import SECTOR_SIZES
from tests.unit.params.conftest import WINDOW, contents, temporary_files

KILLED_RUN = Path(__file__).with_name("killed_run.py")


def test_two_hosts_make_the_same_files(generated: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    outcome = generate(WINDOW, tmp_path / "new", progress=lambda done, total: calls.append((done, total)))
    assert outcome.generated
    assert contents(tmp_path / "new") == contents(generated)
    assert set(outcome.files) == set(contents(generated))
    assert all(done <= total for done, total in calls if total)


def test_the_sidecar_says_that_the_set_is_insecure(generated: Path) -> None:
    record = json.loads((generated / WINDOW.local_record_file).read_text())
    assert "insecure" in record["warning"].lower()
    assert record["seed"] == _native.parameter_seed()
    assert record["files"][WINDOW.params_file]["size"] == 11_501_496


def test_the_metadata_is_the_librarys(generated: Path) -> None:
    assert (generated / WINDOW.meta_file).read_bytes() == b'{"sector_size":2048}'


def test_a_whole_set_is_left_alone(whole: Path) -> None:
    before = contents(whole)
    outcome = generate(WINDOW, whole)
    assert not outcome.generated
    assert outcome.state is State.LOCAL
    assert contents(whole) == before


@pytest.mark.parametrize("kept", ["params_file", "vk_file", "meta_file"])
def test_a_part_of_a_foreign_set_is_refused(whole: Path, kept: str) -> None:
    name = getattr(WINDOW, kept)
    for path in list(whole.iterdir()):
        if path.name != name:
            path.unlink()
    (whole / name).write_bytes(b"somebody's")
    with pytest.raises(WorkerError, match="not whole") as caught:
        generate(WINDOW, whole)
    assert name in caught.value.cause
    assert contents(whole) == {name: b"somebody's"}


def test_a_file_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = _native.generate_parameters

    def slow(*arguments: object) -> tuple[bytes, bytes]:
        made = real(*arguments)  # type: ignore[arg-type]
        (tmp_path / WINDOW.params_file).write_bytes(b"published")
        return made

    monkeypatch.setattr(_native, "generate_parameters", slow)
    with pytest.raises(WorkerError, match="nothing was written"):
        generate(WINDOW, tmp_path)
    assert contents(tmp_path) == {WINDOW.params_file: b"published"}
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("size", ["512MiB", "32GiB", "64GiB"])
def test_sizes_of_public_networks_are_refused(tmp_path: Path, size: str) -> None:
    wanted = ParameterSet(SECTOR_SIZES[size], "porep")
    with pytest.raises(WorkerError, match="public networks"):
        generate(wanted, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_little_space_is_told_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation_module, "free_bytes", lambda _path: 1000)
    with pytest.raises(WorkerError, match="no space") as caught:
        generate(WINDOW, tmp_path)
    assert caught.value.waits_for is not None
    assert contents(tmp_path) == {}


def test_a_stopped_run_leaves_nothing(tmp_path: Path) -> None:
    cancel = _native.Cancel()
    cancel.cancel()
    with pytest.raises(_native.Cancelled):
        generate(WINDOW, tmp_path, cancel=cancel)
    assert contents(tmp_path) == {}
    assert temporary_files(tmp_path) == []


def test_what_the_progress_raises_stops_the_run(tmp_path: Path) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(WINDOW, tmp_path, progress=interrupt)
    assert contents(tmp_path) == {}
    assert temporary_files(tmp_path) == []


def test_a_second_process_waits_and_finds_the_set(whole: Path) -> None:
    said: list[str] = []
    told = threading.Event()

    def waiting(text: str) -> None:
        said.append(text)
        told.set()

    outcomes = []
    second = threading.Thread(target=lambda: outcomes.append(generate(WINDOW, whole, waiting=waiting)))
    with exclusive(whole, said.append):
        second.start()
        assert told.wait(30)
        assert outcomes == []
    second.join(30)
    assert [outcome.generated for outcome in outcomes] == [False]
    assert "is generating parameters" in said[0]


def killed_at(point: int, generated: Path, directory: Path) -> bool:
    """Run a generation that kills itself at the ``point``-th change of a name; False if it ended before."""
    command = [sys.executable, str(KILLED_RUN), str(point), str(generated), str(directory)]
    status = subprocess.run(command, check=False, timeout=60).returncode
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_a_killed_run_is_finished_by_the_next_one(generated: Path, tmp_path: Path) -> None:
    expected = contents(generated)
    points = 0
    while killed_at(points, generated, tmp_path / str(points)):
        directory = tmp_path / str(points)
        found = check(WINDOW, directory)
        # Whatever a prover can map is whole.
        assert found.state is (State.LOCAL if (directory / WINDOW.params_file).exists() else State.MISSING)
        assert not killed_at(1000, generated, directory)
        assert contents(directory) == expected
        assert temporary_files(directory) == []
        points += 1
    # Sidecar, .vk, .meta and .params get their names; each of the last three also loses a temporary one.
    assert points == 7


def test_ensure_local_says_what_it_does(tmp_path: Path) -> None:
    said: list[str] = []
    assert ensure_local(WINDOW, say=said.append, directory=tmp_path).generated
    assert "about" in said[0] and str(tmp_path) in said[0]
    assert "insecure" in said[-1]
    assert not ensure_local(WINDOW, say=said.append, directory=tmp_path).generated


def test_ensure_local_does_not_take_a_spoilt_set(whole: Path) -> None:
    with open(whole / WINDOW.params_file, "r+b") as file:
        file.truncate(5000)
    with pytest.raises(WorkerError, match="truncated"):
        ensure_local(WINDOW, say=print, directory=whole)


def test_progress_lines_are_not_several_a_second() -> None:
    said: list[str] = []
    steps = Steps(said.append, "set")
    for done in range(101):
        steps(done, 100)
    assert said == []

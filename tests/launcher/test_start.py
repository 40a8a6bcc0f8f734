"""What a start finds, writes and becomes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launcher.small import LAUNCHER, files, run, tree_of

#: A user without rights, for tests that root runs.
NOBODY = 65534
LAUNCHER_SIZE = LAUNCHER.stat().st_size if LAUNCHER.exists() else 0


def test_the_first_start_unpacks_and_the_second_writes_nothing(executable: Path, place: Path) -> None:
    runtime = place / "deep/runtime"
    first = run(executable, runtime, "one", "two words")
    tree = tree_of(runtime)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"tree={tree} " in first.stdout and "arguments=one two words" in first.stdout
    before = {path: path.stat() for path in tree.rglob("*")}
    assert "version 1" in run(executable, runtime).stdout
    after = {path: path.stat() for path in tree.rglob("*")}
    assert {path: (s.st_ino, s.st_ctime_ns) for path, s in before.items()} == {
        path: (s.st_ino, s.st_ctime_ns) for path, s in after.items()
    }


def test_the_program_is_the_process_that_was_started(executable: Path, place: Path) -> None:
    environment = {"DAMOCLES_WORKER_RUNTIME_DIR": str(place / "runtime"), "PATH": os.defpath}
    with subprocess.Popen([executable], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert f" pid={process.pid} " in process.stdout.readline()


def corrupt(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, 10)


def replace_by_directory(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def replace_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def change_mode(path: Path) -> None:
    path.chmod(0o600)


@pytest.mark.parametrize(
    "harm", [corrupt, truncate, Path.unlink, replace_by_directory, replace_by_link, change_mode]
)
@pytest.mark.parametrize("name", ["damocles-worker", "lib/version", "lib/block 3"])
def test_a_harmed_file_is_put_right_by_the_next_start(
    harm: Callable[[Path], None], name: str, executable: Path, place: Path
) -> None:
    run(executable, place / "runtime")
    tree = tree_of(place / "runtime")
    whole, content = files(tree), (tree / name).read_bytes()
    harm(tree / name)
    assert "version 1" in run(executable, place / "runtime").stdout
    assert files(tree) == whole
    assert (tree / name).read_bytes() == content


def test_first_starts_at_the_same_time_unpack_once_and_all_run(executable: Path, place: Path) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    starts = [
        threading.Thread(target=lambda: results.append(run(executable, place / "runtime"))) for _ in range(4)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [(result.returncode, result.stderr) for result in results] == [(0, "")] * 4
    assert "lib/version" in files(tree_of(place / "runtime"))


def test_50_kills_during_the_first_start_leave_nothing_that_grows(executable: Path, place: Path) -> None:
    run(executable, place / "whole")
    whole, tree = files(place / "whole"), tree_of(place / "whole").name
    environment = {"DAMOCLES_WORKER_RUNTIME_DIR": str(place / "runtime"), "PATH": os.defpath}
    for attempt in range(50):
        process = subprocess.Popen([executable], env=environment, stdout=subprocess.DEVNULL)
        threading.Event().wait(attempt / 1000)
        process.kill()
        process.wait()
        found = files(place / "runtime")
        # The file that was being written: there is never more than one, and a start writes over it.
        found.pop(f"{tree}/.partial", None)
        assert found.items() <= whole.items()
    assert "version 1" in run(executable, place / "runtime").stdout
    assert files(place / "runtime") == whole


def test_an_old_version_is_removed_when_nothing_runs_from_it(
    build: Callable[[str], Path], place: Path
) -> None:
    old, new, runtime = build("1"), build("2"), place / "runtime"
    (runtime / "of somebody else").mkdir(parents=True)
    environment = {"DAMOCLES_WORKER_RUNTIME_DIR": str(runtime), "PATH": os.defpath}
    with subprocess.Popen([old, "wait"], env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        (old_tree,) = (path for path in runtime.iterdir() if (path / "lib").exists())
        assert "version 2" in run(new, runtime).stdout
        assert (old_tree / "lib/version").read_text() == "version 1\n"
        running.send_signal(signal.SIGKILL)
    assert "version 2" in run(new, runtime).stdout
    assert not old_tree.exists()
    assert (runtime / "of somebody else").exists()


def test_replacing_the_file_under_a_running_program_leaves_its_tree(
    build: Callable[[str], Path], place: Path
) -> None:
    old, new, runtime = build("1"), build("2"), place / "runtime"
    environment = {"DAMOCLES_WORKER_RUNTIME_DIR": str(runtime), "PATH": os.defpath}
    with subprocess.Popen([old, "wait"], env=environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        old_tree = tree_of(runtime)
        new.replace(old)
        assert "version 2" in run(old, runtime).stdout
        assert (old_tree / "lib/version").read_text() == "version 1\n"
        running.kill()


@pytest.mark.parametrize("position", [-20, -100, -300, LAUNCHER_SIZE + 500])
def test_a_damaged_executable_is_named(position: int, executable: Path, place: Path) -> None:
    content = bytearray(executable.read_bytes())
    content[position] ^= 1
    executable.write_bytes(content)
    result = run(executable, place / "runtime")
    assert result.returncode == 1
    assert "damaged" in result.stderr and "copy it again" in result.stderr


def test_a_stripped_executable_is_named(executable: Path, place: Path) -> None:
    os.truncate(executable, executable.stat().st_size - 1000)
    result = run(executable, place / "runtime")
    assert result.returncode == 1
    assert f"{executable} is damaged; copy it again, and don't strip it" in result.stderr


def test_no_room_names_the_directory_the_need_and_the_variable(executable: Path, place: Path) -> None:
    result = subprocess.run(
        [executable],
        env={"DAMOCLES_WORKER_RUNTIME_DIR": str(place / "runtime")},
        capture_output=True,
        text=True,
        restore_signals=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19)),
    )
    assert result.returncode == 1
    assert f"can't run damocles-worker (6 MB) from {place / 'runtime'}." in result.stderr
    assert "Set DAMOCLES_WORKER_RUNTIME_DIR to a directory" in result.stderr
    assert "File too large" in result.stderr
    assert "version 1" in run(executable, place / "runtime").stdout


def as_other(executable: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it without root's rights."""
    if os.geteuid() != 0:
        return subprocess.run([executable], env=environment, capture_output=True, text=True)
    return subprocess.run(
        [executable],
        env=environment,
        capture_output=True,
        text=True,
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
    )


def test_a_directory_that_can_not_be_written_is_named_with_the_variable(
    executable: Path, place: Path
) -> None:
    (place / "closed").mkdir(mode=0o555)
    result = as_other(executable, DAMOCLES_WORKER_RUNTIME_DIR=str(place / "closed"))
    assert result.returncode == 1
    assert f"from {place / 'closed'}. " in result.stderr
    assert "Set DAMOCLES_WORKER_RUNTIME_DIR" in result.stderr and "Permission denied" in result.stderr


def test_a_whole_tree_runs_for_others_who_can_not_write_to_it(executable: Path, place: Path) -> None:
    run(executable, place / "runtime")
    for path in [place / "runtime", tree_of(place / "runtime")]:
        path.chmod(0o555)
    result = as_other(executable, DAMOCLES_WORKER_RUNTIME_DIR=str(place / "runtime"), PATH=os.defpath)
    assert (result.returncode, result.stderr) == (0, "")
    assert "version 1" in result.stdout


def test_a_directory_that_others_can_write_to_is_refused(executable: Path, place: Path) -> None:
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    result = run(executable, place / "open")
    assert result.returncode == 1
    assert "others may write to it (mode 777); chmod go-w it" in result.stderr


@pytest.mark.parametrize(
    ("variable", "below"),
    [("XDG_DATA_HOME", "damocles-worker/runtime"), ("HOME", ".local/share/damocles-worker/runtime")],
)
def test_a_user_unpacks_below_the_home_directory(
    variable: str, below: str, executable: Path, place: Path
) -> None:
    (place / "home").mkdir()
    if os.geteuid() == 0:
        os.chown(place / "home", NOBODY, NOBODY)
    result = as_other(executable, PATH=os.defpath, **{variable: str(place / "home")})
    assert result.returncode == 0
    assert f"tree={place / 'home' / below}/" in result.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user that has no home")
def test_a_user_without_home_is_told_the_variable(executable: Path) -> None:
    result = as_other(executable)
    assert result.returncode == 1
    assert "Set DAMOCLES_WORKER_RUNTIME_DIR" in result.stderr

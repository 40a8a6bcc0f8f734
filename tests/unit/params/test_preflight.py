"""What a preflight says of Groth16 parameters; a digest is compared once and remembered."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.settings import Settings
from damocles_worker.preflight import parameters
from damocles_worker.preflight.lines import Line
from tests.unit.config.support import MINIMAL, settings_of
from tests.unit.params.conftest import WINDOW
from tests.unit.preflight.support import of, unread

#: What the thread of the plan wdpost needs.
SUBJECT = "2KiB window"


def window_posts(directory: Path, text: str = "") -> Settings:
    thread = MINIMAL.replace('location = "/stores/1"', 'plan = "wdpost"')
    return settings_of(directory, f'{thread}[sealing]\nallowed_sizes = ["2KiB"]\n{text}')


def look(directory: Path, where: Path, *, devnet: bool = True, read: bool = False) -> list[Line]:
    config = window_posts(directory)
    return parameters.look(config, read=read, local_network=devnet, reading=unread, directory=where)


def test_missing_parameters_are_a_problem_with_the_command_that_gets_them(tmp_path: Path) -> None:
    line = of(look(tmp_path, tmp_path), SUBJECT)
    assert line.level == "problem" and WINDOW.params_file in line.found
    assert "damocles-worker params generate --size 2KiB --plan wdpost" in line.command
    assert "damocles-manager util fetch-params 2KiB" in line.command


def test_local_ones_are_for_the_devnet_only(tmp_path: Path, whole: Path) -> None:
    assert of(look(tmp_path, whole), SUBJECT).level == "ok"
    real = of(look(tmp_path, whole, devnet=False), SUBJECT)
    assert real.level == "warning" and "local and insecure" in real.found
    assert "fetch-params 2KiB" in real.command


def test_a_digest_is_read_when_asked_to_and_then_remembered(tmp_path: Path, whole: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    config = window_posts(tmp_path)
    for _ in range(2):
        lines = parameters.look(
            config,
            read=True,
            local_network=True,
            reading=lambda *progress: seen.append(progress),
            directory=whole,
        )
        assert of(lines, SUBJECT).level == "ok"
    size = (whole / WINDOW.params_file).stat().st_size
    assert seen[-1] == ("2KiB window parameters", size, size)
    assert sum(done == size for _, done, _ in seen) == 1


def test_a_damaged_file_is_a_problem_once_it_is_read(tmp_path: Path, whole: Path) -> None:
    path = whole / WINDOW.params_file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert of(look(tmp_path, whole), SUBJECT).level == "ok"
    config = window_posts(tmp_path)
    lines = parameters.look(config, read=True, local_network=True, reading=lambda *_: None, directory=whole)
    line = of(lines, SUBJECT)
    assert line.level == "problem" and "has the digest" in line.found and str(path) in line.found


def test_a_truncated_file_is_a_problem_without_reading_it(tmp_path: Path, whole: Path) -> None:
    path = whole / WINDOW.params_file
    path.write_bytes(path.read_bytes()[:-1000])
    line = of(look(tmp_path, whole), SUBJECT)
    assert line.level == "problem" and "is truncated" in line.found


def test_any_size_allowed_and_nothing_there_is_a_problem(tmp_path: Path) -> None:
    config = settings_of(tmp_path, MINIMAL)
    (line,) = parameters.look(config, read=False, local_network=True, reading=unread, directory=tmp_path)
    assert line.level == "problem" and "allowed_sizes" in line.command

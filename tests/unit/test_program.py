"""What the one-file executable puts right at start, and what it says it is."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
from pathlib import Path

import pytest

from damocles_worker import program
from damocles_worker.version import version_line, version_text


def is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_a_tree_is_held_by_a_lock_of_its_own_and_the_launchers_is_given_back(tmp_path: Path) -> None:
    lock = tmp_path / program.LOCK_FILE
    lock.touch()
    handed = os.open(lock, os.O_RDONLY)
    fcntl.flock(handed, fcntl.LOCK_SH)
    environment = {program.LOCK_VARIABLE: str(handed)}
    held = program.hold_tree(tmp_path, environment)
    assert environment == {}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handed)
    assert not os.get_inheritable(held)
    assert is_locked(lock)
    os.close(held)
    assert not is_locked(lock)


@pytest.mark.parametrize("handed", ["", "987654", "-1", "three"])
def test_a_wrong_descriptor_does_not_keep_it_from_starting(handed: str, tmp_path: Path) -> None:
    (tmp_path / program.LOCK_FILE).touch()
    os.close(program.hold_tree(tmp_path, {program.LOCK_VARIABLE: handed}))


def test_other_programs_get_the_environment_of_the_operator() -> None:
    environment = {
        "_PYI_ARCHIVE_FILE": "/tree/damocles-worker",
        "LD_LIBRARY_PATH": "/tree/_internal:/opt/lib",
        "LD_LIBRARY_PATH_ORIG": "/opt/lib",
        "HOME": "/root",
    }
    program.clean_environment(environment)
    assert environment == {"LD_LIBRARY_PATH": "/opt/lib", "HOME": "/root"}
    environment = {"LD_LIBRARY_PATH": "/tree/_internal"}
    program.clean_environment(environment)
    assert environment == {}


def test_the_hosts_certificates_are_trusted_unless_others_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "ca-bundle.crt"
    monkeypatch.setattr(program, "CERTIFICATES", (str(tmp_path / "elsewhere"), str(bundle)))
    environment: dict[str, str] = {}
    program.trust_certificates(environment)
    assert environment == {}
    bundle.touch()
    program.trust_certificates(environment)
    assert environment == {"SSL_CERT_FILE": str(bundle)}
    named = {"SSL_CERT_DIR": "/mine"}
    program.trust_certificates(named)
    assert named == {"SSL_CERT_DIR": "/mine"}


def test_the_program_starts_itself_again() -> None:
    result = subprocess.run(
        [*program.own_command(), "--version"], capture_output=True, text=True, env={"PATH": os.defpath}
    )
    assert result.stdout == f"damocles-worker {version_line()}\n"


def test_the_version_is_one_line_that_begins_as_scripts_expect() -> None:
    shape = rf"{re.escape(version_text())} \(release, GPU: none, CPU: [a-z0-9. ]+\)"
    assert re.fullmatch(shape, version_line())
    assert re.fullmatch(r"v\d+\.\d+\.\d+-\S+", version_text())

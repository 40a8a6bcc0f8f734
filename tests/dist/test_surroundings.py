"""Hosts with little on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.dist.conftest import EXECUTABLE, UTIL
from tests.launcher.small import files

MEGABYTE = 1_000_000
NOBODY = 65534


def test_it_is_one_file_within_its_size_and_the_other_name_links_to_it() -> None:
    assert EXECUTABLE.stat().st_size <= 90 * MEGABYTE
    assert UTIL.is_symlink() and UTIL.samefile(EXECUTABLE)


def test_hwinfo_in_an_empty_environment(environment: dict[str, str]) -> None:
    result = subprocess.run([UTIL, "hwinfo"], env=environment, capture_output=True)
    assert (result.returncode, result.stderr) == (0, b"")
    text = result.stdout.decode()
    assert text.startswith("CPU topology:\nMachine (") and "╭" in text and "Memory:" in text


def test_the_name_decides(environment: dict[str, str]) -> None:
    by_name = subprocess.run([UTIL, "hwinfo", "--help"], env=environment, capture_output=True, text=True)
    by_word = subprocess.run(
        [EXECUTABLE, "util", "hwinfo", "--help"], env=environment, capture_output=True, text=True
    )
    assert by_name.stdout.splitlines()[1:] == by_word.stdout.splitlines()[1:]
    assert "--fsroot" in by_name.stdout


def test_version_names_commit_profile_and_cpu_features(environment: dict[str, str]) -> None:
    result = subprocess.run([EXECUTABLE, "--version"], env=environment, capture_output=True, text=True)
    assert re.fullmatch(
        r"damocles-worker v\d+\.\d+\.\d+-git\.[0-9a-f]+(\.dirty)? \(release, GPU: none, CPU: [a-z0-9. ]+\)\n",
        result.stdout,
    )


def test_nothing_of_the_host_is_imported_or_loaded(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("click.py", "json.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit('imported from the host')\n")
    result = subprocess.run(
        [EXECUTABLE, "--version"],
        env={**environment, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "PATH": "/nowhere"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_it_runs_from_a_read_only_mount_for_any_user(tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "--mount", "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here")
    mounted, home = Path("/mnt"), tmp_path
    for directory in [tmp_path, *tmp_path.parents[:2]]:
        directory.chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    script = (
        f"mount --bind {EXECUTABLE.parent} {mounted} && mount -o remount,bind,ro {mounted} && "
        f"! touch {mounted}/file && "
        f"exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "
        f"env -i HOME={home} {mounted}/damocles-worker-util hwinfo"
    )
    result = subprocess.run([unshare, "--mount", "sh", "-c", script], capture_output=True, text=True)
    assert result.stdout.startswith("CPU topology:"), result.stderr
    assert any(name.endswith("/damocles-worker") for name in files(home / ".local/share/damocles-worker"))

"""Small executables: the real launcher in front of a tree with a shell script."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAUNCHER = ROOT / "build/launcher"
#: What stands for the program: it says where it is, what it was given, and waits if asked to.
SCRIPT = """\
#!/bin/sh
echo "tree=$(dirname "$0") pid=$$ arguments=$*"
cat "$(dirname "$0")/lib/version"
[ "$1" != wait ] || exec sleep 600
"""
#: Enough that writing it takes time in which a start can be killed.
BLOCKS = 6


def make_executable(place: Path, version: str) -> Path:
    """The executable of a version of the script, below ``place``."""
    tree = place / f"tree-{version}"
    (tree / "lib").mkdir(parents=True)
    (tree / "damocles-worker").write_text(SCRIPT)
    (tree / "damocles-worker").chmod(0o755)
    (tree / "lib/version").write_text(f"version {version}\n")
    for number in range(BLOCKS):
        (tree / f"lib/block {number}").write_bytes(bytes([number]) * (1 << 20))
    executable = place / version / "damocles-worker"
    subprocess.run(
        [sys.executable, ROOT / "packaging/bundle.py", tree, LAUNCHER, executable],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return executable


def files(directory: Path) -> dict[str, tuple[int, int]]:
    """Mode and size of every file below a directory."""
    found = {path: path.lstat() for path in directory.rglob("*")}
    return {
        str(path.relative_to(directory)): (status.st_mode, status.st_size)
        for path, status in found.items()
        if not stat.S_ISDIR(status.st_mode)
    }


def run(executable: Path, runtime: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start it and wait."""
    environment = {"DAMOCLES_WORKER_RUNTIME_DIR": str(runtime), "PATH": os.defpath}
    return subprocess.run([executable, *arguments], env=environment, capture_output=True, text=True)


def tree_of(runtime: Path) -> Path:
    """The only tree in a runtime directory."""
    (tree,) = (path for path in runtime.iterdir() if path.is_dir())
    return tree

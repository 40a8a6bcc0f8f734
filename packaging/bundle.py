"""Makes one file of a tree of files and the launcher, and says what the result needs.

usage: bundle.py TREE LAUNCHER OUTPUT

The layout of the file is described in ``launcher/src/bundle.rs``.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

MAGIC = b"damocles-worker\n"
LEVEL = 9
UTIL_SUFFIX = "-util"


def main() -> None:
    """Bundle, link the second name, print what was built."""
    tree, launcher, output = map(Path, sys.argv[1:])
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    write(launcher, tree, files, output)
    util = output.with_name(output.name + UTIL_SUFFIX)
    util.unlink(missing_ok=True)
    util.symlink_to(output.name)
    size, unpacked = output.stat().st_size / 1e6, sum(path.stat().st_size for path in files) / 1e6
    print(f"{output}: {size:.1f} MB; unpacked {unpacked:.1f} MB, {len(files)} files")
    print("needs glibc {}.{} or newer ({})".format(*glibc_floor(files)))


def write(launcher: Path, tree: Path, files: list[Path], output: Path) -> None:
    """Write the executable ``output``: the launcher, then ``files`` with their paths below ``tree``.

    It appears whole and under a new inode: a copy that runs keeps its own.
    """
    manifest = "".join(line(path, tree) for path in files).encode()
    start = launcher.stat().st_size
    footer = hashlib.sha256(manifest).digest()
    footer += len(manifest).to_bytes(8, "little") + start.to_bytes(8, "little") + MAGIC
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    compressor = zlib.compressobj(LEVEL)
    with partial.open("wb") as out:
        out.write(launcher.read_bytes())
        out.write(compressor.compress(manifest))
        for path in files:
            out.write(compressor.compress(path.read_bytes()))
        out.write(compressor.flush() + footer)
    partial.chmod(0o755)
    partial.replace(output)


def line(path: Path, tree: Path) -> str:
    """What the manifest says of a file."""
    mode = 0o755 if os.access(path, os.X_OK) else 0o644
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{digest} {path.stat().st_size} {mode:o} {path.relative_to(tree).as_posix()}\n"


def glibc_floor(files: list[Path]) -> tuple[int, int, str]:
    """The newest glibc version that any of the ELF files asks for, and the name of one that does."""
    floor = (0, 0, "none")
    for path in files:
        with path.open("rb") as file:
            is_elf = file.read(4) == b"\x7fELF"
        if is_elf:
            needs = subprocess.run(
                ["readelf", "--version-info", "--wide", path], capture_output=True, text=True, check=True
            ).stdout
            for major, minor in re.findall(r"\bGLIBC_(\d+)\.(\d+)", needs):
                floor = max(floor, (int(major), int(minor), path.name))
    return floor


if __name__ == "__main__":
    main()

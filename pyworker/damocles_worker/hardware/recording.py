"""A copy of exactly those files of ``/sys`` and ``/proc`` that describe this machine to this program.

What system calls and drivers tell (space of file systems, names of GPUs) goes into one file beside them, so
that the copy read elsewhere says the same as the machine itself.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from damocles_worker.errors import WorkerError
from damocles_worker.filesystem import file_error
from damocles_worker.hardware.hwinfo import Hardware, hardware_of
from damocles_worker.hardware.reader import ANSWERS, Reader

_CPUS = "sys/devices/system/cpu"


class RecordingReader(Reader):
    """Reads, and keeps what it has read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        #: Text by path, and the directories below which something was looked for.
        self.texts: dict[str, str] = {}
        self.directories: set[str] = set()
        #: Names that were listed and may not have been read.
        self.listed: set[str] = set()

    def text(self, path: str) -> str | None:
        """As any reader."""
        found = super().text(path)
        if found is not None:
            self.texts[path] = found
        return found

    def names(self, directory: str) -> list[str]:
        """As any reader."""
        found = super().names(directory)
        for name in found:
            path = f"{directory}/{name}"
            (self.directories if (self.root / path).is_dir() else self.listed).add(path)
        return found


def record(directory: Path, root: Path = Path("/")) -> tuple[Hardware, int]:
    """Write the machine below ``root`` into an empty or new directory: what was read, and how many files.

    :raises WorkerError: the directory has something in it, or can't be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise WorkerError(
                f"{directory} is not empty: a recording would be mixed with what is there",
                next_step="Name a new directory",
            )
        reader = RecordingReader(root)
        hardware = hardware_of(reader)
        _read_for_checks(reader)
        return hardware, _write(directory, reader)
    except OSError as error:
        raise file_error(error, "write", directory) from error


def _read_for_checks(reader: Reader) -> None:
    """What ``config check`` reads besides: of every cpu, also of those this process may not use."""
    for cpu in reader.numbered(_CPUS, "cpu"):
        reader.text(f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list")
        for index in reader.numbered(f"{_CPUS}/cpu{cpu}/cache", "index"):
            for name in ("level", "shared_cpu_list"):
                reader.text(f"{_CPUS}/cpu{cpu}/cache/index{index}/{name}")


def _write(directory: Path, reader: RecordingReader) -> int:
    for path in reader.directories:
        (directory / path).mkdir(parents=True, exist_ok=True)
    # What was listed and never read is there too, and empty.
    texts = {**dict.fromkeys(reader.listed, ""), **reader.texts}
    for path, text in texts.items():
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n" if text else "", encoding="utf-8")
    (directory / ANSWERS).write_bytes(msgspec.json.format(msgspec.json.encode(reader.answers)) + b"\n")
    return len(texts) + 1

"""Reads the small files of ``/sys`` and ``/proc`` below a root and keeps what could not be read.

A description of a machine must not end at the first odd file: what can be read is shown, and every
thing that can't be is one line in :attr:`Reader.problems`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from damocles_worker.hardware.cpulist import parse_cpu_list

#: No file that is read here is longer; a recorded tree may hold anything.
_MAX_CHARACTERS = 8 << 20
#: Beside ``sys`` and ``proc`` of a recorded machine: what system calls and drivers told there.
ANSWERS = "answers.json"

T = TypeVar("T")


class Reader:
    """Reads paths relative to ``root``, a live machine's ``/`` or a recorded tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        #: One line per thing that could not be read, in the order met, none twice.
        self.problems: list[str] = []
        #: What else than files told, by question: asked here, or recorded.
        self.answers: dict[str, Any] = {} if self.live else self._recorded_answers()

    @property
    def live(self) -> bool:
        """Whether this is the machine we run on, so that system calls tell about it too."""
        return self.root == Path("/")

    def answer(self, question: str, ask: Callable[[], T], unknown: T) -> T:
        """What ``ask`` answers on a live machine; of another one what was recorded, or ``unknown``.

        Answers are of JSON's types.
        """
        if self.live:
            self.answers[question] = ask()
        found: T = self.answers.get(question, unknown)
        return found if isinstance(found, type(unknown)) else unknown

    def _recorded_answers(self) -> dict[str, Any]:
        try:
            return msgspec.json.decode((self.root / ANSWERS).read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError, RecursionError) as error:
            self.problem(f"{ANSWERS}: {error}")
            return {}

    def problem(self, text: str) -> None:
        """Note a thing that could not be read."""
        if text not in self.problems:
            self.problems.append(text)

    def text(self, path: str) -> str | None:
        """The stripped text of a file; None, without a note, when there is none."""
        try:
            with (self.root / path).open(encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_CHARACTERS).strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            self.problem(f"/{path}: {error.strerror}")
            return None

    def number(self, path: str) -> int | None:
        """The decimal number in a file; anything else is noted and None."""
        text = self.text(path)
        if text is None or re.fullmatch(r"-?[0-9]{1,20}", text):
            return None if text is None else int(text)
        self.problem(f"/{path}: {_shown(text)} is not a number")
        return None

    def size(self, path: str) -> int | None:
        """Bytes of a cache size such as ``16384K``; anything else is noted and None."""
        text = self.text(path)
        if text is None:
            return None
        match = re.fullmatch(r"([0-9]{1,15})([KMG]?)", text)
        if match is None:
            self.problem(f"/{path}: {_shown(text)} is not a size such as 16384K")
            return None
        return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]

    def cpus(self, path: str) -> frozenset[int] | None:
        """The cpus of a cpu list file, which may be empty; anything else is noted and None."""
        text = self.text(path)
        return None if text is None else self.cpu_list(text, f"/{path}")

    def cpu_list(self, text: str, where: str) -> frozenset[int] | None:
        """The cpus (or nodes) of a list found at ``where``; a bad one is noted and None."""
        try:
            return parse_cpu_list(text) if text else frozenset()
        except ValueError:
            self.problem(f"{where}: {_shown(text)} is not a list such as 0-3,8")
            return None

    def status(self, name: str) -> str | None:
        """A field of ``/proc/self/status``; None when it isn't there."""
        for line in (self.text("proc/self/status") or "").splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return value.strip()
        return None

    def numbered(self, directory: str, prefix: str) -> list[int]:
        """The numbers of the entries ``<prefix><number>`` of a directory, ascending."""
        pattern = re.compile(rf"{prefix}([0-9]{{1,9}})")
        return sorted(int(match[1]) for name in self.names(directory) if (match := pattern.fullmatch(name)))

    def names(self, directory: str) -> list[str]:
        """The sorted names in a directory; none when there is no such directory."""
        try:
            return sorted(path.name for path in (self.root / directory).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.problem(f"/{directory}: {error.strerror}")
            return []


def _shown(text: str) -> str:
    first = text.splitlines()[0] if text else ""
    return repr(first if len(first) <= 40 else first[:40] + "…")

"""Configurations for preflights, and short ways to ask what is said of them."""

from __future__ import annotations

from pathlib import Path

from damocles_worker.config.settings import Settings
from damocles_worker.preflight.lines import Line
from tests.unit.config.support import MINIMAL, settings_of


def settings(directory: Path, text: str = "", *, sizes: str = '"2KiB"', threads: int = 1) -> Settings:
    """A configuration with its stores below ``directory``, and ``text`` added at its end."""
    (directory / "persist").mkdir(exist_ok=True)
    base = MINIMAL.replace("/stores", str(directory)).replace("/persist", f"{directory}/persist")
    more = "".join(f'[[sealing_thread]]\nlocation = "{directory}/{n}"\n' for n in range(2, threads + 1))
    return settings_of(directory, f"{base}{more}[sealing]\nallowed_sizes = [{sizes}]\n{text}")


def of(lines: list[Line], subject: str) -> Line:
    """The one line about a subject."""
    found = [line for line in lines if line.subject == subject]
    assert len(found) == 1, lines
    return found[0]


def unread(title: str, done: int, total: int) -> None:
    """A reader of large files that must not be called."""
    raise AssertionError(f"{title} was read: {done} of {total}")

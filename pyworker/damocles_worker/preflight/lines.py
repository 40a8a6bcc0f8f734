"""One line of a preflight: what was looked at, what was found, what is needed, what to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from damocles_worker.config.findings import Finding

Level = Literal["ok", "warning", "problem"]
#: The exit status that each level asks for.
STATUS: dict[Level, int] = {"ok": 0, "warning": 1, "problem": 2}


class Line(Struct, frozen=True):
    """A remark. A problem keeps sectors from being sealed, a warning costs time or may become one."""

    level: Level
    #: ``parameters``, ``huge pages``, ``stores``, …
    area: str
    subject: str
    found: str
    needed: str = ""
    #: A command, or in words what to do; empty where nothing is to be done.
    command: str = ""


def of_finding(area: str, finding: Finding) -> Line:
    """The line of a finding of ``config check``."""
    level: Level = "problem" if finding.level == "error" else "warning"
    place = finding.path or f"line {finding.line}"
    return Line(level, area, place, finding.message, command=finding.next_step)


def worst(lines: Iterable[Line]) -> int:
    """The exit status: 0 all is well, 1 there are warnings, 2 there are problems."""
    return max((STATUS[line.level] for line in lines), default=0)


def to_text(lines: Sequence[Line]) -> str:
    """One line each, what to do indented below, and a summary."""
    width = max((len(line.area) for line in lines), default=0)
    shown = []
    for line in lines:
        shown.append(f"{line.level:<7}  {line.area:<{width}}  {in_words(line)}")
        if line.command:
            shown.append(f"{'':<7}  {'':<{width}}    {line.command}")
    return "\n".join([*shown, summary(lines)])


def in_words(line: Line) -> str:
    """Subject, what was found, what is needed."""
    return f"{line.subject}: {line.found}" + (f"; needed: {line.needed}" if line.needed else "")


def summary(lines: Sequence[Line]) -> str:
    """How many lines of each level there are."""
    counts = {level: sum(line.level == level for line in lines) for level in STATUS}
    return f"{counts['problem']} problem(s), {counts['warning']} warning(s), {counts['ok']} ok"


def to_json(lines: Sequence[Line]) -> bytes:
    """The lines as objects, with the exit status and no text that is made for reading only."""
    return msgspec.json.format(msgspec.json.encode({"status": worst(lines), "lines": lines}))

"""What a check of the configuration has to say, and the collector that gathers it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

Severity = Literal["error", "warning"]


class Finding(Struct, frozen=True):
    """One remark about one place of the configuration.

    An error is something the worker can't act on, a warning something it acts on in a way that the
    reader may not expect. Lines and columns start at 1.
    """

    level: Severity
    #: TOML path, ``processors.pc1[0].locks``; empty for the file as a whole.
    path: str
    line: int
    column: int
    message: str
    next_step: str = ""
    #: ``file``: true of the text wherever it is read. ``machine``: true on this host.
    kind: Literal["file", "machine"] = "file"

    def __str__(self) -> str:
        """``LINE:COL: error: path: message``, and the next step on an indented line of its own."""
        subject = f"{self.path}: " if self.path else ""
        text = f"{self.line}:{self.column}: {self.level}: {subject}{self.message}"
        return f"{text}\n    next: {self.next_step}" if self.next_step else text


class Report:
    """Collects findings. One place gets one error: what follows from a first error is noise."""

    def __init__(self, kind: Literal["file", "machine"] = "file") -> None:
        self.findings: list[Finding] = []
        self.kind: Literal["file", "machine"] = kind

    def error(self, path: str, position: tuple[int, int], message: str, next_step: str = "") -> None:
        self._add("error", path, position, message, next_step)

    def warning(self, path: str, position: tuple[int, int], message: str, next_step: str = "") -> None:
        self._add("warning", path, position, message, next_step)

    @property
    def error_paths(self) -> frozenset[str]:
        """Paths of the values that are in error."""
        return frozenset(finding.path for finding in self.findings if finding.level == "error")

    def _add(
        self, level: Severity, path: str, position: tuple[int, int], message: str, next_step: str
    ) -> None:
        self.findings.append(Finding(level, path, *position, message, next_step, self.kind))


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Findings in the order of the file; those of the file as a whole come first."""
    return sorted(findings, key=lambda finding: (finding.line, finding.column, finding.kind, finding.path))


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of the findings is an error."""
    return any(finding.level == "error" for finding in findings)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` is probably a misspelling of, or None."""
    # Of names that differ in case only the first is the one to write, the others are old ones.
    by_folded = {candidate.lower().replace("-", "_"): candidate for candidate in reversed(list(known))}
    matches = difflib.get_close_matches(name.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """A next step for an unknown name: the nearest known one, or all of them."""
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f'did you mean "{near}"?'
    return f"known names: {', '.join(names)}" if names else ""

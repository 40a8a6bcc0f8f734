"""A TOML file as a tree of nodes that know their position, and what can be wrong with such a file."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from msgspec import Struct

from damocles_worker._native import parse_toml
from damocles_worker.config.findings import Finding, Report

_SAVE_AS_UTF8 = "save it as UTF-8 text"
#: Syntax errors beyond this number are consequences of the first ones.
_MAX_SYNTAX_ERRORS = 10
_DUPLICATE = "duplicate key"
_TYPE_NAMES = {
    "string": "a string",
    "integer": "an integer",
    "float": "a number with a fraction",
    "boolean": "a boolean",
    "datetime": "a date or time",
    "array": "an array",
    "table": "a table",
}


class Node(Struct, frozen=True):
    """A value of the file. ``value`` is a plain Python value, a tuple of nodes or a tuple of entries."""

    kind: str
    position: tuple[int, int]
    value: Any

    @property
    def items(self) -> tuple[Node, ...]:
        """The elements of an array."""
        return cast("tuple[Node, ...]", self.value)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of a table in the order of the file."""
        return cast("tuple[Entry, ...]", self.value)

    def get(self, key: str) -> Node | None:
        """The value of ``key`` in a table, or None."""
        return next((entry.node for entry in self.entries if entry.key == key), None)

    def describe(self, *, secret: bool = False) -> str:
        """The value as a message names it: ``the string "3"``. A secret's text is not shown."""
        name = _TYPE_NAMES[self.kind]
        if secret or self.kind in ("array", "table"):
            return name
        if self.kind == "string":
            return f'the string "{_shortened(self.value)}"'
        text = str(self.value).lower() if self.kind == "boolean" else str(self.value)
        return f"{name} ({text})"


class Entry(Struct, frozen=True):
    """A key of a table with the key's own position."""

    key: str
    position: tuple[int, int]
    node: Node


class Document(Struct, frozen=True):
    """A parsed file: its root table, and from where on it is not to be trusted."""

    root: Node
    #: Lines with a syntax error; what was read there is a guess.
    broken_lines: frozenset[int] = frozenset()
    #: First line that nothing can be said about: a bracket or string opened before it is never closed.
    end: int | None = None

    @property
    def complete(self) -> bool:
        """Whether all of the file was understood."""
        return not self.broken_lines

    def trusts(self, finding: Finding) -> bool:
        """Whether a finding rests on text that was understood."""
        if self.complete:
            return True
        beyond_end = self.end is not None and finding.line >= self.end
        return finding.line not in self.broken_lines and not beyond_end


def read_document(path: str, report: Report, *, may_be_empty: bool = False) -> Document | None:
    """Read and parse the file; None (and one error) if there is no text in it to parse."""
    problem = _problem_of_file(path)
    if problem is not None:
        report.error("", (1, 1), *problem)
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        report.error("", (1, 1), f"the file can't be read: {error.strerror}", _way_out(error))
        return None
    text = _decoded(data, report, may_be_empty=may_be_empty)
    return None if text is None else parse_document(text, report)


def parse_document(text: str, report: Report) -> Document:
    """Parse TOML text; every syntax error is reported, at most one for a line."""
    tree, errors = parse_toml(text)
    structural = [error for error in errors if not error[2].startswith(_DUPLICATE)]
    runaway = any(line >= text.rstrip().count("\n") + 1 for line, _, _ in structural)
    shown = errors if not runaway else [error for error in errors if error <= structural[0]]
    first_of_line: dict[int, tuple[int, int, str]] = {}
    for error in shown:
        first_of_line.setdefault(error[0], error)
    for line, column, message in list(first_of_line.values())[:_MAX_SYNTAX_ERRORS]:
        report.error("", (line, column), f"not valid TOML: {message}", _syntax_hint(message, runaway=runaway))
    return Document(
        _node(tree),
        frozenset(line for line, _, _ in structural),
        structural[0][0] if runaway else None,
    )


def _problem_of_file(path: str) -> tuple[str, str] | None:
    if "\0" in path:
        return "the path of the file has a zero byte", "give the path of a TOML file"
    if os.path.isdir(path):  # noqa: PTH112
        return "this is a directory, not a file", "give the path of the TOML file in it"
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        return "this is a device, socket or pipe, not a file", "give the path of a TOML file"
    return None


def _way_out(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "check the path given with --config or DAMOCLES_WORKER_CONFIG"
    if isinstance(error, PermissionError):
        return "give the user that runs the worker the right to read it"
    return "check the disk it lies on"


def _decoded(data: bytes, report: Report, *, may_be_empty: bool) -> str | None:
    """The text of the file without a byte order mark; None (and one error) if it is none."""
    start = (1, 1)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        report.error("", start, "the file is UTF-16 text; TOML is UTF-8", _SAVE_AS_UTF8)
        return None
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data.strip() and not may_be_empty:
        report.error("", start, "the file is empty", "start from the example configuration in README.md")
        return None
    if b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        report.error("", (line, 1), "the file is binary (it has zero bytes), not TOML text", _SAVE_AS_UTF8)
        return None
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
        found = f"byte 0x{data[error.start]:02x} is not UTF-8"
        report.error("", (line, column), f"the file is not TOML text: {found}", _SAVE_AS_UTF8)
        return None


def _syntax_hint(message: str, *, runaway: bool) -> str:
    if message.startswith(_DUPLICATE):
        return "keep one of the two; the first one was read"
    if runaway:
        return "look for a bracket, brace or quote that is opened on this line or above and never closed"
    if "string values must be quoted" in message or "unquoted" in message:
        return 'put text between double quotes, "like this"'
    return "mend this line; what it says was not read"


def _node(raw: tuple[str, int, int, Any]) -> Node:
    kind, line, column, value = raw
    if kind == "array":
        value = tuple(_node(item) for item in value)
    elif kind == "table":
        value = tuple(Entry(key, (at, col), _node(item)) for key, at, col, item in value)
    return Node(kind, (line, column), value)


def _shortened(text: str, limit: int = 80) -> str:
    printable = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return printable if len(text) <= limit else f"{printable[:limit]}..."


def walk(node: Node, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every value below a table with its TOML path, ``sealing_thread[0].location``."""
    if node.kind == "table":
        for entry in node.entries:
            below = join(path, entry.key)
            yield below, entry.node
            yield from walk(entry.node, below)
    elif node.kind == "array":
        for index, item in enumerate(node.items):
            yield f"{path}[{index}]", item
            yield from walk(item, f"{path}[{index}]")


def join(path: str, key: str) -> str:
    """The TOML path of ``key`` below ``path``; keys that need quotes get them."""
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    shown = key if bare else f'"{_shortened(key)}"'
    return f"{path}.{shown}" if path else shown

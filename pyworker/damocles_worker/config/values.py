"""Readers of single values: from a node of the file to a checked Python value.

A reader takes a :class:`Place` and returns the value, or raises :class:`RefusedError` with what is wrong
and what to write instead. Readers of arrays and maps report bad elements one by one and go on.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from damocles_worker.config.document import Entry, Node, join
from damocles_worker.config.findings import Report, suggestion
from damocles_worker.hardware.cpulist import parse_cpu_list
from damocles_worker.units import parse_duration, parse_size_a

Reader = Callable[["Place"], Any]

_PLACEHOLDER = re.compile(r"\{[^{}]*\}|<[^<>/]+>")
_MAX_U32 = 2**32 - 1
_MAX_I64 = 2**63 - 1


class RefusedError(Exception):
    """A value that can't be used: the message says what was found, ``next_step`` what to write."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step


class Place:
    """A node, its TOML path, and the report for what is found there."""

    def __init__(self, node: Node, path: str, report: Report, *, secret: bool = False) -> None:
        self.node = node
        self.path = path
        self.report = report
        self.secret = secret

    @property
    def found(self) -> str:
        """The value as messages name it."""
        return self.node.describe(secret=self.secret)

    def warn(self, message: str, next_step: str = "") -> None:
        self.report.warning(self.path, self.node.position, message, next_step)

    def expect(self, kinds: str | tuple[str, ...], expected: str, example: str = "") -> Any:
        """The plain value if the node is of one of ``kinds``; refuses it as the wrong type otherwise."""
        if self.node.kind not in ((kinds,) if isinstance(kinds, str) else kinds):
            raise RefusedError(f"found {self.found}, expected {expected}", example and f"write {example}")
        return self.node.value

    def read(self, reader: Reader) -> tuple[Any, ...]:
        """One value, or nothing if the reader refuses it (which is then reported)."""
        try:
            return (reader(self),)
        except RefusedError as refusal:
            self.report.error(self.path, self.node.position, refusal.message, refusal.next_step)
            return ()

    def elements(self) -> Iterator[Place]:
        for index, item in enumerate(self.node.items):
            yield Place(item, f"{self.path}[{index}]", self.report, secret=self.secret)

    def entries(self) -> Iterator[tuple[Entry, Place]]:
        for entry in self.node.entries:
            yield entry, Place(entry.node, join(self.path, entry.key), self.report, secret=self.secret)


ReaderType = TypeVar("ReaderType", bound=Reader)

#: What the reference of all keys says of a reader's values.
_FORMS: dict[Reader, str] = {}


def written_as(form: str) -> Callable[[ReaderType], ReaderType]:
    """Says of a reader how its values are written, in a few words of Markdown."""

    def note(reader: ReaderType) -> ReaderType:
        _FORMS[reader] = form
        return reader

    return note


def form_of(reader: Reader) -> str:
    """How the values of ``reader`` are written."""
    return _FORMS[reader]


def _key(place: Place) -> str:
    """The last part of the path, for examples."""
    return re.sub(r"\[\d+\]$", "", place.path).rsplit(".", 1)[-1]


# ---- plain values --------------------------------------------------------------------------------


@written_as("`true` or `false`")
def boolean(place: Place) -> bool:
    return bool(place.expect("boolean", "true or false", f"{_key(place)} = true or {_key(place)} = false"))


@written_as("string")
def text(place: Place) -> str:
    return str(place.expect("string", "a string", f'{_key(place)} = "..." with quotes'))


@written_as("string")
def filled_text(place: Place) -> str:
    """A string that is neither empty nor a placeholder of an example, such as ``{some_ip}``."""
    value = text(place)
    if not value.strip():
        raise RefusedError("found an empty string", "fill it in, or remove the key")
    refuse_placeholder(value)
    return value


@written_as("string")
def control_group(place: Place) -> str:
    """A group's name below the mount point of the hierarchy; the ``/`` before it changes nothing."""
    value = filled_text(place)
    name = value.strip("/")
    if {"", ".", ".."} & set(name.split("/")):
        raise RefusedError(
            f'found "{value}", which is no group below the root of the hierarchy',
            'write names with a single / between them, such as "vc-worker"',
        )
    return name


def refuse_placeholder(value: str) -> None:
    """Refuse text that still has a ``{placeholder}`` of an example in it."""
    match = _PLACEHOLDER.search(value)
    if match:
        where = "" if match[0] == value else f' in "{value}"'
        raise RefusedError(
            f'"{match[0]}"{where} is a placeholder to fill in',
            f"put the real value in the place of {match[0]}",
        )


@written_as("path")
def path_text(place: Place) -> str:
    value = filled_text(place)
    if "\0" in value:
        raise RefusedError("a path can't have a zero byte")
    if value.startswith("~"):
        place.warn(
            f'"~" is not expanded: "{value}" is a directory named "~" in the working directory',
            "write the path from the root, /...",
        )
    return value


def whole(minimum: int, maximum: int, meaning: str = "") -> Reader:
    """An integer from ``minimum`` to ``maximum``; ``meaning`` says why a smaller one is refused."""

    @written_as(f"integer from {minimum}{'' if maximum >= _MAX_U32 // 2 else f' to {maximum}'}")
    def read(place: Place) -> int:
        value = place.expect("integer", "an integer", f"{_key(place)} = 5 without quotes or fraction")
        if minimum <= value <= maximum:
            return int(value)
        why = f": {meaning}" if meaning and value < minimum else ""
        limit = f"at least {minimum}" if maximum == _MAX_I64 else f"{minimum} to {maximum}"
        raise RefusedError(f"found {value}, expected {limit}{why}", f"write a number of {limit}")

    return read


count = whole(0, _MAX_I64)
count_u32 = whole(0, _MAX_U32)
port = whole(0, 65535)
node_number = whole(-1, 2**31 - 1)


@written_as("integer from 1")
def permits(place: Place) -> int:
    """A number of tasks at once. Zero would block every task for ever."""
    value = place.expect("integer", "an integer", f"{_key(place)} = 1 without quotes or fraction")
    if value < 1:
        raise RefusedError(
            f"found {value}: with less than one task at once every task waits for ever",
            "write 1 or more; remove the key for no limit",
        )
    return int(value)


# ---- units ---------------------------------------------------------------------------------------


@written_as("duration")
def duration(place: Place) -> float:
    """Seconds."""
    written = place.expect("string", 'a duration as a string, such as "30s"', _duration_example(place))
    try:
        seconds = parse_duration(written)
    except ValueError as error:
        raise RefusedError(str(error), 'units: ms, s, min, h, day; example: "1h 30min"') from None
    if re.search(r"[0-9]\s*M(?![a-z])", written):
        place.warn(f'"M" is a month of 30.44 days in "{written}"', 'for minutes write "m" or "min"')
    return seconds


def _duration_example(place: Place) -> str:
    if place.node.kind == "integer" and place.node.value >= 0:
        return f'{_key(place)} = "{place.node.value}s" if seconds are meant'
    return f'{_key(place)} = "30s"'


@written_as("duration")
def interval(place: Place) -> float:
    """A pause between two attempts, in seconds; zero is accepted and warned of."""
    seconds = duration(place)
    if seconds == 0:
        place.warn("without a pause this is repeated as fast as the machine can", 'write "1s" or more')
    return seconds


@written_as("duration")
def positive_duration(place: Place) -> float:
    seconds = duration(place)
    if seconds == 0:
        raise RefusedError("found no time at all, expected more than zero", 'write a duration such as "1day"')
    return seconds


@written_as("duration")
def stagger(place: Place) -> float:
    """Seconds between two starts; less than one second has no effect."""
    seconds = duration(place)
    if seconds < 1:
        place.warn("less than one second between two starts is ignored", 'write "1s" or more, or remove it')
    return seconds


@written_as("size")
def size(place: Place) -> int:
    """Bytes, as a string with a unit or as a number."""
    written = place.expect(
        ("string", "integer", "float"), 'a size such as "8GiB", or bytes', f'{_key(place)} = "8GiB"'
    )
    if place.node.kind != "string":
        if not 0 <= written < 2**63:
            raise RefusedError(f"found {written}, expected a number of bytes from 0", 'example: "8GiB"')
        return int(written)
    try:
        found = parse_size_a(written)
    except ValueError as error:
        raise RefusedError(str(error), 'units: KiB, MiB, GiB, TiB; example: "8GiB"') from None
    if found >= 2**64:
        raise RefusedError(
            f'"{written}" is {found} bytes, more than the manager can be told', 'example: "8GiB"'
        )
    return found


# ---- addresses -----------------------------------------------------------------------------------


@written_as("IP address")
def ip_literal(place: Place) -> str:
    value = filled_text(place)
    try:
        ipaddress.ip_address(value)
    except ValueError:
        raise RefusedError(
            f'"{value}" is not an IP address (host names are not looked up)',
            'write an address of this machine, or "0.0.0.0" for all of them',
        ) from None
    return value


@written_as("`IP:port`")
def socket_address(place: Place) -> str:
    """``IP:port``, an IPv6 address in brackets; host names are refused."""
    value = filled_text(place)
    host, separator, number = value.rpartition(":")
    expected = 'write an IP address and a port, such as "0.0.0.0:9000" or "[::1]:9000"'
    if not separator or not re.fullmatch(r"[0-9]{1,5}", number) or int(number) > 65535:
        raise RefusedError(f'"{value}" has no port from 0 to 65535 after a colon', expected)
    try:
        if host.startswith("[") and host.endswith("]"):
            ipaddress.IPv6Address(host[1:-1])
        else:
            ipaddress.IPv4Address(host)
    except ValueError:
        raise RefusedError(f'"{host}" in "{value}" is not an IP address (no host names)', expected) from None
    return value


@written_as("cpu list")
def cpu_list(place: Place) -> str:
    """A cpu list as the kernel takes it, ``0-3,8``, kept as written."""
    value = text(place)
    try:
        parse_cpu_list(value)
    except ValueError as error:
        raise RefusedError(str(error), 'write cpu numbers and ranges, such as "0-3,8,10-11"') from None
    return value


# ---- names, arrays, maps -------------------------------------------------------------------------


def one_of(names: Iterable[str], refused: dict[str, tuple[str, str]] | None = None) -> Reader:
    """One of ``names``; ``refused`` has a message and a next step for names that are known but out."""
    known = tuple(names)

    @written_as(f"one of {', '.join(f'`{name}`' for name in known)}")
    def read(place: Place) -> str:
        value = text(place)
        if refused and value in refused:
            raise RefusedError(*refused[value])
        if value not in known:
            raise RefusedError(
                f'found "{value}", expected one of {", ".join(known)}', suggestion(value, known)
            )
        return value

    return read


def array(element: Reader) -> Reader:
    """A tuple of all elements that ``element`` accepts."""

    @written_as(f"list: {form_of(element)}")
    def read(place: Place) -> tuple[Any, ...]:
        place.expect("array", "an array", f"{_key(place)} = [ ... ] with square brackets")
        return tuple(value for item in place.elements() for value in item.read(element))

    return read


def mapping(element: Reader, names: Callable[[str], Any] = str, example: str = "name = value") -> Reader:
    """A dict of all entries whose key ``names`` and whose value ``element`` accept.

    ``names`` turns a key into what the dict is keyed by, or raises :class:`RefusedError`.
    """

    @written_as(f"table of {form_of(element)}, `{{ {example} }}`")
    def read(place: Place) -> dict[Any, Any]:
        place.expect("table", "a table", f"{{ {example} }}")
        values: dict[Any, Any] = {}
        for entry, item in place.entries():
            try:
                key = names(entry.key)
                if key in values:
                    raise RefusedError(f'"{entry.key}" is given twice in other words', "keep one of the two")
            except RefusedError as refusal:
                place.report.error(item.path, entry.position, refusal.message, refusal.next_step)
                continue
            for value in item.read(element):
                values[key] = value
        return values

    return read

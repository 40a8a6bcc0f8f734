"""Cpu lists in the kernel's notation: ``0-3,8,10-11``."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: The kernel itself is built for at most 8192 cpus; a larger number is a slip.
_MAX_CPU = 8191
_ITEM = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6})(?::([0-9]{1,6})/([0-9]{1,6}))?)?")


def parse_cpu_list(text: str) -> frozenset[int]:
    """The cpus of a list of numbers and ranges, ``0-3,8``; ``0-31:2/8`` is 2 of every 8.

    Raises ``ValueError`` with the text and the part that is wrong. An empty list is refused: the kernel
    takes it for "no cpu".
    """
    cpus: set[int] = set()
    for item in text.split(","):
        cpus.update(_item(item.strip(), text))
    return frozenset(cpus)


def _item(item: str, text: str) -> range | set[int]:
    match = _ITEM.fullmatch(item)
    if not match:
        what = f'"{item}" is neither a number nor a range' if item else "a number is missing"
        raise ValueError(f'"{text}" is not a cpu list: {what}')
    first, last, used, group = (int(part) if part is not None else None for part in match.groups())
    assert first is not None
    if last is None:
        last = first
    if last < first:
        raise ValueError(f'"{text}" is not a cpu list: {item} runs backwards')
    if last > _MAX_CPU:
        raise ValueError(f'"{text}" is not a cpu list: no machine has a cpu {last}')
    if used is None or group is None:
        return range(first, last + 1)
    if not 1 <= used <= group:
        raise ValueError(f'"{text}" is not a cpu list: {item} takes {used} of every {group}')
    return {cpu for cpu in range(first, last + 1) if (cpu - first) % group < used}


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The shortest list for these cpus: ``{0, 1, 2, 8}`` gives ``0-2,8``; no cpus give ``""``."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)

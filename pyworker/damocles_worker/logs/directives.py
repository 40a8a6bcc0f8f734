"""``RUST_LOG`` and ``DAMOCLES_WORKER_LOG``: which lines are printed.

Both are lists, separated by commas, of ``level``, ``target=level`` or ``target`` (everything of it), and the
longest target that a line's own begins with decides. A line is printed when either variable admits it. A
list without a bare level admits errors of everything else, as ever.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

from damocles_worker.errors import UsageError

#: Level names and upstream's digits, any case, as ranks from off to trace.
RANKS = {
    name: rank
    for rank, names in enumerate(
        (("off", "0"), ("error", "1"), ("warn", "2"), ("info", "3"), ("debug", "4"), ("trace", "5"))
    )
    for name in names
}
TRACE = 5
#: The level of Python's logging for each rank.
LEVELS = (logging.CRITICAL + 1, logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG, TRACE)

#: When RUST_LOG is not set: this program's information, other people's warnings.
_DEFAULT = {"": 2, "damocles_worker": 3, "proofs": 3, "sdr": 3, "pc2": 3, "params": 3}
#: Libraries that say nothing an operator needs, unless they are named.
_QUIET = {"asyncio": 2, "aiohttp": 2, "merkletree": 3}
_SPAN = re.compile(r"\[[^\]]*\]")

#: Target prefix to rank; the empty prefix is everything.
Table = Mapping[str, int]


class Directives:
    """What is admitted, by several tables of which each may admit a line."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Directives:
        """The two variables of ``environ``.

        :raises UsageError: one of them names no level.
        """
        usual = _parse("RUST_LOG", environ.get("RUST_LOG", ""))
        more = _parse("DAMOCLES_WORKER_LOG", environ.get("DAMOCLES_WORKER_LOG", ""))
        return cls([{**_QUIET, "": 1, **usual} if usual else _DEFAULT, {"": 0, **more}])

    def admits(self, target: str, level: int) -> bool:
        """Whether a line of ``target`` with a level of Python's logging is printed."""
        rank = next((rank for rank in range(1, 5) if level >= LEVELS[rank]), 5)
        return any(rank <= _rank(table, target) for table in self.tables)

    @property
    def lowest(self) -> int:
        """The level of Python's logging below which nothing is admitted of any target."""
        return LEVELS[max(rank for table in self.tables for rank in table.values())]


def target_of(logger: str) -> str:
    """The target of a logger's name, ``damocles_worker::sealing::thread``."""
    return logger.replace(".", "::")


def _rank(table: Table, target: str) -> int:
    return table[max((prefix for prefix in table if target.startswith(prefix)), key=len)]


def _parse(variable: str, text: str) -> dict[str, int]:
    table = {}
    # Spans (``target[span{field}]=level``) are those of the Rust worker; the target alone decides here.
    for directive in filter(None, (part.strip() for part in _SPAN.sub("", text).split(","))):
        target, equals, level = directive.rpartition("=")
        rank = RANKS.get(level.strip().lower())
        if rank is None and not equals:
            target, rank = level, TRACE
        if rank is None:
            names = ", ".join(name for name in RANKS if not name.isdigit())
            raise UsageError(f"{variable}: {level!r} in {directive!r} is no level; expected one of {names}")
        table[target_of(target.strip())] = rank
    return table

"""For which sector a line of the log is: known without being handed through every call.

A sealing thread makes its place once and keeps it up to date; whatever it starts, tasks and computing
threads, logs in the same place.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Place:
    """A sealing thread and what it is at; empty texts are left out of a line."""

    thread: int
    sector: str = ""
    stage: str = ""

    def is_at(self, sector: str | None, stage: str | None) -> None:
        """From now on it works on ``sector``, in ``stage`` as ``worker list`` calls it."""
        self.sector = sector or ""
        self.stage = "" if stage in (None, "-") else str(stage)


_current: ContextVar[Place | None] = ContextVar("place", default=None)


def enter(thread: int) -> Place:
    """Make the place of sealing thread ``thread`` that of the running task and of all it starts."""
    place = Place(thread)
    _current.set(place)
    return place


def current() -> Place | None:
    """The place of the running code, if it belongs to a sealing thread."""
    return _current.get()

"""The log of the Rust crates, in the same stream as everything else.

A computing thread puts its lines into a queue and goes on; a thread of ours takes them from there. So no
computation ever waits for the interpreter or for a slow terminal.
"""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Mapping, Sequence

from damocles_worker import _native
from damocles_worker.logs.directives import LEVELS
from damocles_worker.logs.place import Place, current

#: Seconds to write what is in the queue at the end of the process.
_PATIENCE = 2.0

_pump: threading.Thread | None = None
_written = threading.Lock()


def forward(tables: Sequence[Mapping[str, int]]) -> None:
    """Forward what ``tables`` (target prefix to rank, 0 is off and 5 is trace) admit, from now on."""
    global _pump
    _native.forward_log([list(table.items()) for table in tables])
    if _pump is None:
        _pump = threading.Thread(target=_forward, name="engine-log", daemon=True)
        _pump.start()
        atexit.register(_close, _pump)


def here() -> None:
    """What the crates say in this very thread belongs to the place of the running code."""
    place = current()
    _native.set_log_place(None if place is None else (place.thread, place.sector, place.stage))


def flush() -> None:
    """Write what has been said until now."""
    _write(_native.take_log(wait=False) or [])


def _forward() -> None:
    while (lines := _native.take_log(wait=True)) is not None:
        _write(lines)


def _write(lines: list[_native._LogLine]) -> None:
    with _written:
        for rank, target, message, created, place in lines:
            log = logging.getLogger(target.replace("::", "."))
            record = log.makeRecord(log.name, LEVELS[rank], "", 0, message, (), None)
            record.created = created
            record.place = Place(*place) if place else None
            log.handle(record)


def _close(pump: threading.Thread) -> None:
    # A thread that came back from Rust while the interpreter ends would be torn down in the middle.
    _native.close_log()
    pump.join(_PATIENCE)

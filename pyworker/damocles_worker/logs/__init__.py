"""Logging: one line per event on stderr, of this program and of the Rust crates alike.

:mod:`.directives` decides what is printed, :mod:`.formats` how, :mod:`.place` says for which sector, and
:mod:`.secrets` what never appears. :mod:`.engine` brings in the lines of the Rust crates.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from damocles_worker.logs import engine
from damocles_worker.logs.directives import Directives, target_of
from damocles_worker.logs.formats import Human, Json
from damocles_worker.logs.place import current

FORMATS = ("human", "json")
#: Names the format for this process and for the processors it starts.
FORMAT_VARIABLE = "DAMOCLES_WORKER_LOG_FORMAT"


class _Stderr(logging.Handler):
    """Writes to whatever stderr is at the moment."""

    def __init__(self) -> None:
        super().__init__()
        self.directives = Directives.of_environment({})

    def filter(self, record: logging.LogRecord) -> bool:
        if not self.directives.admits(target_of(record.name), record.levelno):
            return False
        if not hasattr(record, "place"):
            record.place = current()
        return True

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # stderr is closed or full: there is nowhere to say it


_handler = _Stderr()


def set_up(environ: Mapping[str, str] = os.environ) -> None:
    """Configure the log of this process by ``RUST_LOG`` and ``DAMOCLES_WORKER_LOG``.

    :raises UsageError: one of them names no level.
    """
    _handler.directives = Directives.of_environment(environ)
    use_format("human")
    root = logging.getLogger()
    if _handler not in root.handlers:
        root.addHandler(_handler)
    root.setLevel(_handler.directives.lowest)
    engine.forward(_handler.directives.tables)


def use_format(name: str) -> None:
    """``human``, in colours on a terminal, or ``json``, an object per line."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    _handler.setFormatter(Json() if name == "json" else Human(colours=colours))


def flush() -> None:
    """Write what the Rust crates have said until now; for a process that leaves without ceremony."""
    engine.flush()

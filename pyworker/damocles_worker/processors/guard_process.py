"""``damocles-worker processor guard``: the process of :class:`~damocles_worker.processors.guard.Guard`.

It reads ``+PID DIRECTORY`` for a process group (with the control group it is in, if any) and ``-PID`` when
that has ended. At the end of its input, which is the end of the daemon, it kills the process groups that
are left and what else is in their control groups, and removes these.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from damocles_worker.processors.leftovers import end_processes

#: Seconds that killed processes may take to leave their control group.
PATIENCE = 5.0
_LOOK = 0.02


def main() -> None:
    """Guard until the input ends. Signals that are meant for the daemon don't end it before."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched: dict[int, str] = {}
    for line in sys.stdin:
        pid, _, directory = line[1:].rstrip("\n").partition(" ")
        if line[0] == "+":
            watched[int(pid)] = directory
        else:
            watched.pop(int(pid), None)
    for group in watched:
        # One that has ended meanwhile leaves its number to nobody so soon.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    for directory in filter(None, watched.values()):
        _remove(directory, deadline)


def _remove(directory: str, deadline: float) -> None:
    while time.monotonic() < deadline:
        end_processes(Path(directory))
        try:
            os.rmdir(directory)  # noqa: PTH106
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_LOOK)

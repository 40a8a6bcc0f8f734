"""The preflight of a starting daemon: in the log, beside the work, never in its way."""

from __future__ import annotations

import logging
import threading

from damocles_worker.config.settings import Settings
from damocles_worker.preflight import manager
from damocles_worker.preflight.lines import Line, in_words, summary
from damocles_worker.preflight.manager import ManagerView
from damocles_worker.preflight.run import of_this_host

log = logging.getLogger(__name__)

_SEVERITY = {"ok": logging.DEBUG, "warning": logging.WARNING, "problem": logging.ERROR}


def say_in_background(settings: Settings, view: ManagerView) -> None:
    """Look in a thread of its own and log what is not as it should be, then one line of summary.

    No large file is read, and a file system that doesn't answer holds up nothing but this thread, which
    does not keep the process alive.
    """
    threading.Thread(target=_say, args=(settings, view), name="preflight", daemon=True).start()


def _say(settings: Settings, view: ManagerView) -> None:
    try:
        # A manager that is away was said before the threads began.
        lines = [] if view.error else manager.look(view)
        lines += of_this_host(settings, read=False, local_network=view.is_devnet, reading=_nothing_is_read)
    except Exception:
        # Whatever it is, sealing goes on without this.
        log.exception("the preflight broke off")
        return
    for line in lines:
        log.log(_SEVERITY[line.level], "%s", _sentence(line))
    log.info("preflight: %s", summary(lines))


def _sentence(line: Line) -> str:
    text = f"{line.area}: {in_words(line)}"
    return f"{text}. {line.command}" if line.command else text


def _nothing_is_read(_title: str, _done: int, _total: int) -> None:
    """Large files are left alone at a start."""

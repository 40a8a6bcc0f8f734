"""Limits of this process, from ``/proc/self/limits``."""

from __future__ import annotations

import re
import resource

from msgspec import Struct

from damocles_worker.hardware.reader import Reader

OPEN_FILES = "Max open files"
LOCKED_MEMORY = "Max locked memory"


class Limit(Struct, frozen=True):
    """A resource limit; None is unlimited."""

    soft: int | None
    hard: int | None


def read_limit(reader: Reader, name: str) -> Limit | None:
    """A limit by its name in ``/proc/self/limits``; None, and noted, if it can't be read."""
    text = reader.text("proc/self/limits") or ""
    amount = "(unlimited|[0-9]{1,20})"
    match = re.search(rf"^{re.escape(name)}\s+{amount}\s+{amount}\b", text, re.MULTILINE)
    if match is None:
        reader.problem(f"/proc/self/limits: {name} can't be read")
        return None
    soft, hard = (None if text == "unlimited" else int(text) for text in match.groups())
    return Limit(soft, hard)


def raise_open_files() -> None:
    """Let this process open as many files as it may: shells leave the soft limit at 1024."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

"""``worker enable-dump``: keeps what a child printed and nobody could read.

The control interface sets ``DUMP_ERR_RESP_<pid>`` in the daemon's environment, as it does in the Rust
worker; the value is a directory. When a child is started again, its setting moves to the new pid.
"""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX = "DUMP_ERR_RESP_"


def variable(pid: int) -> str:
    """The name of the environment variable for a child."""
    return f"{PREFIX}{pid}"


def directory(pid: int) -> Path | None:
    """Where to dump for the child ``pid``; None: not asked for."""
    value = os.environ.get(variable(pid))
    return Path(value) if value else None


def move(old: int, new: int) -> None:
    """Take the setting of a child over to the one that replaced it."""
    value = os.environ.pop(variable(old), None)
    if value is not None:
        os.environ[variable(new)] = value


def write(target: Path, pid: int, line: bytes) -> Path | None:
    """Write one unreadable line; a failure goes to the log, since the child's work goes on."""
    path = target / f"ext-processor-err-resp-{pid}-{uuid.uuid4().hex}.json"
    try:
        target.mkdir(parents=True, exist_ok=True)
        path.write_bytes(line)
    except OSError as error:
        log.error("the line can't be dumped to %s: %s", path, error.strerror)
        return None
    return path

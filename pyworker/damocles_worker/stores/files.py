"""Small files written durably."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from damocles_worker.errors import Level
from damocles_worker.filesystem import file_error, fsync_directory


def write_durable(path: Path, content: bytes) -> None:
    """Replace ``path`` by ``content``: a reader, even after a power loss, sees the old file or the new.

    One writer per path at a time. Raises :class:`WorkerError` (critical) naming the path; with
    ``waits_for`` when there is no space.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        fsync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise file_error(error, "write", path, needed=len(content), level=Level.CRITICAL) from error

"""Ends what a killed daemon leaves behind: a process beside it that notices its death.

A child of ours ends when its input does. Others may not, or have started programs of their own, and a
daemon that is killed can't end them: they would go on using its cpus, GPUs and files, beside those of the
next daemon. The kernel's own means (``PR_SET_PDEATHSIG``) follows the thread that started a child, not
its process, and does not reach a child's children.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from pathlib import Path

from damocles_worker.program import own_command

log = logging.getLogger(__name__)


class Guard:
    """Knows the process groups of all children; its process is started before the first of them.

    All methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def ready(self) -> None:
        """Start the guard's process if there is none: it takes cpus and memory node of the calling thread."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._start()

    def watch(self, pid: int, group: Path | None) -> None:
        """The process group ``pid``, and its control group if it has one, must not outlive the daemon."""
        with self._lock:
            self._watched[pid] = f"+{pid} {group or ''}\n"
            self._tell(self._watched[pid])

    def forget(self, pid: int) -> None:
        """The process group has ended."""
        with self._lock:
            if self._watched.pop(pid, None) is not None:
                self._tell(f"-{pid}\n")

    def stop(self) -> None:
        """End the guard; what is still watched is killed."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.communicate()

    def _tell(self, line: str) -> None:
        try:
            if self._process is not None:
                _write(self._process, line)
                return
        except BrokenPipeError:
            log.error("the guard of the external processors was killed: starting it again")
        if self._watched:
            self._start()

    def _start(self) -> None:
        if self._process is not None:
            # Also closes the pipe, without a word about it being broken.
            self._process.communicate()
            self._process = None
        try:
            # A session of its own: what ends the daemon's terminal or process group must not end it.
            self._process = subprocess.Popen(
                [*own_command(), "processor", "guard"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
            _write(self._process, *self._watched.values())
        except OSError as error:
            log.error("external processors are not guarded against a kill of the worker: %s", error)


def _write(process: subprocess.Popen[bytes], *lines: str) -> None:
    assert process.stdin is not None
    process.stdin.write("".join(lines).encode())
    process.stdin.flush()

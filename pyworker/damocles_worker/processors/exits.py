"""How a child ended, in words an operator can act on."""

from __future__ import annotations

import signal
from pathlib import Path

_LIKELY = {
    signal.SIGSEGV: "a bug in the program or a broken library",
    signal.SIGBUS: "a file it had mapped was cut, or the memory is faulty",
    signal.SIGILL: "it uses instructions that this cpu does not have",
    signal.SIGABRT: "it gave up by itself; its last lines in the log say why",
    signal.SIGKILL: "kill -9, or a memory limit",
}


def oom_kills(root: Path = Path("/")) -> int:
    """How many processes of this machine the kernel has killed for want of memory since it started."""
    try:
        lines = (root / "proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def describe(status: int, *, out_of_memory: bool) -> str:
    """The end of a process with :class:`subprocess.Popen`'s ``status``.

    ``out_of_memory``: the kernel killed somebody for want of memory while it ran. Who that was it tells
    nobody: a control group counts the kills in it, but the process has left its group by then.
    """
    if status >= 0:
        return f"exited with status {status}"
    try:
        number = signal.Signals(-status)
    except ValueError:
        return f"was killed by signal {-status}"
    if number is signal.SIGKILL and out_of_memory:
        return "was killed by SIGKILL (the kernel has been killing for want of memory: see dmesg)"
    likely = _LIKELY.get(number)
    return f"was killed by {number.name}" + (f" ({likely})" if likely else "")

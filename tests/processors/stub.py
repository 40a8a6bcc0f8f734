#!/usr/bin/env python3
"""A processor child that does what its tasks tell it, good and bad. No imports of the product.

``stub.py STAGE [--before WHAT] [--locks DIRECTORY NAME…]``; a task is ``{"do": WHAT, …}``, each in a
thread of its own.

``stub.py STAGE --abuse DIRECTORY WHAT… --then COMMAND…``: whatever the tasks are, the n-th request, over
all restarts, is met with the n-th WHAT; the next start after the last of them is COMMAND.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

#: The beginning of an answer.
CUT = '{{"id":{},"err_msg":null,"output":{{"cut'
_write = threading.Lock()
#: Where to take file locks, and their names: those of this child's entry in the settings.
_locks: list[str] = []


def line(text: str, end: str = "\n") -> None:
    with _write:
        sys.stdout.write(text + end)
        sys.stdout.flush()


def answer(number: int, output: Any = True, err_msg: str | None = None) -> None:
    line(json.dumps({"id": number, "err_msg": err_msg, "output": output}))


def report() -> dict[str, Any]:
    """Where this process runs and what it was given, in the kernel's words."""
    status = dict(
        row.split(":\t", 1) for row in Path("/proc/self/status").read_text().splitlines() if "\t" in row
    )
    maps = Path("/proc/self/numa_maps")
    return {
        "pid": os.getpid(),
        "cpus": status["Cpus_allowed_list"],
        "memory": maps.read_text().split()[1] if maps.exists() else "",
        "environment": dict(os.environ),
        "groups": Path("/proc/self/cgroup").read_text(),
        "arguments": sys.argv[1:],
    }


def with_locks(directory: str, names: list[str], seconds: float) -> str | None:
    """Hold a file lock for each name; the error if one of them is held by another process."""
    held = []
    for name in names:
        file = open(Path(directory, name), "w")  # noqa: SIM115
        held.append(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"lock {name} is held by somebody else"
    time.sleep(seconds)
    for file in held:
        file.close()
    return None


def work(number: int, task: dict[str, Any]) -> None:
    match task.get("do"):
        case "echo":
            time.sleep(task.get("seconds", 0))
            answer(number, task.get("value"))
        case "when":
            # As long as a test wants it to take.
            while not Path(task["file"]).exists():
                time.sleep(0.005)
            answer(number, task.get("value", True))
        case "report":
            answer(number, report())
        case "fail":
            answer(number, None, task["text"])
        case "empty":
            line(json.dumps({"id": number}))
        case "noise":
            line("hello from a library that prints")
            answer(number)
        case "line":
            line(task["text"] % number)
        case "noise_only":
            line("hello from a library that prints")
        case "unreadable":
            line(CUT.format(number))
        case "half_and_die":
            line(CUT.format(number), end="")
            os._exit(3)
        case "wrong_id":
            answer(number + 1000)
        case "same_id":
            # As a program that knows only one request at a time may do.
            answer(1)
        case "twice":
            answer(number)
            answer(number)
        case "silent":
            pass
        case "close":
            os.close(1)
        case "exit":
            os._exit(task["status"])
        case "signal":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.kill(os.getpid(), task["number"])
        case "large":
            answer(number, "x" * task["bytes"])
        case "size":
            answer(number, len(task["value"]))
        case "grandchild":
            # A wrapper that ends while its program lives on, with the same stdout.
            grandchild = os.fork()
            if grandchild == 0:
                signal.pause()
            Path(task["file"]).write_text(str(grandchild))
            os._exit(0)
        case "locks":
            problem = with_locks(_locks[0], _locks[1:], task["seconds"])
            answer(number, {"pid": os.getpid()} if problem is None else None, problem)
        case "segv":
            work(number, {"do": "signal", "number": signal.SIGSEGV})
        case "killed":
            work(number, {"do": "signal", "number": signal.SIGKILL})
        case "memory":
            hog = []
            while True:
                hog.append(bytearray(1 << 20))
        case what:
            answer(number, None, f"no such thing to do: {what}")


def abuse(stage: str, directory: str, *options: str) -> None:
    """Meet each request with the next of the options before ``--then``."""
    kinds, command = options[: options.index("--then")], options[options.index("--then") + 1 :]
    done = Path(directory)
    done.mkdir(exist_ok=True)

    def next_kind() -> str:
        number = len(list(done.iterdir()))
        (done / str(number)).touch()
        return kinds[number]

    if len(list(done.iterdir())) == len(kinds):
        os.execv(command[0], command)
    if kinds[len(list(done.iterdir()))] == "slow_ready":
        next_kind()
        time.sleep(600)
    line(f"{stage} processor ready")
    for request in sys.stdin:
        work(json.loads(request)["id"], {"do": next_kind()})
    os._exit(1)


def main() -> None:
    stage, options = sys.argv[1], sys.argv[2:]
    if "--locks" in options:
        _locks.extend(options[options.index("--locks") + 1 :])
    if options[:1] == ["--abuse"]:
        abuse(stage, *options[1:])
    before = options[1] if options[:1] == ["--before"] else ""
    match before:
        case "hang":
            time.sleep(600)
        case "die":
            sys.exit(4)
        case "noise":
            line("loading the library")
        case "wrong":
            line("pc9 processor ready")
        case "half":
            line(f"{stage} proc", end="")
        case "close":
            os.close(1)
            time.sleep(600)
        case _ if before.startswith("slow:"):
            time.sleep(float(before.removeprefix("slow:")))
        case _ if before.startswith("once:") and Path(before.removeprefix("once:")).exists():
            # Fails to start as long as the file is there.
            sys.exit(5)
    line(f"{stage} processor ready")
    for request in sys.stdin:
        parsed = json.loads(request)
        threading.Thread(target=work, args=(parsed["id"], parsed["task"]), daemon=True).start()
    os._exit(1)


if __name__ == "__main__":
    main()

"""An embedded manager and a worker as two processes, started as an operator would start them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from damocles_worker.errors import UsageError
from damocles_worker.program import own_command

STOP_TIMEOUT = 15.0
#: Name of the persist store, and of its directory.
STORE_NAME = "persist"


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def start_devnet(
    root: Path, *options: str, program: Sequence[str | Path] = ()
) -> tuple[subprocess.Popen[str], str]:
    """Start the embedded manager with a persist store below ``root``; the process and its URL.

    ``program`` is another damocles-worker than this one.
    """
    persist = root / STORE_NAME
    persist.mkdir(exist_ok=True)
    command = [*(program or own_command()), "devnet", "--listen", "127.0.0.1:0"]
    with (root / "devnet.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--store", f"{STORE_NAME}={persist}", *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    first = process.stdout.readline().strip()
    url = first.rpartition(" ")[2]
    if not url.startswith("http"):
        stop(process)
        process.stdout.close()
        raise UsageError(f"the devnet did not start: {first or (root / 'devnet.log').read_text()}")
    return process, url


def start_worker(
    config: Path, *, environment: Mapping[str, str] | None = None, program: Sequence[str | Path] = ()
) -> subprocess.Popen[bytes]:
    """Start the worker; what it says is appended to ``worker.log`` beside its configuration."""
    with (config.parent / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [*(program or own_command()), "--config", str(config)],
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
        )


def stop(process: subprocess.Popen[str] | subprocess.Popen[bytes]) -> int:
    """SIGTERM, then the exit status."""
    process.terminate()
    try:
        return process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()

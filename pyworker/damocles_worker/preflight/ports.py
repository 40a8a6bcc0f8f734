"""The ports that the daemon will listen on."""

from __future__ import annotations

import errno
import os
import socket
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from damocles_worker.config.settings import Settings
from damocles_worker.control.client import EVERY_INTERFACE, call
from damocles_worker.errors import UsageError
from damocles_worker.metrics.catalogue import BUILD_INFO
from damocles_worker.preflight.lines import Line

_AREA = "ports"
_CONTROL = "worker.rpc_server"
#: Seconds, and bytes, that metrics may take.
_PATIENCE, _LARGEST = 3.0, 4 << 20
_IS_OURS = f"{BUILD_INFO.exposed}{{"


def look(settings: Settings) -> list[Line]:
    """A line for the control port, and one for the port of metrics if they are served."""
    wanted = [(_CONTROL, settings.worker.rpc_host, settings.worker.rpc_port)]
    if settings.metrics.enable:
        listen = urlsplit(f"//{settings.metrics.http_listen}")
        wanted.append(("metrics.http_listen", listen.hostname or "", listen.port or 0))
    lines = [_line(key, host, port) for key, host, port in wanted]
    if len(wanted) == 2 and _meet(wanted[0], wanted[1]):
        number = wanted[0][2]
        lines.append(
            Line(
                "problem", _AREA, "metrics.http_listen", f"{number} is the control port too", "another port",
                "write another one in metrics.http_listen",
            )
        )  # fmt: skip
    return lines


def _line(key: str, host: str, port: int) -> Line:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the daemon's servers do: connections of an earlier run that are dying don't matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError as error:
            return _taken(key, host, port, place, error)
    return Line("ok", _AREA, key, f"{place} is free")


def _taken(key: str, host: str, port: int, place: str, error: OSError) -> Line:
    command = f"write another address in {key}"
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    if error.errno == errno.EADDRINUSE:
        running = _worker_at(host, port) if key == _CONTROL else _metrics_at(host, port)
        if running is not None:
            found = f"{running} at {place}"
            return Line(
                "warning", _AREA, key, found, command=f"nothing, if it is this one, running; else {command}"
            )
        command = f"ss -ltnp 'sport = :{port}' tells who has it; or {command}"
    return Line("problem", _AREA, key, f"{place}: {reason}", "a free port", command)


def _meet(one: tuple[str, str, int], other: tuple[str, str, int]) -> bool:
    """Whether two servers would want the same port of the same address."""
    (_, host, port), (_, other_host, other_port) = one, other
    same_family = (":" in host) == (":" in other_host)
    every = any(name in EVERY_INTERFACE for name in (host, other_host))
    return port == other_port and same_family and (every or host == other_host)


def _reachable(host: str, port: int) -> str:
    """Where a server of this host that listens at an address can be asked."""
    host = EVERY_INTERFACE.get(host, host)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _worker_at(host: str, port: int) -> str | None:
    """What answers at an address as the control server of a worker, in words."""
    try:
        return f"a damocles-worker {call(_reachable(host, port), 'WorkerVersion')} listens"
    except UsageError:
        return None


def _metrics_at(host: str, port: int) -> str | None:
    """The same of a worker's metrics."""
    connection = HTTPConnection(EVERY_INTERFACE.get(host, host), port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read(_LARGEST).decode("utf-8", "replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return "the metrics of a damocles-worker are served" if _IS_OURS in text else None

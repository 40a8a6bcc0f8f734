"""What this worker is called, and at which address it is reached."""

from __future__ import annotations

import asyncio
import logging
import socket
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

#: Seconds that a start waits for a route to the manager: with another name it would be another worker.
_PATIENCE = 10.0
#: Seconds between two tries, and those that a resolver gets for one.
_PAUSE = 1.0
_RESOLVING = 5.0


async def local_address(origin: str) -> str | None:
    """The address this host uses to reach ``origin``; None without a route or a name server.

    No packet is sent to the manager. A name server that doesn't answer holds up nothing else.
    """
    try:
        return await asyncio.wait_for(asyncio.to_thread(_probe, origin), _RESOLVING)
    except (OSError, TimeoutError):
        return None


async def awaited_address(origin: str, patience: float = _PATIENCE) -> str | None:
    """Like :func:`local_address`, tried for ``patience`` seconds: the network may still be coming up."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        found = await local_address(origin)
        if found is not None or asyncio.get_running_loop().time() + _PAUSE > deadline:
            return found
        await asyncio.sleep(_PAUSE)


async def identity(configured: str | None, origin: str) -> tuple[str, str]:
    """Name and address of this worker; a name that is configured is not waited for.

    Without a route to the manager both are the host's name, which no other worker should have.
    """
    address = await (local_address(origin) if configured else awaited_address(origin))
    host = socket.gethostname()
    if address is None and configured is None:
        log.warning(
            "this host has no route to the manager %s: the worker is called %s until the next start."
            " Set [worker] name to give it one that stays",
            origin,
            host,
        )
    return configured or address or host, address or host


async def destination(origin: str, port: int) -> str:
    """``address:port`` of the control port, as it is now, for the manager."""
    address = await local_address(origin) or socket.gethostname()
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _probe(origin: str) -> str:
    parts = urlsplit(origin)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    family, _, _, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)
        found: str = probe.getsockname()[0]
        return found


def bound(host: str, port: int) -> socket.socket:
    """A socket of an IP address and port that doesn't listen yet: nobody is kept waiting by it.

    :raises OSError: the address can't be used.
    """
    found = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        # As servers of asyncio do: connections of an earlier run that are dying don't matter.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if found.family == socket.AF_INET6:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind((host, port))
    except OSError:
        found.close()
        raise
    found.setblocking(False)
    return found

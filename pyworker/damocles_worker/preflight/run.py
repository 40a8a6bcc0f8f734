"""All of a preflight: before the first sector by hand, and at every start of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from damocles_worker.config.findings import Finding
from damocles_worker.config.settings import Settings
from damocles_worker.manager.address import parse_address
from damocles_worker.manager.client import ManagerClient
from damocles_worker.preflight import hugepages, machine, manager, parameters, parents, ports, space
from damocles_worker.preflight.lines import Line, of_finding
from damocles_worker.preflight.manager import ManagerView
from damocles_worker.preflight.parameters import Reading
from damocles_worker.preflight.work import attached_stores

#: The manager is asked so long, seconds: somebody is waiting.
_PATIENCE = 10.0
#: Areas as they are printed.
_ORDER = (
    "configuration", "manager", "clock", "ports", "stores", "space", "memory", "cpus", "huge pages", "limits",
    "processors", "environment", "parameters", "parents cache",
)  # fmt: skip


def before_the_first_sector(
    settings: Settings, findings: list[Finding], *, read: bool, reading: Reading
) -> list[Line]:
    """Everything, for the command. ``findings`` are those of the file; with ``read`` whole files are read
    where a digest was never compared."""
    view = asyncio.run(_ask(settings))
    lines = [of_finding("configuration", finding) for finding in findings]
    lines += manager.look(view)
    lines += of_this_host(settings, read=read, local_network=view.is_devnet, reading=reading)
    lines += ports.look(settings)
    return sorted(lines, key=lambda line: _ORDER.index(line.area))


def of_this_host(settings: Settings, *, read: bool, local_network: bool, reading: Reading) -> list[Line]:
    """What can be told without the manager, ports left out: the daemon holds its own."""
    looks: dict[str, Callable[[], list[Line]]] = {
        "stores": lambda: machine.look(settings),
        "huge pages": lambda: hugepages.look(settings),
        "space": lambda: space.look(settings),
        "parameters": lambda: parameters.look(
            settings, read=read, local_network=local_network, reading=reading
        ),
        "parents cache": lambda: parents.look(settings, read=read, reading=reading),
    }
    return [line for area, look in looks.items() for line in _guarded(area, look)]


def _guarded(area: str, look: Callable[[], list[Line]]) -> list[Line]:
    """A file that can't be looked at must not hide what the other looks find."""
    try:
        return look()
    except OSError as error:
        what = f"can't be looked at: {error.strerror}"
        return [Line("problem", area, error.filename or "a file", what, command="See who may read it")]


async def _ask(settings: Settings) -> ManagerView:
    client = ManagerClient(
        parse_address(settings.manager.addr), headers=settings.manager.headers, timeout=_PATIENCE
    )
    try:
        return await manager.ask(client, [store.name for store in attached_stores(settings)])
    finally:
        await client.close()
